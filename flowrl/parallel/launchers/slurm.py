"""Runs as jobs of a Slurm cluster, each with a session on this machine that shows it.

A job is found again by its comment, which names the run's folder and the attempt; nothing else is remembered. `launch`
writes the job's script and submits it. If the cluster does not answer, the run counts as under way all the same, and the next
`poll` that finds the cluster answering, and no such job, submits it then. A job that was submitted twice trains once: the
script claims the attempt first.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from flowrl.errors import BadInput
from flowrl.files import read_json, write_json
from flowrl.parallel.environment import write_private
from flowrl.parallel.launchers.base import (
    UNDER_WAY,
    EngineStatus,
    EngineUnreachable,
    Fault,
    Handle,
    LaunchSpec,
    NotLaunched,
    Phase,
)
from flowrl.parallel.launchers.batch_script import attempt_of, batch_script, claim_of, comment_of, output_of
from flowrl.parallel.launchers.job_sessions import JobSessions
from flowrl.parallel.launchers.slurm_options import LEAST_TIME_S, SlurmOptions, seconds_of
from flowrl.parallel.launchers.slurm_queue import NO_SUCH_NODES, Job, Queue, Refused, SlurmQueue
from flowrl.parallel.processes import end_tree, with_cookie
from flowrl.parallel.slots import check_number
from flowrl.paths import ExperimentPaths, RunPaths, batch_file, job_receipt
from flowrl.records import ending, liveness, queue
from flowrl.records.queue import Place, QueueRecord
from flowrl.records.run_record import Slot

ASK_EVERY_S = 5.0
"""Seconds between two calls of squeue, which lists all jobs at once."""
FRESH_S = 1.0
"""An answer of this age is as good as a new one."""
RECENT_S = ASK_EVERY_S
"""The same for a launch: nobody but us submits our jobs, and `SlurmLauncher._remember` adds those to the answer."""
FILES_GRACE_S = 60.0
"""Seconds in which the files that a job has written on its node appear here: NFS remembers a folder for up to a minute."""
BOOKS_PAUSE_S = 600.0
"""Seconds without asking sacct again after it has not answered: most clusters without books never do."""
CANCEL_LOOK_S = 0.5
_SHOWN_BYTES = 4000

_NOT_BEGUN = ("PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT")
_QUEUED = (*_NOT_BEGUN, "SUSPENDED", "STOPPED")
_RUNNING = ("RUNNING", "COMPLETING", "SIGNALING", "STAGE_OUT", "RESIZING")
_ENDED = {
    "COMPLETED": None, "FAILED": None, "CANCELLED": None, "DEADLINE": None, "LAUNCH_FAILED": None,
    "OUT_OF_MEMORY": Fault.MEMORY, "TIMEOUT": Fault.ENGINE, "PREEMPTED": Fault.ENGINE, "NODE_FAIL": Fault.ENGINE,
    "BOOT_FAIL": Fault.ENGINE, "REVOKED": Fault.ENGINE,
}  # fmt: skip
_NODE_GONE = ("NODE_FAIL", "BOOT_FAIL", "LAUNCH_FAILED", "REVOKED")
_IN_WORDS = {
    "TIMEOUT": "its time was over (--slurm_time)", "PREEMPTED": "it gave way to another job", "NODE_FAIL": "its node failed",
    "OUT_OF_MEMORY": "it used more memory than it was given (--slurm_mem)", "CANCELLED": "it was cancelled by scancel",
    "BOOT_FAIL": "its node did not boot", "DEADLINE": "its deadline has passed",
}  # fmt: skip


@dataclass(frozen=True)
class _Answer:
    """What squeue said, or why it said nothing, and when."""

    jobs: dict[str, list[Job]]
    """By comment."""
    at_s: float
    silence: str = ""
    asked_s: float = float("-inf")
    """What has happened by then is in it."""

    @property
    def age_s(self) -> float:
        return time.monotonic() - self.at_s


class SlurmLauncher:
    """See :class:`flowrl.parallel.launchers.base.Launcher`.

    Args:
        queue: the cluster.
        sessions: what shows the jobs.
        now: seconds since the epoch.
    """

    poll_every_s = ASK_EVERY_S

    def __init__(
        self,
        options: SlurmOptions,
        queue: Queue | None = None,
        sessions: JobSessions | None = None,
        now: Callable[[], float] = time.time,
    ):
        self.options = options
        self._queue = queue or SlurmQueue(options.variables_instead())
        self._sessions = sessions or JobSessions()
        self._now = now
        self._answer = _Answer({}, float("-inf"))  # only so that many questions at a time are one call
        self._asking = threading.Lock()
        self._shown: dict[Path, QueueRecord] = {}
        self._seen: set[str] = set()
        # How long some things are known, by comment, or by a job's number; a launcher that is started again learns it anew.
        self._claimed_s: dict[str, float] = {}
        self._forgotten_s: dict[str, float] = {}
        self._ended_s: dict[str, float] = {}
        self._past: dict[str, Job] = {}
        self._no_books_until_s = float("-inf")

    # What it needs.

    def check(self) -> None:
        self._queue.check()
        self._sessions.check()
        try:
            is_whole = self._check_partition()
            self._try_submission(is_whole)
        except EngineUnreachable as error:
            raise BadInput(
                f"the cluster does not answer: {error}; wait until `sinfo` works in this terminal, or leave --launcher out"
            ) from error
        except Refused as error:
            raise BadInput(
                f"the cluster would not take a job with these options: {error}; correct --slurm_partition, --slurm_time, "
                "--slurm_gpus, --slurm_cpus, --slurm_mem or --slurm_args"
            ) from error

    def _try_submission(self, is_whole: bool) -> None:
        """Asks whether such a job could run. While nodes are out of work, "no such nodes" may be true for now only."""
        try:
            self._queue.try_submission(batch_script(_sample(), self.options, "flowrl_check"))
        except Refused as error:
            if is_whole or not any(words in str(error).lower() for words in NO_SUCH_NODES):
                raise

    def _check_partition(self) -> bool:
        """Returns whether none of the nodes that jobs may get is out of work."""
        known = {partition.name: partition for partition in self._queue.partitions()}
        asked = self.options.partition
        for name in asked.split(",") if asked else ():
            if name not in known:
                raise BadInput(f"--slurm_partition {name} is unknown; this cluster has: {', '.join(sorted(known)) or 'none'}")
            if not known[name].is_up:
                raise BadInput(f"--slurm_partition {name} is down; choose another, or ask the cluster's administrators")
        names = asked.split(",") if asked else [name for name, partition in known.items() if partition.is_default]
        most = [_limit_s(known[name].most) for name in names]
        wanted = seconds_of(self.options.time) if self.options.time else None
        usual = {name: _limit_s(known[name].usual) or _limit_s(known[name].most) for name in names}
        if not self.options.time and (short := [name for name, s in usual.items() if s is not None and s < LEAST_TIME_S]):
            raise BadInput(
                f"a job gets {usual[short[0]] / 60:g} minutes in the partition {short[0]}, and must get at least "
                f"{LEAST_TIME_S // 60}; give --slurm_time, or another --slurm_partition"
            )
        if wanted and most and None not in most and wanted > max(most):
            raise BadInput(
                f"--slurm_time {self.options.time} is more than {', '.join(names)} allows ({max(most) / 60:g} minutes); give "
                "less, or another --slurm_partition"
            )
        return all(known[name].is_whole for name in names)

    def slots(self, max_parallel: int, *, gpu_ids: object = None, skills_per_gpu: int = 1) -> list[Slot]:
        check_number("max_parallel_skills", max_parallel)
        if gpu_ids is not None or skills_per_gpu != 1:
            raise BadInput("--gpu_ids and --skills_per_gpu apply to this machine; with --launcher slurm give --slurm_gpus")
        return [Slot()] * max_parallel

    # Starting.

    def launch(self, spec: LaunchSpec) -> Handle:
        comment = comment_of(spec.run_folder, spec.attempt)
        known = self._known(comment)
        if known and not _is_of_deleted_run(known):  # even one that is over: an attempt is made once
            return _handle(known)
        name = self._sessions.open(spec.experiment, spec.run_folder, spec.attempt) or spec.session_name
        write_private(batch_file(spec.run_folder), batch_script(spec, self.options, name))
        job_receipt(spec.run_folder).unlink(missing_ok=True)
        handle = Handle(comment, name, spec.run_folder, spec.attempt)
        try:
            self._submit(handle)
        except NotLaunched:
            self._sessions.close(spec.run_folder)
            raise
        return handle

    def _known(self, comment: str) -> Job | None:
        try:
            return self._counting(self._ask(RECENT_S).jobs.get(comment, []))
        except EngineUnreachable:
            return None

    def _submit(self, handle: Handle) -> str:
        """Submits the job of an attempt that the cluster does not have.

        Returns:
            its number; why there is none yet otherwise, in words.

        Raises:
            NotLaunched: the cluster does not take it.
        """
        try:
            self._end_older(handle)
            number = self._queue.submit(batch_file(handle.run_folder))
        except EngineUnreachable as error:
            self._forget_answer()  # it may have been taken: the next answer says so
            return str(error)
        except Refused as error:
            raise NotLaunched(f"the cluster refused the job {handle.name}: {error}") from error
        self._remember(Job(number, "PENDING", name=handle.name, comment=comment_of(handle.run_folder, handle.attempt)))
        _write_receipt(handle, number)
        return ""

    def _end_older(self, handle: Handle) -> None:
        """An older attempt may be in the queue still, if the answer to its submission was lost."""
        jobs = [job for jobs in self._ask(RECENT_S).jobs.values() for job in jobs if _is_older(job, handle)]
        if jobs:
            self._queue.cancel([job.id for job in jobs])

    # Looking.

    def find(self, experiment: Path) -> list[Handle]:
        runs = ExperimentPaths(experiment).training_runs
        answer = self._ask(FRESH_S)
        counting = (self._counting(self._valid(same, answer)) for same in answer.jobs.values())
        handles = [_handle(job) for job in counting if job and _phase(job) in UNDER_WAY]
        found = [handle for handle in handles if handle.run_folder.parent == runs]
        for handle in found:  # of a scheduler that was started again, perhaps on another login node
            self._sessions.open(experiment, handle.run_folder, handle.attempt)
        return found

    def poll(self, handles: Sequence[Handle]) -> dict[str, EngineStatus]:
        if not handles:
            return {}
        try:
            answer = self._ask(FRESH_S)
        except EngineUnreachable as error:
            self._show(handles, {}, {}, str(error))
            return {handle.engine_id: EngineStatus(Phase.UNKNOWN, reason=str(error)) for handle in handles}
        jobs = {handle: answer.jobs.get(comment_of(handle.run_folder, handle.attempt), []) for handle in handles}
        jobs |= self._from_the_books([handle for handle, same in jobs.items() if not same])
        counting = {handle: self._counting(self._valid(same, answer)) for handle, same in jobs.items()}
        statuses = {handle.engine_id: self._status(handle, counting[handle], jobs[handle]) for handle in handles}
        self._show(handles, counting, _ranks(answer.jobs), "")
        return statuses

    def _status(self, handle: Handle, job: Job | None, jobs: list[Job]) -> EngineStatus:
        """
        Args:
            job: the one that counts, of all ``jobs`` for the attempt.
        """
        self._end_copies(job, jobs)
        if job is None and not jobs:
            return self._status_without_a_job(handle)
        if job is None or (_phase(job) is Phase.EXITED and _was_put_back(job, jobs)):
            return self._status_of_waiting(handle, jobs)
        self._forgotten_s.pop(comment_of(handle.run_folder, handle.attempt), None)
        if handle.engine_id and handle.engine_id not in self._seen:
            self._seen.add(handle.engine_id)  # so that the files of a thousand jobs are not read at each look
            if _receipt(handle) is None:
                _write_receipt(handle, job.id)
        phase, waited_s = _phase(job), self._waited_s(job)
        if _word(job) in _NOT_BEGUN and 0 < self.options.pending_timeout_s < waited_s:
            reason = (
                f"job {job.id} waited for {waited_s:,.0f} s ({job.reason or 'no reason given'}), longer than "
                f"--slurm_pending_timeout {self.options.pending_timeout_s:g}"
            )
            return EngineStatus(Phase.EXITED, fault=Fault.HOPELESS, reason=reason)
        if phase is Phase.EXITED and self._lacks_files(handle, job):
            return EngineStatus(Phase.RUNNING, reason="its job has ended; its files are awaited")
        fault = _ENDED.get(_word(job)) if phase is Phase.EXITED else None
        return EngineStatus(phase, fault=fault, reason=_in_words(job))

    def _status_of_waiting(self, handle: Handle, jobs: Sequence[Job]) -> EngineStatus:
        """Of jobs that wait for an attempt that was claimed: the one that had it, put back into the queue, or copies of it."""
        claimer = _claimer(comment_of(handle.run_folder, handle.attempt))
        if claimer and claimer in {job.id for job in jobs}:
            return EngineStatus(Phase.EXITED, fault=Fault.ENGINE, reason="the cluster put its job back into the queue")
        return EngineStatus(Phase.LOST)

    def _status_without_a_job(self, handle: Handle) -> EngineStatus:
        """The cluster answers, and has no such job: it has forgotten it, or never got it."""
        comment = comment_of(handle.run_folder, handle.attempt)
        if _receipt(handle) is not None or _claimer(comment) is not None:
            return self._status_of_forgotten(handle, comment)
        if not _is_script_of(handle, comment):
            return EngineStatus(Phase.LOST)
        try:
            silence = self._submit(handle)
        except NotLaunched as error:
            return EngineStatus(Phase.EXITED, reason=str(error))
        return EngineStatus(Phase.QUEUED, reason=silence)

    def _status_of_forgotten(self, handle: Handle, comment: str) -> EngineStatus:
        """A cluster may forget a job within seconds of its end, before its files appear here."""
        since_s = self._forgotten_s.setdefault(comment, time.monotonic())
        has_ended = ending.find(RunPaths(handle.run_folder).exit, handle.attempt) is not None
        if has_ended or time.monotonic() - since_s >= FILES_GRACE_S:
            return EngineStatus(Phase.LOST)
        return EngineStatus(Phase.UNKNOWN, reason="the cluster has forgotten its job; its files are awaited")

    def _from_the_books(self, handles: Iterable[Handle]) -> dict[Handle, list[Job]]:
        """How jobs have ended that the queue has forgotten, from sacct, where the cluster keeps books."""
        numbers = {handle: number for handle in handles if (number := _receipt(handle)) is not None}
        unknown = [number for number in numbers.values() if number not in self._past]
        if unknown and time.monotonic() >= self._no_books_until_s:
            try:
                self._past |= {job.id: job for job in self._queue.past(unknown) if _phase(job) is Phase.EXITED}
            except EngineUnreachable:
                self._no_books_until_s = time.monotonic() + BOOKS_PAUSE_S
        return {handle: [self._past[number]] for handle, number in numbers.items() if number in self._past}

    def _valid(self, jobs: Sequence[Job], answer: _Answer) -> list[Job]:
        """Without those that wait for an attempt that a job has claimed already: they will never train.

        One that waits although it has claimed the attempt itself has begun since the queue was asked; unless the claim was
        seen before that: then it was put back into the queue. Clocks of two hosts, which may differ, are not compared.
        """
        if not any(_word(job) in _NOT_BEGUN for job in jobs):
            return list(jobs)
        claimer = _claimer(comment := jobs[0].comment)
        if claimer is None:
            return list(jobs)
        is_known = self._claimed_s.setdefault(comment, time.monotonic()) < answer.asked_s
        may_have_begun = () if is_known else (claimer,) if claimer else [job.id for job in jobs]
        return [job for job in jobs if _word(job) not in _NOT_BEGUN or job.id in may_have_begun]

    def _counting(self, jobs: Sequence[Job]) -> Job | None:
        """Of the jobs for one attempt, the one that counts; of several that are over, the one that had the attempt."""
        found = _one_of(jobs)
        if found is None or len(jobs) == 1 or _phase(found) is not Phase.EXITED:
            return found
        claimer = _claimer(found.comment)
        return next((job for job in jobs if job.id == claimer), found)

    def _end_copies(self, job: Job | None, jobs: list[Job]) -> None:
        """A submission whose answer was lost may have been repeated: the copy would end by itself, but not before it ran.

        One that has begun since the queue was asked goes on: it may be the one that trains.
        """
        counting = job and job.id
        if copies := [other.id for other in jobs if other.id != counting and _word(other) in _NOT_BEGUN]:
            try:
                self._queue.withdraw(copies)
            except EngineUnreachable:
                return

    def _waited_s(self, job: Job) -> float:
        return self._now() - job.submitted_s if job.submitted_s else 0.0

    def _lacks_files(self, handle: Handle, job: Job) -> bool:
        """Whether the end of a training on another host may not be seen here yet. A node that failed writes nothing more."""
        if not job.node or job.node == socket.gethostname() or job.ended_s is None or _word(job) in _NODE_GONE:
            return False
        # By when its end was first seen here: the controller's clock may be another.
        is_recent = time.monotonic() - self._ended_s.setdefault(job.id, time.monotonic()) < FILES_GRACE_S
        return is_recent and ending.find(RunPaths(handle.run_folder).exit, handle.attempt) is None

    def is_alive(self, handle: Handle) -> bool | None:
        """Only of a process of this host; on a node, nothing can be seen from here."""
        if handle.process is not None and self._is_here(handle):
            return handle.process.is_alive()
        return None

    def output(self, handle: Handle) -> str:
        try:
            with open(output_of(handle.run_folder), "rb") as file:
                file.seek(0, 2)
                file.seek(max(0, file.tell() - _SHOWN_BYTES))
                return file.read().decode("utf-8", "replace")
        except OSError:
            return ""

    def attach_command(self, handle: Handle) -> list[str]:
        return self._sessions.attach_command(handle.name)

    # Ending.

    def cancel(self, handle: Handle, grace_s: float, show_s: float = 0.0) -> bool:
        """The cluster asks the job's processes to stop, and kills them after its own KillWait, usually 30 s; this waits for
        ``grace_s`` and a little."""
        is_over = self._cancel_job(handle, grace_s)
        if self._is_here(handle):
            is_over = end_tree([handle.process] if handle.process else [], handle.cookie, grace_s) and is_over
        if is_over:
            self._sessions.close(handle.run_folder, handle.attempt, show_s)
        return is_over

    def _cancel_job(self, handle: Handle, grace_s: float) -> bool:
        deadline = time.monotonic() + grace_s + 2 * CANCEL_LOOK_S
        asked: set[str] = set()
        pause_s = CANCEL_LOOK_S
        while True:
            if self._ends_by_itself(handle):
                return True
            try:
                left = [job for job in self._jobs_of(handle, pause_s) if _phase(job) not in (Phase.EXITED, Phase.LOST)]
                if not left:
                    return True
                if new := [job.id for job in left if job.id not in asked]:
                    self._queue.cancel(new)
                    asked |= set(new)
            except EngineUnreachable:
                pass  # nothing is known; the caller tries again
            if time.monotonic() > deadline:
                return False
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, ASK_EVERY_S)  # a job may take as long to end as the cluster's KillWait

    def _jobs_of(self, handle: Handle, oldest_s: float) -> list[Job]:
        return self._ask(oldest_s).jobs.get(comment_of(handle.run_folder, handle.attempt), [])

    def _ends_by_itself(self, handle: Handle) -> bool:
        """Whether the keeper has recorded the end, the last thing that it does: a job that has done its work shall not count
        as cancelled in the cluster's books."""
        return ending.find(RunPaths(handle.run_folder).exit, handle.attempt) is not None

    def _is_here(self, handle: Handle) -> bool:
        holder = liveness.find_holder(RunPaths(handle.run_folder).pid)
        return holder is not None and holder.attempt == handle.attempt and holder.is_local and bool(with_cookie(handle.cookie))

    # The one question.

    def _ask(self, oldest_s: float) -> _Answer:
        """The jobs of this user.

        Args:
            oldest_s: an earlier answer of at most this age will do; so will an earlier silence.

        Raises:
            EngineUnreachable: there is no answer.
        """
        with self._asking:
            if self._answer.age_s > oldest_s:
                self._answer = self._asked()
            if self._answer.silence:
                raise EngineUnreachable(self._answer.silence)
            return self._answer

    def _asked(self) -> _Answer:
        asked_s = time.monotonic()
        try:
            return _Answer(_by_comment(self._queue.jobs()), time.monotonic(), asked_s=asked_s)
        except EngineUnreachable as error:
            return _Answer({}, time.monotonic(), str(error))

    def _remember(self, job: Job) -> None:
        """Adds a new job to the last answer, so that a thousand launches do not ask a thousand times."""
        with self._asking:
            known = self._answer.jobs.setdefault(job.comment, [])
            if job.id not in {other.id for other in known}:  # a call of squeue that was under way may have seen it already
                known.append(job)

    def _forget_answer(self) -> None:
        with self._asking:
            self._answer = replace(self._answer, at_s=float("-inf"))

    def _show(
        self, handles: Iterable[Handle], jobs: Mapping[Handle, Job | None], ranks: Mapping[str, int], silence: str
    ) -> None:
        """Keeps ``queue.json`` up to date, for the sessions and for `flowrl status`; one file for all jobs."""
        by_experiment: dict[Path, list[Handle]] = {}
        for handle in handles:
            by_experiment.setdefault(handle.run_folder.parent.parent, []).append(handle)
        for experiment, ours in by_experiment.items():
            path = ExperimentPaths(experiment).queue
            before = self._shown.get(path) or queue.find(path) or QueueRecord()
            if silence:
                record = replace(before, silence=silence, silent_since=before.silent_since or _utc(self._now()))
            else:
                fresh = {handle.run_folder.name: self._place(handle, jobs[handle], ranks) for handle in ours}
                # Sometimes one run alone is asked about; the others keep their places as long as they have a folder.
                runs = ExperimentPaths(experiment).training_runs
                others = (place for place in before.places if place.run not in fresh and (runs / place.run).exists())
                record = QueueRecord(before.asked_at, "", (*others, *fresh.values()))
            if record != before or path not in self._shown:
                record = record if silence else replace(record, asked_at=_utc(self._now()))
                self._write(path, record)

    def _write(self, path: Path, record: QueueRecord) -> None:
        try:
            queue.write(path, record)
            self._shown[path] = record
        except OSError:  # a full disk; it is only for people who look
            return

    def _place(self, handle: Handle, job: Job | None, ranks: Mapping[str, int]) -> Place:
        run, attempt = handle.run_folder.name, handle.attempt
        if job is None:
            return Place(run, attempt, reason="" if _receipt(handle) is None else "the cluster has forgotten it")
        place = ranks.get(job.id)
        expected = _utc(job.expected_s) if place and job.expected_s else ""
        return Place(run, attempt, job.id, _word(job), _in_words(job), job.node, place, len(ranks) if place else 0, expected)


def _sample() -> LaunchSpec:
    folder = Path("/")
    return LaunchSpec(folder, folder, "check", None, 0, ("true",), folder)


def _by_comment(jobs: Iterable[Job]) -> dict[str, list[Job]]:
    found: dict[str, list[Job]] = {}
    for job in jobs:
        if attempt_of(job.comment):
            found.setdefault(job.comment, []).append(job)
    return found


def _handle(job: Job) -> Handle:
    folder, attempt = attempt_of(job.comment) or (Path(), 0)
    return Handle(job.comment, job.name, folder, attempt)


def _one_of(jobs: Sequence[Job]) -> Job | None:
    """Of the jobs for one attempt, the one that counts: that which runs, then the oldest that waits, then the last to end."""
    running = [job for job in jobs if _phase(job) in (Phase.STARTING, Phase.RUNNING)]
    waiting = [job for job in jobs if _phase(job) in (Phase.QUEUED, Phase.UNKNOWN)]
    if under_way := running or waiting:
        return min(under_way, key=lambda job: int(job.id))
    started = [job for job in jobs if job.node]
    return max(started or jobs, key=lambda job: (job.ended_s or 0.0, int(job.id)), default=None)


def _is_older(job: Job, handle: Handle) -> bool:
    """Whether it is a job of an earlier attempt at the same run, and not over."""
    folder, attempt = attempt_of(job.comment) or (None, 0)
    return folder == handle.run_folder and attempt < handle.attempt and _phase(job) in UNDER_WAY


def _word(job: Job) -> str:
    """The state in one word: ``CANCELLED by 1000`` is one of them."""
    return job.state.split()[0].rstrip("+") if job.state else ""


def _phase(job: Job) -> Phase:
    word = _word(job)
    if word in _QUEUED:
        return Phase.QUEUED
    if word in _RUNNING:
        return Phase.RUNNING
    if word == "CONFIGURING":
        return Phase.STARTING
    return Phase.EXITED if word in _ENDED else Phase.UNKNOWN


def _in_words(job: Job) -> str:
    """Why it waits, or how it ended."""
    return _IN_WORDS.get(_word(job)) or ("" if job.reason in ("NonZeroExitCode", "RaisedSignal") else job.reason)


def _ranks(known: Mapping[str, list[Job]]) -> dict[str, int]:
    """The places of the jobs that wait, by their numbers, from 1."""
    waiting = [job for jobs in known.values() for job in jobs if _word(job) in _NOT_BEGUN]
    waiting.sort(key=lambda job: (-job.priority, int(job.id)))
    return {job.id: place for place, job in enumerate(waiting, 1)}


def _limit_s(most: str) -> float | None:
    """A time limit as sinfo prints it; None without one, or for what cannot be read."""
    try:
        return seconds_of(most)
    except BadInput:
        return None


def _claimer(comment: str) -> str | None:
    """The number of the job that has claimed an attempt; empty if it is being written; None if none has, or that cannot be
    read."""
    folder, attempt = attempt_of(comment) or (Path(), 0)
    try:
        return next(iter(claim_of(folder, attempt).read_text().split()), "")
    except (OSError, UnicodeDecodeError):
        return None


def _was_put_back(job: Job, jobs: Sequence[Job]) -> bool:
    """Whether the job that had an attempt waits again: then ``job``, a copy that is over, does not say how it ended."""
    waiting = {other.id for other in jobs if other.id != job.id and _word(other) in _NOT_BEGUN}
    return bool(waiting) and _claimer(job.comment) in waiting


def _is_of_deleted_run(job: Job) -> bool:
    """Whether a job that is over has left nothing in its run's folder: that was deleted, and made anew."""
    handle = _handle(job)
    return _phase(job) is Phase.EXITED and _claimer(job.comment) is None and _receipt(handle) is None


def _is_script_of(handle: Handle, comment: str) -> bool:
    """Whether the run's batch script is that of this attempt."""
    try:
        return f"--comment={comment}\n" in batch_file(handle.run_folder).read_text(errors="replace")
    except OSError:
        return False


def _receipt(handle: Handle) -> str | None:
    """The number of the job that the cluster took for this attempt; None if that is not known."""
    try:
        data = read_json(job_receipt(handle.run_folder))
        return str(data["job"]) if data["attempt"] == handle.attempt else None
    except (OSError, BadInput, KeyError, TypeError, json.JSONDecodeError):
        return None


def _write_receipt(handle: Handle, number: str) -> None:
    try:
        if handle.run_folder.exists():  # it may have been merged, and be gone
            write_json(job_receipt(handle.run_folder), {"attempt": handle.attempt, "job": number})
    except OSError:  # a full disk; the queue knows the job, too
        return


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
