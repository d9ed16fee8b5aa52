"""The scheduler's mind, driven by hand and by chance."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest

from flowrl.parallel.backoff import MAX_BACKOFF_S, backoff_s, is_due
from flowrl.parallel.core import SchedulerCore
from flowrl.parallel.events import (
    Announce,
    ContinueRequested,
    Launch,
    Launched,
    LaunchFailed,
    Merge,
    Merged,
    MergeFailed,
    Paused,
    Resumed,
    RetryRequested,
    RunDied,
    RunEnded,
    RunFound,
    RunStopped,
    SkillAdded,
    Stopping,
    Ticked,
)  # fmt: skip
from flowrl.records.scheduler_state import FINAL, SchedulerState, SkillEntry, Stage, Status

START = datetime(2026, 1, 1, tzinfo=UTC)
LATER = START + timedelta(days=1)


class Driver:
    """A core, and short words for what happens to it."""

    def __init__(self, max_parallel=2, max_retries=2, state=None):
        self.core = SchedulerCore(state or SchedulerState(max_parallel=max_parallel), max_retries=max_retries)
        self.now = START
        self.tell(Resumed())

    def tell(self, event):
        return self.core.handle(event, self.now)

    def add(self, name, *dependencies):
        return self.tell(SkillAdded(name, {"skill_name": name}, dependencies))

    def launched(self, name):
        return self.tell(Launched(name, self[name].attempt, f"flowrl_{name}", f"training_runs/skill_{name}"))

    def end(self, name, outcome="completed", **fields):
        return self.tell(RunEnded(name, self[name].attempt, outcome, frames=100, **fields))

    def complete(self, name):
        self.launched(name)
        self.end(name)
        return self.tell(Merged(name, self[name].attempt))

    def wait(self, seconds):
        self.now += timedelta(seconds=seconds)
        return self.tell(Ticked())

    def __getitem__(self, name):
        return self.core.entries[name]

    @property
    def running(self):
        return self.core.state.currently_running


def test_a_skill_without_dependencies_is_launched_at_once():
    driver = Driver()
    assert driver.add("Collect_Wood") == [Launch("Collect_Wood", 1)]
    assert driver["Collect_Wood"].stage is Stage.LAUNCHING


def test_the_seeds_workflow_c_waits_for_a_and_b():
    driver = Driver(max_parallel=3)
    driver.add("A"), driver.add("B")
    assert driver.add("C", "A", "B") == []
    assert driver.complete("A") == [Announce("A", Status.COMPLETED)]
    assert driver.complete("B") == [Announce("B", Status.COMPLETED), Launch("C", 1)]


def test_no_more_run_than_there_are_slots():
    driver = Driver(max_parallel=2)
    assert [len(driver.add(name)) for name in "ABC"] == [1, 1, 0]
    assert driver.running == ["A", "B"]
    assert driver.complete("A")[-1] == Launch("C", 1)
    assert driver["C"].slot == 0  # the one that A has freed
    assert driver["B"].slot == 1


def test_expert_indices_are_given_at_launch_and_never_twice():
    driver = Driver(max_parallel=1, max_retries=0)
    for name in "ABC":
        driver.add(name)
    assert [driver[name].expert_idx for name in "ABC"] == [0, None, None]
    driver.launched("A"), driver.tell(RunDied("A", 1, "planted"))  # A has failed, and keeps its index
    driver.complete("B"), driver.complete("C")
    assert [driver[name].expert_idx for name in "ABC"] == [0, 1, 2]
    assert driver.core.state.next_expert_idx == 3


def test_the_longest_path_of_waiting_skills_goes_first():
    driver = Driver(max_parallel=1)
    driver.tell(Paused())
    driver.add("Short"), driver.add("Long"), driver.add("Middle", "Long"), driver.add("End", "Middle")
    assert driver.tell(Resumed()) == [Launch("Long", 1)]
    assert driver.complete("Long")[-1] == Launch("Middle", 1)


def test_the_minutes_of_a_skill_are_those_of_all_its_attempts_until_the_result_was_written():
    driver = Driver()
    driver.add("A"), driver.launched("A")
    driver.now += timedelta(minutes=10)
    driver.tell(RunDied("A", 1, "planted"))
    driver.wait(3600), driver.launched("A")
    driver.now += timedelta(minutes=5)
    driver.tell(RunStopped("A", 2)), driver.launched("A")
    written_at = driver.now + timedelta(minutes=2)
    driver.now += timedelta(minutes=60)  # a night in which nobody looked
    driver.end("A", ended_at=written_at)
    driver.tell(MergeFailed("A", 3, "planted"))
    driver.wait(3600), driver.tell(Merged("A", 3))
    assert driver["A"].status is Status.COMPLETED
    assert driver["A"].minutes == 10 + 5 + 2


def test_a_launch_that_failed_took_no_minutes():
    driver = Driver(max_retries=0)
    driver.add("A")
    driver.now += timedelta(minutes=10)
    driver.tell(LaunchFailed("A", 1, "planted"))
    assert driver["A"].minutes is None


def test_equals_are_launched_in_the_order_added():
    driver = Driver(max_parallel=1)
    driver.tell(Paused())
    for name in ("Zebra", "Ant", "Cat"):
        driver.add(name)
    assert driver.tell(Resumed()) == [Launch("Zebra", 1)]
    assert driver.complete("Zebra")[-1] == Launch("Ant", 1)


def test_a_dead_run_is_tried_again_after_a_stored_backoff_with_the_same_expert():
    driver = Driver()
    driver.add("A"), driver.launched("A")
    assert driver.tell(RunDied("A", 1, "its process is gone")) == []
    assert driver["A"].status is Status.WAITING
    assert driver["A"].error == "its process is gone"
    assert driver["A"].retry_at == START + timedelta(seconds=backoff_s("A", 1))
    assert driver.wait(0) == []
    assert driver.wait(10) == [Launch("A", 2)]
    assert (driver["A"].expert_idx, driver["A"].retry_count) == (0, 1)


def test_after_the_retries_a_skill_has_failed_with_its_last_error():
    driver = Driver(max_retries=2)
    driver.add("A")
    for attempt in (1, 2, 3):
        driver.launched("A")
        actions = driver.tell(RunDied("A", attempt, f"error {attempt}"))
        driver.wait(1000)
    assert actions == [Announce("A", Status.FAILED)]
    assert (driver["A"].status, driver["A"].error, driver["A"].retry_count) == (Status.FAILED, "error 3", 2)
    assert driver.core.is_complete()


def test_a_failed_launch_is_retried_like_a_dead_run_and_a_hopeless_one_is_not():
    driver = Driver()
    driver.add("A"), driver.add("B")
    assert driver.tell(LaunchFailed("A", 1, "tmux did not answer")) == []
    assert driver["A"].retry_count == 1
    assert driver.tell(LaunchFailed("B", 1, "no code", hopeless=True)) == [Announce("B", Status.FAILED)]


def test_where_memory_ran_out_the_next_attempt_has_half_the_environments():
    driver = Driver()
    driver.add("A"), driver.launched("A")
    driver.tell(RunDied("A", 1, "killed", too_many_envs=1024))
    assert (driver["A"].num_envs, driver["A"].retry_count) == (512, 1)
    assert driver["A"].error == "killed; the next attempt has 512 environments instead of 1024"
    driver.wait(10), driver.launched("A")
    driver.end("A", "failed", error="RESOURCE_EXHAUSTED", too_many_envs=512)
    assert driver["A"].num_envs == 256
    driver.wait(10), driver.launched("A")
    driver.tell(RunDied("A", 3, "planted"))  # for another reason
    assert (driver["A"].status, driver["A"].num_envs) == (Status.FAILED, 256)
    driver.tell(RetryRequested())
    assert driver["A"].num_envs == 256


def test_a_run_is_not_made_smaller_than_makes_sense():
    driver = Driver(max_retries=9)
    driver.add("A")
    for attempt, envs in enumerate((20, 10, 8), start=1):
        driver.launched("A")
        driver.tell(RunDied("A", attempt, "killed", too_many_envs=envs))
        assert driver["A"].num_envs == (10, 8, 8)[attempt - 1]
        driver.wait(1000)


def test_a_result_that_says_failed_is_retried():
    driver = Driver()
    driver.add("A"), driver.launched("A")
    assert driver.end("A", "failed", error="ValueError: nan") == []
    assert (driver["A"].status, driver["A"].error) == (Status.WAITING, "ValueError: nan")


def test_a_run_without_progress_is_not_tried_again_unless_a_person_asks_for_it():
    driver = Driver()
    driver.add("A"), driver.add("B", "A"), driver.launched("A")
    assert driver.end("A", "failed", error="no progress: ...", hopeless=True) == [
        Announce("A", Status.FAILED), Announce("B", Status.BLOCKED),
    ]  # fmt: skip
    assert (driver["A"].error, driver["A"].retry_count, driver["A"].frames) == ("no progress: ...", 0, 100)
    assert driver.wait(1000) == [] and driver.core.is_complete()
    assert driver.tell(RetryRequested()) == [Launch("A", 2)]


def test_a_run_without_progress_is_that_even_while_it_is_being_ended():
    driver = Driver()
    driver.add("A"), driver.launched("A"), driver.tell(Paused()), driver.tell(Stopping())
    assert driver.end("A", "failed", error="no progress: ...", hopeless=True) == [Announce("A", Status.FAILED)]


def test_a_run_cancelled_in_its_pane_is_final_and_blocks_what_needs_it():
    driver = Driver()
    driver.add("A"), driver.add("B", "A"), driver.add("C", "B"), driver.launched("A")
    assert driver.end("A", "cancelled") == [
        Announce("A", Status.CANCELLED), Announce("B", Status.BLOCKED), Announce("C", Status.BLOCKED),
    ]  # fmt: skip
    assert (driver["B"].blocked_by, driver["C"].blocked_by) == (["A"], ["A"])
    assert driver.core.is_complete()


def test_a_skill_added_on_top_of_a_failed_one_is_blocked_at_once():
    driver = Driver(max_retries=0)
    driver.add("A"), driver.launched("A"), driver.tell(RunDied("A", 1, "planted"))
    assert driver.add("B", "A") == [Announce("B", Status.BLOCKED)]
    assert driver.add("C", "B") == [Announce("C", Status.BLOCKED)]
    assert driver["C"].blocked_by == ["A"]


def test_a_budget_that_ended_below_the_goal_is_completed_and_usable():
    driver = Driver()
    driver.add("A"), driver.add("B", "A"), driver.launched("A")
    assert driver.end("A", goal_reached=False, success_rate=0.3) == [Merge("A", 1)]
    assert driver.tell(Merged("A", 1))[-1] == Launch("B", 1)
    assert (driver["A"].goal_reached, driver["A"].success_rate) == (False, 0.3)


def test_a_run_stopped_by_the_scheduler_waits_again_and_spends_no_retry():
    driver = Driver()
    driver.add("A"), driver.launched("A"), driver.tell(Paused())
    assert driver.tell(RunStopped("A", 1)) == []
    assert (driver["A"].status, driver["A"].retry_count, driver["A"].retry_at) == (Status.WAITING, 0, None)
    assert driver.tell(Resumed()) == [Launch("A", 2)]


@pytest.mark.parametrize("ends", [
    lambda d: d.tell(RunDied("A", 1, "ended with exit code 143")), lambda d: d.end("A", "failed", error="planted"),
])  # fmt: skip
def test_a_scheduler_killed_while_it_ends_its_trainings_spends_no_retry(ends):
    """The next one only finds that they have ended; that it was meant is in the state."""
    driver = Driver()
    driver.add("A"), driver.launched("A"), driver.add("B"), driver.tell(Paused()), driver.tell(Stopping())
    saved = driver.core.state.model_dump_json()
    driver = Driver(state=SchedulerState.model_validate_json(saved))
    driver.launched("A")
    assert ends(driver) == [Launch("A", 2)]
    assert (driver["A"].retry_count, driver["A"].stopping) == (0, False)
    driver.launched("A"), driver.tell(RunDied("A", 2, "a death of its own"))
    assert driver["A"].retry_count == 1


@pytest.mark.parametrize("ends", [
    lambda driver: driver.tell(RunStopped("A", 1)),
    lambda driver: driver.end("A", "cancelled"),
    lambda driver: (driver.end("A"), driver.tell(MergeFailed("A", 1, "planted"))),
    lambda driver: (driver.end("A"), driver.tell(Merged("A", 1))),
], ids=["stopped", "cancelled", "merge failed", "merged"])  # fmt: skip
def test_what_no_longer_runs_is_not_being_stopped(ends):
    driver = Driver()
    driver.add("A"), driver.launched("A"), driver.tell(Paused()), driver.tell(Stopping())
    assert driver["A"].stopping
    ends(driver)
    assert driver["A"].status is not Status.RUNNING and not driver["A"].stopping


def test_memory_that_ran_out_while_a_run_was_ended_is_remembered():
    driver = Driver()
    driver.add("A"), driver.launched("A"), driver.tell(Stopping())
    driver.tell(RunDied("A", 1, "the kernel's killer", too_many_envs=64))
    assert (driver["A"].num_envs, driver["A"].retry_count) == (32, 0)


def test_a_run_that_completes_while_it_is_ended_is_merged():
    driver = Driver()
    driver.add("A"), driver.launched("A"), driver.tell(Stopping())
    assert driver.end("A") == [Merge("A", 1)]


def test_nothing_is_launched_while_paused():
    driver = Driver()
    driver.tell(Paused())
    assert driver.add("A") == []
    assert driver.tell(Resumed()) == [Launch("A", 1)]


@pytest.mark.parametrize(
    "event", [RunEnded("A", 1, "completed"), RunDied("A", 1, "x"), Merged("A", 1), LaunchFailed("A", 1, "x")]
)
def test_what_an_older_attempt_reports_changes_nothing(event):
    driver = Driver()
    driver.add("A"), driver.launched("A"), driver.tell(RunDied("A", 1, "planted")), driver.wait(10), driver.launched("A")
    before = driver.core.state.model_dump()
    assert driver.tell(event) == []
    assert driver.core.state.model_dump() == before


def test_the_same_end_reported_twice_is_merged_once():
    driver = Driver()
    driver.add("A"), driver.launched("A")
    assert driver.end("A") == [Merge("A", 1)]
    assert driver.end("A") == []
    assert driver.tell(RunDied("A", 1, "late")) == []
    assert driver.tell(Merged("A", 1)) == [Announce("A", Status.COMPLETED)]
    assert driver.end("A") == []
    assert driver.tell(Merged("A", 1)) == []


def test_a_merge_that_failed_is_tried_again_without_training_again():
    driver = Driver()
    driver.add("A"), driver.launched("A"), driver.end("A")
    assert driver.tell(MergeFailed("A", 1, "disk full")) == []
    assert driver.wait(10) == [Merge("A", 1)]
    assert driver.tell(Merged("A", 1)) == [Announce("A", Status.COMPLETED)]


def test_retrying_what_failed_starts_with_the_merge_where_training_was_done():
    driver = Driver(max_retries=0)
    driver.add("A"), driver.add("B", "A"), driver.launched("A"), driver.end("A")
    assert driver.tell(MergeFailed("A", 1, "disk full")) == [Announce("A", Status.FAILED), Announce("B", Status.BLOCKED)]
    assert driver.tell(RetryRequested()) == [Merge("A", 1)]
    assert driver.tell(Merged("A", 1))[-1] == Launch("B", 1)


def test_retrying_what_failed_gives_cancelled_and_blocked_skills_another_life():
    driver = Driver(max_retries=0)
    driver.add("A"), driver.add("B", "A"), driver.launched("A"), driver.end("A", "cancelled")
    assert driver.tell(RetryRequested()) == [Launch("A", 2)]
    assert (driver["B"].status, driver["B"].blocked_by) == (Status.WAITING, [])
    assert driver.complete("A")[-1] == Launch("B", 1)


def test_a_state_that_is_loaded_goes_on_where_it_was():
    first = Driver(max_parallel=1)
    first.add("A"), first.add("B", "A"), first.add("C"), first.complete("A")
    state = SchedulerState.model_validate_json(first.core.state.model_dump_json())
    driver = Driver(state=state)
    assert driver.running == first.running
    driver.launched(driver.running[0])
    assert driver.end(driver.running[0]) == [Merge(driver.running[0], 1)]


def test_a_run_that_the_state_does_not_know_is_taken_as_found():
    driver = Driver()
    driver.tell(Paused())
    driver.add("A")
    driver.tell(RunFound("A", 3, 7, "flowrl_e7_A"))
    assert (driver["A"].status, driver["A"].attempt, driver["A"].expert_idx) == (Status.RUNNING, 3, 7)
    driver.tell(Resumed())
    assert driver.add("B") == [Launch("B", 1)]
    assert driver["B"].expert_idx == 8


def test_what_a_failed_skill_blocked_waits_again_once_the_library_turns_out_to_have_it():
    driver = Driver(max_retries=0)
    driver.tell(Paused())
    driver.add("A"), driver.add("X"), driver.add("B", "A"), driver.add("C", "B"), driver.add("D", "A", "X")
    driver.tell(Resumed())
    for name in "AX":
        driver.launched(name), driver.tell(RunDied(name, 1, "planted"))
    driver.core.replace(SkillEntry(skill_name="A", status=Status.COMPLETED, expert_idx=0))
    assert [(driver[name].status, driver[name].blocked_by) for name in "BCD"] == [
        (Status.WAITING, []), (Status.WAITING, []), (Status.BLOCKED, ["X"]),
    ]  # fmt: skip
    assert driver.wait(0) == [Launch("B", 1)]
    assert not driver.core.is_complete()


def test_a_completed_skill_that_is_to_be_trained_further_is_launched_again_and_keeps_its_index():
    driver = Driver()
    driver.add("A"), driver.add("B", "A"), driver.complete("A")
    driver.tell(Paused())
    assert driver.tell(ContinueRequested("A", 1000, {"skill_name": "A"})) == []
    assert driver.tell(Resumed()) == [Launch("A", 2)]
    assert driver["B"].stage is Stage.LAUNCHING  # its expert is there all the while
    assert driver.complete("A") == [Announce("A", Status.COMPLETED)]
    assert (driver["A"].status, driver["A"].expert_idx, driver["A"].extra_timesteps) == (Status.COMPLETED, 0, None)


def test_backoff_doubles_with_jitter_up_to_a_limit():
    waits = [backoff_s("A", retry) for retry in range(1, 20)]
    assert all(0.75 * 2**i <= wait <= 1.25 * 2**i for i, wait in enumerate(waits[:6]))
    assert max(waits) <= 1.25 * MAX_BACKOFF_S
    assert backoff_s("A", 1) != backoff_s("B", 1)


def test_a_time_of_retry_from_a_clock_that_jumped_does_not_hold_a_skill_for_ever():
    assert not is_due(START + timedelta(seconds=1), START)
    assert is_due(START + timedelta(days=365), START)


def random_event(driver, rng):
    """Something that may happen next, in any order, late reports of older attempts included."""
    entries = list(driver.core.entries.values())
    if not entries or (rng.random() < 0.2 and len(entries) < 12):
        names = [entry.skill_name for entry in entries]
        return SkillAdded(f"S{len(entries)}", {}, tuple(rng.sample(names, min(len(names), rng.randrange(3)))))
    entry = rng.choice(entries)
    name, attempt = entry.skill_name, max(0, entry.attempt - rng.choice([0, 0, 0, 1]))
    choices = [
        Launched(name, attempt, "s", "f"), LaunchFailed(name, attempt, "x"), RunDied(name, attempt, "x"), Merged(name, attempt),
        RunEnded(name, attempt, rng.choice(["completed", "completed", "failed", "cancelled"]), frames=1),
        MergeFailed(name, attempt, "x"), RunStopped(name, attempt), Ticked(), Paused(), Resumed(), Resumed(),
    ]  # fmt: skip
    if rng.random() < 0.02:
        return RetryRequested()
    event = rng.choice(choices)
    # The fake hands are consistent: a merge is reported only for a skill that is being merged, and so on.
    merging = entry.stage is Stage.MERGING
    return Ticked() if isinstance(event, Merged | MergeFailed) != merging and hasattr(event, "name") else event


def check_invariants(driver, actions, indices):
    state, entries = driver.core.state, driver.core.entries
    running = [entry.skill_name for entry in state.skills if entry.status is Status.RUNNING]
    assert sorted(state.currently_running) == sorted(running)
    assert len(running) <= state.max_parallel
    slots = [entries[name].slot for name in running]
    assert len(set(slots)) == len(slots)
    for action in actions:
        if isinstance(action, Launch):
            assert all(entries[name].status is Status.COMPLETED for name in entries[action.name].dependencies)
    for entry in state.skills:
        if entry.expert_idx is not None:
            assert indices.setdefault(entry.expert_idx, entry.skill_name) == entry.skill_name
        assert (entry.status is Status.BLOCKED) == bool(entry.blocked_by)
    assert driver.core.is_complete() == all(entry.status in FINAL for entry in state.skills)


def run_to_the_end(driver):
    """From any point, good events alone must end every skill."""
    driver.tell(Resumed())
    for _ in range(1000):
        if driver.core.is_complete():
            return
        for name in list(driver.running):
            if driver[name].stage is Stage.MERGING:
                driver.tell(Merged(name, driver[name].attempt))
            else:
                driver.complete(name)
        driver.wait(1000)
    raise AssertionError(f"deadlock: {driver.core.state}")


@pytest.mark.parametrize("block", range(4))
def test_random_histories_keep_the_invariants_and_end(block):
    for seed in range(50 * block, 50 * block + 50):
        rng, indices = random.Random(seed), {}
        driver = Driver(max_parallel=rng.randint(1, 3), max_retries=rng.randint(0, 2))
        for _ in range(rng.randint(20, 120)):
            driver.now += timedelta(seconds=rng.choice([0, 1, 400]))
            check_invariants(driver, driver.tell(random_event(driver, rng)), indices)
        run_to_the_end(driver)
