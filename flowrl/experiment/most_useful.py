"""``--continue_skill most_useful``: hands frames to the skills by which whole episodes would gain most, a piece at a time.

A skill's score is what episodes would gain if it reached its goal (`prospects`), times the share of the way there that a piece
of training is expected to bring. That share is `UNTRIED` at first. Afterwards it is what the last piece has brought, but at
least half of what was expected of it: a skill that does not get better is chosen less and less often. One whose training failed
or was cancelled is not chosen again. So frames follow learning progress, as in Matiisen et al., *Teacher-Student Curriculum
Learning* (2017, arXiv 1707.00183), weighted by what it is worth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from flowrl.errors import BadInput
from flowrl.experiment.prospects import Prospects

UNTRIED = 0.5
"""The share of the way to its goal that the first piece is expected to take a skill."""
PIECES = 8
"""By default, the frames are handed out in about as many pieces."""


class Scheduler(Protocol):
    """What is needed of :class:`flowrl.parallel.scheduler.SkillScheduler`."""

    @property
    def state(self) -> Mapping[str, Any]: ...

    def free_slots(self) -> int: ...

    def continue_skill(self, skill_name: str, frames: int, to_goal: bool = False) -> int: ...


class Trained(NamedTuple):
    """What a piece of training came to."""

    frames: int
    rate: float | None
    """Of the tries at the skill's own task; None if the training failed or was cancelled, and the expert is as it was."""


@dataclass
class _Skill:
    rate: float
    share: float = UNTRIED
    """Of the way to the goal, that the next piece is expected to bring."""
    first_rate: float = 0.0
    frames: int = 0
    is_open: bool = True
    """Whether it may be trained further."""


class MostUseful:
    """Hands out frames while the scheduler has free slots.

    Args:
        rates: of each skill that may be trained further, the rate of the tries at its own task.
        frames: in all.
        piece: frames of a piece, at most.
        update: frames of an update; fewer cannot be trained.
        goal: the rate up to which a skill is trained.
        trained: what the newest training of a skill came to, once it has ended.
        say: takes a line for the terminal.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        prospects: Prospects,
        rates: Mapping[str, float],
        frames: int,
        piece: int,
        update: int,
        goal: float,
        trained: Callable[[str], Trained],
        say: Callable[[str], None],
    ):
        self._scheduler, self._prospects, self._trained, self._say = scheduler, prospects, trained, say
        self._skills = {name: _Skill(rate, first_rate=rate) for name, rate in rates.items()}
        self._left, self._piece, self._update, self._goal = frames, max(piece, update), update, goal
        self._given: dict[str, int] = {}
        """Frames of the pieces that are under way."""
        self._is_over = False

    def look(self) -> None:
        """Takes in what has ended, and hands out what is left while there is room."""
        under_way = {entry["skill_name"] for entry in self._scheduler.state["skills"] if entry["status"] != "completed"}
        self._take_in(self._given.keys() - under_way)
        while self._left >= self._update and self._scheduler.free_slots() > 0:
            if (name := self._choice(under_way | self._given.keys())) is None:
                return
            self._hand_out(name)

    def look_at_the_end(self) -> bool:
        """As `look`; returns whether nothing more is to come."""
        self.look()
        if self._given:
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
        wanted = min(self._piece, self._left)
        try:
            given = self._scheduler.continue_skill(name, wanted, to_goal=True)
        except BadInput as error:
            self._say(f"{name} is not trained further: {error}")
            self._skills[name].is_open = False
            return
        self._given[name] = given
        self._left -= given
        rate, gain = self._skills[name].rate, self._gain(name)
        self._say(
            f"further    {name}: {given:,} frames; {rate:.2f} of its tries succeed, and at its goal, whole episodes would gain "
            f"{gain:.2f}"
        )

    def _take_in(self, ended: Set[str]) -> None:
        for name in sorted(ended):
            given, found, skill = self._given.pop(name), self._trained(name), self._skills[name]
            self._left += max(given - found.frames, 0)
            skill.frames += found.frames
            if found.rate is None or not found.frames:
                skill.is_open = False
                continue
            brought = (found.rate - skill.rate) / (self._goal - skill.rate)
            skill.rate, skill.share = found.rate, max(brought, skill.share / 2)

    def _report(self) -> None:
        trained = {name: skill for name, skill in self._skills.items() if skill.frames}
        parts = [
            f"{name} {skill.frames:,} ({skill.first_rate:.2f} to {skill.rate:.2f})"
            for name, skill in sorted(trained.items(), key=lambda item: -item[1].frames)
        ]
        if parts:
            self._say(f"frames     {', '.join(parts)}")
        if self._left >= self._update:
            self._say(f"{self._left:,} frames are left: whole episodes would gain by no skill that can be trained further")
