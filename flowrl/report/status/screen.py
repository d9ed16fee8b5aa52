"""The screen of ``flowrl status``: an experiment's snapshot as lines and tables, for any width."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from flowrl.pane.figures import rate_text
from flowrl.records.learned import is_done_by_chance
from flowrl.records.scheduler_state import FINAL, Stage, Status
from flowrl.report.figures import duration_text, frames_text, minutes_text, plain
from flowrl.report.status.snapshot import Run, Snapshot
from flowrl.report.summary import proposer_line

WIDE = 120
"""Columns from which the table of skills shows more of each."""
SLOTS_WIDE = 150
"""Columns from which the table of slots has longer bars, and the lines that attach."""
_BAR_WIDTH = {False: 10, True: 24}
_WIDTH_WITHOUT_NEEDS = 98
"""Columns that the rest of such a table takes at most."""
_NARROW = 100
"""Columns below which a status is cut to what nearly all of them need."""
_MOST_JOBS = 4
"""So many jobs that wait are listed on a terminal: `--max_parallel_skills` of them may."""
_FEWEST_ROWS = 5
"""So many skills are shown however low the terminal is."""


class Mark(NamedTuple):
    """How a status looks: a sign, the same where only ASCII can be printed, and a colour."""

    sign: str
    ascii: str
    style: str


MARKS = {
    Status.RUNNING: Mark("▶", ">", "cyan"),
    Status.WAITING: Mark("·", ".", "dim"),
    Status.COMPLETED: Mark("✓", "+", "green"),
    Status.FAILED: Mark("✗", "x", "red"),
    Status.CANCELLED: Mark("■", "#", "yellow"),
    Status.BLOCKED: Mark("‖", "=", "yellow"),
}
_ORDER = (Status.COMPLETED, Status.RUNNING, Status.WAITING, Status.FAILED, Status.CANCELLED, Status.BLOCKED)


class Screen(NamedTuple):
    """Where a snapshot is shown."""

    width: int
    height: int | None = None
    """Lines; None: as many as it takes."""
    is_ascii: bool = False

    @property
    def is_wide(self) -> bool:
        return self.width >= WIDE

    @property
    def has_wide_slots(self) -> bool:
        return self.width >= SLOTS_WIDE


def draw(snapshot: Snapshot, screen: Screen) -> Group:
    """The whole screen."""
    above: list[RenderableType] = [head(snapshot)]
    if snapshot.running:
        above += [Text(), slots_table(snapshot, screen)]
    if snapshot.waiting_jobs:
        above += [Text(), *jobs_table(snapshot, screen)]
    below: list[RenderableType] = []
    if snapshot.rehearsals:
        below += [Text(), rehearsals_table(snapshot, screen)]
    if failed := failure_lines(snapshot):
        below += [Text(), failed]
    if not screen.has_wide_slots and (lines := attach_lines(snapshot)):
        below += [Text(), lines]
    if snapshot.skills:
        above += [Text(), *skills_table(snapshot, screen, _room(screen, [*above, *below]))]
    return Group(*above, *below)


def head(snapshot: Snapshot) -> Text:
    """What the experiment is, how far it is, and what it has cost."""
    counts = {Status(name): number for name, number in snapshot.counts.items()}
    known = sum(counts.values())
    of = f" of {snapshot.max_nodes}" if snapshot.max_nodes and known < snapshot.max_nodes else ""
    text = Text()
    text.append(plain(snapshot.env_name or "no settings yet"), "bold")
    text.append(f"  {plain(snapshot.graph_path)}\n")
    text.append(f"{known}{of} skill{'' if known == 1 and not of else 's'}")
    for status in _ORDER:
        if counts.get(status):
            text.append(", " if not text.plain.endswith("\n") else "")
            text.append(f"{counts[status]} {status.value}", MARKS[status].style)
            if status is Status.COMPLETED:
                text.append(f" ({_learned(snapshot)})")
    text.append(f", {frames_text(snapshot.frames)} frames\n")
    text.append(_what_goes_on(snapshot))
    if line := proposer_line(snapshot.proposer):
        text.append(f"\n{plain(line)}")
    silence = snapshot.cluster and snapshot.cluster.silence_in_words
    for remark in (*([silence] if silence else []), *snapshot.remarks):
        text.append(f"\n{plain(remark)}", "yellow")
    return text


def _learned(snapshot: Snapshot) -> str:
    """By their own trainings; and by an evaluation, since rehearsals teach skills that their own trainings did not."""
    together = snapshot.learned_together
    return f"{snapshot.learned} learned" + ("" if together is None else f", {together} as evaluated")


def _what_goes_on(snapshot: Snapshot) -> str:
    slots = f"{snapshot.max_parallel} slot{'' if snapshot.max_parallel == 1 else 's'}"
    is_over = bool(snapshot.runs) and all(run.status in FINAL for run in snapshot.runs)
    if snapshot.is_scheduled:
        said = f"a scheduler is at work, {slots}"
    elif snapshot.running:
        said = f"no scheduler on this machine; {len(snapshot.running)} marked as running when it last wrote"
    else:
        said = "no scheduler on this machine" + ("; all is done" if is_over and not snapshot.failures else "")
    if snapshot.updated_at:
        said += f"; last change {_ago(snapshot.looked_at - snapshot.updated_at)}"
    if snapshot.seconds_left is not None:
        said += f"; about {duration_text(snapshot.seconds_left)} left (an estimate)"
    return said


def _ago(span: timedelta) -> str:
    return f"{duration_text(max(0.0, span.total_seconds()))} ago"


def slots_table(snapshot: Snapshot, screen: Screen) -> Table:
    """What each slot does; on a narrow screen, the nodes of a cluster have the place of the bars."""
    has_nodes = any(run.job and run.job.node for run in snapshot.running)
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 1))
    table.add_column("slot", justify="right", style="dim", no_wrap=True)
    table.add_column("run", no_wrap=True, overflow="ellipsis", min_width=12)
    if not has_nodes or screen.width >= _NARROW:
        table.add_column("bar", width=_BAR_WIDTH[screen.has_wide_slots])
    for heading in ("frames", "speed", "success", "left"):
        table.add_column(heading, justify="right", no_wrap=True)
    if has_nodes:
        table.add_column("node", style="dim", no_wrap=True, overflow="ellipsis")
    if screen.has_wide_slots:
        table.add_column("attach", no_wrap=True, overflow="ellipsis")
    for run in sorted(snapshot.running, key=lambda run: (run.slot is None, run.slot)):
        cells = _slot_cells(snapshot, run, screen)
        table.add_row(*(cells.get(column.header, "") for column in table.columns))
    return table


def _slot_cells(snapshot: Snapshot, run: Run, screen: Screen) -> dict[str, RenderableType]:
    """What is to be said in each column; nothing in those that are left out."""
    cells: dict[str, RenderableType] = {
        "slot": "" if run.slot is None else str(run.slot),
        "run": Text(plain(run.skill_name), MARKS[Status.RUNNING].style),
        "node": Text(plain(run.job.node) if run.job else ""),
        "attach": attach_line(run) or "",
    }
    if run.stage is not Stage.TRAINING or run.frames is None or run.is_queued:
        since = _since(run.started_at, snapshot.looked_at)
        said = "merging" if run.stage is Stage.MERGING else "queued" if run.is_queued else "starting"
        return cells | {"frames": Text(f"{said}{since}", "dim")}
    wanted = run.frames_wanted or 0
    rate = run.achievements if run.achievements is not None else run.success_rate
    return cells | {
        "bar": ProgressBar(total=max(wanted, 1), completed=min(run.frames, wanted), width=_BAR_WIDTH[screen.has_wide_slots]),
        "frames": f"{frames_text(run.frames)}{f' of {frames_text(wanted)}' if wanted else ''}",
        "speed": f"{frames_text(round(run.frames_per_s))}/s" if run.frames_per_s else "",
        "success": rate_text(rate),
        "left": "" if run.seconds_left is None else f"about {duration_text(run.seconds_left)}",
    }


def _since(moment: datetime | None, now: datetime) -> str:
    return "" if moment is None else f" {duration_text(max(0.0, (now - moment).total_seconds()))}"


def jobs_table(snapshot: Snapshot, screen: Screen) -> list[RenderableType]:
    """Why each job that waits does so, the next one to start first; on a terminal, only the first few."""
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 1))
    table.add_column("run", no_wrap=True, overflow="ellipsis", min_width=12, max_width=24)
    table.add_column("job")
    waiting = snapshot.waiting_jobs
    shown = waiting if screen.height is None else waiting[:_MOST_JOBS]
    for run in shown:
        table.add_row(Text(plain(run.skill_name), MARKS[Status.WAITING].style), Text(plain(run.job.in_words)))
    more = len(waiting) - len(shown)
    return [table, *([Text(f"and {more} more that wait", "dim")] if more else [])]


def skills_table(snapshot: Snapshot, screen: Screen, room: int | None = None) -> list[RenderableType]:
    """One row a skill, by depth; as many as there is room for, those that matter most first."""
    is_wide = screen.is_wide
    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="dim")
    table.add_column("", no_wrap=True)
    table.add_column("skill", no_wrap=True, overflow="ellipsis", min_width=16)
    table.add_column("depth", justify="right", no_wrap=True)
    table.add_column("status", overflow="ellipsis", no_wrap=True, max_width=16 if screen.width < _NARROW else 24)
    for heading in ("frames", "success", "random", "left"):
        table.add_column(heading, justify="right", no_wrap=True)
    if is_wide:
        table.add_column("min", justify="right", no_wrap=True)
        table.add_column("expert", justify="right", no_wrap=True)
        table.add_column("needs", overflow="ellipsis", no_wrap=True, max_width=screen.width - _WIDTH_WITHOUT_NEEDS)
    direct = direct_needs(snapshot.skills)
    shown, hidden = _chosen(snapshot.skills, room)
    for run in shown:
        table.add_row(*_skill_row(run, direct[run.skill_name], screen))
    return [table, *([Text(_hidden_line(hidden), "dim")] if hidden else [])]


def _skill_row(run: Run, needs: Sequence[str], screen: Screen) -> list[RenderableType]:
    mark = MARKS[run.status]
    cells: list[RenderableType] = [
        Text(mark.ascii if screen.is_ascii else mark.sign, mark.style),
        Text(plain(run.skill_name)),
        str(run.depth),
        Text(status_text(run), "yellow" if run.goal_reached is False else mark.style),
        frames_text(run.frames),
        f"{'~' if run.is_estimate and run.success_rate is not None else ''}{rate_text(run.success_rate)}",
        rate_text(run.random_success_rate),
        "" if run.seconds_left is None else f"~{duration_text(run.seconds_left)}",
    ]
    if screen.is_wide:
        cells += [minutes_text(run.minutes), "" if run.expert_idx is None else str(run.expert_idx), plain(", ".join(needs))]
    return cells


def direct_needs(skills: Sequence[Run]) -> dict[str, list[str]]:
    """What each skill needs, without what these need in turn: a state lists all of it."""
    needs = {run.skill_name: set(run.dependencies) for run in skills}
    indirect = {name: set().union(*(needs.get(other, ()) for other in found)) for name, found in needs.items()}
    return {run.skill_name: [name for name in run.dependencies if name not in indirect[run.skill_name]] for run in skills}


def status_text(run: Run) -> str:
    """The status with what is remarkable about it."""
    if run.status is Status.COMPLETED and run.goal_reached is False:
        return "below the goal"
    if run.status is Status.COMPLETED and is_done_by_chance(run.random_success_rate):
        return "done by chance"
    if run.status is Status.BLOCKED:
        return plain(f"blocked by {', '.join(run.blocked_by)}")
    if run.status is Status.WAITING and run.retry_at is not None:
        return "retry soon"
    if run.is_queued:
        return "queued"
    if run.status is Status.RUNNING and run.attempt > 1:
        return f"attempt {run.attempt}"
    return run.status.value


def _chosen(skills: Sequence[Run], room: int | None) -> tuple[list[Run], list[Run]]:
    """The skills that are shown, by depth, and the ones for which there is no room."""
    by_depth = sorted(skills, key=lambda run: run.depth)
    if room is None or len(skills) <= room:
        return by_depth, []
    first = (Status.RUNNING, Status.FAILED, Status.CANCELLED, Status.BLOCKED, Status.WAITING, Status.COMPLETED)
    newest_first = list(reversed(skills))
    by_interest = sorted(newest_first, key=lambda run: first.index(run.status))
    kept = {run.skill_name for run in by_interest[: room - 1]}  # a line says what is left out
    return [run for run in by_depth if run.skill_name in kept], [run for run in by_depth if run.skill_name not in kept]


def _hidden_line(hidden: Sequence[Run]) -> str:
    counts = {status: sum(run.status is status for run in hidden) for status in _ORDER}
    said = ", ".join(f"{number} {status.value}" for status, number in counts.items() if number)
    return f"  and {said} more; a higher terminal shows them"


def rehearsals_table(snapshot: Snapshot, screen: Screen) -> Table:
    """One row a rehearsal."""
    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="dim")
    table.add_column("", no_wrap=True)
    for heading in ("rehearsal", "status"):
        table.add_column(heading, no_wrap=True)
    for heading in ("frames", "achievements", "min"):
        table.add_column(heading, justify="right", no_wrap=True)
    for run in snapshot.rehearsals:
        mark = MARKS[run.status]
        sign = Text(mark.ascii if screen.is_ascii else mark.sign, mark.style)
        status = Text(status_text(run), mark.style)
        table.add_row(
            sign, run.skill_name, status, frames_text(run.frames), rate_text(run.achievements), minutes_text(run.minutes)
        )
    return table


def failure_lines(snapshot: Snapshot) -> Text | None:
    """What failed, why, and what to do next, with which errors end; None if nothing did. The table has what it blocks."""
    text = Text()
    for run in snapshot.failures:
        if run.status is Status.BLOCKED:
            continue
        text.append("\n" if text else "")
        text.append(plain(run.skill_name), MARKS[run.status].style)
        text.append(f"  {plain((run.error or '').partition(chr(10))[0]) or 'ended by a person, in its pane'}")
        if run.log:
            text.append(f"\n  tail {shlex.quote(f'{snapshot.graph_path}/{run.log}')}", "dim")
    return text or None


def attach_lines(snapshot: Snapshot) -> Text | None:
    """What to type to look at the trainings under way; None if there are none."""
    lines = [line for run in snapshot.running if (line := attach_line(run))]
    return Text("\n".join(f"  {line}" for line in lines), "dim") if lines else None


def attach_line(run: Run) -> str | None:
    """What a user types to look at a training under way."""
    return shlex.join(["tmux", "attach", "-t", run.tmux_session]) if run.tmux_session else None


def _room(screen: Screen, others: Sequence[RenderableType]) -> int | None:
    """Lines for the skills beside all others; None if there is no limit."""
    if screen.height is None:
        return None
    measure = Console(width=screen.width, height=screen.height)
    taken = sum(len(measure.render_lines(other, measure.options.update(height=None))) for other in others)
    return max(_FEWEST_ROWS, screen.height - taken - 2)  # a blank line, and the headings
