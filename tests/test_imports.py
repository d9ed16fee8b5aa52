"""Imports run one way, each outside edge is in one module, and the light parts stay light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import flowrl

PACKAGE = Path(flowrl.__file__).parent
BASE = {"errors", "files", "paths", "pickles", "wandb_access", "sandbox", "kernel_filters"}
ROOMS = {
    "skills": set(),
    "proposers": {"skills"},
    "envs": {"skills"},
    "training": {"envs", "skills"},
    "parallel": {"skills"},
    "report": set(),
}
EDGES = {
    "tyro": "config.py",
    "wandb": "training/tracking.py",
    "libtmux": "parallel/launchers/tmux.py",
    "openai": "proposers/llm/connection.py",
}
NEEDS_JAX = ("training", "envs")


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


def modules() -> dict[str, set[str]]:
    return {str(path.relative_to(PACKAGE)): imports_of(path) for path in sorted(PACKAGE.rglob("*.py"))}


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_knows_only_what_it_may_know(room):
    allowed = BASE | ROOMS[room] | {room}
    for name, imported in modules().items():
        if not name.startswith(f"{room}/"):
            continue
        rooms = {module.split(".")[1] for module in imported if module.startswith("flowrl.")}
        assert rooms <= allowed, f"{name} imports {sorted(rooms - allowed)}"


def test_the_foundations_know_no_room():
    for name in BASE:
        imported = imports_of(PACKAGE / f"{name}.py")
        assert {module.split(".")[1] for module in imported if module.startswith("flowrl.")} <= BASE


@pytest.mark.parametrize("edge", EDGES)
def test_each_outside_edge_is_in_one_module(edge):
    users = [name for name, imported in modules().items() if any(module.split(".")[0] == edge for module in imported)]
    assert set(users) <= {EDGES[edge]}


def test_nothing_but_training_and_envs_imports_jax():
    for name, imported in modules().items():
        if any(module.split(".")[0] in ("jax", "flax", "optax", "craftax") for module in imported):
            assert name.split("/")[0] in NEEDS_JAX, name


@pytest.mark.parametrize("module", ["distrax", "rlax", "tensorflow_probability"])
def test_no_module_needs_a_nightly_tensorflow_probability(module):
    assert not [name for name, imported in modules().items() if any(other.split(".")[0] == module for other in imported)]


@pytest.mark.parametrize(
    "module",
    [
        "flowrl.bottomup_parallel",
        "flowrl.start",
        "flowrl.migrate",
        "flowrl.parallel.scheduler",
        "flowrl.proposers.curriculum",
        "flowrl.skills.module",
        "flowrl.envs.registry",
        "flowrl.gate",
        "flowrl.sandbox",
    ],
)
def test_the_scheduler_and_the_front_door_never_load_jax(module):
    code = f"import sys, {module}; sys.exit(any(name in sys.modules for name in ('jax', 'jaxlib', 'wandb', 'openai')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
