"""Every process that computes uses JAX's default number types, even if the user's environment asks for others."""

import os
import subprocess
import sys

import psutil
import pytest

from flowrl import number_types
from flowrl.files import write_json
from flowrl.gate.client import Gate
from flowrl.paths import RunPaths, cache_folder
from tests.gate.corpus import CLASSIC, GOOD
from tests.records.builders import write_record

ASKED_FOR = {"JAX_ENABLE_X64": "1", "JAX_NUMPY_DTYPE_PROMOTION": "strict", "JAX_NUMPY_RANK_PROMOTION": "raise"}
LOOK = """
import jax, jax.numpy as jnp
print(jnp.arange(3).dtype, jnp.zeros(2).dtype, (jnp.zeros((2, 2), jnp.int32) + jnp.zeros(2)).dtype)
"""
PROCESSES = {
    "training": (
        "from flowrl.paths import RunPaths\nfrom flowrl.training.host import process\n"
        "process.prepare(RunPaths(Path(sys.argv[1])))"
    ),
    "calibration": "from flowrl.records.run_record import Slot\nfrom flowrl.training.host import process\n"
    "process.take_slot(Slot(cores=(0,)))",
    "recording of states": (
        "import runpy\nsys.argv = ['', 'Craftax-Classic-Symbolic-v1', sys.argv[2]]\n"
        "try:\n    runpy.run_module('flowrl.gate.recorded_states', run_name='__main__')\nexcept SystemExit:\n    pass"
    ),
}


@pytest.fixture(scope="session", autouse=True)
def recording():
    """The states of the game are recorded."""
    with Gate(CLASSIC) as gate:
        assert gate.report(GOOD[0].spec)["passed"]


@pytest.mark.parametrize("begin", PROCESSES.values(), ids=PROCESSES)
def test_a_process_that_computes_keeps_to_the_defaults(begin, tmp_path):
    run = tmp_path / "skill_0_Collect_Wood"
    run.mkdir()
    write_record(RunPaths(run))
    write_json(run / "run.env", ASKED_FOR)
    command = [sys.executable, "-c", f"import sys\nfrom pathlib import Path\n{begin}\n{LOOK}", str(run), str(cache_folder())]
    environment = {**os.environ, **ASKED_FOR, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.stdout.split() == ["int32", "float32", "float32"], done.stderr


def test_the_probe_does_not_hear_of_it(monkeypatch):
    for name, value in ASKED_FOR.items():
        monkeypatch.setenv(name, value)
    with Gate(CLASSIC) as gate:
        assert gate.report(GOOD[0].spec)["passed"]
        assert not ASKED_FOR.keys() & psutil.Process(gate._process._process.pid).environ().keys()


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        (ASKED_FOR, "JAX_ENABLE_X64=1, JAX_NUMPY_DTYPE_PROMOTION=strict, JAX_NUMPY_RANK_PROMOTION=raise has no effect"),
        ({"JAX_ENABLE_X64": "True", "JAX_NUMPY_RANK_PROMOTION": "allow"}, "note: JAX_ENABLE_X64=True has no effect"),
        ({"JAX_ENABLE_X64": "0", "JAX_EXPLICIT_X64_DTYPES": "", "JAX_NUMPY_DTYPE_PROMOTION": "standard"}, None),
        ({"JAX_PLATFORMS": "cpu"}, None),
    ],
)
def test_what_has_no_effect_is_named_and_nothing_else(environ, named):
    line = number_types.without_effect(environ)
    assert line is named is None or (named in line and "unset" in line and "\n" not in line)
