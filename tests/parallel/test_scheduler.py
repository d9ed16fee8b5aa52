"""The scheduler: what it trains, when, and how it handles failures. Runs without processes (see FakeLauncher)."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import re
import shutil
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import jsonschema
import pytest

from flowrl import pickles
from flowrl.envs.craftax.facts_classic import FACTS as CLASSIC
from flowrl.errors import BadInput, FlowrlError, FolderInUse, NoRoom
from flowrl.experiment.flow_graph import FlowGraph
from flowrl.files import write_json
from flowrl.parallel import backoff
from flowrl.parallel.library.locks import merge_lock
from flowrl.parallel.processes import retry_until
from flowrl.parallel.scheduler import WATCH_S, SkillScheduler
from flowrl.parallel.training_processor import process_completed_training
from flowrl.parallel.training_setup import prepare_training_run
from flowrl.paths import ExperimentPaths, RunPaths
from flowrl.records import state_file
from flowrl.records.liveness import is_held
from flowrl.records.scheduler_state import SCHEMA_FILE
from tests.experiment.fakes import PICKAXE, STONE, WOOD, ListProposer
from tests.parallel.fakes.experiments import PATIENCE_S, put_in_library, skill
from tests.parallel.fakes.launcher import FakeLauncher, finish

NEVER_S = 3600  # a poll interval that no test lives to see: what happens, happens without it


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch):
    monkeypatch.setattr(backoff, "FIRST_BACKOFF_S", 0.01)


@pytest.fixture
def scheduler_of(experiment):
    """A scheduler whose runs end at once, as ``outcomes`` says by skill and attempt (completed unless it is there)."""

    def make(outcomes=None, launcher=None, **kwargs):
        def end(spec):
            outcome = (outcomes or {}).get((spec.skill_name, spec.attempt), "completed")
            if outcome != "hangs":
                finish(spec, outcome)

        kwargs = {"base_dir": experiment.root, "max_parallel": 2, "poll_interval": NEVER_S} | kwargs
        args = kwargs.pop("args", None)
        return SkillScheduler(args, **kwargs, launcher=launcher or FakeLauncher(end))

    return make


def in_thread(scheduler, completed_skills=None):
    """Runs the scheduler as the seeds' loop does. ``join`` fails the test if it does not end."""

    def run():
        try:
            scheduler.run(completed_skills or {})
        except BaseException:
            pass  # kept in scheduler.error

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def join():
        thread.join(PATIENCE_S)
        assert not thread.is_alive(), "the scheduler does not end"

    return SimpleNamespace(join=join, thread=thread)


def statuses(scheduler):
    return {entry["skill_name"]: entry["status"] for entry in scheduler.state["skills"]}


def entry_of(scheduler, name):
    return next(entry for entry in scheduler.state["skills"] if entry["skill_name"] == name)


def names(launcher):
    return [spec.skill_name for spec in launcher.launched]


def running(scheduler):
    return len(scheduler.state["currently_running"])


class Wait:
    """Waits until something holds, however slow the machine."""

    def __call__(self, condition):
        assert retry_until(condition, PATIENCE_S, interval_s=0.01), "this never came to hold"


wait_until = Wait()


def test_a_tilde_is_the_home_folder_and_an_empty_path_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert SkillScheduler(base_dir="~/exp", launcher=FakeLauncher(finish)).paths.root == tmp_path / "exp"
    with pytest.raises(BadInput, match="base_dir is empty"):
        SkillScheduler(base_dir="", launcher=FakeLauncher(finish))


def test_free_slots_are_those_that_no_skill_fills_or_is_about_to(scheduler_of):
    launcher = FakeLauncher()
    scheduler = scheduler_of(launcher=launcher, max_parallel=3)
    assert scheduler.free_slots() == 3
    scheduler.add_skill("A", skill("A"), [])
    scheduler.add_skill("B", skill("B"), ["A"])  # fills none as long as A trains
    assert scheduler.free_slots() == 2
    thread = in_thread(scheduler)
    wait_until(lambda: names(launcher) == ["A"])
    assert scheduler.free_slots() == 2
    for name in ("C", "D", "E"):
        scheduler.add_skill(name, skill(name), [])
    assert scheduler.free_slots() == 0
    for count, name in enumerate("ACDEB", 1):
        wait_until(lambda name=name: name in names(launcher))
        finish(next(spec for spec in launcher.launched if spec.skill_name == name))
        wait_until(lambda count=count: len(scheduler.get_completed_skill_names()) == count)
    thread.join()
    assert scheduler.free_slots() == 3


def test_a_cache_that_cannot_be_kept_is_refused_before_the_folder_is_touched(experiment, monkeypatch):
    monkeypatch.setenv("FLOWRL_CACHE_DIR", "/dev/null/cache")
    with pytest.raises(BadInput, match="set FLOWRL_CACHE_DIR"):
        SkillScheduler(base_dir=experiment.root, launcher=FakeLauncher(finish)).open()
    assert not experiment.root.exists()


# The seeds' examples.


def test_the_seeds_first_example(experiment):
    launcher, told = FakeLauncher(finish), []
    scheduler = SkillScheduler(base_dir=experiment.root, max_parallel=3, poll_interval=NEVER_S, launcher=launcher)
    scheduler.set_callbacks(
        on_skill_complete=lambda skill_name: told.append(skill_name),
        prepare_training_run=prepare_training_run,
        process_completed_training=process_completed_training,
    )
    scheduler.add_skill("Collect_Wood", skill("Collect_Wood"), dependencies=[])
    scheduler.add_skill("Collect_Stone", skill("Collect_Stone"), dependencies=[])
    scheduler.add_skill("Make_Pickaxe", skill("Make_Pickaxe"), dependencies=["Collect_Wood", "Collect_Stone"])
    scheduler.run(completed_skills={})
    assert names(launcher)[-1] == "Make_Pickaxe"
    assert sorted(told) == sorted(scheduler.get_completed_skill_names()) == ["Collect_Stone", "Collect_Wood", "Make_Pickaxe"]
    assert experiment.library() == {0: "Collect_Wood", 1: "Collect_Stone", 2: "Make_Pickaxe"}
    assert scheduler._is_complete()


def test_the_example_of_the_docs(tmp_path, monkeypatch, capsys):
    page = (Path(__file__).parents[2] / "docs" / "scheduling.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    launcher = FakeLauncher(finish)
    monkeypatch.setattr("flowrl.parallel.scheduler.default_launcher", lambda settings: launcher)
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    assert sorted(names(launcher)) == ["Collect_Drink", "Collect_Wood", "Place_Table"]
    assert capsys.readouterr().out == "['Collect_Wood', 'Collect_Drink', 'Place_Table']\n"
    assert len(list((tmp_path / "exp" / "from_python" / "skills").iterdir())) == 3


def test_the_seeds_generation_loop(scheduler_of):
    """As printed, except for three things: nothing is proposed beyond ``max_nodes`` (as printed, the loop goes on for
    as long as the last skills train), it does not sleep, and what it would print when the frontier is blocked is kept
    in a list."""
    args = SimpleNamespace(max_nodes=3, max_parallel_skills=3, scheduler_poll_interval=NEVER_S, max_retries=2)
    launcher = FakeLauncher(lambda spec: spec.skill_name == "Make_Pickaxe" and finish(spec))
    scheduler = scheduler_of(args=args, max_parallel=None, poll_interval=None, launcher=launcher)
    flow_graph = FlowGraph(scheduler, ListProposer(WOOD, STONE, PICKAXE), CLASSIC, lambda name, all_skills, training_skills: [])
    scheduler.set_callbacks(
        on_skill_complete=flow_graph.on_skill_complete,
        prepare_training_run=prepare_training_run,
        process_completed_training=process_completed_training,
    )
    scheduler_thread = in_thread(scheduler, flow_graph.skills)
    total_skills_generated, frontier_blocked, blocked_at = 0, False, []
    while total_skills_generated < args.max_nodes or not scheduler._is_complete():
        available_slots = scheduler.max_parallel - len(scheduler.state["currently_running"])
        if available_slots > 0 and not frontier_blocked and total_skills_generated < args.max_nodes:
            skill_name, skill_data = flow_graph.next_skill()
            frontier_blocked = flow_graph.check_frontier_blocked(skill_name, skill_data)
            scheduler.add_skill(skill_name, skill_data, flow_graph.dependencies(skill_name))
            total_skills_generated += 1
            if frontier_blocked:
                blocked_at.append(skill_name)
            if total_skills_generated == args.max_nodes:
                wait_until(lambda: len(launcher.launched) == 2)  # wood and stone, in training until now
                for spec in launcher.launched:
                    finish(spec)
        if scheduler.get_completed_skill_names():
            frontier_blocked = False
    scheduler_thread.join()
    assert blocked_at == ["Make_Pickaxe"] == names(launcher)[2:]
    assert statuses(scheduler) == dict.fromkeys(("Collect_Wood", "Collect_Stone", "Make_Pickaxe"), "completed")
    assert flow_graph.completed().keys() == statuses(scheduler).keys()


# Order, limits, ends.


def test_never_more_at_once_than_allowed(scheduler_of):
    launcher = FakeLauncher(finish)
    scheduler = scheduler_of(launcher=launcher, max_parallel=2)
    for index in range(8):
        scheduler.add_skill(f"S{index}", skill(f"S{index}"), [])
    scheduler.run({})
    assert (len(launcher.launched), launcher.most_at_once) == (8, 2)


def test_one_at_a_time_is_the_sequential_mode(scheduler_of):
    launcher = FakeLauncher(finish)
    scheduler = scheduler_of(launcher=launcher, max_parallel=1)
    for name, dependencies in (("C", ["B"]), ("B", ["A"]), ("A", [])):
        scheduler.add_skill(name, skill(name), dependencies)
    scheduler.run({})
    assert (names(launcher), launcher.most_at_once) == (["A", "B", "C"], 1)


def test_a_finished_run_is_noticed_without_the_poll(scheduler_of):
    launcher = FakeLauncher()
    scheduler = scheduler_of(launcher=launcher)
    scheduler.add_skill("A", skill("A"), [])
    thread = in_thread(scheduler)
    wait_until(lambda: launcher.launched)
    finish(launcher.launched[0])
    thread.join()  # with a poll interval of an hour
    assert statuses(scheduler) == {"A": "completed"}


def test_a_skill_added_while_it_runs_is_launched_without_the_poll(scheduler_of):
    launcher = FakeLauncher(finish)
    scheduler = scheduler_of(launcher=launcher, args=SimpleNamespace(max_nodes=99))
    thread = in_thread(scheduler)
    wait_until(lambda: scheduler.paths.state.exists())
    scheduler.add_skill("A", skill("A"), [])
    wait_until(lambda: statuses(scheduler)["A"] == "completed")
    assert thread.thread.is_alive()  # more may come
    scheduler.close()
    thread.join()


def test_it_ends_once_max_nodes_skills_are_known_and_final(scheduler_of, experiment):
    put_in_library(experiment.root, 0, "Old", 100)
    scheduler = scheduler_of(args=SimpleNamespace(max_nodes=2))
    thread = in_thread(scheduler)
    wait_until(lambda: scheduler.paths.state.exists())
    scheduler.add_skill("New", skill("New"), ["Old"])
    thread.join()
    assert statuses(scheduler) == {"Old": "completed", "New": "completed"}


def test_a_skill_that_is_never_done_is_not_counted(scheduler_of, experiment):
    scheduler = scheduler_of(args=SimpleNamespace(max_nodes=1))
    thread = in_thread(scheduler)
    wait_until(lambda: scheduler.paths.state.exists())
    scheduler.add_skill("Explore", skill("Explore") | {"never_done": True})
    wait_until(lambda: statuses(scheduler) == {"Explore": "completed"})
    assert not scheduler._is_over()
    scheduler.add_skill("New", skill("New"))
    thread.join()
    assert statuses(scheduler) == {"Explore": "completed", "New": "completed"}


def test_skills_of_the_library_count_as_completed(scheduler_of, experiment):
    put_in_library(experiment.root, 3, "Collect_Wood", 1000)
    launcher = FakeLauncher(finish)
    scheduler = scheduler_of(launcher=launcher)
    scheduler.add_skill("Make_Pickaxe", skill("Make_Pickaxe"), ["Collect_Wood"])
    scheduler.run(completed_skills={"Collect_Wood": {"expert_idx": 3}})
    assert names(launcher) == ["Make_Pickaxe"]
    assert entry_of(scheduler, "Make_Pickaxe")["expert_idx"] == 4


def test_what_a_run_really_trained_is_what_is_merged(scheduler_of):
    merged = {}
    scheduler = scheduler_of()
    scheduler.set_callbacks(process_completed_training=lambda **arguments: merged.update(arguments))
    scheduler.add_skill("A", skill("A"), [])
    scheduler.run({})
    assert merged["total_timesteps"] == 100
    assert merged["run_folder"] == scheduler.paths.run_folder(0, "A")


def test_each_slot_gets_its_cores(scheduler_of, monkeypatch):
    launcher = FakeLauncher()
    scheduler = scheduler_of(launcher=launcher, max_parallel=2)
    monkeypatch.setattr("flowrl.parallel.slots.usable_cores", lambda: [0, 1, 2, 3])
    for name in "AB":
        scheduler.add_skill(name, skill(name), [])
    thread = in_thread(scheduler)
    wait_until(lambda: len(launcher.launched) == 2)
    cores = [json.loads((spec.run_folder / "run.json").read_text())["slot"]["cores"] for spec in launcher.launched]
    assert cores == [[0, 1], [2, 3]]
    for spec in launcher.launched:
        finish(spec)
    thread.join()


# What goes wrong.


def test_a_failed_run_is_retried_and_then_completed(scheduler_of):
    scheduler = scheduler_of({("A", 1): "failed", ("A", 2): "failed"})
    scheduler.add_skill("A", skill("A"), [])
    scheduler.run({})
    assert statuses(scheduler) == {"A": "completed"}
    assert (entry_of(scheduler, "A")["retry_count"], entry_of(scheduler, "A")["attempt"]) == (2, 3)


def run_settings(spec):
    return json.loads((spec.run_folder / "run.json").read_text())["settings"]


def test_a_training_that_ran_out_of_memory_is_tried_again_with_half_the_environments(scheduler_of):
    tried = []

    def end(spec):
        tried.append((run_settings(spec)["num_envs"], run_settings(spec)["num_minibatches"]))
        if len(tried) < 3:
            return finish(spec, "failed", error="RESOURCE_EXHAUSTED: out of memory", reason="out_of_memory")
        finish(spec)

    scheduler = scheduler_of(launcher=FakeLauncher(end))
    scheduler.add_skill("A", skill("A"), [])
    scheduler.run({})
    assert tried == [(1024, 8), (512, 4), (256, 2)]
    assert (statuses(scheduler)["A"], entry_of(scheduler, "A")["num_envs"]) == ("completed", 256)


GIVEN_UP = {"error": "no progress: A succeeds in 0.000 of fresh episodes", "reason": "no_progress"}


def test_a_training_without_progress_is_not_tried_again_and_blocks_what_needs_it(scheduler_of):
    launcher = FakeLauncher(lambda spec: finish(spec, "failed", **GIVEN_UP))
    scheduler = scheduler_of(launcher=launcher)
    scheduler.add_skill("A", skill("A"), [])
    scheduler.add_skill("B", skill("B"), ["A"])
    scheduler.run({})
    assert names(launcher) == ["A"]
    assert statuses(scheduler) == {"A": "failed", "B": "blocked"}
    assert (entry_of(scheduler, "A")["error"], entry_of(scheduler, "A")["frames"]) == (GIVEN_UP["error"], 100)
    asked = scheduler_of(args=SimpleNamespace(retry_failed=True, max_nodes=2))
    asked.run({})
    assert statuses(asked) == {"A": "completed", "B": "completed"}


def test_a_training_that_was_given_up_as_the_scheduler_left_is_not_tried_again(scheduler_of):
    launcher = FakeLauncher()
    scheduler = scheduler_of(launcher=launcher)
    scheduler.add_skill("A", skill("A"), [])
    thread = in_thread(scheduler)
    wait_until(lambda: launcher.launched)
    cancel = launcher.cancel
    launcher.cancel = lambda handle, grace_s: finish(launcher.launched[0], "failed", **GIVEN_UP) or cancel(handle, grace_s)
    scheduler.stop(kill=True)
    thread.join()
    assert statuses(scheduler) == {"A": "failed"}


def test_a_training_that_the_kernel_killed_for_memory_is_tried_again_with_half_the_environments(scheduler_of):
    tried, errors = [], []

    def end(spec):
        tried.append(run_settings(spec)["num_envs"])
        if spec.attempt == 2:
            return finish(spec)
        run = RunPaths(spec.run_folder)
        write_json(run.exit, {"attempt": 1, "code": None, "signal": 9, "out_of_memory": True})
        write_json(run.pid, {"pid": 1, "create_time": 0.0, "attempt": 1})  # a process that has ended

    scheduler = scheduler_of(launcher=FakeLauncher(end))
    dispatcher, tell = scheduler._dispatcher, scheduler._dispatcher.tell
    dispatcher.tell = lambda event: (tell(event), errors.extend(e["error"] for e in scheduler.state["skills"]))
    scheduler.add_skill("A", skill("A"), [])
    scheduler.run({})
    assert tried == [1024, 512]
    told = next(error for error in errors if error)
    assert "was ended by the kernel: memory ran out (SIGKILL)" in told
    assert "the next attempt has 512 environments instead of 1024" in told


def test_after_its_retries_a_skill_has_failed_and_what_needs_it_is_blocked(scheduler_of):
    finals = []
    scheduler = scheduler_of({("A", attempt): "failed" for attempt in (1, 2, 3)})
    scheduler.set_callbacks(on_skill_final=lambda name, status: finals.append((name, status)))
    for name, dependencies in (("A", []), ("B", ["A"]), ("C", ["B"]), ("D", [])):
        scheduler.add_skill(name, skill(name), dependencies)
    scheduler.run({})
    assert statuses(scheduler) == {"A": "failed", "B": "blocked", "C": "blocked", "D": "completed"}
    assert entry_of(scheduler, "C")["blocked_by"] == ["A"]
    assert set(finals) == {("A", "failed"), ("B", "blocked"), ("C", "blocked"), ("D", "completed")}


def test_a_launch_that_fails_is_no_end_of_the_scheduler(scheduler_of):
    scheduler = scheduler_of(launcher=FakeLauncher(finish, refusals={"A": 2, "B": 3}))
    for name in "AB":
        scheduler.add_skill(name, skill(name), [])
    scheduler.run({})
    assert statuses(scheduler) == {"A": "completed", "B": "failed"}
    assert "B could not be started: planted refusal" in entry_of(scheduler, "B")["error"]


def test_a_retry_that_is_due_while_no_slot_is_free_does_not_keep_the_loop_busy(scheduler_of, monkeypatch):
    passes = []
    launcher = FakeLauncher(refusals={"A": 1})
    scheduler = scheduler_of(launcher=launcher, max_parallel=1)
    scheduler.add_skill("A", skill("A"), [])
    scheduler.add_skill("B", skill("B"), [])
    watch = scheduler._runs.watch
    monkeypatch.setattr(scheduler._runs, "watch", lambda entries: passes.append(entries) or watch(entries))
    running_thread = in_thread(scheduler)
    wait_until(lambda: names(launcher) == ["B"])  # A was refused, and B has taken its slot
    time.sleep(5 * WATCH_S)  # A's retry is due by now
    passes.clear()
    time.sleep(10 * WATCH_S)
    counted = len(passes)
    finish(launcher.launched[0])
    wait_until(lambda: names(launcher) == ["B", "A"])
    finish(launcher.launched[1])
    running_thread.join()
    assert counted <= 20


def test_a_skill_without_code_fails_at_once_and_says_why(scheduler_of):
    launcher = FakeLauncher(finish)
    scheduler = scheduler_of(launcher=launcher)
    scheduler.add_skill("A", {"skill_name": "A"}, [])
    scheduler.run({})
    assert (statuses(scheduler), launcher.launched) == ({"A": "failed"}, [])
    assert "no task_is_done and task_reward" in entry_of(scheduler, "A")["error"]


def test_a_merge_that_fails_is_tried_again_and_nothing_is_trained_twice(scheduler_of):
    launcher, failures = FakeLauncher(finish), [OSError(5, "Input/output error")] * 2

    def process(**arguments):
        if failures:
            raise failures.pop()
        return process_completed_training(**arguments)

    scheduler = scheduler_of(launcher=launcher)
    scheduler.set_callbacks(process_completed_training=process)
    scheduler.add_skill("A", skill("A"), [])
    scheduler.run({})
    assert (statuses(scheduler), names(launcher)) == ({"A": "completed"}, ["A"])


def test_a_run_cancelled_by_a_person_is_not_retried(scheduler_of):
    launcher = FakeLauncher(lambda spec: finish(spec, "cancelled"))
    scheduler = scheduler_of(launcher=launcher)
    scheduler.add_skill("A", skill("A"), [])
    scheduler.add_skill("B", skill("B"), ["A"])
    scheduler.run({})
    assert (statuses(scheduler), names(launcher)) == ({"A": "cancelled", "B": "blocked"}, ["A"])


def test_failed_skills_are_tried_again_when_asked(scheduler_of):
    outcomes = {("A", attempt): "failed" for attempt in (1, 2, 3)}
    first = scheduler_of(outcomes)
    first.add_skill("A", skill("A"), [])
    first.add_skill("B", skill("B"), ["A"])
    first.run({})
    unasked = scheduler_of()
    unasked.run({})
    assert statuses(unasked) == {"A": "failed", "B": "blocked"}
    asked = scheduler_of(args=SimpleNamespace(retry_failed=True, max_nodes=2))
    asked.run({})
    assert statuses(asked) == {"A": "completed", "B": "completed"}
    assert entry_of(asked, "A")["attempt"] == 4


def test_an_error_in_the_scheduler_is_kept_and_raised_to_whoever_asks(scheduler_of):
    def fails(name):
        raise RuntimeError("planted in a callback")

    scheduler = scheduler_of(args=SimpleNamespace(max_nodes=5))
    scheduler.set_callbacks(on_skill_complete=fails)
    thread = in_thread(scheduler)
    wait_until(lambda: scheduler.paths.state.exists())
    scheduler.add_skill("A", skill("A"), [])
    thread.join()
    assert isinstance(scheduler.error, RuntimeError)
    for ask in (scheduler._is_complete, scheduler.get_completed_skill_names, lambda: scheduler.add_skill("B", skill("B"), [])):
        with pytest.raises(RuntimeError, match="planted"):
            ask()
    assert statuses(scheduler)["A"] == "completed"  # the state can still be read


def test_a_state_that_cannot_be_written_ends_with_the_remedy(scheduler_of, monkeypatch):
    scheduler = scheduler_of()
    scheduler.add_skill("A", skill("A"), [])

    def full(path, data):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(state_file, "write_whole", full)
    with pytest.raises(FlowrlError, match="Input/output error.*free disk space.*start the same command again"):
        scheduler.run({})


# The library is held by another process.


def hold_library(root, wanted, held, over):
    wanted.wait(PATIENCE_S)
    with merge_lock(ExperimentPaths(root), doing="planted"):
        held.set()
        over.wait(PATIENCE_S)


@pytest.fixture
def library(experiment):
    """``hold`` has a live process take the library, ``free`` has it let go. It is made before there are threads."""
    context = multiprocessing.get_context("fork")
    wanted, held, over = (context.Event() for _ in range(3))
    process = context.Process(target=hold_library, args=(experiment.root, wanted, held, over), daemon=True)
    process.start()

    def hold():
        wanted.set()
        assert held.wait(PATIENCE_S)

    yield SimpleNamespace(hold=hold, free=over.set)
    process.kill()
    process.join()


def die(spec):
    """Leaves what a training leaves whose process was killed."""
    write_json(RunPaths(spec.run_folder).pid, {"pid": 1, "create_time": 0.0, "attempt": spec.attempt})


def is_merging(scheduler, name):
    return entry_of(scheduler, name)["stage"] == "merging"


def test_while_a_merge_waits_for_the_library_all_else_goes_on(scheduler_of, library):
    launcher, told = FakeLauncher(), []
    scheduler = scheduler_of(launcher=launcher, max_parallel=3)
    scheduler.set_callbacks(on_skill_complete=lambda name: told.append((name, threading.current_thread())))
    for name in "ABC":
        scheduler.add_skill(name, skill(name), [])
    thread = in_thread(scheduler)
    wait_until(lambda: len(launcher.launched) == 3)
    library.hold()
    finish(launcher.launched[2])
    wait_until(lambda: is_merging(scheduler, "C"))
    die(launcher.launched[0])
    wait_until(lambda: names(launcher) == ["A", "B", "C", "A"])  # noticed, and tried again
    finish(launcher.launched[3])
    wait_until(lambda: is_merging(scheduler, "A"))
    finish(launcher.launched[1])
    wait_until(lambda: is_merging(scheduler, "B"))
    assert told == []
    library.free()
    thread.join()
    assert told == [(name, thread.thread) for name in "CAB"]
    ended = [(entry["status"], entry["retry_count"]) for entry in scheduler.state["skills"]]
    assert ended == [("completed", 1), ("completed", 0), ("completed", 0)]


def test_a_scheduler_that_leaves_waits_for_the_library_until_it_is_to_leave_at_once(scheduler_of, library):
    launcher = FakeLauncher()
    first = scheduler_of(launcher=launcher)
    first.add_skill("A", skill("A"), [])
    first.add_skill("B", skill("B"), [])
    thread = in_thread(first)
    wait_until(lambda: len(launcher.launched) == 2)
    library.hold()
    finish(launcher.launched[0])
    wait_until(lambda: is_merging(first, "A"))
    first.stop()
    wait_until(lambda: first._core.paused)
    assert thread.thread.is_alive() and first.paths.library() == {}
    first.stop(kill=True)
    thread.join()
    assert launcher.running.keys() <= {"fake-0"} and first.paths.library() == {}
    assert statuses(first) == {"A": "running", "B": "waiting"} and entry_of(first, "B")["retry_count"] == 0
    library.free()
    second = scheduler_of(launcher=FakeLauncher(finish))
    second.run({})
    assert statuses(second) == {"A": "completed", "B": "completed"}
    assert [entry_of(second, name)["attempt"] for name in "AB"] == [1, 2]


def test_a_scheduler_that_leaves_has_merged_what_had_ended(scheduler_of, library):
    launcher = FakeLauncher()
    scheduler = scheduler_of(launcher=launcher)
    scheduler.add_skill("A", skill("A"), [])
    thread = in_thread(scheduler)
    wait_until(lambda: launcher.launched)
    library.hold()
    finish(launcher.launched[0])
    wait_until(lambda: is_merging(scheduler, "A"))
    scheduler.stop()
    wait_until(lambda: scheduler._core.paused)
    library.free()
    thread.join()
    assert statuses(scheduler) == {"A": "completed"}


def test_a_merge_without_room_ends_the_scheduler_and_is_made_at_the_next_start(scheduler_of):
    def process(**arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    scheduler = scheduler_of()
    scheduler.set_callbacks(process_completed_training=process)
    scheduler.add_skill("A", skill("A"), [])
    with pytest.raises(NoRoom, match="cannot be written .the disk is full.*start the same command again"):
        scheduler.run({})
    assert (statuses(scheduler), entry_of(scheduler, "A")["retry_count"]) == ({"A": "running"}, 0)
    again = scheduler_of(launcher=FakeLauncher())
    again.run({})
    assert statuses(again) == {"A": "completed"}


def test_a_scheduler_that_ends_in_an_error_is_not_gone_before_its_merge_is(scheduler_of, monkeypatch):
    """Otherwise the next one could take the folder during that."""
    began, go_on, over = threading.Event(), threading.Event(), threading.Event()

    def process(**arguments):
        began.set()
        assert go_on.wait(PATIENCE_S)
        over.set()
        return process_completed_training(**arguments)

    def fail_once_it_began():
        if began.is_set():
            raise RuntimeError("planted")

    scheduler = scheduler_of()
    scheduler.set_callbacks(process_completed_training=process)
    scheduler.add_skill("A", skill("A"), [])
    monkeypatch.setattr(scheduler, "_is_over", fail_once_it_began)
    thread = in_thread(scheduler)
    assert began.wait(PATIENCE_S)
    wait_until(lambda: scheduler._runs.merges._is_leaving.is_set())
    assert thread.thread.is_alive() and is_held(scheduler.paths.scheduler_lock)
    go_on.set()
    thread.join()
    assert over.is_set() and isinstance(scheduler.error, RuntimeError)
    assert scheduler.paths.library() == {0: "A"}


# Stopping and going on.


def test_stopping_ends_runs_without_spending_a_retry_and_the_next_start_goes_on(scheduler_of):
    launcher = FakeLauncher()
    first = scheduler_of(launcher=launcher)
    first.add_skill("A", skill("A"), [])
    first.add_skill("B", skill("B"), ["A"])
    thread = in_thread(first)
    wait_until(lambda: launcher.launched)
    first.stop(kill=True)
    thread.join()
    assert launcher.running == {}
    assert statuses(first) == {"A": "waiting", "B": "waiting"}
    assert entry_of(first, "A")["retry_count"] == 0
    second = scheduler_of()
    second.run({})
    assert statuses(second) == {"A": "completed", "B": "completed"}
    assert [entry_of(second, name)["expert_idx"] for name in "AB"] == [0, 1]


@pytest.mark.parametrize("kill", [False, True])
def test_what_was_about_to_be_launched_at_a_stop_is_not_launched(scheduler_of, kill):
    launcher = FakeLauncher()
    scheduler = scheduler_of(launcher=launcher, max_parallel=2)
    launcher.on_launch = lambda spec: scheduler.stop(kill=kill)
    scheduler.add_skill("A", skill("A"), [])
    scheduler.add_skill("B", skill("B"), [])
    in_thread(scheduler).join()
    assert names(launcher) == ["A"]
    assert statuses(scheduler) == {"A": "waiting" if kill else "running", "B": "waiting"}
    assert entry_of(scheduler, "B")["retry_count"] == 0


def test_after_its_end_a_scheduler_writes_nothing_more(scheduler_of):
    scheduler = scheduler_of()
    scheduler.add_skill("A", skill("A"), [])
    scheduler.run({})
    written = scheduler.paths.state.read_bytes()
    scheduler.interrupt(), scheduler.resume(), scheduler.set_proposer_state({"kind": "llm"}), scheduler.stop()
    assert scheduler.paths.state.read_bytes() == written


def test_leaving_runs_to_themselves_and_finding_them_again(scheduler_of):
    launcher = FakeLauncher()
    first = scheduler_of(launcher=launcher)
    first.add_skill("A", skill("A"), [])
    first.add_skill("B", skill("B"), ["A"])
    thread = in_thread(first)
    wait_until(lambda: launcher.launched)
    first.stop()
    thread.join()
    assert statuses(first)["A"] == "running"
    second = scheduler_of(launcher=launcher)
    thread = in_thread(second)
    wait_until(lambda: second.paths.state.exists() and running(second) == 1)
    launcher.on_launch = finish
    finish(launcher.launched[0])
    thread.join()
    assert names(launcher) == ["A", "B"]  # A was not launched again
    assert statuses(second) == {"A": "completed", "B": "completed"}


def test_a_run_that_ended_while_nobody_watched_is_merged(scheduler_of):
    launcher = FakeLauncher()
    first = scheduler_of(launcher=launcher)
    first.add_skill("A", skill("A"), [])
    thread = in_thread(first)
    wait_until(lambda: launcher.launched)
    first.stop()
    thread.join()
    finish(launcher.launched[0])
    launcher.running.clear()
    second = scheduler_of(launcher=launcher)
    second.run({})
    assert (names(launcher), statuses(second)) == (["A"], {"A": "completed"})


def test_the_minutes_of_a_run_end_with_its_result_and_not_when_a_scheduler_reads_it(scheduler_of):
    def end_long_after(spec):
        finish(spec)
        then = time.time() + 3600
        os.utime(spec.run_folder / "result.json", (then, then))

    scheduler = scheduler_of(launcher=FakeLauncher(end_long_after))
    scheduler.add_skill("A", skill("A"), [])
    scheduler.run({})
    assert entry_of(scheduler, "A")["minutes"] == pytest.approx(60, abs=1)


def test_a_launch_that_was_written_down_and_never_made_is_made(scheduler_of):
    first = scheduler_of({("A", 1): "hangs"})
    first.add_skill("A", skill("A"), [])
    thread = in_thread(first)
    wait_until(lambda: first.paths.state.exists() and running(first) == 1)
    first.stop()
    thread.join()
    data = json.loads(first.paths.state.read_text())
    data["skills"][0]["stage"] = "launching"
    first.paths.state.write_text(json.dumps(data) + "\n")
    launcher = FakeLauncher(finish)  # an engine that knows of nothing
    second = scheduler_of(launcher=launcher)
    second.run({})
    assert [spec.attempt for spec in launcher.launched] == [1]
    assert (statuses(second), entry_of(second, "A")["retry_count"]) == ({"A": "completed"}, 0)


def test_a_merge_that_was_written_down_and_perhaps_made_is_made_again(scheduler_of):
    first = scheduler_of()
    first.add_skill("A", skill("A"), [])
    first.run({})
    data = json.loads(first.paths.state.read_text())
    data["skills"][0] |= {"status": "running", "stage": "merging", "completed_at": None}
    data["currently_running"] = ["A"]
    first.paths.state.write_text(json.dumps(data) + "\n")
    launcher = FakeLauncher()
    second = scheduler_of(launcher=launcher)
    second.run({})
    assert (statuses(second), launcher.launched) == ({"A": "completed"}, [])


def test_a_lost_state_is_found_again_in_the_folders(scheduler_of):
    launcher = FakeLauncher(lambda spec: finish(spec) if spec.skill_name == "A" else None)
    first = scheduler_of(launcher=launcher)
    first.add_skill("A", skill("A"), [])
    first.add_skill("B", skill("B"), ["A"])
    thread = in_thread(first)
    wait_until(lambda: names(launcher) == ["A", "B"])
    first.stop()
    thread.join()
    finish(launcher.launched[1])
    first.paths.state.unlink()
    first.paths.previous_state.unlink()
    second = scheduler_of(launcher=launcher)
    second.run({})
    assert names(launcher) == ["A", "B"]
    assert statuses(second) == {"A": "completed", "B": "completed"}
    assert (entry_of(second, "A")["frames"], entry_of(second, "B")["dependencies"]) == (100, ["A"])


def test_a_state_that_fell_back_behind_a_launch_finds_the_run_and_its_index_again(scheduler_of):
    launcher = FakeLauncher()
    first = scheduler_of(launcher=launcher)
    first.add_skill("A", skill("A"), [])
    first.add_skill("B", skill("B"), ["A"])
    thread = in_thread(first)
    wait_until(lambda: launcher.launched)
    first.stop()
    thread.join()
    data = json.loads(first.paths.state.read_text())
    data["skills"][0] |= {
        "status": "waiting",
        "expert_idx": None,
        "attempt": 0,
        "stage": None,
        "slot": None,
        "tmux_session": None,
    }
    data |= {"currently_running": [], "next_expert_idx": 0}
    first.paths.previous_state.write_text(json.dumps(data) + "\n")
    first.paths.state.write_bytes(first.paths.state.read_bytes()[:100])
    finish(launcher.launched[0])
    launcher.running.clear()
    launcher.on_launch = finish
    second = scheduler_of(launcher=launcher)
    second.run({})
    assert "not valid JSON" in second.remark and "continuing from the previous state" in second.remark
    assert names(launcher) == ["A", "B"]
    assert [entry_of(second, name)["expert_idx"] for name in "AB"] == [0, 1]


def test_a_launch_that_was_only_written_down_waits_for_a_run_that_an_older_state_did_not_know(scheduler_of):
    launcher = FakeLauncher()
    first = scheduler_of(launcher=launcher, max_parallel=1)
    first.add_skill("B", skill("B"), [])
    first.add_skill("A", skill("A"), [])
    thread = in_thread(first)
    wait_until(lambda: names(launcher) == ["B"])
    first.stop()
    thread.join()
    data = json.loads(first.paths.state.read_text())
    entries = {entry["skill_name"]: entry for entry in data["skills"]}
    entries["B"] |= {"status": "waiting", "attempt": 0, "stage": None, "slot": None, "tmux_session": None}
    entries["A"] |= {"status": "running", "attempt": 1, "stage": "launching", "slot": 0, "expert_idx": 1}
    first.paths.state.write_text(json.dumps(data | {"currently_running": ["A"], "next_expert_idx": 2}) + "\n")
    finish(launcher.launched[0])
    launcher.running.clear()
    beside = []
    second = scheduler_of(launcher=launcher, max_parallel=1)
    launcher.on_launch = lambda spec: (beside.append(second.state["currently_running"]), finish(spec))
    second.run({})
    assert (names(launcher), beside) == (["B", "A"], [["A"]])
    assert statuses(second) == {"B": "completed", "A": "completed"}


def test_a_state_that_fell_back_behind_a_retry_does_not_give_its_number_again(scheduler_of):
    """What the second attempt left, or still does, must not be taken for the third's."""
    first = scheduler_of({("A", 1): "failed"}, args=SimpleNamespace(max_retries=0, max_nodes=1))
    first.add_skill("A", skill("A"), [])
    first.run({})
    fallen_back = first.paths.state.read_bytes()
    asked = scheduler_of({("A", 2): "failed"}, args=SimpleNamespace(retry_failed=True, max_retries=0, max_nodes=1))
    asked.run({})
    assert entry_of(asked, "A")["attempt"] == 2
    asked.paths.state.write_bytes(fallen_back)
    again = scheduler_of(args=SimpleNamespace(retry_failed=True, max_retries=0, max_nodes=1))
    again.run({})
    assert (entry_of(again, "A")["attempt"], statuses(again)) == (3, {"A": "completed"})


@pytest.mark.parametrize("outcome", ["failed", "cancelled"])
def test_what_is_tried_again_when_asked_goes_on_from_its_checkpoint_and_frees_what_it_blocked(scheduler_of, outcome):
    first = scheduler_of({("A", 1): outcome}, args=SimpleNamespace(max_retries=0, max_nodes=3))
    for name, dependencies in (("A", []), ("B", ["A"]), ("C", ["B"])):
        first.add_skill(name, skill(name), dependencies)
    first.run({})
    assert statuses(first) == {"A": outcome, "B": "blocked", "C": "blocked"}
    began_from = {}

    def end(spec):
        began_from[spec.skill_name] = [path.name for path in RunPaths(spec.run_folder).checkpoints()]
        finish(spec)

    asked = scheduler_of(launcher=FakeLauncher(end), args=SimpleNamespace(retry_failed=True, max_nodes=3))
    asked.run({})
    assert statuses(asked) == {"A": "completed", "B": "completed", "C": "completed"}
    assert began_from == {"A": ["checkpoint_100.pkl"], "B": [], "C": []}
    assert (entry_of(asked, "A")["expert_idx"], entry_of(asked, "A")["attempt"]) == (0, 2)


def test_a_run_that_a_person_cancelled_as_the_scheduler_left_stays_cancelled(scheduler_of):
    launcher = FakeLauncher()
    scheduler = scheduler_of(launcher=launcher)
    scheduler.add_skill("A", skill("A"), [])
    thread = in_thread(scheduler)
    wait_until(lambda: launcher.launched)
    cancel = launcher.cancel
    launcher.cancel = lambda handle, grace_s: finish(launcher.launched[0], "cancelled") or cancel(handle, grace_s)
    scheduler.stop(kill=True)
    thread.join()
    assert statuses(scheduler) == {"A": "cancelled"}


def test_after_an_interrupt_nothing_more_is_launched_until_it_is_taken_back(scheduler_of):
    launcher = FakeLauncher()
    scheduler = scheduler_of(launcher=launcher, max_parallel=1)
    scheduler.add_skill("A", skill("A"), [])
    scheduler.add_skill("B", skill("B"), [])
    thread = in_thread(scheduler)
    wait_until(lambda: launcher.launched)
    scheduler.interrupt()
    finish(launcher.launched[0])
    wait_until(lambda: statuses(scheduler)["A"] == "completed")  # a run that has ended is merged anyway
    assert statuses(scheduler)["B"] == "waiting"
    launcher.on_launch = finish
    scheduler.resume()
    thread.join()
    assert statuses(scheduler) == {"A": "completed", "B": "completed"}


def test_known_skills_give_a_proposer_back_what_it_proposed(scheduler_of):
    first = scheduler_of({("B", 1): "cancelled"})
    first.add_skill("A", skill("A", "sapling"), [])
    first.add_skill("B", skill("B"), ["A"])
    first.run({})
    second = scheduler_of()
    second.open()
    known = second.known_skills()
    second.run({})
    assert known["A"] == skill("A", "sapling") | {"expert_idx": 0, "status": "completed"}
    assert known["B"] == skill("B") | {"expert_idx": 1, "status": "cancelled"}


def test_the_proposers_state_is_kept(scheduler_of):
    scheduler = scheduler_of()
    scheduler.set_proposer_state({"kind": "curriculum", "cost_usd": 0.0, "last_error": None})
    scheduler.add_skill("A", skill("A"), [])
    scheduler.run({})
    assert json.loads(scheduler.paths.state.read_text())["proposer"]["kind"] == "curriculum"


def test_the_state_file_fits_its_schema_at_every_moment(scheduler_of, monkeypatch):
    validator = jsonschema.Draft202012Validator(json.loads(SCHEMA_FILE.read_text()))
    written, write_whole = [], state_file.write_whole
    monkeypatch.setattr(
        state_file, "write_whole", lambda path, text: (written.append(json.loads(text)), write_whole(path, text))
    )
    scheduler = scheduler_of({("A", 1): "failed", ("C", 1): "cancelled"})
    for name, dependencies in (("A", []), ("B", ["A"]), ("C", []), ("D", ["C"])):
        scheduler.add_skill(name, skill(name), dependencies)
    scheduler.run({})
    for data in written:
        validator.validate(data)
        assert data["currently_running"] == [s["skill_name"] for s in data["skills"] if s["status"] == "running"]
    assert {s["status"] for data in written for s in data["skills"]} == {
        "waiting",
        "running",
        "completed",
        "cancelled",
        "blocked",
    }


# Bad input.


def files_below(folder):
    return sorted(path for path in folder.rglob("*"))


def refused(scheduler, message):
    """Refused with exit code 2, and nothing on disk changed."""
    before = files_below(scheduler.paths.root)
    with pytest.raises(BadInput, match=message) as caught:
        scheduler.run({})
    assert caught.value.exit_code == 2
    assert files_below(scheduler.paths.root) == before


@pytest.mark.parametrize("name", ["", "a/b", "a.b", "a:b", "a;b", "a b", "it's", "../up", "-rf", "x" * 65])
def test_a_bad_name_is_refused(scheduler_of, name):
    with pytest.raises(BadInput):
        scheduler_of().add_skill(name, skill("A"), [])


def test_a_name_is_given_once(scheduler_of):
    scheduler = scheduler_of()
    scheduler.add_skill("A", skill("A"), [])
    with pytest.raises(BadInput, match="already a skill A .* another name"):
        scheduler.add_skill("A", skill("A"), [])


def test_a_name_of_the_library_is_taken(scheduler_of, experiment):
    put_in_library(experiment.root, 0, "A", 100)
    scheduler = scheduler_of()
    scheduler.add_skill("A", skill("A"), [])
    refused(scheduler, "already a skill A")


def test_an_unknown_dependency_is_refused(scheduler_of):
    scheduler = scheduler_of()
    scheduler.add_skill("A", skill("A"), ["Nothing"])
    refused(scheduler, "A depends on Nothing, which this experiment does not have; add Nothing first")


def test_an_unknown_dependency_is_refused_at_once_while_running(scheduler_of):
    scheduler = scheduler_of(args=SimpleNamespace(max_nodes=5))
    thread = in_thread(scheduler)
    wait_until(lambda: scheduler.paths.state.exists())
    with pytest.raises(BadInput, match="A depends on Nothing"):
        scheduler.add_skill("A", skill("A"), ["Nothing"])
    assert statuses(scheduler) == {}
    scheduler.close()
    thread.join()


def test_a_circle_is_refused_and_named(scheduler_of):
    scheduler = scheduler_of()
    scheduler.add_skill("A", skill("A"), ["B"])
    scheduler.add_skill("B", skill("B"), ["A"])
    refused(scheduler, "circle: (A -> B -> A|B -> A -> B)")
    with pytest.raises(BadInput, match="circle: C -> C"):
        scheduler_of().add_skill("C", skill("C"), ["C"])


def test_a_skills_folder_deleted_by_hand_fails_what_needs_it_by_name_and_blocks_the_rest(scheduler_of, experiment):
    first = scheduler_of()
    first.add_skill("A", skill("A"), [])
    first.run({})
    shutil.rmtree(experiment.skill_folder(0, "A"))
    again = scheduler_of()
    again.add_skill("B", skill("B"), ["A"])
    again.add_skill("C", skill("C"), ["B"])
    again.add_skill("Free", skill("Free"), [])
    again.run({})
    assert statuses(again) == {"A": "completed", "B": "failed", "C": "blocked", "Free": "completed"}
    failed = next(entry for entry in again.state["skills"] if entry["skill_name"] == "B")
    assert "B needs expert 0 of A, but" in failed["error"] and "restore it from a copy" in failed["error"]
    assert failed["retry_count"] == 0


def test_a_damaged_checkpoint_at_the_merge_is_trained_on_from_the_one_before(scheduler_of, experiment):
    """The run has ended, and the checkpoint that its result names cannot be read: it goes on, and is counted once."""

    def end(spec):
        if spec.attempt == 1:
            finish(spec, frames=100)
            damaged = RunPaths(spec.run_folder).checkpoint(100)
            damaged.write_bytes(damaged.read_bytes()[:20])
        else:
            assert not RunPaths(spec.run_folder).checkpoints()
            finish(spec, frames=200)

    scheduler = scheduler_of(launcher=FakeLauncher(end))
    scheduler.add_skill("A", skill("A"), [])
    scheduler.run({})
    entry = scheduler.state["skills"][0]
    assert (entry["status"], entry["attempt"], entry["frames"]) == ("completed", 2, 200)
    assert pickles.load(experiment.expert_params(0, "A"))["metadata"]["total_frames"] == 200


def test_a_folder_that_cannot_be_made_is_refused(scheduler_of, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BadInput, match="cannot be written .*make it writable, or use another --graph_path"):
        scheduler_of(base_dir=tmp_path / "file" / "exp").run({})


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_refused(scheduler_of, tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(BadInput, match="cannot be written"):
            scheduler_of(base_dir=tmp_path / "exp").run({})
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize("text", ['{"version": 1, "skil', '{"version": 99}', '{"skills": {}}'])
def test_a_state_that_cannot_be_used_is_refused(scheduler_of, experiment, text):
    experiment.root.mkdir(parents=True)
    experiment.state.write_text(text)
    refused(scheduler_of(), "scheduler_state.json")
    assert experiment.state.read_text() == text


def test_a_folder_in_the_place_of_the_state_is_refused(scheduler_of, experiment):
    experiment.state.mkdir(parents=True)
    refused(scheduler_of(), "scheduler_state.json cannot be read .*move it away")
    assert list(experiment.root.iterdir()) == [experiment.state]


def test_a_missing_tmux_is_refused(experiment, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    refused(SkillScheduler(base_dir=experiment.root), "tmux is missing")
    assert not experiment.root.exists()


def test_a_second_scheduler_is_told_who_has_the_folder(scheduler_of):
    first, second = scheduler_of(), scheduler_of()
    first.open()
    with pytest.raises(FolderInUse, match=f"in use by another scheduler \\(process {os.getpid()} on .*, since 2") as caught:
        second.run({})
    assert caught.value.exit_code == 3
    first.add_skill("A", skill("A"), [])
    first.run({})
    assert statuses(first) == {"A": "completed"}
    scheduler_of().run({})  # and the folder is free again


# The frames that a skill may train.


def budget(frames, **flags):
    """The flags of a start with this budget, in which a run may train 5,000 frames and an update has 64."""
    return SimpleNamespace(skill_budget_frames=frames, total_timesteps=5000, frames_per_update=64, max_nodes=1, **flags)


@pytest.mark.parametrize(("frames", "of_the_run"), [(1000, 1000), (5000, 5000), (9000, 5000), (None, 5000)])
def test_a_run_may_train_no_more_than_the_budget_of_its_skill(scheduler_of, frames, of_the_run):
    seen = []
    launcher = FakeLauncher(lambda spec: (seen.append(run_settings(spec)), finish(spec)))
    scheduler = scheduler_of(launcher=launcher, args=budget(frames))
    write_json(scheduler.paths.config, {"total_timesteps": 5000})
    scheduler.add_skill("A", skill("A"), [])
    scheduler.run()
    assert [(settings["total_timesteps"], settings["stop_at_goal"]) for settings in seen] == [(of_the_run, True)]


@pytest.mark.parametrize(("frames", "of_the_run"), [(500, 500), (1000, 700), (9000, 700), (None, 700)])
def test_the_budget_raises_no_figure_of_the_skills_own(scheduler_of, frames, of_the_run):
    seen = []
    launcher = FakeLauncher(lambda spec: (seen.append(run_settings(spec)["total_timesteps"]), finish(spec)))
    scheduler = scheduler_of(launcher=launcher, args=budget(frames))
    scheduler.add_skill("A", skill("A") | {"settings": {"total_timesteps": 700}}, [])
    scheduler.run()
    assert seen == [of_the_run]


def test_a_retried_run_keeps_its_frames_and_its_budget(scheduler_of):
    seen = []

    def end(spec):
        seen.append(run_settings(spec)["total_timesteps"])
        finish(spec, "failed" if spec.attempt < 3 else "completed", frames=300 * spec.attempt)

    scheduler = scheduler_of(launcher=FakeLauncher(end), args=budget(1000))
    scheduler.add_skill("A", skill("A"), [])
    scheduler.run()
    assert (seen, statuses(scheduler)) == ([1000] * 3, {"A": "completed"})


def test_a_skill_that_is_trained_further_gets_what_is_left_of_its_budget(scheduler_of):
    first = scheduler_of(args=budget(None))
    first.add_skill("A", skill("A"), [])
    first.run()
    trained = []

    def end(spec):
        trained.append((run_settings(spec)["total_timesteps"], run_settings(spec)["stop_at_goal"]))
        finish(spec, frames=trained[-1][0])

    for asked, allowed in ((400, 400), (5000, 500)):  # of 1,000, after the 100 of the first run
        further = scheduler_of(launcher=FakeLauncher(end), args=budget(1000))
        further.open()
        assert further.continue_skill("A", asked) == allowed
        further.run()
        assert trained[-1] == (allowed, False)
    used_up = scheduler_of(args=budget(1050))
    used_up.open()
    with pytest.raises(BadInput, match="A has trained 1,000 frames, and --skill_budget_frames 1,050 leaves less than an"):
        used_up.continue_skill("A", 5000)
    assert statuses(used_up) == {"A": "completed"}


def test_skills_that_are_trained_further_take_a_slot_each_even_if_one_depends_on_the_other(scheduler_of):
    first = scheduler_of(max_parallel=2)
    first.add_skill("A", skill("A"), [])
    first.add_skill("B", skill("B", "a"), ["A"])
    first.run()
    scheduler = scheduler_of(max_parallel=2)
    scheduler.open()
    assert scheduler.free_slots() == 2
    scheduler.continue_skill("A", 100)
    assert scheduler.free_slots() == 1
    scheduler.continue_skill("B", 100)
    assert scheduler.free_slots() == 0


def test_a_skill_can_be_trained_further_while_the_scheduler_runs(scheduler_of):
    """Also if there are as many skills as the experiment may hold: the front door says when nothing more will come."""
    first = scheduler_of(args=budget(None))
    first.add_skill("A", skill("A"), [])
    first.run()
    scheduler = scheduler_of(args=budget(None, continue_skill="most_useful"))
    scheduler.open()
    thread = threading.Thread(target=scheduler.run)
    thread.start()
    for attempt in (2, 3):
        scheduler.continue_skill("A", 100)
        wait_until(
            lambda number=attempt: (statuses(scheduler)["A"], scheduler.state["skills"][0]["attempt"]) == ("completed", number)
        )
    scheduler.close()
    thread.join(PATIENCE_S)
    assert not thread.is_alive() and scheduler.error is None


@pytest.mark.parametrize(("frames", "status"), [(163, "failed"), (164, "completed")])
def test_a_skill_that_was_given_up_is_tried_again_if_its_budget_leaves_an_update(scheduler_of, frames, status):
    first = scheduler_of(launcher=FakeLauncher(lambda spec: finish(spec, "failed", **GIVEN_UP)), args=budget(frames))
    first.add_skill("A", skill("A"), [])
    first.run()
    launcher = FakeLauncher(finish)
    asked = scheduler_of(launcher=launcher, args=budget(frames, retry_failed=True))
    asked.run()
    assert (statuses(asked), names(launcher)) == ({"A": status}, ["A"] if status == "completed" else [])
    error = "A could not be started: A has trained 100 frames, and --skill_budget_frames 163 leaves less than an update"
    assert status == "completed" or entry_of(asked, "A")["error"].startswith(error)
