"""``python -m flowrl.parallel.launchers.job_window RUN_FOLDER ATTEMPT``: what the session of a job shows.

While the job waits: its place in the queue, and why it waits. Once it runs: the pane of its training, and below it the last
lines that it has printed. It reads files alone, those that the scheduler and the job write, so that a hundred sessions ask the
cluster nothing. Ctrl-C cancels the run; that any other end of this process changes nothing is the point of it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from rich.text import Text

from flowrl.pane.drawing import drawn
from flowrl.pane.screen import HIDE_CURSOR, SHOW_CURSOR, Content, Screen
from flowrl.parallel.launchers.base import EngineUnreachable
from flowrl.parallel.launchers.batch_script import claim_of
from flowrl.parallel.launchers.job_files import JobFiles
from flowrl.parallel.launchers.slurm_queue import Refused, SlurmQueue
from flowrl.paths import RunPaths
from flowrl.records import result as run_result
from flowrl.records.ending import Ending
from flowrl.records.fence import Fence
from flowrl.records.log_line import is_of_an_update
from flowrl.records.queue import Place
from flowrl.records.result import Outcome, RunResult

LOOK_S = 1.0
CLOCK_S = 5.0
"""A drawing of this age is made again although nothing has changed but its clock: one takes 5 ms, and there may be a hundred
sessions on one host."""
CANCEL_PATIENCE_S = 60.0
_HINT = "Ctrl-C cancels it. Closing this session ends nothing (Ctrl-B, then D leaves it)."
_WAITING = ("PENDING", "CONFIGURING")
_STILL_RUNNING = ("", "PENDING", "RUNNING")
"""States that say no more than that a job runs: the queue is asked less often than its files are read."""


class Window:
    """What a session shows of one attempt.

    Args:
        now: seconds since the epoch.
    """

    def __init__(
        self,
        run: RunPaths,
        attempt: int,
        out: TextIO = sys.stdout,
        cluster: SlurmQueue | None = None,
        now: Callable[[], float] = time.time,
    ):
        self._run, self._attempt = run, attempt
        self._files, self._screen = JobFiles(run, attempt), Screen(out)
        self._cluster, self._now = cluster or SlurmQueue(), now
        self._said = ""
        self._drawn_at, self._drawn_of = float("-inf"), ()

    def look(self) -> None:
        """Draws what is to be seen now."""
        files, now = self._files, self._now()
        known = (files.claim, files.queue, files.picture, files.output, files.ending, files.result)
        seen = (self._screen.size, self._said, *known)
        if seen != self._drawn_of or now - self._drawn_at >= CLOCK_S:
            self._drawn_of, self._drawn_at = seen, now
            self._screen.show(self._waiting() if files.claim is None else self._running(files.claim))

    def say(self, text: str) -> None:
        """Shows a line from now on, and at once."""
        self._said = text
        self.look()

    # What is seen.

    def _waiting(self) -> Content:
        queue, place = self._files.queue, self._files.place
        stands = str(place) if place else "submitted; the queue is asked in a few seconds"
        lines = [stands, queue.silence_in_words, queue.age_in_words, self._said]
        return Content(Text("\n".join([self._title(), *filter(None, lines), "", _HINT])))

    def _running(self, claim: str) -> Content:
        files = self._files
        end, picture = files.ending, files.picture
        head = Text(f"job {claim}{_state(files.place)}; Ctrl-C cancels it, closing this ends nothing", "dim")
        for line, style in ((files.queue.silence_in_words, "yellow"), (self._said, "bold")):
            head.append(f"\n{line}" if line else "", style)
        if end:
            _append_end(head, end, files.result)
            picture = picture and dataclasses.replace(picture, phase="", phase_began_at=None)
        if picture is None:
            return Content(Text(f"{self._title()}, ").append_text(head), lines=files.output)
        lines = [line for line in files.output if not is_of_an_update(line)]
        return Content(head, lambda num_rows: drawn(picture, num_rows, self._drawn_at), lines)

    def _title(self) -> str:
        return f"{self._run.skill_name}, attempt {self._attempt}"

    # Ctrl-C.

    def cancel(self) -> str:
        """Cancels the run, as Ctrl-C in a training's own pane does: the skill becomes ``cancelled``. Returns what was done."""
        job = self._files.job
        try:
            if job is None:
                return self._record_cancelled()
            if self._state(job) in _WAITING:
                return self._withdraw(job)
            self._cluster.interrupt(job)
            return f"job {job} is asked to stop; it saves what it has learned"
        except (EngineUnreachable, Refused) as error:
            return f"not cancelled: {error}; press Ctrl-C again once the cluster answers"

    def _withdraw(self, job: str) -> str:
        """Ends a job that waits, even if it begins at this moment.

        It is recorded as cancelled before it is ended: a scheduler that finds it ended without a record would try it again.
        """
        if _claim(claim_of(self._run.folder, self._attempt), f"{job} cancelled before it began"):
            said = self._record_cancelled()
            with contextlib.suppress(EngineUnreachable, Refused):  # it ends when it begins, since it cannot claim its attempt
                self._cluster.cancel([job])
            return said
        self._cluster.cancel([job])
        deadline = time.monotonic() + CANCEL_PATIENCE_S
        while self._state(job) in (*_WAITING, "COMPLETING") and time.monotonic() < deadline:
            time.sleep(LOOK_S / 2)
        return self._record_cancelled()

    def _state(self, job: str) -> str:
        return next((other.state for other in self._cluster.jobs() if other.id == job), "")

    def _record_cancelled(self) -> str:
        """A job that never began cannot record it."""
        if Fence(self._run.run_json, self._attempt).newest() == self._attempt and not self._run.result.exists():
            error = "cancelled by Ctrl-C in its session, before it began"
            result = RunResult(self._attempt, Outcome.CANCELLED, self._run.skill_name, error=error)
            run_result.write(self._run.result, result)
        return "cancelled before it began"


def _claim(path: Path, words: str) -> bool:
    """Claims the attempt as its job would, so that no job trains it; returns False if one has begun with it."""
    try:
        with open(path, "x") as file:
            file.write(words)
    except FileExistsError:
        return False
    return True


def _state(place: Place | None) -> str:
    """What the queue says about a job that has begun, if it is more than that it runs."""
    if place is None or place.state in _STILL_RUNNING:
        return ""
    return f", {place.state.lower()}{f' ({place.why})' if place.reason else ''}"


def _append_end(head: Text, end: Ending, result: RunResult | None) -> None:
    """How the training has ended, with the error and what to do about it."""
    head.append(f"\nthe training {end}; the scheduler takes it from here", "bold")
    if result:
        head.append(f"\n{result.outcome}" + (f": {result.error}" if result.error else ""), _STYLES[result.outcome])


_STYLES = {Outcome.COMPLETED: "green", Outcome.FAILED: "red", Outcome.CANCELLED: "yellow"}


def main(arguments: list[str]) -> int:
    """Runs until it is ended, or the run is merged."""
    if len(arguments) != 2 or not arguments[1].isdigit():
        print("error: expected python -m flowrl.parallel.launchers.job_window RUN_FOLDER ATTEMPT", file=sys.stderr)
        return 2
    run, attempt = RunPaths(Path(arguments[0])), int(arguments[1])
    sys.stdout.reconfigure(encoding="utf-8", errors="replace")  # whatever the session's locale is: bars are no ASCII
    window = Window(run, attempt)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    print(HIDE_CURSOR, end="", flush=True)
    try:
        while run.run_json.exists():  # until the run is merged; its job may still write into the folder then
            try:
                window.look()
                time.sleep(LOOK_S)
            except KeyboardInterrupt:
                window.say("cancelling ...")
                window.say(window.cancel())
        return 0
    finally:
        print(SHOW_CURSOR, end="", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
