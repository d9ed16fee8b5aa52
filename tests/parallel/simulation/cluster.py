"""A simulated cluster, and the hands of a scheduler that trains on it.

Jobs wait, start, run out of time, are requeued, and are forgotten; a node may be lost while its process trains on. What a
checkpoint, a result or an old job may still do then is decided by the real rules (`RunRecord.newer_than`, the claim, the number
of the attempt), and held against the world's own books.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from flowrl.parallel.events import Launched, LaunchFailed, Merged, MergeFailed, RunDied, RunEnded, RunStopped
from flowrl.parallel.evidence import Evidence, RunState
from flowrl.parallel.launchers.base import Handle, Phase
from flowrl.records.result import Outcome, RunResult
from flowrl.records.run_record import Launch, RunRecord, Slot
from flowrl.records.scheduler_state import SkillEntry
from tests.parallel.simulation.hands import Seen, SimulatedHands
from tests.parallel.simulation.world import ASKED_ENVS, PATHS, Folder, Process, World, demand
from tests.records.builders import RECORD

UNDER_WAY = ("pending", "running")


@dataclass(eq=False)
class Job:
    """A job, as the queue knows it. ``fault``: the cluster ended it, for a reason of its own."""

    folder: Folder
    attempt: int
    state: str = "pending"
    process: Process | None = None
    fault: bool = False


class ClusterWorld(World):
    """Its processes are on nodes, so that nobody but the queue can see them."""

    is_cluster = True

    def __init__(self, max_parallel: int = 2, max_retries: int = 2):
        super().__init__(max_parallel, max_retries)
        self.jobs: list[Job] = []
        self.lost: list[Process] = []
        """Processes on nodes that were given up: they train on, and nobody sees them."""
        self.answers_lost = 0
        self.scripts: dict[str, int] = {}
        """The attempt whose batch script is in a run's folder."""
        self.claims: set[tuple[str, int]] = set()
        self.receipts: set[tuple[str, int]] = set()
        self.begun: set[tuple[str, int]] = set()
        self.cancelled: set[tuple[str, int]] = set()
        self.records: dict[str, RunRecord] = {}
        self.late: dict[str, list[tuple[int, int]]] = {}
        """Checkpoints that older attempts wrote too late, by the run's folder: attempt and frames."""

    # What the scheduler does.

    def intend(self, entry: SkillEntry) -> Folder:
        """Makes the run's folder ready for an attempt, and records its launch."""
        folder, name, attempt = self.prepare(entry), entry.skill_name, entry.attempt
        demand(name not in self.library, f"{name} is trained again though it is in the library")
        done = folder.last_result(folder.attempt)
        # One that was cancelled may have been trained all the same: by a copy of its job, or while the queue was silent.
        is_known = done is not None and (name, folder.attempt) not in self.cancelled
        demand(not is_known or done.outcome is not Outcome.COMPLETED, f"{name} is trained again though it has a result")
        too_often = self.failures.get(name, 0) > self.max_retries + self.kills
        demand(self.fell_back or not too_often, f"{name} is retried too often")
        demand(self.fell_back or name not in self.given_up, f"{name} is retried, though it made no progress")
        demand((name, attempt) not in self.begun, f"attempt {attempt} of {name} is launched again though it has begun")
        allowed = ASKED_ENVS if self.fell_back else self.envs.get(name, ASKED_ENVS)
        folder.num_envs = entry.num_envs or ASKED_ENVS
        demand(folder.num_envs <= allowed, f"{name} has {folder.num_envs} environments, and memory for {allowed} at most")
        self.effect()
        folder.attempt, folder.result = attempt, None
        on_disk = max([folder.checkpoint, *(frames for _, frames in self._late(folder))])
        record = self.records.get(self.key(folder), RECORD) if folder.checkpoint else RECORD
        self.records[self.key(folder)] = record.for_attempt(Launch(attempt, on_disk), Slot(), None)
        self.launched.add((name, attempt))
        self.effect()
        return folder

    def submit(self, folder: Folder, attempt: int) -> bool:
        """Puts a job into the queue; returns whether the answer arrives."""
        self.jobs.append(Job(folder, attempt))
        self.effect()
        self.answers_lost -= 1
        return self.answers_lost < 0

    def cancel(self, job: Job) -> None:
        """``scancel``: the job is asked to stop, and ends."""
        if job.process in self.processes:
            self.end(job.process, with_checkpoint=self.is_open(job.process))
        self.cancelled.add((job.folder.name, job.attempt))
        self._end_job(job)

    # What happens by itself.

    def begin(self, job: Job) -> None:
        """A node takes a job: its script looks whose attempt it is, then starts the training."""
        name, key = job.folder.name, self.key(job.folder)
        if self._is_outdated(job) or self._is_claimed(job):
            return self._end_job(job)
        self.claims.add((key, job.attempt))
        self.begun.add((name, job.attempt))
        for older in self.living_of(name):
            demand(older.attempt < job.attempt, f"attempt {job.attempt} of {name} runs twice")
            self._lose(older)  # it ends at its fence, perhaps only after one more write
        start = self._restored(job.folder)
        demand(start == job.folder.checkpoint, f"{name} goes on from {start}, and has {job.folder.checkpoint} frames")
        job.state, job.process = "running", Process(job.folder, job.attempt, start)
        self.processes.append(job.process)
        return None

    def _is_outdated(self, job: Job) -> bool:
        return self.folders.get(self.key(job.folder)) is not job.folder or job.folder.attempt != job.attempt

    def _is_claimed(self, job: Job) -> bool:
        return (self.key(job.folder), job.attempt) in self.claims

    def _restored(self, folder: Folder) -> int:
        """The frames of the newest checkpoint that came in time."""
        late = [frames for attempt, frames in self._late(folder) if self._is_in_time(folder, attempt, frames)]
        return max([folder.checkpoint, *late])

    def _is_in_time(self, folder: Folder, attempt: int, frames: int) -> bool:
        return self.records[self.key(folder)].newer_than(attempt, frames) is None

    def run_out_of_time(self, job: Job) -> None:
        """The training is asked to stop, writes a checkpoint, and ends; its keeper records that it was asked."""
        if not job.process.hung:
            job.folder.exits[job.attempt] = "asked"
        self._end_job(job, fault=True)
        self.end(job.process)

    def lose_node(self, job: Job) -> None:
        """The queue gives the job up; its process lives on."""
        self._end_job(job, fault=True)
        self._lose(job.process)

    def forget_jobs(self) -> None:
        """The queue shows jobs for a while after their end, and then no more."""
        self.jobs = [job for job in self.jobs if job.state != "ended"]

    def requeue(self, job: Job) -> None:
        """Someone has the cluster start it again: its process is killed, and the job waits once more."""
        self.processes.remove(job.process)
        job.state, job.process = "pending", None

    def lost_writes(self, process: Process, slips: bool, ends: bool) -> None:
        """A process that nobody sees trains on, and writes. Once a newer attempt has begun it ends instead, unless it had
        looked just before that (``slips``)."""
        process.frames += 3
        folder = process.folder
        if self.is_open(process):
            folder.checkpoint = max(folder.checkpoint, process.frames)
            return
        if slips and self.folders.get(self.key(folder)) is folder and process.frames > folder.checkpoint:
            self._late(folder).append((process.attempt, process.frames))
            if ends:
                self._overwrite_result(process)
        self.lost.remove(process)

    def _overwrite_result(self, process: Process) -> None:
        """A result that is lost to a late one costs its attempt a retry, and nothing else."""
        folder, written = process.folder, process.folder.result
        if written is not None and written.outcome is Outcome.COMPLETED:
            self.failed(folder.name)
        folder.result = RunResult(process.attempt, Outcome.COMPLETED, frames=process.frames)

    def node_is_back(self, process: Process) -> None:
        """A node that was given up is reached again, and told to end what it still runs; a checkpoint may be written then."""
        if self.is_open(process):
            process.folder.checkpoint = max(process.folder.checkpoint, process.frames)
        self.lost.remove(process)

    def is_open(self, process: Process) -> bool:
        """Whether the fence lets the process write."""
        folder = process.folder
        return self.folders.get(self.key(folder)) is folder and folder.attempt == process.attempt

    def finish(self, process: Process, outcome: str, reason: str | None = None) -> None:
        if outcome == "failed" and self._is_given_up(process):
            self.processes.remove(process)
        else:
            super().finish(process, outcome, reason)
        self._recorded(process)

    def kill(self, process: Process, for_memory: bool = False) -> None:
        if self._is_given_up(process):
            self.processes.remove(process)
        else:
            super().kill(process, for_memory)
        self._recorded(process)

    def _is_given_up(self, process: Process) -> bool:
        """Whether the scheduler has cancelled this attempt: its death costs nothing, unless the scheduler has found it again
        by then, and counts it itself."""
        return (process.folder.name, process.attempt) in self.cancelled

    def engine_works(self) -> None:
        """Every job that waits is started, and nodes that were lost are back."""
        self.answers_lost = 0
        self.lost.clear()
        for job in [job for job in self.jobs if job.state == "pending"]:
            self.begin(job)

    def _recorded(self, process: Process) -> None:
        """The keeper records the end, and the job is over."""
        process.folder.exits.setdefault(process.attempt, "ended")
        for job in self.jobs:
            if job.process is process:
                self._end_job(job)

    def _end_job(self, job: Job, fault: bool = False) -> None:
        job.state, job.fault = "ended", fault

    def _lose(self, process: Process) -> None:
        self.processes.remove(process)
        if not process.hung:
            self.lost.append(process)

    def _late(self, folder: Folder) -> list[tuple[int, int]]:
        return self.late.setdefault(self.key(folder), [])

    @staticmethod
    def key(folder: Folder) -> str:
        return folder.path.name

    # What can be seen.

    def job_of(self, folder: Folder | None, attempt: int) -> Job | None:
        """Of the jobs for one attempt, the one that counts."""
        mine = [job for job in self.jobs if job.folder is folder and job.attempt == attempt and not self.is_void(job)]
        order = {"running": 0, "pending": 1, "ended": 2}
        return min(mine, key=lambda job: (order[job.state], job.process is None), default=None)

    def is_void(self, job: Job) -> bool:
        """Whether a job waits for an attempt that another one has claimed already: it will never train."""
        return job.state == "pending" and (self.key(job.folder), job.attempt) in self.claims

    def under_way(self) -> list[Job]:
        return [job for job in self.jobs if job.state in UNDER_WAY and not self.is_void(job)]


class ClusterHands(SimulatedHands):
    """As ``Runs`` with the launcher of a cluster."""

    world: ClusterWorld

    def launch(self, entry: SkillEntry, completed_skills: Mapping[str, dict]) -> Launched | LaunchFailed:
        folder = self.world.intend(entry)
        if self.world.launch_refusals > 0 and self.world.engine_answers:
            self.world.launch_refusals -= 1
            self.world.failed(entry.skill_name)
            self._end_older(folder, entry.attempt)  # as before each submission, also one that is refused
            return LaunchFailed(entry.skill_name, entry.attempt, "planted refusal")
        handle = self._handle_of(folder, entry.attempt)
        self.world.scripts[self.world.key(folder)] = entry.attempt
        if self.world.engine_answers and self.world.job_of(folder, entry.attempt) is None:
            self._submit(folder, entry.attempt)
        self.watched[entry.skill_name] = Seen(handle)
        return Launched(entry.skill_name, entry.attempt, handle.name, str(handle.run_folder))

    def _submit(self, folder: Folder, attempt: int) -> None:
        self._end_older(folder, attempt)
        if self.world.submit(folder, attempt):
            self.world.receipts.add((self.world.key(folder), attempt))
            self.world.effect()

    def _end_older(self, folder: Folder, attempt: int) -> None:
        for job in self.world.under_way():
            if job.folder.path == folder.path and job.attempt < attempt:  # the folder may have been made anew
                self.world.cancel(job)

    def ask_engine(self) -> None:
        for seen in self.watched.values():
            seen.engine = self.status(seen) if self.world.engine_answers else self.silence(seen)

    def silence(self, seen: Seen) -> Phase:
        return Phase.UNKNOWN

    def status(self, seen: Seen) -> Phase:
        folder, attempt = self._folder(seen.handle), seen.handle.attempt
        job = self.world.job_of(folder, attempt)
        if job is not None:
            self.world.receipts.add((self.world.key(folder), attempt))
            return {"pending": Phase.QUEUED, "running": Phase.RUNNING, "ended": Phase.EXITED}[job.state]
        if folder is None or self.is_forgotten(folder, attempt) or self.world.scripts.get(self.world.key(folder)) != attempt:
            return Phase.LOST
        self._submit(folder, attempt)
        return Phase.QUEUED

    def is_forgotten(self, folder: Folder, attempt: int) -> bool:
        """Whether the queue once had a job that it does not know of: something in the run's folder says so."""
        key = self.world.key(folder), attempt
        return key in self.world.receipts or key in self.world.claims

    def adopt(self, entry: SkillEntry, handle: Handle | None, engine_answers: bool) -> None:
        super().adopt(entry, handle, engine_answers)
        if engine_answers and handle is None:
            seen = self.watched[entry.skill_name]
            seen.engine = self.status(seen)

    def find(self) -> tuple[list[Handle], bool]:
        if not self.world.engine_answers:
            return [], False
        return [self._handle_of(job.folder, job.attempt) for job in self.world.under_way()], True

    def was_started(self, entry: SkillEntry) -> bool:
        return (entry.skill_name, entry.attempt) in self.world.begun

    def is_alive(self, handle: Handle) -> bool:
        job = self.world.job_of(self._folder(handle), handle.attempt)
        return self.world.engine_answers and job is not None and job.state in UNDER_WAY

    def end(self, handle: Handle) -> None:
        folder = self._folder(handle)
        if folder is not None:  # while the queue is silent, the job lives on, and may even complete
            self.world.cancelled.add((folder.name, handle.attempt))
        job = self.world.job_of(folder, handle.attempt)
        if job is not None and self.world.engine_answers:
            self.world.cancel(job)

    def _look_at(self, entry: SkillEntry, seen: Seen) -> RunEnded | RunDied | RunStopped | None:
        folder, process = self._folder(seen.handle), self._process(seen.handle)
        state = self.judge(self._evidence(entry, folder, process, seen))
        if state is RunState.STALLED and self.world.engine_answers:
            self.world.failed(entry.skill_name)
            self.end(seen.handle)
            del self.watched[entry.skill_name]
            return RunDied(entry.skill_name, entry.attempt, "it was stalled")
        if state is RunState.FINISHED:
            del self.watched[entry.skill_name]
            return self._ended(entry, folder)
        if state is RunState.DEAD:
            demand(process is None, f"{entry.skill_name} is taken for dead while it trains")
            del self.watched[entry.skill_name]
            return self._died(entry, folder)
        return None

    def _died(self, entry: SkillEntry, folder: Folder | None) -> RunDied | RunStopped:
        name, attempt = entry.skill_name, entry.attempt
        job = self.world.job_of(folder, attempt)
        self.world.seen_after_all(name, attempt)
        for_the_cluster = (job is not None and job.fault) or (folder is not None and folder.exits.get(attempt) == "asked")
        if for_the_cluster and folder.checkpoint > self.world.records[self.world.key(folder)].launches[-1].frames:
            return RunStopped(name, attempt)
        if (name, attempt) not in self.world.failed_attempts:  # it never began, or made no progress until the cluster ended it
            self.world.failed(name)
            self.world.failed_attempts.add((name, attempt))
        out_of_memory = folder is not None and folder.exits.get(attempt) == "out_of_memory"
        return RunDied(name, attempt, "it died", folder.num_envs if out_of_memory else None)

    def _evidence(self, entry: SkillEntry, folder: Folder | None, process: Process | None, seen: Seen) -> Evidence:
        has_ended = folder is not None and entry.attempt in folder.exits
        is_under_way = seen.engine in (Phase.STARTING, Phase.RUNNING)
        return Evidence(
            result=self.result(folder, entry.attempt),
            process_alive=False if has_ended else None,
            keeper_alive=not has_ended if is_under_way else None,
            stalled=process is not None and process.silent,
            engine=seen.engine,
            since_launch_s=1000.0,
        )

    def result(self, folder: Folder | None, attempt: int) -> RunResult | None:
        return folder.last_result(attempt) if folder else None

    def _merge(self, entry: SkillEntry) -> Iterator[Merged | MergeFailed | None]:
        folder = self.world.folders.get(PATHS.run_folder(entry.expert_idx, entry.skill_name).name)
        if folder is not None and self.result(folder, entry.attempt) is None:
            folder.was_damaged = False
            yield MergeFailed(entry.skill_name, entry.attempt, "its result was overwritten", train_again=True)
            return
        yield from super()._merge(entry)

    def _handle_of(self, folder: Folder, attempt: int) -> Handle:
        return Handle(f"{self.world.key(folder)}#{attempt}", f"flowrl_{folder.name}", folder.path, attempt)
