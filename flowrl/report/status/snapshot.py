"""An experiment at one moment, read from its folder: what ``flowrl status --json`` prints, and what its screen shows.

``python -m flowrl.report.status.snapshot`` writes the JSON Schema that is shipped with the package.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from flowrl.errors import ALL_COMPLETED, SOMETHING_FAILED, BadInput
from flowrl.files import read_json, write_whole
from flowrl.paths import ExperimentPaths
from flowrl.records import liveness, metrics, queue, state_file
from flowrl.records.learned import counts_as_learned, num_learned
from flowrl.records.queue import QueueRecord
from flowrl.records.scheduler_state import USELESS, RehearsalEntry, SchedulerState, SkillEntry, Stage, Status
from flowrl.report.status.estimates import Pace, Work, seconds_left, seconds_left_of_all
from flowrl.validation import schema_of

VERSION = 1
_RATES = ("test_success_rate", "success_rate", "estimate")
"""Of a line of metrics.jsonl, the best one first."""
SCHEMA_FILE = Path(__file__).with_name("status.schema.json")


class Job(BaseModel):
    """A training's job on a cluster, as the scheduler last saw it in the queue."""

    model_config = ConfigDict(extra="forbid")

    number: str | None = Field(None, description="The cluster's; null until it has taken the job.")
    state: str = Field("", description="As the cluster says it: PENDING, RUNNING, ...")
    reason: str = Field("", description="The cluster's word for why it waits; or how it ended.")
    node: str = Field("", description="Where it runs; empty while it waits.")
    place: int | None = Field(None, description="Among this user's waiting jobs, from 1; null if it does not wait.")
    waiting: int = Field(0, description="How many these are.")
    expected_at: datetime | None = Field(None, description="When the cluster expects to start it, if it says so.")
    waits: bool = Field(False, description="Whether it has not begun.")
    in_words: str = Field("", description="All of this, as the job's session says it.")


class Cluster(BaseModel):
    """The cluster that the experiment's jobs are sent to, as the scheduler last saw it."""

    model_config = ConfigDict(extra="forbid")

    asked_at: datetime | None = Field(None, description="When it last said something new about these jobs.")
    silence: str | None = Field(None, description="Why it does not answer; null if it does.")
    silent_since: datetime | None = Field(None, description="When it first did not answer; null if it answers.")
    silence_in_words: str | None = Field(None, description="Both, as a job's session says it.")


class Run(BaseModel):
    """A skill or a rehearsal: what is known of it, and of its training while it runs."""

    model_config = ConfigDict(extra="forbid")

    skill_name: str
    status: Status
    stage: Stage | None = Field(None, description="Of a running one.")
    depth: int = Field(0, ge=0, description="Skills on the longest way through its dependencies; 0 without any.")
    dependencies: list[str] = Field(default_factory=list)
    expert_idx: int | None = None
    attempt: int = 0
    slot: int | None = None
    started_at: datetime | None = Field(None, description="Start of the newest attempt.")
    completed_at: datetime | None = Field(None, description="When its final status was reached.")
    retry_at: datetime | None = Field(None, description="It is not tried again before this time.")
    frames: int | None = Field(None, description="Environment steps so far.")
    frames_wanted: int | None = Field(None, description="The most that it is trained.")
    frames_per_s: float | None = None
    success_rate: float | None = None
    is_estimate: bool = Field(False, description="The rate is that of a run under way, not yet of fresh episodes.")
    random_success_rate: float | None = None
    achievements: float | None = Field(None, description="Of a rehearsal: unlocked by its latest episodes, on average.")
    goal_reached: bool | None = None
    never_done: bool = False
    minutes: float | None = None
    seconds_left: float | None = Field(None, description="An estimate.")
    error: str | None = None
    blocked_by: list[str] = Field(default_factory=list)
    tmux_session: str | None = None
    job: Job | None = Field(None, description="Of a running one on a cluster; null on this machine.")
    log: str | None = Field(None, description="Its training.log, relative to the experiment's folder.")

    @property
    def is_queued(self) -> bool:
        """Whether it is under way only in so far as its job waits in a cluster's queue."""
        return self.job is not None and self.job.waits


class Snapshot(BaseModel):
    """The whole experiment."""

    model_config = ConfigDict(extra="forbid")

    version: Literal[1] = VERSION
    graph_path: str
    env_name: str | None = None
    looked_at: datetime
    updated_at: datetime | None = Field(None, description="When the scheduler last changed its state.")
    is_scheduled: bool = Field(False, description="Whether a scheduler of this host works on the folder.")
    max_parallel: int = 1
    max_nodes: int | None = Field(None, description="Most skills that the experiment is to have.")
    counts: dict[str, int] = Field(default_factory=dict, description="Skills by status.")
    learned: int = Field(0, description="Completed skills that reached their goal, where chance does not.")
    learned_together: int | None = Field(
        None, description="Skills that flowrl evaluate found learned last, with the library as a whole; null without any."
    )
    frames: int = Field(0, description="Of all skills and rehearsals, those under way included.")
    seconds_left: float | None = Field(None, description="Until all skills known so far are done: an estimate.")
    skills: list[Run] = Field(default_factory=list)
    rehearsals: list[Run] = Field(default_factory=list)
    proposer: dict[str, Any] = Field(default_factory=dict)
    cluster: Cluster | None = Field(None, description="Null if the experiment has no jobs on a cluster.")
    remarks: list[str] = Field(default_factory=list, description="Files that could not be read, and what was done.")

    @property
    def runs(self) -> list[Run]:
        """All skills and rehearsals."""
        return [*self.skills, *self.rehearsals]

    @property
    def running(self) -> list[Run]:
        return [run for run in self.runs if run.status is Status.RUNNING]

    @property
    def waiting_jobs(self) -> list[Run]:
        """Those under way whose job waits in a cluster's queue, the next one first."""
        waiting = [run for run in self.running if run.is_queued]
        return sorted(waiting, key=lambda run: (run.job.place is None, run.job.place))

    @property
    def failures(self) -> list[Run]:
        """What did not come to its end: failed, cancelled or blocked."""
        return [run for run in self.runs if run.status in USELESS]

    @property
    def exit_code(self) -> int:
        """Of the command: 1 if anything failed."""
        return SOMETHING_FAILED if self.failures else ALL_COMPLETED

    def to_text(self) -> str:
        """Indented JSON."""
        return self.model_dump_json(indent=2) + "\n"


def take(paths: ExperimentPaths, now: datetime | None = None) -> Snapshot:
    """Reads an experiment's folder. Changes nothing in it.

    Raises:
        BadInput: it is no experiment, or its state cannot be read.
    """
    state, remark = state_file.load(paths)
    if state is None and not paths.config.exists():
        raise BadInput(f"{paths.root} holds no experiment: there is no {paths.state.name}; name the folder of one")
    state, now = state or SchedulerState(), now or datetime.now(UTC)
    settings, fault = _settings(paths)
    depths = depths_of({entry.skill_name: entry.dependencies for entry in state.skills})
    jobs = queue.find(paths.queue) if settings.get("launcher") == "slurm" else None
    skills = [_run(paths, entry, depths.get(entry.skill_name, 0), jobs) for entry in state.skills]
    rehearsals = [_run(paths, entry, 0, jobs) for entry in state.rehearsals]
    total = _with_time_left([*skills, *rehearsals], state.max_parallel, settings.get("total_timesteps"))
    return Snapshot(
        graph_path=str(paths.root),
        env_name=settings.get("env_name"),
        looked_at=now,
        updated_at=state.updated_at if paths.state.exists() else None,
        is_scheduled=_is_scheduled(paths),
        max_parallel=state.max_parallel,
        max_nodes=settings.get("max_nodes"),
        counts=dict(Counter(str(run.status) for run in skills)),
        learned=sum(
            run.status is Status.COMPLETED and counts_as_learned(run.goal_reached, run.random_success_rate) for run in skills
        ),
        learned_together=_learned_together(paths),
        frames=sum(run.frames or 0 for run in (*skills, *rehearsals)),
        seconds_left=total,
        skills=skills,
        rehearsals=rehearsals,
        proposer=state.proposer,
        cluster=_cluster(jobs) if jobs else None,
        remarks=[text for text in (remark, fault) if text],
    )


def depths_of(dependencies: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """How deep each skill lies in the graph: one more than the deepest skill that it needs."""
    depths: dict[str, int] = {}
    try:
        for name in TopologicalSorter(dependencies).static_order():
            depths[name] = max((depths[needed] + 1 for needed in dependencies.get(name, ())), default=0)
    except CycleError:  # no scheduler writes such a state; a hand may
        return dict.fromkeys(dependencies, 0)
    return depths


def _run(paths: ExperimentPaths, entry: SkillEntry, depth: int, jobs: QueueRecord | None) -> Run:
    run = Run(
        skill_name=entry.skill_name,
        status=entry.status,
        stage=entry.stage if entry.status is Status.RUNNING else None,
        depth=depth,
        dependencies=entry.dependencies,
        expert_idx=entry.expert_idx,
        attempt=entry.attempt,
        slot=entry.slot,
        started_at=entry.started_at,
        completed_at=entry.completed_at,
        retry_at=entry.retry_at,
        frames=entry.frames,
        success_rate=entry.success_rate,
        random_success_rate=entry.random_success_rate,
        achievements=entry.achievements if isinstance(entry, RehearsalEntry) else None,
        goal_reached=entry.goal_reached,
        never_done=entry.never_done,
        minutes=entry.minutes,
        error=entry.error,
        blocked_by=entry.blocked_by,
        tmux_session=entry.tmux_session if entry.status is Status.RUNNING else None,
        job=_job(jobs, entry) if jobs and entry.status is Status.RUNNING else None,
        log=_log(paths, entry),
    )
    return run.model_copy(update=_under_way(paths, entry)) if entry.status is Status.RUNNING else run


def _job(jobs: QueueRecord, entry: SkillEntry) -> Job | None:
    """The job of a run under way; None once it is merged, and before the scheduler has asked for it."""
    if not entry.run_folder or entry.stage is Stage.MERGING:
        return None
    place = jobs.of(Path(entry.run_folder).name, entry.attempt)
    return place and Job(
        number=place.job or None,
        state=place.state,
        reason=place.reason,
        node=place.node,
        place=place.place,
        waiting=place.waiting,
        expected_at=_moment(place.expected_at),
        waits=place.waits,
        in_words=str(place),
    )


def _cluster(jobs: QueueRecord) -> Cluster:
    return Cluster(
        asked_at=_moment(jobs.asked_at),
        silence=jobs.silence or None,
        silent_since=_moment(jobs.silent_since),
        silence_in_words=jobs.silence_in_words or None,
    )


def _moment(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except (TypeError, ValueError):  # empty, or written by a hand
        return None


def _log(paths: ExperimentPaths, entry: SkillEntry) -> str | None:
    """Where the log is: with the run until it is merged, then with the skill."""
    places = [paths.root / entry.run_folder] if entry.run_folder else []
    if entry.is_rehearsal:
        places.append(paths.rehearsal_records(entry.skill_name))
    elif entry.expert_idx is not None:
        places.append(paths.skill_folder(entry.expert_idx, entry.skill_name))
    logs = (place / "training.log" for place in places)
    return next((str(log.relative_to(paths.root)) for log in logs if log.is_file()), None)


def _under_way(paths: ExperimentPaths, entry: SkillEntry) -> dict[str, Any]:
    """What a running training has reported last."""
    line = metrics.newest(paths.root / entry.run_folder / "metrics.jsonl") if entry.run_folder else None
    if line is None:
        return {"frames": None, "frames_wanted": entry.extra_timesteps}
    return {
        "frames": _number(line, "frames"),
        "frames_wanted": _number(line, "total_frames"),
        "frames_per_s": _number(line, "frames_per_s"),
        "success_rate": None if entry.never_done else _first(_number(line, name) for name in _RATES),
        "is_estimate": not entry.never_done,
        "achievements": _number(line, "achievements"),
    }


def _number(line: Mapping[str, Any], name: str) -> float | None:
    value = line.get(name)
    return value if isinstance(value, int | float) else None


def _first(values) -> float | None:
    return next((value for value in values if value is not None), None)


def _with_time_left(runs: Sequence[Run], slots: int, budget: int | None) -> float | None:
    """Fills in the time left for each run that is not over; returns that for all of them."""
    done = [run for run in runs if run.status is Status.COMPLETED and run.frames and not run.never_done]
    paces = [run.frames_per_s for run in runs if run.frames_per_s] or [
        run.frames / (60 * run.minutes) for run in done if run.minutes
    ]
    pace = Pace({run.skill_name: (run.depth, run.frames) for run in done}, sorted(paces), budget)
    works = {}
    for run in runs:
        if run.status in (Status.RUNNING, Status.WAITING):
            run.seconds_left = seconds_left(pace, run.depth, run.frames or 0, run.frames_wanted, run.frames_per_s)
            works[run.skill_name] = Work(run.seconds_left, run.status is Status.RUNNING, tuple(run.dependencies))
    return seconds_left_of_all(works, slots)


def _settings(paths: ExperimentPaths) -> tuple[dict[str, Any], str | None]:
    """config.json as it is, and a remark if it cannot be read."""
    try:
        found = read_json(paths.config)
    except FileNotFoundError:
        return {}, None
    except (OSError, BadInput) as error:
        return {}, f"{error}; its settings are left out here"
    return (found, None) if isinstance(found, dict) else ({}, f"{paths.config} holds no settings; they are left out here")


def _learned_together(paths: ExperimentPaths) -> int | None:
    """What the newest evaluation found; None where there is none, or none that can be read: the report says so."""
    try:
        found = read_json(paths.evaluation)
    except (OSError, BadInput):
        return None
    rows = found.get("skills") if isinstance(found, dict) else None
    return num_learned(row for row in rows if isinstance(row, dict)) if isinstance(rows, list) else None


def _is_scheduled(paths: ExperimentPaths) -> bool:
    try:
        return liveness.is_held(paths.scheduler_lock)
    except OSError:  # a folder that may only be read: nobody can schedule in it either
        return False


def schema_text() -> str:
    """The JSON Schema of what ``--json`` prints."""
    return schema_of(Snapshot, "flowrl status --json")


if __name__ == "__main__":
    write_whole(SCHEMA_FILE, schema_text())
