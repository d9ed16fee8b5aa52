"""A fault of the compiler is not a fault of a skill's code."""

import textwrap

import pytest

from flowrl.envs.registry import game
from flowrl.experiment.flow_graph import FlowGraph, NothingTrained
from flowrl.gate import client as gate_module
from flowrl.gate.client import Gate
from flowrl.parallel.training_setup import prepare_training_run
from flowrl.skills.checks import CodeRefused
from flowrl.skills.gate_report import RAN, UNTRIED
from tests.gate.corpus import CLASSIC, CRAFTAX, Case, reward
from tests.gate.proposing import OneSkill

SUMS = {
    "the distance to a block": (
        "v = closest_blocks[BlockType.TREE.value, :, 0].astype(jnp.float32)",
        "return 1.0 * inventory_diff.wood - 0.01 * jnp.sum(jnp.abs(v))",
    ),
    "how much nearer a block is": (
        "now = closest_blocks[BlockType.TREE.value, :, 0].astype(jnp.float32)",
        "before = closest_blocks_prev[BlockType.TREE.value, :, 0].astype(jnp.float32)",
        "return 1.0 * inventory_diff.wood + 0.01 * (jnp.sum(jnp.abs(before)) - jnp.sum(jnp.abs(now)))",
    ),
    "how far all blocks are": (
        "return 1.0 * inventory_diff.wood - 1e-4 * closest_blocks.astype(jnp.float32).sum()",
    ),
    "a matrix product": (
        "v = closest_blocks[:, :, 0].astype(jnp.float32)",
        "return 1.0 * inventory_diff.wood + 1e-6 * jnp.dot(v.T, v).sum()",
    ),
}  # fmt: skip


@pytest.mark.parametrize("env_name", [CLASSIC, CRAFTAX])
@pytest.mark.parametrize("lines", SUMS.values(), ids=SUMS)
def test_sums_over_numbers_pass(lines, env_name, gates):
    case = Case("", reward=reward("inventory_diff, closest_blocks, closest_blocks_prev", *lines), env_name=env_name)
    report = gates[env_name].report(case.spec)
    assert report["passed"], report["message"]


DISTANCE = Case("", reward=reward("inventory_diff, closest_blocks", *SUMS["the distance to a block"])).spec

NO_PROCESSOR = """
from flowrl.gate import sandbox
plain = sandbox.readable_paths
sandbox.readable_paths = lambda: [path for path in plain() if path.name != "cpuinfo"]
"""
ONLY_WITH_KERNELS = """
from flowrl.gate import execution
execution.COMPILED_WITHOUT_KERNELS = execution.QUICKLY_COMPILED
"""
FAILS = """
import os
from flowrl.gate import execution
plain = execution.jax.jit
one_way = [execution.QUICKLY_COMPILED]
both_ways = [execution.QUICKLY_COMPILED, execution.COMPILED_WITHOUT_KERNELS]
def fails(*arguments, compiler_options):
    if compiler_options in {ways}:
        {fault}
    return plain(*arguments, compiler_options=compiler_options)
execution.jax.jit = fails
"""


def xla_says(status, ways):
    return FAILS.format(ways=ways, fault=f"raise execution.jax.errors.JaxRuntimeError('{status}: of the test')")


@pytest.fixture
def faulty(monkeypatch, tmp_path, gates):
    """Makes gates whose probes run code of the test as they start; returns each with the lines it says."""
    made, plain = [], gate_module._scrubbed_environment

    def gate_with(code):
        (tmp_path / "sitecustomize.py").write_text(textwrap.dedent(code))
        monkeypatch.setattr(
            gate_module,
            "_scrubbed_environment",
            lambda folder: {**plain(folder), "PYTHONPATH": f"{tmp_path}:{plain(folder)['PYTHONPATH']}"},
        )
        said = []
        made.append(Gate(CLASSIC, said.append))
        return made[-1], said

    yield gate_with
    for gate in made:
        gate.close()


def test_kernels_that_cannot_find_the_processor_are_avoided(faulty, gates):
    """The real fault, where /proc/cpuinfo is hidden: all rules are checked nevertheless."""
    gate, said = faulty(NO_PROCESSOR)
    report = gate(DISTANCE)
    assert (report["probe"], report["checks"], said) == (RAN, gates[CLASSIC](DISTANCE)["checks"], [])
    gate, said = faulty(NO_PROCESSOR + ONLY_WITH_KERNELS)
    assert gate(DISTANCE)["probe"] == UNTRIED and "INTERNAL: YNNPACK operation failed" in said[0]


@pytest.mark.parametrize("fault", [xla_says("INTERNAL", "one_way"), FAILS.format(ways="one_way", fault="os.abort()")])
def test_a_program_that_the_compiler_fails_on_is_compiled_with_other_options(fault, faulty, gates):
    gate, said = faulty(fault)
    report = gate(DISTANCE)
    assert (report["probe"], report["checks"], said) == (RAN, gates[CLASSIC](DISTANCE)["checks"], [])


@pytest.mark.parametrize("status", ["INTERNAL", "UNIMPLEMENTED"])
def test_a_skill_on_which_the_compiler_fails_is_trained_and_the_user_hears_of_it(status, faulty, tmp_path):
    from flowrl.training.run import specification

    gate, said = faulty(xla_says(status, "both_ways"))
    proposer = OneSkill(DISTANCE)
    name, data = FlowGraph(NothingTrained(), proposer, game(CLASSIC).facts, lambda *_: [], gate).next_skill()
    assert proposer.heard == [] and data["gate"]["probe"] == UNTRIED
    [line] = said
    assert line.startswith("note: skill Trial is trained without having been tried: ") and f"{status}: of the test" in line
    assert "not a fault of its code" in line and "\n" not in line
    folder, _, _ = prepare_training_run(name, data, 0, [], {}, tmp_path / "exp", {"env_name": CLASSIC})
    assert specification.read(folder).skill_name == "Trial"


@pytest.mark.parametrize(
    ("fault", "reason"),
    [(xla_says("RESOURCE_EXHAUSTED", "both_ways"), "too_big"), (FAILS.format(ways="both_ways", fault="os.abort()"), "crashed")],
)
def test_a_fault_that_code_may_have_caused_is_still_refused(fault, reason, faulty):
    gate, said = faulty(fault)
    with pytest.raises(CodeRefused) as refused:
        gate(DISTANCE)
    assert (refused.value.reason, said) == (reason, [])
