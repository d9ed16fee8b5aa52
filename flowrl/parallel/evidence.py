"""What is known about a run, and the one place that says what it means.

The order of truth: the result file, the run's kernel lock, its process, the engine's word. "I cannot see it" is an
answer of its own, and never a reason to start a second copy.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from flowrl.parallel.launchers.base import EngineStatus, Phase
from flowrl.parallel.processes import with_cookie
from flowrl.paths import RunPaths
from flowrl.records import liveness
from flowrl.records import result as run_result
from flowrl.records.process_id import ProcessId
from flowrl.records.result import RunResult

LAUNCH_GRACE_S = 5.0
INVISIBLE_LIMIT_S = 120.0


class RunState(StrEnum):
    STARTING = "starting"  # launched, and has not yet taken its lock
    RUNNING = "running"
    STALLED = "stalled"  # it lives, and has not got on with its work for too long
    ORPHANED = "orphaned"  # it lives, but its session is gone: nobody can look at it any more
    ENDING = "ending"  # its result or its end is known, but some process of it still lives
    FINISHED = "finished"  # a result of the right attempt, and nothing runs any more
    DEAD = "dead"  # ended without a result
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Evidence:
    """What was seen of one attempt. None stands for "cannot tell", or for "not there (yet)".

    result: the result of this very attempt. lock_held: of run.lock, once this attempt has taken it.
    process_alive: the training process. keeper_alive: the one that the engine started, where that is another, which
    records how the training ended. cookie_alive: any process that carries the run's cookie.
    stalled: its heartbeat has been the same for too long.
    """

    result: RunResult | None = None
    lock_held: bool | None = None
    process_alive: bool | None = None
    keeper_alive: bool | None = None
    cookie_alive: bool | None = None
    stalled: bool = False
    engine: Phase = Phase.UNKNOWN
    since_launch_s: float = 0.0


def judge(seen: Evidence) -> RunState:
    """The state of a run, from the evidence alone."""
    alive = seen.lock_held or seen.process_alive
    dead = RunState.ENDING if seen.keeper_alive else RunState.DEAD
    if seen.result is not None:
        return RunState.ENDING if alive or seen.keeper_alive else RunState.FINISHED
    if seen.lock_held:
        return RunState.ENDING if seen.process_alive is False else _alive(seen, RunState.RUNNING)
    if seen.lock_held is False:  # it had the lock, and has it no more
        return RunState.ENDING if seen.process_alive else dead
    if seen.process_alive:
        return _alive(seen, RunState.STARTING)
    if seen.process_alive is False:
        return dead
    return _without_a_process(seen)


def _alive(seen: Evidence, state: RunState) -> RunState:
    if seen.engine in (Phase.LOST, Phase.EXITED):  # its pane, or what kept it there, has ended before it
        return RunState.ORPHANED
    return RunState.STALLED if seen.stalled else state


def _without_a_process(seen: Evidence) -> RunState:
    if seen.engine in (Phase.QUEUED, Phase.STARTING, Phase.RUNNING) or seen.cookie_alive:
        return _alive(seen, RunState.STARTING)
    if seen.engine in (Phase.EXITED, Phase.LOST):
        return RunState.DEAD
    patience_s = LAUNCH_GRACE_S if seen.cookie_alive is False else INVISIBLE_LIMIT_S
    return RunState.UNKNOWN if seen.since_launch_s < patience_s else RunState.DEAD


@dataclass(frozen=True)
class Sighting:
    """Where to look for one attempt. ``started``: the process that the engine started, where it told.

    ``stalled``: what listening to its heartbeat has come to.
    """

    run: RunPaths
    attempt: int
    cookie: str
    started: ProcessId | None = None
    since_launch_s: float = 0.0
    stalled: bool = False


def look(at: Sighting, engine: EngineStatus | None = None) -> Evidence:
    """Gathers the evidence of one attempt: cheap (files and one process) unless nothing else can tell."""
    recorded = liveness.find_process(at.run.pid, at.attempt)
    process = recorded or at.started
    # The lock is only touched once the attempt holds it: a probe must not be in the way of its being taken.
    lock_held = liveness.is_held(at.run.lock) if recorded else None
    process_alive = process.is_alive() if process else None
    has_keeper = recorded is not None and at.started is not None and at.started.pid != recorded.pid
    keeper_alive = at.started.is_alive() if has_keeper and not process_alive else None
    phase = engine.phase if engine else Phase.UNKNOWN
    in_the_dark = process is None and phase in (Phase.UNKNOWN, Phase.LOST)
    cookie_alive = bool(with_cookie(at.cookie)) if in_the_dark else None
    # The result is looked for last: it is written before its process ends, so it is there if the process is gone.
    result = run_result.find(at.run.result, at.attempt)
    return Evidence(
        result, lock_held, process_alive, keeper_alive, cookie_alive, at.stalled, phase, at.since_launch_s
    )
