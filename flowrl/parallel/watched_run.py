"""One attempt under way, and how it ends."""

from __future__ import annotations

import signal
import time
from concurrent.futures import Executor, Future
from datetime import UTC, datetime
from pathlib import Path

from flowrl.parallel.events import RunDied, RunEnded, RunStopped
from flowrl.parallel.evidence import RunState, Sighting, judge, look
from flowrl.parallel.heartbeats import Pulse
from flowrl.parallel.launchers.base import NOT_ASKED, EngineStatus, Fault, Handle, Launcher, Phase
from flowrl.paths import RunPaths
from flowrl.records import ending, heartbeat, run_record
from flowrl.records import result as run_result
from flowrl.records.ending import Ending
from flowrl.records.result import NO_PROGRESS, OUT_OF_MEMORY, Outcome, RunResult

ENDING_GRACE_S = 10.0
"""Seconds that a run's remaining processes get to end by themselves, once its result or its end is known."""
STOP_GRACE_S = 10.0
ORPHAN_GRACE_S = 30.0
"""Seconds that a training without its session gets to finish its update and write a checkpoint."""
LEFTOVER_GRACE_S = 2.0
_SHOWN_LINES = 8
_SHOWN_CHARACTERS = 1500


class WatchedRun:
    """An attempt that was launched. Times are monotonic.

    Args:
        run: its folder, as this process knows it.
        executor: where the launcher waits for a process tree to end, outside the scheduler's loop.
        stall_timeout_s: seconds without a heartbeat after which it counts as hanging; 0: ten times its usual update.
        engine: the engine's latest status.
        show_failed_s: seconds for which people can look at the session of a run that has failed.
    """

    def __init__(
        self,
        skill_name: str,
        run: RunPaths,
        handle: Handle,
        launcher: Launcher,
        executor: Executor,
        stall_timeout_s: float = 0.0,
        engine: EngineStatus = NOT_ASKED,
        show_failed_s: float = 0.0,
    ):
        self.handle = handle
        self._skill_name, self._attempt = skill_name, handle.attempt
        self._run = run
        self._launcher = launcher
        self._executor = executor
        self._stall_timeout_s, self._show_failed_s = stall_timeout_s, show_failed_s
        self._launched_s = time.monotonic()
        self._remains_since_s: float | None = None
        self._killed_since_s: float | None = None
        self._pulse = Pulse()
        self._end: Future[bool] | None = None
        self._why_ended = ""
        self._is_hopeless = False
        self.hear(engine)

    def hear(self, engine: EngineStatus) -> None:
        """Takes the engine's status. A run that waits in a queue is not silent: it cannot write a heartbeat yet."""
        self._engine = engine
        if engine.phase is Phase.QUEUED:
            self._pulse = Pulse()

    def look(self) -> RunEnded | RunDied | RunStopped | None:
        """The event that ends it, None while it goes on. Must not be called again after it has returned an event."""
        if self._end is not None:
            return self._look_at_end(self._end)
        if self._engine.fault is Fault.HOPELESS:  # it waits in the queue still, and would start as soon as it can
            self._is_hopeless = True
            self._begin_end(LEFTOVER_GRACE_S, self._engine.reason, self._show_failed_s)
            return None
        seen = look(self._sighting(), self._launcher.is_alive)
        match judge(seen):
            case RunState.FINISHED:
                self._clear(has_failed=seen.result.outcome is Outcome.FAILED)
                return self._ended(seen.result)
            case RunState.DEAD:
                return None if self._may_have_given_way() else self._died()
            case RunState.ORPHANED:
                self._begin_end(ORPHAN_GRACE_S, f"its session {self.handle.name} was ended from outside")
            case RunState.STALLED:
                silent_s = self._pulse.silent_s
                self._begin_end(STOP_GRACE_S, f"its heartbeat has not changed for {silent_s:.0f} s (see --stall_timeout)")
            case RunState.ENDING:
                self._wait_for_remains()
            case _:
                self._remains_since_s = None
        return None

    def stop(self) -> None:
        """Ends the run; returns once no process of it is left, or it has survived even a kill."""
        self._launcher.cancel(self.handle, STOP_GRACE_S)

    def after_stop(self) -> RunStopped | RunEnded:
        """The outcome of :meth:`stop`: a run that had just ended by itself counts as ended."""
        result = self._result()
        return self._ended(result) if result and result.is_its_own else RunStopped(self._skill_name, self._attempt)

    def _sighting(self) -> Sighting:
        if self._pulse.is_due():
            self._pulse.listen(heartbeat.find(self._run.heartbeat, self._attempt))
        return Sighting(
            self._run,
            self.handle,
            self._engine.phase,
            since_launch_s=time.monotonic() - self._launched_s,
            stalled=self._pulse.is_stalled(self._stall_timeout_s),
        )

    def _wait_for_remains(self) -> None:
        now_s = time.monotonic()
        self._remains_since_s = self._remains_since_s or now_s
        if now_s - self._remains_since_s > ENDING_GRACE_S:
            self._launcher.cancel(self.handle, LEFTOVER_GRACE_S)

    def _may_have_given_way(self) -> bool:
        """Whether the engine may be about to say that it ended the run: a job that gives way to another is killed a moment
        before the engine's books say so. Of a run of this machine, no engine but tmux could say anything."""
        how = ending.find(self._run.exit, self._attempt)
        was_killed = how is not None and how.signal in (signal.SIGTERM, signal.SIGKILL) and not how.out_of_memory
        if self.handle.process is not None or not was_killed or self._engine.phase in (Phase.EXITED, Phase.LOST):
            return False
        self._killed_since_s = self._killed_since_s or time.monotonic()
        return time.monotonic() - self._killed_since_s <= ENDING_GRACE_S

    def _begin_end(self, grace_s: float, why: str, show_s: float = 0.0) -> None:
        """Asks the run to stop, and gives it ``grace_s`` to write a checkpoint; does not wait."""
        self._why_ended = why
        self._end = self._executor.submit(self._launcher.cancel, self.handle, grace_s, show_s)

    def _look_at_end(self, end: Future[bool]) -> RunEnded | RunDied | None:
        """Checks a run that we are ending. Its slot is free once no process of it is left; a result that it left counts."""
        if not end.done():
            return None
        if not end.result():
            self._begin_end(LEFTOVER_GRACE_S, self._why_ended, self._show_failed_s if self._is_hopeless else 0.0)
            return None
        if result := self._result():
            return self._ended(result)
        if self._is_hopeless:
            return self._given_up()
        error = f"attempt {self._attempt} was stopped: {self._why_ended}; it continues from its last checkpoint"
        return RunDied(self._skill_name, self._attempt, error)

    def _given_up(self) -> RunEnded:
        """The engine could never have started it, and has it no more."""
        error = f"attempt {self._attempt} was given up: {self._why_ended}"
        return RunEnded(self._skill_name, self._attempt, outcome=Outcome.FAILED, error=error, hopeless=True)

    def _died(self) -> RunDied | RunStopped:
        engine = self._launcher.poll([self.handle]).get(self.handle.engine_id, self._engine)
        how = ending.find(self._run.exit, self._attempt)
        if self._ended_for_the_engine(engine, how):
            self._clear()
            return RunStopped(self._skill_name, self._attempt)
        words = _last_lines(_read_text(self._run.log)) or _last_lines(self._launcher.output(self.handle))
        self._clear(has_failed=True)
        how = how or Ending(self._attempt, engine.code, engine.signal)
        said = f" ({engine.reason})" if engine.reason else ""
        error = f"attempt {self._attempt} {how}{said} without a result; see {self._run.log}"
        too_many = _num_envs(self._run) if how.out_of_memory or engine.fault is Fault.MEMORY else None
        return RunDied(self._skill_name, self._attempt, f"{error}\n{words}" if words else error, too_many)

    def _ended_for_the_engine(self, engine: EngineStatus, how: Ending | None) -> bool:
        """Whether the engine ended it, so that it goes on elsewhere, and spends no retry.

        Only if it has made progress: a job whose time is too short for even one checkpoint would be started for ever.
        """
        is_asked = engine.fault is Fault.ENGINE or (how is not None and how.asked_to_stop)
        record = run_record.find(self._run.run_json)
        return is_asked and record is not None and record.has_got_further(self._run)

    def _ended(self, result: RunResult) -> RunEnded:
        return RunEnded(
            self._skill_name,
            self._attempt,
            outcome=result.outcome,
            error=result.error,
            frames=result.frames,
            goal_reached=result.goal_reached,
            success_rate=result.success_rate,
            random_success_rate=result.random_success_rate,
            frames_per_success=result.frames_per_success,
            achievements=result.achievements,
            ended_at=_written_at(self._run.result),
            too_many_envs=_num_envs(self._run) if result.reason == OUT_OF_MEMORY else None,
            hopeless=result.reason == NO_PROGRESS,
        )

    def _result(self) -> RunResult | None:
        return run_result.find(self._run.result, self._attempt)

    def _clear(self, has_failed: bool = False) -> None:
        """Ends processes that an ended run may have left behind, and lets the engine forget it."""
        self._launcher.cancel(self.handle, LEFTOVER_GRACE_S, self._show_failed_s if has_failed else 0.0)


def _num_envs(run: RunPaths) -> int | None:
    """The number of environments of the latest attempt, None if its record is gone."""
    record = run_record.find(run.run_json)
    return record.settings.num_envs if record else None


def _written_at(path: Path) -> datetime | None:
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except OSError:
        return None


def _read_text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _last_lines(text: str) -> str:
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    return "\n".join(lines[-_SHOWN_LINES:])[-_SHOWN_CHARACTERS:]
