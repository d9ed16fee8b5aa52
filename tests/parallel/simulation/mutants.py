"""Bugs of a scheduler, planted on purpose: each is one wrong line in a part of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from flowrl.parallel.core import SchedulerCore
from flowrl.parallel.dispatcher import Dispatcher
from flowrl.parallel.events import Merged, MergeFailed, RunDied, RunEnded, RunFound, RunStopped
from flowrl.parallel.evidence import RunState
from flowrl.parallel.launch_queue import LaunchQueue
from flowrl.parallel.launchers.base import Phase
from flowrl.records.scheduler_state import Stage, Status
from tests.parallel.simulation.cluster import ClusterHands, ClusterWorld
from tests.parallel.simulation.experiment import Parts
from tests.parallel.simulation.hands import SimulatedHands


class FreesDependentsTooSoon(SchedulerCore):
    """One of the skills that are needed is taken for all of them."""

    def _free_dependents(self, name):
        for dependent in self._dependencies.dependents(name):
            self._dependencies._missing[dependent.skill_name].clear()
        super()._free_dependents(name)


class LaunchesOneTooMany(SchedulerCore):
    def _launches(self, now):
        self.state.max_parallel += 1
        try:
            return super()._launches(now)
        finally:
            self.state.max_parallel -= 1


class BelievesOldReports(SchedulerCore):
    """The number of the attempt is not looked at."""

    def _react(self, event, now):
        if isinstance(event, RunDied | RunEnded | MergeFailed):
            event = replace(event, attempt=self.entries[event.name].attempt)
        return super()._react(event, now)


class GivesAnIndexTwice(SchedulerCore):
    def _start(self, entry, now):
        action = super()._start(entry, now)
        self.state.next_expert_idx = max(0, self.state.next_expert_idx - 1)
        return action


class GivesEachTryAnIndex(SchedulerCore):
    def _wait(self, entry):
        super()._wait(entry)
        entry.expert_idx = None


class NeverGivesUp(SchedulerCore):
    def _try_again(self, entry, error, now, hopeless):
        actions = super()._try_again(entry, error, now, hopeless)
        entry.retry_count = max(0, entry.retry_count - 1)
        return actions


class LetsDependentsWait(SchedulerCore):
    """What needs a failed skill is not blocked."""

    def _block_dependents(self, name, now):
        return []


class TrainsAgainWhereAMergeFailed(SchedulerCore):
    def _try_again(self, entry, error, now, hopeless):
        actions = super()._try_again(entry, error, now, hopeless)
        entry.stage = None
        return actions


class CountsAStopAsAFailure(SchedulerCore):
    def _react(self, event, now):
        if isinstance(event, RunStopped):
            event = RunDied(event.name, event.attempt, "stopped")
        return super()._react(event, now)


class ForgetsWhomItEnds(SchedulerCore):
    """That its trainings are about to be ended is not written down."""

    def _stop_all(self):
        return []


class CompletesWithoutMerging(SchedulerCore):
    def _end(self, entry, event, now):
        super()._end(entry, event, now)
        return self._finish(entry, Status.COMPLETED, now) if entry.stage is Stage.MERGING else []


class KeepsItsSizeWhereMemoryRanOut(SchedulerCore):
    def _react(self, event, now):
        if isinstance(event, RunDied | RunEnded):
            event = replace(event, too_many_envs=None)
        return super()._react(event, now)


class RetriesWhatMadeNoProgress(SchedulerCore):
    def _react(self, event, now):
        if isinstance(event, RunEnded):
            event = replace(event, hopeless=False)
        return super()._react(event, now)


class RetriesOnlyWhatFailedItself(SchedulerCore):
    def _retry_all(self):
        blocked = [entry for entry in self.state.skills if entry.status is Status.BLOCKED]
        culprits = {entry.skill_name: entry.blocked_by for entry in blocked}
        actions = super()._retry_all()
        for entry in blocked:
            entry.status, entry.blocked_by = Status.BLOCKED, culprits[entry.skill_name]
            self._queue.discard(entry.skill_name)
        return actions


class TrustsTheClock(SchedulerCore):
    """A time of retry a year off, from before the clock jumped back, is waited for."""

    class queue_type(LaunchQueue):
        def _is_due(self, name, now):
            return not (at := self._entries[name].retry_at) or at <= now


class DoesNotAdopt(SchedulerCore):
    """A run that lives, and that the state does not know of, is not taken over."""

    def _react(self, event, now):
        return [] if isinstance(event, RunFound) else super()._react(event, now)


class ActsBeforeItWrites(Dispatcher):
    """The decision to launch is saved with the next event only."""

    def tell(self, event):
        save, self._save = self._save, lambda state: None
        try:
            super().tell(event)
        finally:
            self._save = save
        if not self.actions:
            save(self.core.state)


class TakesSilenceForDeath(SimulatedHands):
    """An engine that does not answer is taken for one that knows of no run."""

    def judge(self, seen):
        found = super().judge(seen)
        return RunState.DEAD if seen.engine is Phase.UNKNOWN and found is RunState.RUNNING else found


class LeavesOrphansAlone(SimulatedHands):
    """A run whose session is gone is retried, and not ended."""

    def judge(self, seen):
        found = super().judge(seen)
        return RunState.DEAD if found is RunState.ORPHANED else found


class NeverFindsAHang(SimulatedHands):
    def judge(self, seen):
        found = super().judge(seen)
        return RunState.RUNNING if found is RunState.STALLED else found


class TakesABegunMergeForDone(SimulatedHands):
    """What waits for a merge is launched before the library has it."""

    def merge(self, entry):
        super().merge(entry)
        self.begun = [*getattr(self, "begun", []), Merged(entry.skill_name, entry.attempt)]

    def merged(self, wait_s=0.0):
        list(super().merged(wait_s))
        begun, self.begun = getattr(self, "begun", []), []
        yield from begun


class TakesSilenceOfTheQueueForGone(ClusterHands):
    """A queue that does not answer is taken for one that knows of no job."""

    def silence(self, seen):
        return Phase.LOST


class TakesAnyResult(ClusterHands):
    """The result of an older attempt, which came late, counts."""

    def result(self, folder, attempt):
        return folder.result if folder else None


class CountsTheEndOfAJobsTimeAsAFailure(ClusterHands):
    def _died(self, entry, folder):
        found = super()._died(entry, folder)
        return RunDied(found.name, found.attempt, "its time was over") if isinstance(found, RunStopped) else found


class GivesUpWhatWaits(ClusterHands):
    """A job that waits in the queue is taken for one that has ended."""

    def status(self, seen):
        found = super().status(seen)
        return Phase.EXITED if found is Phase.QUEUED else found


class TrainsAnAttemptTwice(ClusterWorld):
    """A job does not look whether another has its attempt."""

    def _is_claimed(self, job):
        return False


class TrainsWhatIsOutdated(ClusterWorld):
    """A job does not look whether a newer attempt has begun."""

    def _is_outdated(self, job):
        return False


class TakesLateCheckpoints(ClusterWorld):
    """An attempt goes on from what an older one has written too late."""

    def _is_in_time(self, folder, attempt, frames):
        return True


@dataclass(frozen=True)
class Mutant:
    name: str
    parts: Parts


def _core(core: type[SchedulerCore]) -> Mutant:
    return Mutant(core.__name__, Parts(core=core, on_cluster=False))


MUTANTS = [
    *map(_core, (
        FreesDependentsTooSoon, LaunchesOneTooMany, BelievesOldReports, GivesAnIndexTwice, GivesEachTryAnIndex, NeverGivesUp,
        LetsDependentsWait, TrainsAgainWhereAMergeFailed, CountsAStopAsAFailure, ForgetsWhomItEnds,
        CompletesWithoutMerging,
        KeepsItsSizeWhereMemoryRanOut, RetriesWhatMadeNoProgress, RetriesOnlyWhatFailedItself, TrustsTheClock, DoesNotAdopt,
    )),
    Mutant("ActsBeforeItWrites", Parts(dispatcher=ActsBeforeItWrites, on_cluster=False)),
    *(Mutant(hands.__name__, Parts(hands=hands, on_cluster=False)) for hands in (
        TakesSilenceForDeath, LeavesOrphansAlone, NeverFindsAHang, TakesABegunMergeForDone,
    )),
    *(Mutant(hands.__name__, Parts(cluster_hands=hands, on_cluster=True)) for hands in (
        TakesSilenceOfTheQueueForGone, TakesAnyResult, CountsTheEndOfAJobsTimeAsAFailure, GivesUpWhatWaits,
    )),
    *(Mutant(world.__name__, Parts(cluster=world, on_cluster=True)) for world in (
        TrainsAnAttemptTwice, TrainsWhatIsOutdated, TakesLateCheckpoints,
    )),
]  # fmt: skip
