"""What outlives a scheduler: the library, the run folders, the processes, the engine, the saved state.

The world keeps its own books, apart from the scheduler's, and raises :class:`Broken` at the moment at which something
happens that must never happen: a second live copy of a run, a frame counted twice, an index with two owners.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from flowrl.parallel.library.contents import PreparedRehearsal, PreparedRun
from flowrl.paths import ExperimentPaths, RunPaths
from flowrl.records.result import NO_PROGRESS, Outcome, RunResult
from flowrl.records.scheduler_state import RehearsalEntry, SkillEntry, Status

PATHS = ExperimentPaths("/simulated")
ASKED_ENVS = 64
START = datetime(2026, 1, 1, tzinfo=UTC)


class Broken(AssertionError):
    """An invariant does not hold."""


class SchedulerKilled(BaseException):
    """The scheduler's process ends here and now; not an Exception, so that nothing catches it by accident."""


def demand(holds: bool, message: str) -> None:
    if not holds:
        raise Broken(message)


@dataclass(frozen=True)
class Version:
    """An expert. ``lineage``: the runs that trained it, each with its frames."""

    index: int
    lineage: tuple[tuple[str, int], ...] = ()

    @property
    def frames(self) -> int:
        return sum(frames for _, frames in self.lineage)

    def older_by(self, run: str, frames: int) -> Version:
        demand(run not in {name for name, _ in self.lineage}, f"the frames of {run} are counted twice")
        return Version(self.index, (*self.lineage, (run, frames)))


@dataclass
class Folder:
    """A run folder. ``checkpoint``: the frames of the newest; ``starts``: the experts that it began from."""

    name: str
    index: int
    starts: dict[str, Version]
    attempt: int = 0
    checkpoint: int = 0
    num_envs: int = ASKED_ENVS
    result: RunResult | None = None
    lock_file: bool = True
    was_damaged: bool = False
    exits: dict[int, str] = field(default_factory=dict)

    @property
    def path(self):
        return PATHS.run_folder(self.index, self.name)

    def last_result(self, attempt: int) -> RunResult | None:
        return self.result if self.result and self.result.attempt == attempt else None


@dataclass(eq=False)
class Process:
    """A training. ``frames`` are those of its checkpoint and those since."""

    folder: Folder
    attempt: int
    frames: int
    session: bool = True
    hung: bool = False
    silent: bool = False


class World:
    is_cluster = False

    def __init__(self, max_parallel: int = 2, max_retries: int = 2):
        self.max_parallel, self.max_retries = max_parallel, max_retries
        self.now = START
        self.library: dict[str, Version] = {}
        self.folders: dict[str, Folder] = {}
        self.processes: list[Process] = []
        self.saved: list[str] = []
        self.engine_answers = True
        self.launch_refusals = self.merge_refusals = self.damages = 0
        self.slow_steps = self.library_held_for = 0  # looks that the next merges take longer, or wait for another process
        self.effects_left: int | None = None
        self.owners: dict[int, str] = {}
        self.fell_back = False
        self.engine_answered_at_start = True
        self.kills = 0
        self.failures: dict[str, int] = {}
        self.failed_attempts: set[tuple[str, int]] = set()
        self.forgiven_attempts: set[tuple[str, int]] = set()
        self.given_up: set[str] = set()
        """Without progress; only a person may have them tried again."""
        self.reports: list[object] = []
        self.launched: set[tuple[str, int]] = set()
        self.envs: dict[str, int] = {}

    # What the scheduler does.

    def effect(self) -> None:
        """A point at which the scheduler may be killed."""
        if self.effects_left is not None:
            self.effects_left -= 1
            if self.effects_left < 0:
                self.effects_left = None
                self.kills += 1
                raise SchedulerKilled

    def save(self, text: str) -> None:
        self.effect()
        self.saved = [*self.saved[-1:], text]
        self.effect()

    def prepare(self, entry: SkillEntry) -> Folder:
        """Makes the run folder, or finds it; the experts of all that the skill needs have to be in the library."""
        name, index = entry.skill_name, entry.expert_idx
        demand(index is not None, f"{name} is launched without an index")
        missing = [dependency for dependency in entry.dependencies if dependency not in self.library]
        demand(not missing, f"{name} is launched before {missing} are in the library")
        owner = self.owners.setdefault(index, name)
        demand(owner == name, f"expert {index} of {owner} is given to {name}")
        key = PATHS.run_folder(index, name).name
        folder = self.folders.get(key)
        if folder is None or not folder.checkpoint:
            starts = {dependency: self.library[dependency] for dependency in entry.dependencies}
            folder = self.folders[key] = Folder(name, index, starts, folder.attempt if folder else 0)
        return folder

    def start(self, entry: SkillEntry) -> Process:
        folder = self.prepare(entry)
        name, attempt = entry.skill_name, entry.attempt
        demand(name not in self.library, f"{name} is trained again though it is in the library")
        done = folder.last_result(folder.attempt)
        demand(not done or done.outcome is not Outcome.COMPLETED, f"{name} is trained again though it has a result")
        for process in self.living(folder):
            could_be_seen = process.session and self.engine_answered_at_start
            demand(self.fell_back and not could_be_seen, f"{name} is launched while it trains")
            self.end(process)
        # A scheduler that was killed may have died with the news of a failure.
        too_often = self.failures.get(name, 0) > self.max_retries + self.kills
        demand(self.fell_back or not too_often, f"{name} is retried too often")
        demand(self.fell_back or name not in self.given_up, f"{name} is retried, though it made no progress")
        demand(not self.living_of(name), f"{name} runs twice")
        demand(len(self.processes) < self.max_parallel, f"{name} is launched without a free slot")
        demand((name, attempt) not in self.launched, f"attempt {attempt} of {name} is launched twice")
        allowed = ASKED_ENVS if self.fell_back else self.envs.get(name, ASKED_ENVS)
        folder.num_envs = entry.num_envs or ASKED_ENVS
        demand(folder.num_envs <= allowed, f"{name} has {folder.num_envs} environments, and memory for {allowed} at most")
        self.effect()
        folder.attempt, folder.result, folder.lock_file = attempt, None, True
        self.launched.add((name, attempt))
        process = Process(folder, attempt, folder.checkpoint)
        self.processes.append(process)
        self.effect()
        return process

    def find_damage(self, entry: SkillEntry) -> bool:
        """Whether the checkpoint to be merged turns out to be damaged: the run has to go on from the one before."""
        folder = self.folders.get(PATHS.run_folder(entry.expert_idx, entry.skill_name).name)
        if folder is not None and folder.was_damaged and folder.last_result(entry.attempt) is None:
            return True  # found before, by a scheduler that was killed as it said so
        if self.damages == 0 or folder is None or entry.skill_name in self.library:
            return False
        folder.was_damaged = True
        self.damages -= 1
        folder.checkpoint, folder.result = folder.checkpoint // 2, None
        return True

    def merge(self, entry: SkillEntry) -> Iterator[None]:
        """As ``process_completed_training``: may be killed between any two steps, and done again. Anything may happen
        between them; each None says that nothing more is done before the scheduler has looked again."""
        key = PATHS.run_folder(entry.expert_idx, entry.skill_name).name
        folder = self.folders.get(key)
        if folder is None:
            demand(entry.skill_name in self.library, f"{entry.skill_name} is merged without a run")
            return
        result = folder.last_result(entry.attempt)
        demand(bool(result) and result.outcome is Outcome.COMPLETED, f"{entry.skill_name} is merged without a result")
        demand(not self.living_of(entry.skill_name), f"{entry.skill_name} is merged while it trains")
        demand(entry.frames == folder.checkpoint, f"{entry.skill_name} trained {folder.checkpoint}, {entry.frames} are merged")
        for name, start in folder.starts.items():
            yield from self._step()
            self._put(name, start.older_by(key, folder.checkpoint))
        yield from self._step()
        self._put(entry.skill_name, Version(folder.index).older_by(key, folder.checkpoint))
        yield from self._step()
        demand(not self.living_of(entry.skill_name), f"{entry.skill_name} trains while it is merged")
        del self.folders[key]
        yield from self._step()

    def _step(self) -> Iterator[None]:
        self.effect()
        if self.slow_steps > 0:
            self.slow_steps -= 1
            yield None

    def _put(self, name: str, version: Version) -> None:
        present = self.library.get(name)
        if present is None or version.frames > present.frames:
            demand(present is None or present.index == version.index, f"{name} has experts {present} and {version}")
            self.library[name] = version

    def end(self, process: Process, with_checkpoint: bool = True) -> None:
        """Ends a process; one that works has written a checkpoint before."""
        if with_checkpoint and not process.hung:
            process.folder.checkpoint = process.frames
        self.processes.remove(process)

    # What happens by itself.

    def train(self, process: Process, frames: int) -> None:
        if not process.hung:
            process.frames += frames
            process.silent = False

    def failed(self, name: str) -> None:
        """Something went wrong that spends a retry."""
        self.failures[name] = self.failures.get(name, 0) + 1

    def forgiven(self, folder: Folder, attempt: int) -> None:
        """What had gone wrong in this attempt, if anything, was never looked at."""
        if (folder.name, attempt) not in self.failed_attempts or (folder.name, attempt) in self.forgiven_attempts:
            return  # one death is forgiven once, even if a scheduler was killed as it did so
        self.failures[folder.name] = max(0, self.failures.get(folder.name, 0) - 1)
        self.forgiven_attempts.add((folder.name, attempt))
        self.envs[folder.name] = folder.num_envs

    def seen_after_all(self, name: str, attempt: int) -> None:
        """A scheduler that forgave a death was killed before it had saved that; the next one sees the death, and it counts."""
        if (name, attempt) in self.forgiven_attempts:
            self.forgiven_attempts.remove((name, attempt))
            self.failed(name)

    def finish(self, process: Process, outcome: str, reason: str | None = None) -> None:
        """A run that ends by itself leaves its result."""
        if outcome == "failed":
            self.failed(process.folder.name)
            self.failed_attempts.add((process.folder.name, process.attempt))
        folder = process.folder
        if outcome == "completed":
            self.train(process, 1)
            folder.checkpoint = process.frames
        if reason == "out_of_memory":
            self._ran_out_of_memory(folder)
        if reason == NO_PROGRESS:
            self.given_up.add(folder.name)
        self.processes.remove(process)
        folder.result = RunResult(process.attempt, Outcome(outcome), reason=reason, frames=folder.checkpoint)

    def kill(self, process: Process, for_memory: bool = False) -> None:
        """``kill -9``: progress since the last checkpoint is lost."""
        self.failed(process.folder.name)
        self.failed_attempts.add((process.folder.name, process.attempt))
        self.processes.remove(process)
        if for_memory:
            self._ran_out_of_memory(process.folder)
            process.folder.exits[process.attempt] = "out_of_memory"

    def _ran_out_of_memory(self, folder: Folder) -> None:
        """The next attempt has to do with half, down to a floor."""
        self.envs[folder.name] = max(8, folder.num_envs // 2)

    def checkpoint(self, process: Process) -> None:
        if not process.hung:
            process.folder.checkpoint = process.frames

    def engine_works(self) -> None:
        """Nothing of the engine's own is still to come: a session begins at once."""

    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    # What can be seen.

    def living(self, folder: Folder) -> list[Process]:
        return [process for process in self.processes if process.folder is folder]

    def living_of(self, name: str) -> list[Process]:
        return [process for process in self.processes if process.folder.name == name]

    def find(self, folder: Folder, attempt: int) -> Process | None:
        return next((process for process in self.living(folder) if process.attempt == attempt), None)


class WorldRecords:
    """What the world's folders tell; see ``flowrl.parallel.reconciliation.Records``."""

    def __init__(self, world: World):
        self._world = world

    def completed(self) -> dict[str, int]:
        return {name: version.index for name, version in self._world.library.items()}

    def indices(self) -> Iterable[int]:
        return [version.index for version in self._world.library.values()]

    def completed_entry(self, index: int, name: str) -> SkillEntry:
        own = sum(
            frames
            for run, frames in self._world.library[name].lineage
            if RunPaths(PATHS.training_runs / run).skill_name == name
        )
        return SkillEntry(skill_name=name, status=Status.COMPLETED, expert_idx=index, frames=own)

    def has_run(self, index: int, name: str) -> bool:
        return PATHS.run_folder(index, name).name in self._world.folders

    def prepared(self) -> list[PreparedRun]:
        return [
            PreparedRun(RunPaths(folder.path), {"skill_name": folder.name}, tuple(folder.starts), folder.attempt)
            for folder in self._world.folders.values()
        ]

    def prepared_rehearsals(self) -> list[PreparedRehearsal]:
        return []

    def merged_rehearsals(self) -> list[RehearsalEntry]:
        return []

    def result(self, index: int | None, name: str, attempt: int) -> RunResult | None:
        folder = self._world.folders.get(PATHS.run_folder(index, name).name)
        return folder.last_result(attempt) if folder else None
