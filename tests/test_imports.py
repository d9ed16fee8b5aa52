"""Imports run one way, each outside edge is in one module, and the light parts stay light."""

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

import flowrl

PACKAGE = Path(flowrl.__file__).parent
BASE = {
    "checkpoint_files",
    "errors",
    "files",
    "jax_cache",
    "lines_and_bar",
    "machine",
    "number_types",
    "own_folder",
    "paths",
    "pickles",
    "ranges",
    "suggestions",
    "validation",
}
ROOMS = {
    "records": set(),
    "pane": {"records"},
    "skills": set(),
    "tracking": set(),
    "proposers": {"skills"},
    "envs": {"skills"},
    "gate": {"envs", "skills"},
    "training": {"envs", "pane", "records", "skills", "tracking"},
    "evaluation": {"envs", "records", "skills", "training"},
    "rehearsal": {"envs", "evaluation", "pane", "records", "skills", "tracking", "training"},
    "parallel": {"pane", "records", "skills"},
    "report": {"pane", "records"},
    "films": {"envs", "evaluation", "records", "training"},
    "host": {"tracking", "training"},
    "fire": {"host", "training"},
    "api": {"envs", "evaluation", "experiment", "skills", "training"},
}
SUB_ROOMS = {
    "training": {
        "learning": set(),
        "host": set(),
        "one_hot": {"learning"},
        "compiled": {"host"},
        "playing": {"learning", "one_hot", "compiled", "host"},
        "run": {"learning", "playing", "compiled", "host"},
        "calibration": {"learning", "playing", "compiled", "host", "run"},
    },
    "fire": {
        "landscapes": set(),
        "spread": {"landscapes"},
        "heuristics": {"landscapes", "spread"},
        "validation": {"landscapes", "spread"},
        "breaks": {"heuristics", "landscapes", "spread"},
        "agent": {"breaks", "heuristics"},
        "training": {"agent", "breaks", "heuristics", "landscapes", "pictures", "spread"},
        "pictures": {"landscapes"},
    },
}
"""Which parts of a room know which others; modules beside them, such as ``__main__``, know all."""

COMMANDS = {
    *("fire/compare_heuristics.py", "fire/compare_with_scar.py", "fire/demo_parallel_training.py"),
    *("fire/train_dqn_fuel_breaks.py", "fire/train_dqn_fuel_breaks_parallel.py"),
    *("host/train_ppo.py", "host/train_ppo_parallel.py", "host/train_parallel_timed.py"),
}
"""Commands that are not in `flowrl/commands`: nothing imports them."""

WITH_FLAGS = COMMANDS | {"host/command_line.py", "fire/command_line.py"}
"""What reads flags and starts sessions for them."""

EDGES = {
    "tyro": "config.py",
    "wandb": "tracking/trackers.py",
    "tensorboardX": "tracking/tensorboard.py",
    "libtmux": "parallel/launchers/tmux.py",
    "openai": "proposers/llm/connection.py",
    "minari": "api/minari_dataset.py",
    "rasterio": "fire/landscapes/rasters.py",
    "shapefile": "fire/validation/recorded_fire.py",
    "json5": "fire/training/config_file.py",
    "yaml": "host/learning/actors/config_file.py",
}
NEEDS_JAX = (
    *("training/", "envs/", "gate/", "evaluation/", "rehearsal/", "api/", "host/learning/", "films/"),
    *("fire/spread/", "fire/heuristics/", "fire/validation/overlap.py", "fire/validation/stand_in_island.py"),
    *("fire/breaks/", "fire/agent/", "fire/training/"),
)


def imports_of(path: Path) -> set[str]:
    """Dotted names that a module imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively; name the module in full"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@functools.cache
def modules() -> dict[str, set[str]]:
    return {str(path.relative_to(PACKAGE)): imports_of(path) for path in sorted(PACKAGE.rglob("*.py"))}


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_knows_only_what_it_may_know(room):
    for name, imported in modules().items():
        if not name.startswith(f"{room}/"):
            continue
        allowed = BASE | ROOMS[room] | {room} | ({"config", "parallel"} if name in WITH_FLAGS else set())
        rooms = {module.split(".")[1] for module in imported if module.startswith("flowrl.")}
        assert rooms <= allowed, f"{name} imports {sorted(rooms - allowed)}"


@pytest.mark.parametrize(("room", "part"), [(room, part) for room, parts in SUB_ROOMS.items() for part in parts])
def test_a_part_of_a_room_knows_only_what_it_may_know(room, part):
    allowed = SUB_ROOMS[room][part] | {part}
    names = [name for name in modules() if name.startswith(f"{room}/{part}/")]
    assert names
    for name in names:
        parts = {module.split(".")[2] for module in modules()[name] if module.startswith(f"flowrl.{room}.")}
        assert parts <= allowed, f"{name} imports {sorted(parts - allowed)} of {room}"


@pytest.mark.parametrize("room", SUB_ROOMS)
def test_every_module_of_a_divided_room_is_in_a_part_of_it(room):
    beside = {f"{room}/{path.name}" for path in (PACKAGE / room).glob("*.py")}
    assert beside - WITH_FLAGS <= {f"{room}/__init__.py", f"{room}/__main__.py"}
    folders = {path.parent.name for path in (PACKAGE / room).glob("*/*.py")}
    assert folders == SUB_ROOMS[room].keys()


def test_agents_outside_of_a_training_know_of_it_only_how_to_learn():
    for name, imported in modules().items():
        if name.startswith(("host/", "fire/")):
            parts = {".".join(module.split(".")[2:4]) for module in imported if module.startswith("flowrl.training.")}
            assert parts <= {f"learning.{part}" for part in ("losses", "networks", "optimiser", "returns")} | {"learning"}, name


def test_what_steps_environments_knows_of_no_agent():
    for name, imported in modules().items():
        if name.startswith("host/") and not name.startswith("host/learning/") and name not in WITH_FLAGS:
            assert not [module for module in imported if module.startswith("flowrl.host.learning")], name


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_nothing_imports_a_command(command):
    module = f"flowrl.{command.removesuffix('.py').replace('/', '.')}"
    assert not [name for name, imported in modules().items() if any(other.startswith(module + ".") for other in imported)]


@pytest.mark.parametrize("parts", [ROOMS, *SUB_ROOMS.values()], ids=["rooms", *SUB_ROOMS])
def test_no_rooms_know_each_other_in_a_circle(parts):
    left = dict(parts)
    while left:
        free = [part for part, known in left.items() if not known & left.keys()]
        assert free, f"a circle among {sorted(left)}"
        for part in free:
            del left[part]


def test_the_foundations_know_no_room():
    for name in BASE:
        imported = imports_of(PACKAGE / f"{name}.py")
        assert {module.split(".")[1] for module in imported if module.startswith("flowrl.")} <= BASE


@pytest.mark.parametrize("edge", EDGES)
def test_each_outside_edge_is_in_one_module(edge):
    users = [name for name, imported in modules().items() if any(module.split(".")[0] == edge for module in imported)]
    assert set(users) <= {EDGES[edge]}


def test_nothing_but_training_envs_and_the_gates_probe_imports_jax():
    for name, imported in modules().items():
        if any(module.split(".")[0] in ("jax", "flax", "optax", "craftax") for module in imported):
            assert name.startswith(NEEDS_JAX), name


@pytest.mark.parametrize("module", ["distrax", "rlax", "tensorflow_probability"])
def test_no_module_needs_a_nightly_tensorflow_probability(module):
    assert not [name for name, imported in modules().items() if any(other.split(".")[0] == module for other in imported)]


OF_WORKERS_AND_COMMANDS = (
    "flowrl.host.choice",
    "flowrl.host.environments",
    "flowrl.host.envpool_adapter",
    "flowrl.host.fork_server",
    "flowrl.host.gymnasium_adapter",
    "flowrl.host.learning.actions",
    "flowrl.host.learning.actors.actor",
    "flowrl.host.learning.actors.pool",
    "flowrl.host.learning.actors.settings",
    "flowrl.host.learning.batch",
    "flowrl.host.learning.numpy_policy",
    "flowrl.host.learning.observations",
    "flowrl.host.learning.settings",
    "flowrl.host.train_parallel_timed",
    "flowrl.host.train_ppo",
    "flowrl.host.train_ppo_parallel",
    "flowrl.host.worker",
)
"""In one process: each of them imports nearly all that the others do."""


@pytest.mark.parametrize(
    "module",
    [
        "flowrl",
        "flowrl.bottomup_parallel",
        "flowrl.experiment.start",
        "flowrl.migrate",
        "flowrl.parallel.launchers.job_window",
        "flowrl.parallel.scheduler",
        "flowrl.proposers.curriculum",
        "flowrl.skills.module",
        "flowrl.envs.registry",
        "flowrl.fire.compare_heuristics",
        "flowrl.fire.compare_with_scar",
        "flowrl.fire.train_dqn_fuel_breaks_parallel",
        "flowrl.fire.landscapes.layers",
        "flowrl.fire.landscapes.synthetic",
        "flowrl.fire.pictures.maps",
        "flowrl.gate.client",
        "flowrl.gate.sandbox",
        ", ".join(OF_WORKERS_AND_COMMANDS),
    ],
)
def test_the_scheduler_and_the_front_door_never_load_jax(module):
    code = f"import sys, {module}; sys.exit(any(name in sys.modules for name in ('jax', 'jaxlib', 'wandb', 'openai')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
