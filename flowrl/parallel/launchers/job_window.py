"""``python -m flowrl.parallel.launchers.job_window RUN_FOLDER ATTEMPT``: what the session of a job shows.

While the job waits: its place in the queue, and why it waits. Then what the training prints. It reads files alone, those that
the scheduler and the job write, so that a hundred sessions ask the cluster nothing. Ctrl-C cancels the run; that any other end
of this process changes nothing is the point of it.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import sys
import time
from pathlib import Path

from flowrl.errors import BadInput
from flowrl.files import read_json
from flowrl.parallel.launchers.base import EngineUnreachable
from flowrl.parallel.launchers.batch_script import claim_of, output_of
from flowrl.parallel.launchers.slurm_queue import Refused, SlurmQueue
from flowrl.paths import ExperimentPaths, RunPaths, job_receipt
from flowrl.records import ending, queue
from flowrl.records import result as run_result
from flowrl.records.fence import Fence
from flowrl.records.result import Outcome, RunResult

LOOK_S = 1.0
CANCEL_PATIENCE_S = 60.0
_SHOWN_BYTES = 16_000
_CLEAR = "\033[H\033[J"


class Window:
    """What a session shows of one attempt."""

    def __init__(self, run: RunPaths, attempt: int, out=sys.stdout, cluster: SlurmQueue | None = None):
        self._run, self._attempt, self._out = run, attempt, out
        self._cluster = cluster or SlurmQueue()
        self._shown = ""
        self._read_to: int | None = None

    def look(self) -> None:
        """Draws what has changed."""
        if claim_of(self._run.folder, self._attempt).exists():
            self._follow()
        elif (text := self._waiting()) != self._shown:
            self._draw(f"{_CLEAR}{text}\n")
            self._shown = text

    def cancel(self) -> str:
        """Cancels the run, as Ctrl-C in a training's own pane does: the skill becomes ``cancelled``. Returns what was done."""
        job = self._job()
        try:
            if job is None or self._ended_before_it_began(job):
                return self._record_cancelled()
            self._cluster.interrupt(job)
            return f"job {job} is asked to stop; it saves what it has learned"
        except (EngineUnreachable, Refused) as error:
            return f"not cancelled: {error}; press Ctrl-C again once the cluster answers"

    def _ended_before_it_began(self, job: str) -> bool:
        """Ends a job that waits; returns False for one that runs."""
        if self._state(job) not in ("PENDING", "CONFIGURING"):
            return False
        self._cluster.cancel([job])
        deadline = time.monotonic() + CANCEL_PATIENCE_S
        while self._state(job) in ("PENDING", "CONFIGURING", "COMPLETING") and time.monotonic() < deadline:
            time.sleep(LOOK_S / 2)
        return not claim_of(self._run.folder, self._attempt).exists()

    def _state(self, job: str) -> str:
        return next((other.state for other in self._cluster.jobs() if other.id == job), "")

    def _record_cancelled(self) -> str:
        """A job that never began cannot record it."""
        if Fence(self._run.run_json, self._attempt).newest() == self._attempt and not self._run.result.exists():
            error = "cancelled by Ctrl-C in its session, before it began"
            result = RunResult(self._attempt, Outcome.CANCELLED, self._run.skill_name, error=error)
            run_result.write(self._run.result, result)
        return "cancelled before it began"

    def _job(self) -> str | None:
        """The number of this attempt's job; None before it was submitted."""
        place = self._place()
        if place and place.attempt == self._attempt and place.job:
            return place.job
        with contextlib.suppress(OSError, BadInput, KeyError, TypeError):
            data = read_json(job_receipt(self._run.folder))
            return str(data["job"]) if data["attempt"] == self._attempt else None
        return None

    def _place(self) -> queue.Place | None:
        record = self._record()
        return record.of(self._run.folder.name) if record else None

    def _record(self) -> queue.QueueRecord | None:
        return queue.find(ExperimentPaths(self._run.folder.parent.parent).queue)

    def _waiting(self) -> str:
        record = self._record()
        place = record.of(self._run.folder.name) if record else None
        is_mine = place is not None and place.attempt == self._attempt
        lines = [
            f"{self._run.skill_name}, attempt {self._attempt}",
            str(place) if is_mine else "submitted; the queue is asked in a few seconds",
        ]
        if record and record.silence:
            lines.append(f"the cluster does not answer: {record.silence}")
        if record and record.asked_at:
            lines.append(f"as of {record.asked_at}")
        lines += ["", "Ctrl-C cancels it. Closing this session ends nothing (Ctrl-B, then D leaves it)."]
        return "\n".join(lines)

    def _follow(self) -> None:
        """Shows what the job has printed since the last look."""
        try:
            with open(output_of(self._run.folder), "rb") as file:
                size = file.seek(0, 2)
                if self._read_to is None:
                    self._draw(_CLEAR + self._heading())
                    self._read_to = max(0, size - _SHOWN_BYTES)
                file.seek(self._read_to)
                new = file.read()
                self._read_to += len(new)
        except OSError:
            return
        if new:
            self._draw(new.decode("utf-8", "replace"))
        elif (end := ending.find(self._run.exit, self._attempt)) and self._shown != "ended":
            self._draw(f"the training {end}; the scheduler takes it from here\n")
            self._shown = "ended"

    def _heading(self) -> str:
        where = claim_of(self._run.folder, self._attempt).read_text().strip()
        return f"{self._run.skill_name}, attempt {self._attempt}, job {where}; Ctrl-C cancels it, closing this ends nothing\n"

    def _draw(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # the terminal is gone
            self._out.write(text)
            self._out.flush()


def main(arguments: list[str]) -> int:
    """Runs until it is ended."""
    if len(arguments) != 2 or not arguments[1].isdigit():
        print("error: expected python -m flowrl.parallel.launchers.job_window RUN_FOLDER ATTEMPT", file=sys.stderr)
        return 2
    run, attempt = RunPaths(Path(arguments[0])), int(arguments[1])
    window = Window(run, attempt)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    print(f"{run.skill_name}: waiting for {shutil.which('squeue') or 'the queue'}", flush=True)
    while run.folder.exists():
        try:
            window.look()
            time.sleep(LOOK_S)
        except KeyboardInterrupt:
            print("\ncancelling ...", flush=True)
            print(window.cancel(), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
