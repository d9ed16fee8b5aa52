"""What a person sees of a run: the live tmux pane, and ``training.log``.

Nothing that happens to the terminal reaches the run: one that has died is dropped, and one that was stopped
(Ctrl-S) misses what is drawn until it goes on.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from flowrl.files import append_line

DRAWINGS_PER_S = 1
"""How often the pane is drawn: at 4 ms each time this costs the training more than all else that watches it. Between
updates only its clock moves: it shows that a long compilation is alive."""

FIRST_LINES = 3
"""Updates that have a line in the log each; after them a line comes every `LINE_S`."""

LINE_S = 10.0
"""Seconds between two lines of the log about updates."""

RATE_BAR_WIDTH = 20
ROWS_BESIDE_TASKS = 9
"""Rows of the pane that are not tasks: five of the plan as a whole, the rest for lines above."""


class UpdateReport(NamedTuple):
    """How a run stands after an update."""

    update: int
    """Updates so far; the first is 1."""
    frames: int
    """Frames trained so far, those before a resumption included."""
    total_frames: int
    """Frames after which the run ends at the latest."""
    frames_per_s: float
    seconds_left: float | None
    """Until the frame budget is used up; None while it cannot be told."""
    success_rate: float | None
    """Of the latest whole cohort of episodes; None until one is whole."""
    estimate: float
    """Recent success rate, corrected for episodes still running."""
    task_rates: tuple[float | None, ...]
    """For each task, of the latest whole cohort of tries at it."""
    reward: float
    """Mean over the steps of the rollout."""
    entropy: float
    policy_loss: float
    value_loss: float
    kl: float
    candidate_rates: tuple[float, ...] = ()
    """Of the rewards on trial, where there are several: recent success rate of each, corrected in the same way."""


class Pane:
    """Shows a run on the terminal and writes its log; a context manager around the whole run."""

    def __init__(
        self,
        skill_name: str,
        expert_idx: int,
        task_names: Sequence[str],
        total_frames: int,
        goal: float,
        log: Path,
        start_frames: int = 0,
        *,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        """
        Args:
            task_names: the plan's tasks with their counts, as ``Collect_Wood x3``.
            total_frames: the frame budget.
            goal: the success rate at which the run ends.
            log: a file that lines are added to.
            start_frames: frames trained before a resumption.
            stream: where a person looks; ``sys.stdout`` when None.
            clock: seconds, for the pace of log lines.
        """
        self._view = _View(f"{skill_name} (expert {expert_idx})", tuple(task_names), goal, start_frames, total_frames)
        self._log = log
        self._out = sys.stdout if stream is None else stream
        self._live = _live(self._out, self._view) if _can_be_drawn_on(self._out) else None
        self._clock = clock
        self._next_line_s = clock()
        self._unlogged: UpdateReport | None = None

    def __enter__(self) -> Pane:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *error) -> None:
        try:
            self._log_latest()
        finally:
            if self._live:
                self._live.stop()
                self._live.console.file.close()

    def phase(self, text: str) -> None:
        """What the run is at, such as ``compiling`` or ``evaluating 300/512``; shown until it changes."""
        self._view.set_phase(text)

    def update(self, report: UpdateReport) -> None:
        """Shows the latest update; it has a line in the log if it is an early one, or enough time has passed."""
        self._view.report = self._unlogged = report
        if report.update <= FIRST_LINES or self._clock() >= self._next_line_s:
            self._log_latest()

    def line(self, text: str) -> None:
        """A line for the log and for whoever watches; in the log it follows the latest update's."""
        self._log_latest()
        stamped = self._add(text)
        if self._live:
            self._live.console.print(Text(stamped))

    def _log_latest(self) -> None:
        if self._unlogged:
            self._next_line_s = self._clock() + LINE_S
            self._add(describe(self._unlogged))
            self._unlogged = None

    def _add(self, text: str) -> str:
        stamped = f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M:%SZ} {text}"
        with contextlib.suppress(OSError):  # a log that cannot be written ends no training
            append_line(self._log, stamped)
        if not self._live:
            _print_if_possible(stamped, self._out)
        return stamped


def describe(report: UpdateReport) -> str:
    """An update as one line of words and numbers."""
    left = "" if report.seconds_left is None else f", {duration(report.seconds_left)} left"
    tasks = " ".join(map(_rate, report.task_rates))
    on_trial = f", rewards {' '.join(map(_rate, report.candidate_rates))}" if report.candidate_rates else ""
    return (
        f"update {report.update}: {report.frames:,} of {report.total_frames:,} frames "
        f"({_share(report.frames, report.total_frames)}), {report.frames_per_s:,.0f} frames/s{left}; "
        f"success {_rate(report.success_rate)} (recent {report.estimate:.2f}), tasks {tasks}{on_trial}; "
        f"reward {report.reward:.4f}, entropy {report.entropy:.3f}, policy loss {report.policy_loss:.4f}, "
        f"value loss {report.value_loss:.4f}, kl {report.kl:.4f}"
    )


def duration(seconds: float) -> str:
    """``1:02:03``, or ``2:03`` below an hour; ``?`` for what is no number."""
    if not math.isfinite(seconds):
        return "?"
    minutes, rest = divmod(max(round(seconds), 0), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _rate(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:.2f}"


def _share(part: int, whole: int) -> str:
    return f"{100 * part / max(whole, 1):.0f}%"


class _View:
    """The newest of everything that is shown, as something rich can draw."""

    def __init__(self, title: str, task_names: tuple[str, ...], goal: float, start_frames: int, total_frames: int):
        self.title = title
        self.task_names = task_names
        self.goal = goal
        self.start_frames = start_frames
        self.total_frames = total_frames
        self.report: UpdateReport | None = None
        self.set_phase("starting")

    def set_phase(self, text: str) -> None:
        # A count inside the text moves on without starting the phase's clock again.
        words = text.rstrip("0123456789/, ")
        if words != getattr(self, "_phase_words", None):
            self._phase_words, self._phase_start_s = words, time.monotonic()
        self._phase = text

    def draw(self, num_rows: int) -> RenderableType:
        """The live part, no higher than ``num_rows`` with the lines above it."""
        report = self.report
        speed = f"{report.frames_per_s:,.0f} frames/s" if report else ""
        if report and report.seconds_left is not None:
            speed += f", at most {duration(report.seconds_left)} left"
        head = _row(Text(self.title, "bold"), self._phase_line())
        parts = [head, self._frames_bar(), _row(Text(speed), self._losses())]
        return Group(*parts, self._rates(max(num_rows - ROWS_BESIDE_TASKS, 1)))

    def _phase_line(self) -> Text:
        return Text(f"{self._phase} · {duration(time.monotonic() - self._phase_start_s)}", "cyan")

    def _losses(self) -> Text:
        report = self.report
        return Text(f"reward {report.reward:.3f}  entropy {report.entropy:.2f}" if report else "", "dim")

    def _frames_bar(self) -> RenderableType:
        frames = self.report.frames if self.report else self.start_frames
        grid = Table.grid(padding=(0, 1), expand=True)
        grid.add_column(ratio=1)
        grid.add_column(no_wrap=True)
        amount = f"{frames:,} / {self.total_frames:,} frames ({_share(frames, self.total_frames)})"
        grid.add_row(ProgressBar(total=max(self.total_frames, 1), completed=frames), amount)
        return grid

    def _rates(self, num_tasks: int) -> RenderableType:
        report = self.report
        on_trial = report.candidate_rates if report else ()
        num_tasks = max(num_tasks - len(on_trial), 1)
        known = len(self.task_names) if report is None else len(report.task_rates)
        rates = (None,) * known if report is None else report.task_rates
        grid = Table.grid(padding=(0, 1))
        grid.add_column(no_wrap=True, overflow="ellipsis", max_width=40)
        for _ in range(3):
            grid.add_column(no_wrap=True)
        aside = f"goal {self.goal:.2f}" + (f", recent {report.estimate:.2f}" if report else "")
        grid.add_row(Text("plan", "bold"), *_rate_cells(report.success_rate if report else None, self.goal), aside)
        hidden = max(known - num_tasks, 0)
        if hidden:
            lowest = min((rate for rate in rates[:hidden] if rate is not None), default=None)
            grid.add_row(Text(f"{hidden} earlier tasks, the lowest", "dim"), *_rate_cells(lowest, self.goal), "")
        for name, rate in list(zip(self.task_names, rates))[hidden:]:
            grid.add_row(Text(name), *_rate_cells(rate, self.goal), "")
        for number, rate in enumerate(on_trial, 1):
            grid.add_row(Text(f"reward {number} on trial", "cyan"), *_rate_cells(rate, self.goal), "recent")
        return grid


def _row(left: Text, right: Text) -> RenderableType:
    grid = Table.grid(padding=(0, 1), expand=True)
    grid.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    grid.add_column(no_wrap=True, justify="right")
    grid.add_row(left, right)
    return grid


def _rate_cells(rate: float | None, goal: float) -> tuple[RenderableType, RenderableType]:
    reached = rate is not None and rate >= goal
    style = "green" if reached else "yellow"
    bar = ProgressBar(total=1.0, completed=rate or 0.0, width=RATE_BAR_WIDTH, complete_style=style, finished_style=style)
    return Text(f"{_rate(rate):>4}", style), bar


def _can_be_drawn_on(stream: TextIO) -> bool:
    try:
        return stream.isatty() and os.environ.get("TERM", "").lower() not in ("", "dumb", "unknown")
    except (OSError, ValueError):
        return False


def _live(stream: TextIO, view: _View) -> Live:
    # The stream is known to be a terminal: no variable of the environment (FORCE_COLOR, ...) decides it again.
    console = Console(file=_Terminal(stream), force_terminal=True, force_interactive=True, highlight=False)
    return Live(
        console=console, refresh_per_second=DRAWINGS_PER_S, get_renderable=lambda: view.draw(console.size.height)
    )


def _print_if_possible(line: str, stream: TextIO) -> None:
    try:
        print(line, file=stream, flush=True)
    except (OSError, ValueError):
        _abandon(stream)


def _abandon(stream: TextIO) -> None:
    # What is still in the stream's buffer, or is printed later, must not fail either (at exit it would cost the
    # process its exit status).
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


class _Terminal(io.TextIOBase):
    """A terminal to draw on that never fails and never blocks.

    What is written between two flushes is drawn as a whole. While the terminal takes no more (a person pressed
    Ctrl-S in it), what comes is forgotten; once it is dead, everything is.
    """

    encoding = "utf-8"

    def __init__(self, stream: TextIO):
        self._stream = stream
        self._descriptor = _own_descriptor(stream.fileno())
        self._drawing: list[str] = []
        self._waiting = b""
        self._dead = False

    def isatty(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self._drawing.append(text)
        return len(text)

    def flush(self) -> None:
        drawing = "".join(self._drawing).encode(self.encoding, "replace")
        self._drawing.clear()
        if self._dead:
            return
        try:
            self._send(self._waiting)
            if not self._waiting:
                self._send(drawing)
        except OSError:
            self._dead = True
            _abandon(self._stream)

    def close(self) -> None:
        """Leaves the terminal to whoever prints next; one that takes no more is kept from holding them up."""
        if not self.closed:
            self.flush()
            if self._waiting:
                _abandon(self._stream)
            self._dead = True
            os.close(self._descriptor)
        super().close()

    def _send(self, data: bytes) -> None:
        self._waiting = data
        with contextlib.suppress(BlockingIOError):
            while self._waiting:
                self._waiting = self._waiting[os.write(self._descriptor, self._waiting) :]


def _own_descriptor(terminal: int) -> int:
    # Opened anew, since whether writing blocks is a property of the open file, which others share.
    try:
        return os.open(os.ttyname(terminal), os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return os.dup(terminal)
