"""Merges of finished runs into the library, one after the other, in a thread beside the scheduler's loop."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial

from flowrl.errors import FlowrlError
from flowrl.files import why_no_room
from flowrl.parallel.events import Merged, MergeFailed
from flowrl.parallel.library.locks import MERGE_TIMEOUT_S, WaitGivenUp, waiting_unless
from flowrl.parallel.no_room import no_room
from flowrl.parallel.trained_experts import DamagedCheckpoint, set_damaged_aside
from flowrl.parallel.training_processor import Guard, process_completed_rehearsal, process_completed_training
from flowrl.paths import ExperimentPaths, RunPaths
from flowrl.records import result as run_result
from flowrl.records.scheduler_state import SkillEntry


class Merges:
    """The merges of one experiment. A merge may wait for another process that holds the library, or that measures experts;
    trainings are watched meanwhile.

    ``process`` and ``process_rehearsal`` merge one run; see :func:`process_completed_training`.

    Args:
        wake: called, from the merges' thread, as soon as a merge has ended.
        guard: measures versions of an expert that compete; None: the rule by frames decides.
        lock_timeout_s: seconds to wait for another process that holds the library.
        guard_changes: the guard also measures what a run has changed without a competitor.
    """

    def __init__(
        self,
        paths: ExperimentPaths,
        wake: Callable[[], None] = lambda: None,
        guard: Guard | None = None,
        lock_timeout_s: float = MERGE_TIMEOUT_S,
        guard_changes: bool = False,
    ):
        self.paths = paths
        self.process: Callable = partial(
            process_completed_training, lock_timeout_s=lock_timeout_s, guard=guard, guard_changes=guard_changes
        )
        self.process_rehearsal: Callable = partial(process_completed_rehearsal, lock_timeout_s=lock_timeout_s)
        self._wake = wake
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="flowrl-merge")  # each needs the same lock
        self._begun: deque[Future[Merged | MergeFailed | None]] = deque()
        self._is_leaving = threading.Event()

    def begin(self, entry: SkillEntry) -> None:
        """Starts to merge the finished run of ``entry``; ``ended`` reports the outcome."""
        merge = self._thread.submit(self._merge, entry.model_copy())  # a copy: the scheduler's thread changes its own
        self._begun.append(merge)
        merge.add_done_callback(lambda ended: self._wake())

    def ended(self, wait_s: float = 0.0) -> Iterator[Merged | MergeFailed]:
        """Reports of the merges that have ended, in the order in which they were started; waits up to ``wait_s`` for
        the first.

        Raises:
            NoRoom: nothing more can be written in the library.
        """
        if wait_s and self._begun:
            wait([self._begun[0]], wait_s)
        while self._begun and self._begun[0].done():
            if report := self._begun.popleft().result():
                yield report

    def are_under_way(self) -> bool:
        """Whether a merge was started that ``ended`` has not reported yet."""
        return bool(self._begun)

    def hurry(self) -> None:
        """From now on, a merge that would have to wait, for the library or for a measurement, is given up without a report.

        One that has the library is completed.
        """
        self._is_leaving.set()

    def close(self) -> None:
        """Returns once no merge is under way. A merge that was given up is made at the next start."""
        self.hurry()
        for merge in self._begun:
            merge.cancel()
        wait(self._begun)
        self._begun.clear()
        self._is_leaving.clear()

    def _process(self, entry: SkillEntry, run: RunPaths) -> None:
        merged = {"run_folder": run.folder, "base_dir": self.paths.root, "total_timesteps": entry.frames or 0}
        if entry.is_rehearsal:
            self.process_rehearsal(**merged)
        else:
            self.process(skill_name=entry.skill_name, global_expert_idx=entry.expert_idx, **merged)

    def _merge(self, entry: SkillEntry) -> Merged | MergeFailed | None:
        name, attempt = entry.skill_name, entry.attempt
        run = RunPaths(self.paths.run_folder(entry.expert_idx, name))
        if run.run_json.exists() and run_result.find(run.result, attempt) is None:
            error = f"{name} must be trained further: {run.result} is not the result of attempt {attempt}"
            return MergeFailed(name, attempt, error, train_again=True)
        try:
            with waiting_unless(self._is_leaving.is_set):
                self._process(entry, run)
        except WaitGivenUp:
            return None
        except DamagedCheckpoint as error:
            set_damaged_aside(run, attempt)
            reason = f"{name} must be trained further, from an earlier checkpoint: {error}"
            return MergeFailed(name, attempt, reason, train_again=True)
        except Exception as error:  # the run's files stay, so that it can be tried again
            if why := why_no_room(error):
                raise no_room(self.paths.root, why) from error
            message = str(error) if isinstance(error, FlowrlError) else f"{type(error).__name__}: {error}"
            return MergeFailed(name, attempt, f"{name} was trained, but not merged: {message}")
        return Merged(name, attempt)
