"""The hands of a simulated scheduler: what ``flowrl.parallel.runs.Runs`` is on a machine.

What a run's state is, is decided by the real ``judge``, from evidence that the world gives.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from flowrl.parallel import evidence
from flowrl.parallel.events import Launched, LaunchFailed, Merged, MergeFailed, RunDied, RunEnded, RunStopped
from flowrl.parallel.evidence import Evidence, RunState
from flowrl.parallel.launchers.base import Handle, Phase
from flowrl.records.result import NO_PROGRESS, OUT_OF_MEMORY
from flowrl.records.scheduler_state import SkillEntry
from tests.parallel.simulation.world import PATHS, Folder, Process, World


@dataclass
class Seen:
    """A run under way, as this scheduler knows it."""

    handle: Handle
    engine: Phase = Phase.UNKNOWN


class SimulatedHands:
    """Dies with its scheduler; the world lives on."""

    paths = PATHS

    def __init__(self, world: World):
        self.world = world
        self.watched: dict[str, Seen] = {}
        self.merges: deque[Iterator[Merged | MergeFailed | None]] = deque()
        self.impatient = False

    def launch(self, entry: SkillEntry, completed_skills: Mapping[str, dict]) -> Launched | LaunchFailed:
        if not self.world.engine_answers or self.world.launch_refusals > 0:
            self.world.launch_refusals = max(0, self.world.launch_refusals - 1)
            self.world.failed(entry.skill_name)
            return LaunchFailed(entry.skill_name, entry.attempt, "planted refusal")
        handle = self._handle(self.world.start(entry))
        self.watched[entry.skill_name] = Seen(handle)
        return Launched(entry.skill_name, entry.attempt, handle.name, str(handle.run_folder))

    def merge(self, entry: SkillEntry) -> None:
        self.merges.append(self._merge(entry.model_copy()))

    def merged(self, wait_s: float = 0.0) -> Iterator[Merged | MergeFailed]:
        """Each asking takes the merge under way as far as the world lets it get."""
        while self.merges:
            for report in self.merges[0]:
                if report is None:
                    return
                yield report
            self.merges.popleft()

    def is_merging(self) -> bool:
        return bool(self.merges)

    def hurry(self) -> None:
        self.impatient = True

    def _merge(self, entry: SkillEntry) -> Iterator[Merged | MergeFailed | None]:
        """Yields None while the merge takes longer than until the next check, and then its outcome; nothing if it is
        given up."""
        while self.world.library_held_for > 0:
            if self.impatient:
                return
            self.world.library_held_for -= 1
            yield None
        if self.world.merge_refusals > 0:
            self.world.merge_refusals -= 1
            self.world.failed(entry.skill_name)
            yield MergeFailed(entry.skill_name, entry.attempt, "planted: the lock is held by another process")
        elif self.world.find_damage(entry):
            self.world.failed(entry.skill_name)
            yield MergeFailed(entry.skill_name, entry.attempt, "planted: the checkpoint is damaged", train_again=True)
        else:
            yield from self.world.merge(entry)
            yield Merged(entry.skill_name, entry.attempt)

    def watch(self, entries: Sequence[SkillEntry]) -> list[RunEnded | RunDied]:
        events = (self._look_at(entry, self.watched[entry.skill_name]) for entry in entries if entry.skill_name in self.watched)
        reports = [event for event in events if event is not None]
        self.world.reports += reports
        return reports

    def ask_engine(self) -> None:
        for seen in self.watched.values():
            if not self.world.engine_answers:
                seen.engine = Phase.UNKNOWN
            elif seen.handle.engine_id:
                process = self._process(seen.handle)
                seen.engine = Phase.RUNNING if process and process.session else Phase.LOST

    def stop(self, entries: Sequence[SkillEntry]) -> list[RunStopped | RunEnded | RunDied]:
        reports = []
        for entry in (entry for entry in entries if entry.skill_name in self.watched):
            reports.append(self._stopped(entry))
            self.world.effect()
        return reports

    def find(self) -> tuple[list[Handle], bool]:
        if not self.world.engine_answers:
            return [], False
        return [self._handle(process) for process in self.world.processes if process.session], True

    def adopt(self, entry: SkillEntry, handle: Handle | None, engine_answers: bool) -> None:
        phase = Phase.LOST if engine_answers and handle is None else Phase.UNKNOWN
        handle = handle or Handle(
            "", entry.tmux_session or "", PATHS.run_folder(entry.expert_idx, entry.skill_name), entry.attempt
        )
        self.watched[entry.skill_name] = Seen(handle, phase)

    def was_started(self, entry: SkillEntry) -> bool:
        return (entry.skill_name, entry.attempt) in self.world.launched

    def is_alive(self, handle: Handle) -> bool:
        return self._process(handle) is not None

    def end(self, handle: Handle) -> None:
        if process := self._process(handle):
            self.world.end(process)

    def _look_at(self, entry: SkillEntry, seen: Seen) -> RunEnded | RunDied | None:
        folder, process = self._folder(seen.handle), self._process(seen.handle)
        state = self.judge(self._evidence(entry, folder, process, seen))
        if state in (RunState.ORPHANED, RunState.STALLED, RunState.ENDING):
            self.world.failed(entry.skill_name)
            self.world.end(process, with_checkpoint=state is RunState.ORPHANED)
            del self.watched[entry.skill_name]
            return RunDied(entry.skill_name, entry.attempt, f"it was {state}")
        if state is RunState.FINISHED:
            del self.watched[entry.skill_name]
            return self._ended(entry, folder)
        if state is RunState.DEAD:
            del self.watched[entry.skill_name]
            self.world.seen_after_all(entry.skill_name, entry.attempt)
            if not self.was_started(entry):  # intended, never made, and the engine could not say so
                self.world.failed(entry.skill_name)
            out_of_memory = folder is not None and folder.exits.get(entry.attempt) == "out_of_memory"
            return RunDied(entry.skill_name, entry.attempt, "it died", folder.num_envs if out_of_memory else None)
        return None

    def judge(self, seen: Evidence) -> RunState:
        return evidence.judge(seen)

    def _evidence(self, entry: SkillEntry, folder: Folder | None, process: Process | None, seen: Seen) -> Evidence:
        result = folder.last_result(entry.attempt) if folder else None
        known = self.was_started(entry) and folder is not None and folder.attempt == entry.attempt
        return Evidence(
            result=result,
            lock_held=(process is not None and folder.lock_file) if known else None,
            process_alive=(process is not None) if known else None,
            cookie_alive=process is not None,
            stalled=process is not None and process.silent,
            engine=seen.engine,
            since_launch_s=1000.0,
        )

    def _ended(self, entry: SkillEntry, folder: Folder) -> RunEnded:
        result = folder.result
        too_many = folder.num_envs if result.reason == OUT_OF_MEMORY else None
        hopeless = result.reason == NO_PROGRESS
        return RunEnded(
            entry.skill_name,
            entry.attempt,
            result.outcome,
            frames=result.frames,
            too_many_envs=too_many,
            hopeless=hopeless,
        )

    def _stopped(self, entry: SkillEntry) -> RunStopped | RunEnded:
        handle = self.watched.pop(entry.skill_name).handle
        folder = self._folder(handle)
        result = folder.last_result(entry.attempt) if folder else None
        if result and result.is_its_own:
            return self._ended(entry, folder)
        if folder and not self.is_alive(handle):
            self.world.forgiven(folder, entry.attempt)  # it had died unseen: stopped all the same, no retry is spent
        self.end(handle)
        return RunStopped(entry.skill_name, entry.attempt)

    def _handle(self, process: Process) -> Handle:
        engine_id = f"%{process.folder.index}.{process.attempt}"
        return Handle(engine_id, f"flowrl_{process.folder.name}", process.folder.path, process.attempt)

    def _folder(self, handle: Handle) -> Folder | None:
        return self.world.folders.get(handle.run_folder.name)

    def _process(self, handle: Handle) -> Process | None:
        folder = self._folder(handle)
        return self.world.find(folder, handle.attempt) if folder else None
