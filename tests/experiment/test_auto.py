"""``--max_parallel_skills auto``, from the command to the state file."""

import json
import os
import signal

import psutil

from flowrl.errors import INTERRUPTED
from flowrl.parallel.library.locks import hold_scheduler_lock
from tests.experiment.fakes import until
from tests.experiment.starts import CLASSIC

FAST = {"updates": [[1.0, False]] * 3}
SLOW = {"updates": [[4.0, False]] * 3}
AUTO = (*CLASSIC[:2], "--max_parallel_skills", "auto", "--max_nodes", "2")


def measuring(practice, **wishes) -> dict[str, str]:
    """The environment in which a process with two cores, or with one, does so."""
    names = {"both": "2", "one": "1"}
    wishes = {names[cores]: wish for cores, wish in wishes.items()}
    return {"MARK_CALIBRATION": json.dumps(wishes), "FLOWRL_CACHE_DIR": str(practice.folder / "cache"), "JAX_PLATFORMS": "cpu"}


def calibrating(practice) -> list[dict]:
    log = practice.folder / "calibration.log"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def test_the_number_is_found_once_and_the_state_has_it(practice):
    environ = measuring(practice, both=FAST, one=FAST)
    code, output, error = practice.run(*AUTO, **environ)
    assert (code, error) == (0, "")
    assert "2 at a time" in output and "measuring 1, 2 trainings" in output
    assert practice.state()["max_parallel"] == 2
    assert json.loads(practice.paths.config.read_text())["max_parallel_skills"] == "auto"
    task = calibrating(practice)[0]["task"]
    assert task["env_name"] == "Craftax-Classic-Symbolic-v1" and task["settings"]["num_envs"] == 1024

    code, output, _ = practice.run("--max_nodes", "3", **environ)  # the folder alone goes on, and another machine may measure
    assert code == 0
    assert "2 at a time (frames/s in all: 1: " in output and "measuring" not in output
    assert len(calibrating(practice)) == 3
    code, output, _ = practice.run("--max_parallel_skills", "3", **environ)
    assert code == 0 and practice.state()["max_parallel"] == 3 and "auto" not in output


def test_ctrl_c_leaves_no_calibrating_process_and_no_folder(practice):
    process = practice.start(*AUTO, **measuring(practice, both=FAST, one={"deaf": True}))
    until(lambda: len(calibrating(practice)) == 3)
    os.kill(process.pid, signal.SIGINT)
    assert process.wait() == INTERRUPTED
    assert not any(psutil.pid_exists(found["pid"]) for found in calibrating(practice))
    assert not practice.paths.root.exists() and not (practice.folder / "cache").exists()


def test_nothing_is_measured_while_another_command_works_on_the_folder(practice):
    practice.paths.root.mkdir(parents=True)
    lock = hold_scheduler_lock(practice.paths)
    try:
        code, _, error = practice.run(*AUTO, **measuring(practice, both=SLOW, one=FAST))
    finally:
        lock.release()
    assert code == 3 and "is in use by another scheduler" in error
    assert calibrating(practice) == []
