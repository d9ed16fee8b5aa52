"""The launcher of docs/add_a_launcher.md, followed to the letter: it keeps every launcher's contract."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from flowrl.files import read_json
from flowrl.parallel.launchers.base import Launcher, LaunchSpec, NotLaunched, Phase
from flowrl.parallel.processes import end_tree, retry_until, with_cookie
from flowrl.parallel.runs import KEEPER
from flowrl.parallel.scheduler import SkillScheduler
from tests.parallel.fakes.experiments import FAKE_TRAINING, PATIENCE_S, skill

PAGE = Path(__file__).parents[2] / "docs/add_a_launcher.md"


@pytest.fixture(scope="module")
def launcher(tmp_path_factory):
    """The page's first code block as a module; a launcher of it."""
    module_file = tmp_path_factory.mktemp("launcher") / "process.py"
    module_file.write_text(re.search(r"^```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)[1])
    specification = importlib.util.spec_from_file_location("process_launcher", module_file)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module.ProcessLauncher()


@pytest.fixture
def make(experiment, launcher):
    """Schedulers that start the fake training by this launcher."""

    def make() -> SkillScheduler:
        return SkillScheduler(base_dir=experiment.root, max_parallel=2, command=FAKE_TRAINING, launcher=launcher)

    return make


@pytest.fixture
def spec(experiment):
    """An attempt that sleeps."""
    folder = experiment.root.resolve() / "training_runs" / "skill_0_Sleep"
    folder.mkdir(parents=True)
    sleep = (sys.executable, "-c", "import time; time.sleep(300)")
    command = (*KEEPER, str(folder), "1", "--", *sleep)
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(PAGE.parents[1])}
    return LaunchSpec(experiment.root.resolve(), folder, "Sleep", 0, 1, command, Path.cwd(), environment)


@pytest.fixture
def run(launcher, spec):
    """That attempt, launched; ended with the test."""
    yield launcher.launch(spec)
    end_tree([], spec.cookie, 0.0)  # also what a faulty launcher has left


MEMBERS = {name for name in (*Launcher.__annotations__, *vars(Launcher)) if not name.startswith("_")}


def statuses(scheduler):
    return {entry["skill_name"]: entry["status"] for entry in scheduler.state["skills"]}


def running_in_a_thread(scheduler):
    thread = threading.Thread(target=scheduler.run, daemon=True)
    thread.start()
    return thread


def test_it_has_every_member_of_the_interface(launcher):
    assert {name for name in dir(launcher) if not name.startswith("_")} == MEMBERS


def test_every_member_is_explained():
    assert set(re.findall(r"^\| `(\w+)", PAGE.read_text(), re.MULTILINE)) == MEMBERS


def test_skills_are_trained_and_merged(make, experiment, launcher):
    scheduler = make()
    scheduler.add_skill("Wood", skill("Wood"))
    scheduler.add_skill("Table", skill("Table"), ["Wood"])
    scheduler.run()
    assert statuses(scheduler) == {"Wood": "completed", "Table": "completed"}
    assert launcher.find(experiment.root.resolve()) == []


def test_a_second_launch_of_an_attempt_starts_nothing(launcher, spec, run):
    assert launcher.launch(spec) == run
    assert launcher.find(spec.experiment) == [run]
    assert launcher.poll([run])[run.engine_id].phase is Phase.RUNNING


def test_cancel_leaves_no_process_and_may_be_repeated(launcher, spec, run):
    assert retry_until(lambda: len(with_cookie(spec.cookie)) == 2, PATIENCE_S)  # the keeper, and what it keeps
    assert launcher.cancel(run, 1.0)
    assert launcher.cancel(run, 1.0)
    assert with_cookie(spec.cookie) == []
    assert launcher.poll([run])[run.engine_id].phase in (Phase.EXITED, Phase.LOST)


def test_a_new_scheduler_finds_the_runs_of_one_that_left(make, experiment, tmp_path):
    gate = tmp_path / "gate"
    first = make()
    first.add_skill("Wood", skill("Wood", gate=str(gate)))
    thread = running_in_a_thread(first)
    pid_file = experiment.run_folder(0, "Wood") / "run.pid"
    assert retry_until(pid_file.exists, PATIENCE_S)
    before = read_json(pid_file)
    first.stop()
    thread.join()
    gate.touch()
    second = make()
    second.run()
    assert statuses(second) == {"Wood": "completed"}
    assert second.state["skills"][0]["attempt"] == before["attempt"] == 1


def test_a_run_whose_training_is_killed_is_tried_again(make, experiment, tmp_path):
    gate = tmp_path / "gate"
    scheduler = make()
    scheduler.add_skill("Wood", skill("Wood", gate=str(gate)))
    thread = running_in_a_thread(scheduler)
    pid_file = experiment.run_folder(0, "Wood") / "run.pid"
    assert retry_until(pid_file.exists, PATIENCE_S)
    os.kill(read_json(pid_file)["pid"], signal.SIGKILL)
    gate.touch()
    thread.join(PATIENCE_S)
    assert statuses(scheduler) == {"Wood": "completed"}
    assert scheduler.state["skills"][0]["attempt"] == 2


def test_a_program_that_is_not_there_is_a_failed_launch(launcher, spec):
    with pytest.raises(NotLaunched, match="no_such_program"):
        launcher.launch(replace(spec, argv=("no_such_program",)))


def test_a_person_can_look(launcher, run):
    assert shutil.which(launcher.attach_command(run)[0])
