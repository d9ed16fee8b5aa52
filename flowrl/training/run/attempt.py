"""One attempt at a prepared run, as a process: what every kind of run does before and after it trains.

The outcome is always written in one place, here, in ``result.json``: ``completed``, ``failed`` with the reason, or
``cancelled`` when the user pressed Ctrl-C. A run that was asked to stop (SIGTERM) leaves a checkpoint and no result: it
is not over.
"""

from __future__ import annotations

import contextlib
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from flowrl.errors import BadInput, FlowrlError, NoRoom
from flowrl.files import append_line, why_no_room
from flowrl.paths import ExperimentPaths, RunPaths, given_path
from flowrl.records import result as result_file
from flowrl.records.heartbeat import Activity
from flowrl.records.result import OUT_OF_MEMORY, Outcome, RunResult
from flowrl.training.host import heap, process

if TYPE_CHECKING:
    from flowrl.tracking.trackers import Tracker
    from flowrl.training.run.specification import RunSpecification

_SHOWN_LINES = 6


@dataclass(frozen=True)
class Work:
    """What a kind of run does. Its functions import JAX, which must not be imported before `process.prepare`."""

    command: str
    """What starts it, for messages: ``python -m flowrl.training``."""
    read: Callable[[Path], RunSpecification]
    """Reads a run folder; raises BadInput if something does not fit."""
    train: Callable[[RunSpecification, Tracker, process.Lifetime], RunResult]
    """Trains to the end."""


def run_process(arguments: list[str], work: Work) -> NoReturn:
    """The whole process of one attempt."""
    heap.begin_with_large_pages()
    exit_code = 1
    try:
        exit_code = main(arguments, work)
    except BaseException as error:
        traceback.print_exc()
        exit_code = 130 if isinstance(error, KeyboardInterrupt) else 1
    process.leave(exit_code)


def main(arguments: list[str], work: Work) -> int:
    """Returns the exit code: 0 completed, 1 failed, 130 cancelled, 143 asked to stop; 2 and 3 as everywhere, 3 also if a
    newer attempt has begun."""
    try:
        paths = _run_paths(arguments, work)
        with process.Lifetime(paths, process.attempt(paths)) as lifetime:
            return _run(paths, lifetime, work)
    except FlowrlError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        if (why := why_no_room(error)) is None:
            raise
        print(f"error: {error.filename} cannot be written ({why}); free disk space and train it again", file=sys.stderr)
        return NoRoom.exit_code


def _run(paths: RunPaths, lifetime: process.Lifetime, work: Work) -> int:
    """Everything between taking the run's lock and releasing it."""
    try:
        process.prepare(paths)
        run = work.read(paths.folder)  # JAX is imported from here on, in the environment just prepared
    except KeyboardInterrupt:
        return _record(paths, lifetime, _cancelled(lifetime), 130)
    except FlowrlError as error:
        return _record(paths, lifetime, _result(lifetime, Outcome.FAILED, error=str(error)), 1)
    return _train(run, lifetime, work)


def _run_paths(arguments: list[str], work: Work) -> RunPaths:
    if len(arguments) != 1:
        raise BadInput(f"expected one argument, the run's folder: {work.command} RUN_FOLDER")
    try:
        return RunPaths(given_path(arguments[0], "RUN_FOLDER").resolve())
    except ValueError as error:
        raise BadInput(f"{error}; give a folder that the scheduler prepared under training_runs/") from None


def _train(run: RunSpecification, lifetime: process.Lifetime, work: Work) -> int:
    """Trains, and writes the outcome last."""
    from flowrl.tracking import trackers
    from flowrl.training.run.supervision import Stopped

    tracker = trackers.no_tracker()
    try:
        tracker = _tracker(run)
        result = work.train(run, tracker, lifetime)
        code = 0 if result.outcome is Outcome.COMPLETED else 1
    except KeyboardInterrupt:
        result, code = _cancelled(lifetime), 130
    except Stopped as stopped:
        _log(run.paths, str(stopped))
        tracker.finish({}, failed=True)
        return stopped.exit_code
    except process.Superseded:
        tracker.finish({}, failed=True)
        raise
    except Exception as error:
        _log(run.paths, traceback.format_exc())
        result, code = _failure(lifetime, error, run), 1
    values = asdict(result).items()
    numbers = {name: value for name, value in values if isinstance(value, (int, float)) and name != "attempt"}
    tracker.finish(numbers, failed=code != 0)
    return _record(run.paths, lifetime, result, code)


def _result(lifetime: process.Lifetime, outcome: Outcome, **fields: Any) -> RunResult:
    return RunResult(lifetime.attempt, outcome, lifetime.skill_name, **fields)


def _failure(lifetime: process.Lifetime, error: Exception, run: RunSpecification) -> RunResult:
    if not process.is_out_of_memory(error):
        return _result(lifetime, Outcome.FAILED, error=_with_last_lines(error))
    line = (
        f"out of memory while training {run.skill_name} with {run.settings.num_envs} environments ({_one_line(error)}); "
        "give a smaller --num_envs or --num_steps, or train fewer skills at a time"
    )
    return _result(lifetime, Outcome.FAILED, error=line, reason=OUT_OF_MEMORY)


def _cancelled(lifetime: process.Lifetime) -> RunResult:
    return _result(lifetime, Outcome.CANCELLED, error="cancelled by Ctrl-C in its pane")


def _record(paths: RunPaths, lifetime: process.Lifetime, result: RunResult, code: int) -> int:
    """Writes ``result.json``, the last thing that a run does, once there is room for it; returns the exit code.

    Raises:
        Superseded: a newer attempt has begun, so that this result must not take the place of that one's.
    """

    def wait(message: str) -> None:
        with contextlib.suppress(OSError):
            print(message, file=sys.stderr, flush=True)
        lifetime.beat(Activity.PAUSED)
        if lifetime.asked_to_stop:
            raise NoRoom(f"{message}; the run was asked to stop, and resumes from its last checkpoint")
        time.sleep(process.ROOM_POLL_S)

    if result.outcome is Outcome.FAILED:
        _say_why(paths, result.error)

    def write() -> None:
        lifetime.check_is_newest()
        result_file.write(paths.result, result)

    process.when_there_is_room(write, paths.folder, wait)
    return code


def _say_why(paths: RunPaths, error: str) -> None:
    """The last thing in the log, and in the pane, which stays for a while."""
    line = f"failed: {error.partition(chr(10))[0]}"
    _log(paths, line)
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def _log(paths: RunPaths, text: str) -> None:
    with contextlib.suppress(OSError):  # a log that cannot be written does not change the outcome
        append_line(paths.log, text)


def _tracker(run: RunSpecification) -> Tracker:
    from flowrl.tracking import trackers

    settings, chosen = run.settings, []
    if not (settings.use_wandb or settings.tensorboard):
        return trackers.no_tracker()
    name = run.skill_name if run.global_expert_idx is None else f"{run.global_expert_idx}_{run.skill_name}"

    def say(line: str) -> None:
        _log(run.paths, line)

    if settings.use_wandb:
        plan = [asdict(task) for task in run.plan]
        config = {**asdict(settings), "env_name": run.env_name, "plan": plan, "attempt": run.attempt}
        group = Path(run.experiment).name
        code = [] if run.global_expert_idx is None else [run.paths.module]
        chosen.append(trackers.wandb_tracker(settings.wandb_project, group, name, config, run.paths.folder, say, code))
    if settings.tensorboard:
        from flowrl.tracking.tensorboard import tensorboard_tracker

        chosen.append(tensorboard_tracker(ExperimentPaths(Path(run.experiment)).tensorboard(name), say))
    return trackers.all_of(chosen)


def _with_last_lines(error: Exception) -> str:
    """The reason in one line, and below it the traceback's last lines; one of our own errors is clear without it."""
    if isinstance(error, FlowrlError):
        return str(error)
    calls = "".join(traceback.format_tb(error.__traceback__)).splitlines()[-_SHOWN_LINES:]
    return "\n".join([_one_line(error), *calls, f"{type(error).__name__}: {str(error)[:500]}"])


def _one_line(error: Exception) -> str:
    """The reason, and where in the code it occurred; the log has the whole traceback."""
    if isinstance(error, FlowrlError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    text = " ".join(str(error).split())[:500]
    return f"{type(error).__name__}: {text}{place}; the whole traceback is at the end of training.log"
