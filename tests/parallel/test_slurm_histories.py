"""Random histories of the cluster's launcher itself, over a queue in memory: hypothesis picks what happens next.

Its jobs do what the batch script does: the first to begin claims its attempt, and any other ends at once. `test_simulation.py`
has the histories of the whole scheduler, with simulated hands in place of a launcher.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from flowrl.parallel.launchers import base, slurm
from flowrl.parallel.launchers.base import EngineUnreachable, Fault, Handle, LaunchSpec
from flowrl.parallel.launchers.batch_script import attempt_of, claim_of
from flowrl.parallel.launchers.slurm import SlurmLauncher
from flowrl.parallel.launchers.slurm_options import SlurmOptions
from flowrl.paths import RunPaths, batch_file
from flowrl.records import ending
from flowrl.records.ending import Ending
from tests.parallel.fakes.cluster_queue import FakeQueue, FakeSessions

HISTORIES, STEPS = 150, 40
MOST_UNTIL_FOUND = 1500
"""Histories in which a planted bug has to show; most show in the first hundred."""
NUMBER = st.integers(0, 2**20)
SKILLS = ("A", "B")


class Histories(RuleBasedStateMachine):
    """At most ``STEPS`` events in any order; what the launcher says is held against what the jobs do."""

    launcher_class = SlurmLauncher

    @initialize()
    def begin(self):
        self.root = Path(tempfile.mkdtemp(prefix="flowrl_histories_"))
        self.cluster = FakeQueue()
        self.cluster.starts_at_once = False
        self.launcher = self.new_launcher()
        self.handles: dict[str, Handle] = {}
        self.attempts = dict.fromkeys(SKILLS, 0)
        self.training: dict[tuple[str, int], str] = {}
        """The job that trains an attempt now, or did."""

    def new_launcher(self) -> SlurmLauncher:
        return self.launcher_class(SlurmOptions(), self.cluster, FakeSessions())

    def teardown(self):
        if hasattr(self, "root"):
            shutil.rmtree(self.root)

    # The scheduler.

    @rule(name=st.sampled_from(SKILLS))
    def launch(self, name):
        if name not in self.handles:
            self.attempts[name] += 1
            self.handles[name] = self.launcher.launch(self.spec(name))

    @rule()
    def look(self):
        """As the scheduler does at each tick: what is over is cancelled, so that nothing is left of it."""
        before = self.states()
        statuses = self.launcher.poll(list(self.handles.values()))
        for name, handle in list(self.handles.items()):
            status = statuses[handle.engine_id]
            own = {id_: state for id_, state in before.items() if self.cluster.table[id_].comment == handle.engine_id}
            claimer = self.training.get((name, handle.attempt))
            if self.cluster.silent:
                assert status.phase is base.Phase.UNKNOWN
            elif "RUNNING" in own.values():
                assert status.phase is base.Phase.RUNNING, (status, own)
            elif claimer is None and "PENDING" in own.values():
                assert status.phase is base.Phase.QUEUED, (status, own)
                assert any(self.states()[id_] == "PENDING" for id_ in own), "the launcher has withdrawn its own job"
            elif own.get(claimer) == "PENDING":
                # At the first look it may have begun since the queue was asked.
                has_ended = status.phase is base.Phase.EXITED and status.fault is Fault.ENGINE
                assert has_ended or status.phase is base.Phase.QUEUED, (status, own)
            elif claimer is not None:
                assert status.phase in (base.Phase.EXITED, base.Phase.LOST), (status, own)
            if status.phase in (base.Phase.EXITED, base.Phase.LOST):
                assert self.launcher.cancel(handle, 0.0)
                del self.handles[name]

    @rule()
    def the_scheduler_is_killed_and_started_again(self):
        self.launcher = self.new_launcher()
        try:
            found = self.launcher.find(self.root)
        except EngineUnreachable:
            return
        for handle in found:
            assert handle.engine_id in {ours.engine_id for ours in self.handles.values()}, handle

    # The cluster.

    @rule(number=NUMBER)
    def a_job_begins(self, number):
        if (id_ := self.one_of("PENDING", number)) is None:
            return
        folder, attempt = attempt_of(self.cluster.table[id_].comment)
        claim = claim_of(folder, attempt)
        if not folder.exists() or claim.exists():
            self.cluster.set(id_, state="COMPLETED", node="node1", ended_s=1.0)  # another one has it
            return
        key = (name_of(folder), attempt)
        assert key not in self.training, "an attempt is trained twice"
        claim.write_text(f"{id_} on node1\n")
        self.training[key] = id_
        self.cluster.set(id_, state="RUNNING", reason="", node="node1")

    @rule(number=NUMBER, state=st.sampled_from(["COMPLETED", "FAILED", "TIMEOUT", "NODE_FAIL"]))
    def a_job_ends(self, number, state):
        if (id_ := self.one_of("RUNNING", number)) is None:
            return
        self.cluster.set(id_, state=state, ended_s=1.0)
        folder, attempt = attempt_of(self.cluster.table[id_].comment)
        if state != "NODE_FAIL":
            ending.write(RunPaths(folder).exit, Ending(attempt, 0))

    @rule(number=NUMBER)
    def a_job_is_put_back_into_the_queue(self, number):
        if (id_ := self.one_of("RUNNING", number)) is not None:
            self.cluster.set(id_, state="PENDING", node="")

    @rule(number=NUMBER)
    def a_job_that_has_ended_is_forgotten(self, number):
        ended = sorted(id_ for id_, state in self.states().items() if state not in ("PENDING", "RUNNING"))
        if ended:
            self.cluster.forget(ended[number % len(ended)])

    @rule(name=st.sampled_from(SKILLS))
    def a_submission_arrives_twice(self, name):
        script = batch_file(self.folder(name))
        if name in self.handles and script.exists() and not self.cluster.silent:
            with contextlib.suppress(EngineUnreachable):
                self.cluster.submit(script)

    @rule()
    def the_next_answer_to_sbatch_is_lost(self):
        self.cluster.answers_lost = 1

    @rule()
    def the_cluster_falls_silent(self):
        self.cluster.silent = True

    @precondition(lambda self: self.cluster.silent)
    @rule()
    def the_cluster_answers_again(self):
        self.cluster.silent = False

    @invariant()
    def no_training_that_counts_was_ended(self):
        for handle in self.handles.values():
            id_ = self.training.get((name_of(handle.run_folder), handle.attempt))
            if id_ in self.cluster.table:
                assert not self.cluster.table[id_].state.startswith("CANCELLED"), "the launcher has ended its own job"

    # Helpers.

    def states(self) -> dict[str, str]:
        return {id_: job.state.split()[0] for id_, job in self.cluster.table.items()}

    def one_of(self, state: str, number: int) -> str | None:
        found = sorted(id_ for id_, its in self.states().items() if its == state)
        return found[number % len(found)] if found else None

    def folder(self, name: str) -> Path:
        return self.root / "training_runs" / f"skill_{SKILLS.index(name)}_{name}"

    def spec(self, name: str) -> LaunchSpec:
        folder = self.folder(name)
        folder.mkdir(parents=True, exist_ok=True)
        return LaunchSpec(self.root, folder, name, SKILLS.index(name), self.attempts[name], ("true",), self.root, {})


def name_of(folder: Path) -> str:
    return folder.name.rsplit("_", 1)[1]


@pytest.fixture
def at_once(monkeypatch):
    """Each look asks; files need no time to appear, and a cancelled job none to end."""
    for name, value in (("FRESH_S", -1.0), ("RECENT_S", -1.0), ("FILES_GRACE_S", -1.0), ("CANCEL_LOOK_S", 0.0)):
        monkeypatch.setattr(slurm, name, value)
    monkeypatch.setattr(slurm, "_is_of_deleted_run", lambda job: False)


def run(launcher_class: type[SlurmLauncher], count: int, phases: tuple[Phase, ...] = (Phase.generate, Phase.shrink)) -> None:
    machine = type("Histories", (Histories,), {"launcher_class": launcher_class})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=count, stateful_step_count=STEPS, database=None, deadline=None, derandomize=True, print_blob=False,
            suppress_health_check=list(HealthCheck), phases=phases, report_multiple_bugs=False,
        ),
    )  # fmt: skip


def test_what_the_launcher_says_and_does_fits_what_the_jobs_do(at_once):
    run(SlurmLauncher, HISTORIES)


class TakesItsOwnJobForACopy(SlurmLauncher):
    def _end_copies(self, job, jobs):
        super()._end_copies(None, jobs)


class LooksAtNoClaim(SlurmLauncher):
    def _valid(self, jobs, answer):
        return list(jobs)


class SubmitsWhatWasForgotten(SlurmLauncher):
    def _status_of_forgotten(self, handle, comment):
        self._submit(handle)
        return base.EngineStatus(base.Phase.QUEUED)


class TakesSilenceForGone(SlurmLauncher):
    def poll(self, handles):
        found = super().poll(handles)
        gone = base.EngineStatus(base.Phase.LOST)
        return {key: gone if status.phase is base.Phase.UNKNOWN else status for key, status in found.items()}


class TakesARequeueForALoss(SlurmLauncher):
    def _status_of_waiting(self, handle, jobs):
        return base.EngineStatus(base.Phase.LOST)


@pytest.mark.parametrize(
    "launcher_class",
    [TakesItsOwnJobForACopy, LooksAtNoClaim, SubmitsWhatWasForgotten, TakesSilenceForGone, TakesARequeueForALoss],
)
def test_a_launcher_with_a_bug_is_found(at_once, launcher_class):
    with pytest.raises(AssertionError):
        run(launcher_class, MOST_UNTIL_FOUND, (Phase.generate,))
