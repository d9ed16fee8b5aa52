"""The evidence about a run, and the one place that interprets it.

Most reliable first: the result file, the run's kernel lock, its process, the engine's status. "Cannot tell" is a
separate answer, and never a reason to start a second copy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from flowrl.parallel.launchers.base import Handle, Phase
from flowrl.paths import RunPaths
from flowrl.records import ending, liveness
from flowrl.records import result as run_result
from flowrl.records.result import RunResult

LAUNCH_GRACE_S = 5.0
"""Seconds after a launch within which one of the run's processes must appear."""


class RunState(StrEnum):
    STARTING = "starting"  # launched, but has not taken its lock yet
    RUNNING = "running"
    STALLED = "stalled"  # alive, but has made no progress for too long
    ORPHANED = "orphaned"  # alive, but its session is gone: nobody can attach to it
    ENDING = "ending"  # its result or its end is known, but one of its processes is still alive
    FINISHED = "finished"  # a result of the right attempt, and no process is left
    DEAD = "dead"  # ended without a result
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Evidence:
    """What was seen of one attempt. None stands for "cannot tell", or for "not there (yet)".

    result: the result of this attempt. lock_held: of run.lock, once this attempt has taken it on this host; None too where
    the file system has no locks. process_alive: the training process; False too once its keeper has recorded how it ended.
    keeper_alive: the process that the engine started, if that is another one: it records how the training ended.
    cookie_alive: any process of the attempt, if no pid is known. stalled: its heartbeat has not changed for too long.
    engine: the engine's status.
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
    if seen.lock_held is False:  # it held the lock, and no longer does
        return RunState.ENDING if seen.process_alive else dead
    if seen.process_alive:
        return _alive(seen, RunState.STARTING)
    if seen.process_alive is False:
        return dead
    return _without_a_process(seen)


def _alive(seen: Evidence, state: RunState) -> RunState:
    if seen.engine in (Phase.LOST, Phase.EXITED):  # its session, or its keeper, ended before it
        return RunState.ORPHANED
    return RunState.STALLED if seen.stalled else state


def _without_a_process(seen: Evidence) -> RunState:
    if seen.engine is Phase.QUEUED:  # perhaps for hours, without a sign of life
        return RunState.STARTING
    if seen.engine in (Phase.STARTING, Phase.RUNNING) or seen.cookie_alive:
        return _alive(seen, RunState.STARTING)
    if seen.engine in (Phase.EXITED, Phase.LOST):
        return RunState.DEAD
    has_ended = seen.cookie_alive is False and seen.since_launch_s >= LAUNCH_GRACE_S
    return RunState.DEAD if has_ended else RunState.UNKNOWN


@dataclass(frozen=True)
class Sighting:
    """Where to look for one attempt, and what is known already: the engine's latest status, and its heartbeat.

    ``run`` is the folder as this process knows it, ``handle.run_folder`` is absolute.
    """

    run: RunPaths
    handle: Handle
    engine: Phase = Phase.UNKNOWN
    since_launch_s: float = 0.0
    stalled: bool = False


def look(at: Sighting, is_alive: Callable[[Handle], bool | None]) -> Evidence:
    """Gathers the evidence of one attempt: cheap (files and one process) unless nothing else can tell.

    Args:
        is_alive: the launcher's method.
    """
    started = at.handle.process
    recorded = liveness.find_process(at.run.pid, at.handle.attempt)
    # The lock is probed only once the attempt holds it: a probe must not keep the attempt from taking it.
    lock_held = liveness.held(at.run.lock) if recorded else None
    process_alive = recorded.is_alive() if recorded else is_alive(at.handle) if started else None
    has_ended = ending.find(at.run.exit, at.handle.attempt) is not None
    if process_alive is None and has_ended:
        process_alive = False
    has_keeper = recorded is not None and started is not None and started.pid != recorded.pid
    keeper_alive = is_alive(at.handle) if has_keeper and not process_alive else None
    if not started and not recorded and at.engine in (Phase.STARTING, Phase.RUNNING):  # elsewhere, as far as it is known
        keeper_alive = not has_ended
    only_cookie_tells = not recorded and not started and at.engine in (Phase.UNKNOWN, Phase.LOST)
    cookie_alive = is_alive(at.handle) if only_cookie_tells else None
    # The result is read last: it is written before its process ends, so it is there if the process is gone.
    result = run_result.find(at.run.result, at.handle.attempt)
    return Evidence(result, lock_held, process_alive, keeper_alive, cookie_alive, at.stalled, at.engine, at.since_launch_s)
