"""The gate from the outside: its process, the environment that it gets, and where its reports go."""

import json
import os
import subprocess
import sys

import psutil
import pytest

from flowrl.envs.registry import game, make_steps
from flowrl.errors import BadInput
from flowrl.experiment.flow_graph import FlowGraph, NothingTrained
from flowrl.files import read_json
from flowrl.gate.client import Gate, GateError
from flowrl.gate.probe import Probe
from flowrl.gate.recorded_states import load
from flowrl.parallel.training_setup import prepare_training_run
from flowrl.paths import RunPaths, cache_folder
from flowrl.skills.checks import CodeRefused
from flowrl.skills.gate_report import BY_HAND, RAN
from tests.gate.corpus import CLASSIC, GOOD, Case, reward
from tests.gate.proposing import OneSkill

PLAIN = GOOD[0].spec


def probe_of(gate):
    return psutil.Process(gate._process._process.pid)


def test_one_warm_process_serves_many_skills(gates):
    gate = gates[CLASSIC]
    gate(PLAIN)
    pid = probe_of(gate).pid
    assert gate(PLAIN)["seconds"] < 30
    assert probe_of(gate).pid == pid


def test_the_environment_restart_and_end_of_a_probe(gates, monkeypatch):
    """It gets neither the key nor HOME, is restarted after being killed, and ends with its gate."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    gate = Gate(CLASSIC)
    gate(PLAIN)
    environ = probe_of(gate).environ()
    assert "sk-secret" not in json.dumps(environ) and "HOME" not in environ
    assert set(environ) <= {
        "PATH", "LANG", "PYTHONPATH", "PYTHONWARNINGS", "FLOWRL_CACHE_DIR", "JAX_PLATFORMS", "JAX_COMPILATION_CACHE_DIR",
        "TF_CPP_MIN_LOG_LEVEL", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "LC_CTYPE",
    }  # fmt: skip
    killed = probe_of(gate)
    killed.kill()
    killed.wait()
    assert gate(PLAIN)["passed"]
    family = [probe_of(gate), *probe_of(gate).children(recursive=True)]
    gate.close()
    psutil.wait_procs(family, timeout=10)
    assert not [process for process in family if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


def test_a_probe_ends_with_the_process_that_started_it(gates):
    code = (
        "import os\nfrom flowrl.gate.client import Gate\nfrom tests.gate.corpus import CLASSIC, GOOD\n"
        "gate = Gate(CLASSIC)\ngate(GOOD[0].spec)\nprint(gate._process._process.pid, flush=True)\nos.kill(os.getpid(), 9)"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=dict(os.environ)
    ).stdout
    try:
        psutil.Process(int(printed)).wait(timeout=20)
    except psutil.NoSuchProcess:
        pass


def test_a_probe_that_does_not_run_is_an_error_that_says_why(tmp_path):
    folder = tmp_path / "recorded_states"
    folder.mkdir()
    (folder / load_path().name).write_bytes(b"not a pickle")
    with Gate(CLASSIC, folder=tmp_path) as gate, pytest.raises(GateError, match="does not run: .*recorded_states.*curriculum"):
        gate(PLAIN)


def load_path():
    from flowrl.gate.recorded_states import path_of

    return path_of(CLASSIC, cache_folder())


def test_code_that_is_not_allowed_never_starts_a_probe():
    with Gate(CLASSIC) as gate:
        with pytest.raises(CodeRefused, match="nothing can be imported"):
            gate(Case("", reward=reward("n", "import os", "return n")).spec)
        assert gate._process is None


def test_a_missing_protection_is_reported_once(gates, monkeypatch):
    said = []
    with Gate(CLASSIC, said.append) as gate:
        sandbox = {"landlock": 0, "seccomp": True, "notes": ["no Landlock: files are open"]}
        monkeypatch.setattr(gate, "_asked", lambda question: {"passed": True, "sandbox": sandbox})
        gate(PLAIN), gate(PLAIN)
    assert said == ["note: the probe of generated code has no Landlock: files are open"]


def test_the_report_describes_the_sandbox(gates):
    sandbox = gates[CLASSIC](PLAIN)["sandbox"]
    assert set(sandbox) == {"landlock", "seccomp", "notes"}
    assert len(sandbox["notes"]) == (sandbox["landlock"] == 0) + (not sandbox["seccomp"])


def test_the_probe_repeats_the_static_checks(gates):
    gates[CLASSIC](PLAIN)
    probe = Probe(make_steps(CLASSIC), load(CLASSIC, cache_folder()))
    report = probe.report(Case("", reward=reward("n", "import os", "return n")).spec)
    assert (report["passed"], report["reason"]) == (False, "not_allowed")


def test_a_refusal_goes_back_to_the_proposer_with_its_reason(gates):
    proposer = OneSkill(Case("", reward=reward("inventory_diff", "return -1.0 * inventory_diff.wood")).spec)
    graph = FlowGraph(NothingTrained(), proposer, game(CLASSIC).facts, lambda *_: [], gates[CLASSIC])
    assert graph.next_skill() is None
    assert [error.reason for error in proposer.heard] == ["gain_not_paid"]


def test_a_report_travels_from_the_proposal_to_the_training(gates, tmp_path):
    from flowrl.training.run import specification

    graph = FlowGraph(NothingTrained(), OneSkill(PLAIN), game(CLASSIC).facts, lambda *_: [], gates[CLASSIC])
    name, data = graph.next_skill()
    folder, module, _ = prepare_training_run(name, data, 0, [], {}, tmp_path, {"env_name": CLASSIC})
    [report] = read_json(RunPaths(folder).run_json)["gate"]
    assert (report["skill_name"], report["passed"], report["probe"]) == ("Trial", True, RAN)
    assert specification.read(folder).skill_name == "Trial"
    module.write_text(module.read_text().replace("1.0 *", "2.0 *"))
    with pytest.raises(BadInput, match="has not passed the gate"):
        specification.read(folder)


def test_code_written_by_hand_trains_without_a_report(tmp_path):
    from flowrl.training.run import specification

    data = {"task_is_done": PLAIN.task_is_done, "task_reward": PLAIN.task_reward}
    folder, _, _ = prepare_training_run("Trial", data, 0, [], {}, tmp_path)
    assert read_json(RunPaths(folder).run_json)["gate"][0]["probe"] == BY_HAND
    specification.read(folder)


def test_code_that_was_swapped_after_the_gate_is_not_prepared(gates, tmp_path):
    graph = FlowGraph(NothingTrained(), OneSkill(PLAIN), game(CLASSIC).facts, lambda *_: [], gates[CLASSIC])
    name, data = graph.next_skill()
    data = {**data, "task_reward": data["task_reward"].replace("1.0", "-1.0")}
    with pytest.raises(BadInput, match="is not the code that passed the gate"):
        prepare_training_run(name, data, 0, [], {}, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_created_is_an_error_with_the_remedy(tmp_path):
    (tmp_path / "file").touch()
    with Gate(CLASSIC, folder=tmp_path / "file" / "cache") as gate, pytest.raises(GateError, match="set FLOWRL_CACHE_DIR"):
        gate.warm_up()
