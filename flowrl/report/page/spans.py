"""When each attempt ran, in which slot, and what decided how long everything took: the data of the page's timeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from flowrl.records.history import Moment
from flowrl.records.scheduler_state import FINAL, Stage, Status
from flowrl.report.status.snapshot import Run

_SAME_MOMENT_S = 5.0
"""A run that starts so soon after another has ended started because that one did."""
_SHORTEST_WAIT_S = 1.0
"""A scheduler starts nothing sooner."""


class Span(NamedTuple):
    """One attempt of a skill or rehearsal, from its launch until it no longer held its slot."""

    skill_name: str
    attempt: int
    slot: int
    start: datetime
    end: datetime
    became: Status
    """The status that ended it; ``RUNNING`` if it goes on."""
    merging_since: datetime | None = None
    waiting_since: datetime | None = None
    """When it began to wait for its start; None if it did not wait, or if nobody wrote that down."""

    @property
    def seconds(self) -> float:
        return (self.end - self.start).total_seconds()

    @property
    def waited_s(self) -> float:
        return 0.0 if self.waiting_since is None else (self.start - self.waiting_since).total_seconds()


def spans_of(history: Sequence[Moment], runs: Sequence[Run], now: datetime) -> list[Span]:
    """All attempts in the order in which they began.

    Args:
        history: of the experiment; for a run that is not in it, what the state says of its newest attempt is used.
    """
    found = _from_history(history, now)
    known = {span.skill_name for span in found}
    found += [span for run in runs if run.skill_name not in known and (span := _from_state(run, now))]
    return _with_slots(sorted(found, key=lambda span: span.start))


def _from_history(history: Sequence[Moment], now: datetime) -> list[Span]:
    open_spans: dict[str, Span] = {}
    waiting: dict[str, datetime] = {}
    closed = []
    for moment in history:
        name = moment.skill_name
        span = open_spans.get(name)
        is_running = moment.status is Status.RUNNING
        if span and (not is_running or moment.attempt != span.attempt):
            closed.append(span._replace(end=moment.at, became=Status.WAITING if is_running else moment.status))
            del open_spans[name]
            span = None
        if is_running and span is None:
            slot = -1 if moment.slot is None else moment.slot
            since = waiting.pop(name, None)
            open_spans[name] = Span(name, moment.attempt, slot, moment.at, now, Status.RUNNING, waiting_since=since)
        elif is_running:
            update = {"slot": moment.slot} if span.slot < 0 and moment.slot is not None else {}
            update |= {"merging_since": moment.at} if moment.stage is Stage.MERGING else {}
            open_spans[name] = span._replace(**update)
        elif moment.status is Status.WAITING:
            waiting.setdefault(name, moment.at)
        else:
            waiting.pop(name, None)  # blocked or ended meanwhile: what it waits for then is another thing
    return closed + list(open_spans.values())


def _from_state(run: Run, now: datetime) -> Span | None:
    if run.started_at is None:
        return None
    is_over = run.status in FINAL and run.completed_at is not None
    end = run.completed_at if is_over else now
    slot = -1 if run.slot is None else run.slot
    return Span(run.skill_name, run.attempt, slot, run.started_at, max(end, run.started_at), run.status)


def _with_slots(spans: Sequence[Span]) -> list[Span]:
    """Puts those without a slot into the first one that is free at the time; spans are in order of their start."""
    placed: list[Span] = []
    for span in spans:
        if span.slot < 0:
            busy = {other.slot for other in placed if other.end > span.start}
            span = span._replace(slot=next(slot for slot in range(len(placed) + 1) if slot not in busy))
        placed.append(span)
    return placed


def critical_path(spans: Sequence[Span], needs: Mapping[str, Sequence[str]]) -> list[Span]:
    """The chain that decided when the last run ended, the first one first: each began because the one before it ended.

    That one is the last of what it needs, its own earlier attempt, or the run that held its slot.
    """
    if not spans:
        return []
    chain = [max(spans, key=lambda span: span.end)]
    while before := _cause(chain[-1], spans, needs):
        chain.append(before)
    return chain[::-1]


def waits(spans: Sequence[Span], needs: Mapping[str, Sequence[str]]) -> dict[Span, str]:
    """For each attempt that waited: the skill whose end it waited for, as on the critical path; empty if none ended then."""
    causes = {span: _cause(span, spans, needs) for span in spans if span.waited_s >= _SHORTEST_WAIT_S}
    return {span: cause.skill_name if cause and cause.end >= span.waiting_since else "" for span, cause in causes.items()}


def _cause(span: Span, spans: Sequence[Span], needs: Mapping[str, Sequence[str]]) -> Span | None:
    earlier = [other for other in spans if other.end <= span.start and other is not span]
    needed = {*needs.get(span.skill_name, ()), span.skill_name}
    related = [other for other in earlier if other.skill_name in needed]
    in_slot = [other for other in earlier if other.slot == span.slot]
    last = max([*related, *in_slot], key=lambda other: other.end, default=None)
    newest = max(related, key=lambda other: other.end, default=None)
    if newest and last and (last.end - newest.end).total_seconds() <= _SAME_MOMENT_S:
        return newest
    return last


def speed_up(spans: Sequence[Span]) -> float | None:
    """How often as fast as one at a time: seconds of all runs over those in which any ran; None without any."""
    if not spans or not (work := sum(span.seconds for span in spans)):
        return None
    wall, until = 0.0, None
    for span in sorted(spans, key=lambda span: span.start):
        start = span.start if until is None else max(span.start, until)
        if span.end > start:
            wall += (span.end - start).total_seconds()
            until = span.end
    return work / wall if wall else None
