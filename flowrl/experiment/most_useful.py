"""``--continue_skill most_useful``: hands frames to the skills by which whole episodes would gain most, a piece at a time.

A skill's score is what episodes would gain if it reached its goal (`prospects`), times the share of the way there that a piece
of training is expected to bring. That share is `UNTRIED` at first, or `HOPELESS` for a skill that hardly ever succeeds:
training has little to learn from there. Afterwards it is what the last piece has brought, but at least half of what was
expected of it: a skill that does not get better is chosen less and less often. One whose training failed or was cancelled is
not chosen again. So frames follow learning progress, as in Matiisen et al., *Teacher-Student Curriculum Learning* (2017, arXiv
1707.00183), weighted by what it is worth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from flowrl.errors import BadInput
from flowrl.experiment.prospects import Prospects
from flowrl.records.learned import HOPELESS_RATE
from flowrl.records.scheduler_state import FINAL
from flowrl.report.figures import frames_text

UNTRIED = 0.5
"""The share of the way to its goal that the first piece is expected to take a skill."""
HOPELESS = 0.05
"""The same for a skill that succeeds no more often than `HOPELESS_RATE`. With `UNTRIED` for these too, half of the frames went
to skills that never succeeded, before and after."""
PIECES = 8
"""The frames are handed out in about as many pieces."""


class Scheduler(Protocol):
    """What is needed of :class:`flowrl.parallel.scheduler.SkillScheduler`."""

    @property
    def state(self) -> Mapping[str, Any]: ...

    def free_slots(self) -> int: ...

    def continue_skill(self, skill_name: str, frames: int, to_goal: bool = False) -> int: ...


class Figures(NamedTuple):
    """What is known of a skill between two pieces."""

    rate: float | None
    """Of the tries at its own task; None if its newest training was not taken over, so that its expert is as it was."""
    frames: int
    """Trained in its newest run."""


class Books(Protocol):
    """The files in which trainings leave their figures."""

    def figures(self, name: str) -> Figures:
        """Of a skill whose newest run was merged."""
        ...

    def unmerged_frames(self, name: str) -> int:
        """Frames of a run that was not merged: the next piece of the skill goes on from its checkpoint. 0 without one."""
        ...


def expected(rate: float) -> float:
    """The share of the way to its goal that the first piece is expected to take a skill that succeeds so often."""
    return UNTRIED if rate > HOPELESS_RATE else HOPELESS


@dataclass
class _Skill:
    rate: float
    share: float
    """Of the way to the goal, that the next piece is expected to bring."""
    first_rate: float = 0.0
    frames: int = 0
    is_open: bool = True
    """Whether it may be trained further."""


class _Piece(NamedTuple):
    """One that is under way."""

    frames: int
    frames_before: int
    """Of the run that it goes on with."""


@dataclass(frozen=True)
class Allowance:
    """What there is to hand out."""

    frames: int
    piece: int
    """Frames of a piece, at most."""
    update: int
    """Frames of an update; fewer cannot be trained."""
    goal: float
    """The rate up to which a skill is trained."""


class MostUseful:
    """Hands out frames while the scheduler has free slots.

    Args:
        rates: of each skill that may be trained further, the rate of the tries at its own task.
        say: takes a line for the terminal.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        prospects: Prospects,
        rates: Mapping[str, float],
        allowance: Allowance,
        books: Books,
        say: Callable[[str], None],
    ):
        self._scheduler, self._prospects, self._books, self._say = scheduler, prospects, books, say
        self._skills = {name: _Skill(rate, expected(rate), first_rate=rate) for name, rate in rates.items()}
        self._left, self._update, self._goal = allowance.frames, allowance.update, allowance.goal
        self._piece = max(allowance.piece, allowance.update)
        self._pieces: dict[str, _Piece] = {}
        self._others: set[str] = set()
        """Skills that an earlier start left in training."""
        self._is_over = False

    @property
    def trained(self) -> Set[str]:
        """The skills that were given any frames."""
        return {name for name, skill in self._skills.items() if skill.frames or not skill.is_open} | self._pieces.keys()

    def look(self) -> None:
        """Takes in what has ended, and hands out what is left while there is room."""
        entries = {entry["skill_name"]: entry for entry in self._scheduler.state["skills"]}
        under_way = {name for name, entry in entries.items() if entry["status"] not in FINAL}
        self._others |= under_way - self._pieces.keys()
        for name in sorted(self._pieces.keys() - under_way):
            self._take_in(name, entries[name])
        for name in self._others - under_way:
            self._others.remove(name)
            self._take_in_rate(name)
        while not self._is_over and self._left >= self._update and self._scheduler.free_slots() > 0:
            if (name := self._choice(under_way | self._pieces.keys())) is None:
                return
            self._hand_out(name)

    def look_at_the_end(self) -> bool:
        """As `look`; returns whether nothing more is to come."""
        self.look()
        if self._pieces or self._others or any(entry["status"] not in FINAL for entry in self._scheduler.state["rehearsals"]):
            return False
        if not self._is_over:
            self._is_over = True
            self._report()
        return True

    def _choice(self, under_way: Set[str]) -> str | None:
        """The skill with the highest score, of those that are not under way; None if episodes would gain by none."""
        free = [name for name, skill in self._skills.items() if skill.is_open and name not in under_way]
        scores = {name: self._gain(name) * self._skills[name].share for name in free}
        best = max(scores, key=lambda name: scores[name], default=None)
        return best if best is not None and scores[best] > 0 else None

    def _gain(self, name: str) -> float:
        return self._prospects.gain(name, {name: skill.rate for name, skill in self._skills.items()}, self._goal)

    def _hand_out(self, name: str) -> None:
        before = self._books.unmerged_frames(name)
        try:
            given = self._scheduler.continue_skill(name, before + min(self._piece, self._left), to_goal=True) - before
        except BadInput as error:
            self._close(name, str(error))
            return
        if given < self._update:
            self._close(name, "--skill_budget_frames leaves less than an update")
            return
        self._pieces[name] = _Piece(given, before)
        self._left -= given
        rate, gain = self._skills[name].rate, self._gain(name)
        self._say(
            f"further    {name}   {frames_text(given)} frames, {frames_text(self._left)} left; {rate:.2f} of its tries "
            f"succeed, {gain:.2f} {self._prospects.what} to gain"
        )

    def _take_in(self, name: str, entry: Mapping[str, Any]) -> None:
        piece, skill = self._pieces.pop(name), self._skills[name]
        has_failed = entry["error"] is not None
        rate, frames = Figures(None, self._books.unmerged_frames(name)) if has_failed else self._books.figures(name)
        trained = min(max(frames - piece.frames_before, 0), piece.frames)
        self._left += piece.frames - trained
        skill.frames += trained
        if has_failed or not trained:
            self._close(name, entry["error"] or "its training made no update")
            return
        rate = skill.rate if rate is None else rate
        brought = (rate - skill.rate) / (self._goal - skill.rate)
        skill.rate, skill.share = rate, max(brought, skill.share / 2)

    def _take_in_rate(self, name: str) -> None:
        """Of a skill that was not trained on our account."""
        if name in self._skills and (rate := self._books.figures(name).rate) is not None:
            self._skills[name].rate = rate

    def _close(self, name: str, why: str) -> None:
        self._skills[name].is_open = False
        self._say(f"{name} gets no more frames: {why}")

    def _report(self) -> None:
        trained = {name: skill for name, skill in self._skills.items() if skill.frames}
        parts = [
            f"{name} {frames_text(skill.frames)} ({skill.first_rate:.2f} to {skill.rate:.2f})"
            for name, skill in sorted(trained.items(), key=lambda item: -item[1].frames)
        ]
        if parts:
            self._say(f"trained    {', '.join(parts)}")
        if self._left >= self._update:
            self._say(f"{frames_text(self._left)} frames are left: episodes would gain by no skill that can be trained further")
