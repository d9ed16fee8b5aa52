"""The rules that a skill's two functions have to keep on recorded and edited steps of the real game.

`examine` finds the first rule that is broken. The steps are of five groups:

- *recorded*: as played, under several ``n``;
- *events*: each resource of the game gained, and lost, so that what is rare is tried as well;
- *starts*: fresh worlds with what the skill requires;
- *pairs*: one step with and without the declared gains;
- *ladder*: one amount after the other of the gains that grow with ``n``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from flowrl.gate.edited_states import Editor, Rows, count, joined, taken
from flowrl.gate.execution import QUICKLY_COMPILED, Faulty, Results, Trial
from flowrl.gate.recorded_states import Recording
from flowrl.skills.facts import GameFacts
from flowrl.skills.spec import SkillSpec

COUNTS = (1, 2, 3, 5)
"""The ``n`` that are tried, as far as the game lets a player hold so much."""
PAIR_ROWS = 192
EVENT_ROWS = 6
LADDER_ROWS = 12
HIGHEST_RUNG = 16
MAX_REWARD = 1_000.0
SAME = 1e-6
"""Rewards that differ by less are the same."""
RARELY = 0.05
"""The share of pairs in which the gain may pay less than none: its surroundings may matter more."""


class Steps(NamedTuple):
    """Steps to try a skill on, ``B`` of them."""

    before: Rows
    after: Rows
    n: np.ndarray
    """int32 ``[B]``."""


class Lesson:
    """All steps for one skill, one group below the other."""

    def __init__(self, spec: SkillSpec, facts: GameFacts, recording: Recording):
        self.spec, self.facts, self.recording = spec, facts, recording
        self.editor = Editor(facts, recording.enums)
        self.groups: dict[str, slice] = {}
        self._parts: list[Steps] = []
        self._size = 0
        self.counts = [n for n in COUNTS if self._is_possible(n)] or [1]
        self._add("recorded", self._recorded())
        self._add("events", self._events())
        for n in self.counts:
            self._add(f"start {n}", self._starts(n))
            for name, steps in self._pairs(n).items():
                self._add(f"{name} {n}", steps)
        if self.depends_on_n:
            rungs = self._ladder()
            for n in self.counts:
                self._add(f"ladder {n}", rungs._replace(n=np.full_like(rungs.n, n)))
        self.steps = Steps(
            joined([part.before for part in self._parts]),
            joined([part.after for part in self._parts]),
            np.concatenate([part.n for part in self._parts]),
        )

    @property
    def depends_on_n(self) -> bool:
        return any(amount.per for amount in self.spec.gains.values()) and len(self.counts) > 1

    def levels(self, n: int) -> dict[str, int]:
        """What is held once the skill is done ``n`` times."""
        return {name: math.ceil(amount.at(n)) for name, amount in self.spec.gains.items() if amount.at(n) > 0}

    def _is_possible(self, n: int) -> bool:
        return all(level <= self.facts.highest(name) for name, level in self.levels(n).items())

    def _add(self, name: str, steps: Steps) -> None:
        size = len(steps.n)
        self.groups[name] = slice(self._size, self._size + size)
        self._parts.append(steps)
        self._size += size

    def _some(self, wanted: int) -> np.ndarray:
        """Places of recorded steps, evenly spread."""
        return np.linspace(0, count(self.recording.before) - 1, wanted).astype(int)

    def _recorded(self) -> Steps:
        size = count(self.recording.before)
        return _steps(self.recording.before, self.recording.after, np.resize([*self.counts, 1], size))

    def _events(self) -> Steps:
        """Every resource, gained and lost, at its lowest and its highest levels."""
        places = self._some(EVENT_ROWS)
        before, after = taken(self.recording.before, places), taken(self.recording.after, places)
        parts = []
        for resource in self.facts.resources():
            for level in sorted({1, self.facts.highest(resource)}):
                poor, rich, _ = self.editor.gained(before, after, {resource: level})
                parts += [(poor, rich), (rich, poor)]
        rows = joined([poor for poor, _ in parts]), joined([rich for _, rich in parts])
        return _steps(*rows, np.resize(self.counts, count(rows[0])))

    def _starts(self, n: int) -> Steps:
        required = {name: math.ceil(amount.at(n)) for name, amount in self.spec.requires.items()}
        fresh = self.editor.holding(self.recording.fresh, required)
        return _steps(fresh, fresh, n)

    def _pairs(self, n: int) -> dict[str, Steps]:
        places = self._some(PAIR_ROWS)
        before, after = taken(self.recording.before, places), taken(self.recording.after, places)
        before, with_gain, without = self.editor.gained(before, after, self.levels(n))
        return {"with": _steps(before, with_gain, n), "without": _steps(before, without, n), "short": _steps(before, before, n)}

    def _ladder(self) -> Steps:
        growing = [name for name, amount in self.spec.gains.items() if amount.per]
        places = self._some(LADDER_ROWS)
        before, after = taken(self.recording.before, places), taken(self.recording.after, places)
        highest = min(HIGHEST_RUNG, *(self.facts.highest(name) for name in growing))
        rungs = []
        for level in range(1, highest + 1):
            held = self.levels(self.counts[-1]) | dict.fromkeys(growing, level)
            rungs.append(self.editor.gained(before, after, held)[:2])
        return _steps(joined([lower for lower, _ in rungs]), joined([upper for _, upper in rungs]), 1)


def examine(
    spec: SkillSpec, facts: GameFacts, recording: Recording, compiler_options: Mapping[str, Any] = QUICKLY_COMPILED
) -> list[dict[str, Any]]:
    """Tries a skill's functions; returns the rules that they keep, with what was seen.

    Args:
        compiler_options: of XLA, by name.

    Raises:
        Faulty: the first rule that they break.
        CompilerFault: they cannot be judged, because XLA fails on them.
    """
    if not spec.gains:
        raise Faulty("never_done", f"skill {spec.name} declares no gain; declare what holds once it is done")
    fields = [*facts.stocks, *facts.possessions]
    trial = Trial(spec, recording.enums, fields, compiler_options)
    trial.check_kinds(recording.before)
    lesson = Lesson(spec, facts, recording)
    results = trial.run(*lesson.steps)
    return [{"check": name, "seen": seen} for name, seen in _checks(lesson, results)]


def _checks(lesson: Lesson, results: Results) -> Iterator[tuple[str, str]]:
    size = len(lesson.steps.n)
    _check_inside("task_is_done", results.done_fault, lesson, None)
    yield "task_is_done stays in range and finite", f"{size} steps"
    _check_inside("task_reward", results.reward_fault, lesson, results.reward)
    _check_reward(lesson, results.reward)
    yield "task_reward is finite, in range and varies", f"{results.reward.min():g} to {results.reward.max():g}"
    _check_start(lesson, results.done)
    yield "task_is_done is false at the start", f"{len(lesson.recording.fresh['player_level'])} fresh worlds"
    counts = f"n = {', '.join(map(str, lesson.counts))}"
    for n in lesson.counts:
        _check_done(lesson, results.done, n)
    yield "task_is_done holds with the declared gains", counts
    if lesson.depends_on_n:
        _check_harder(lesson, results.done)
        yield "task_is_done is harder with a larger n", counts
    for n in lesson.counts:
        _check_not_early(lesson, results.done, n)
    yield "task_is_done does not hold with less than the declared gains", counts
    for n in lesson.counts:
        _check_paid(lesson, results.reward, n)
    yield "gaining pays more than not gaining", f"{PAIR_ROWS} steps with and without"


def _check_inside(name: str, fault: str | None, lesson: Lesson, values: np.ndarray | None) -> None:
    """Faults that `checkify` found, and results that are not finite."""
    reason, _, details = (fault or "").partition(": ")
    bad = ~np.isfinite(values) if values is not None else np.zeros(0, bool)
    if reason == "out_of_range":
        raise Faulty(reason, f"{name} reads {details}; index with the game's constants, such as BlockType.TREE.value")
    if bad.any():
        gave = "NaN" if np.isnan(values[bad][0]) else f"{values[bad][0]:g}"
        remedy = "keep what it divides by, and the arguments of log and sqrt, above 0 with jnp.maximum"
        raise Faulty("not_finite", f"{name} gave {gave} {_when(lesson, bad)}; {remedy}")
    if reason == "not_finite":
        raise Faulty(
            reason, f"{name} computes {details}, even if jnp.where leaves it out; put jnp.maximum around the argument instead"
        )


def _check_reward(lesson: Lesson, reward: np.ndarray) -> None:
    large = np.abs(reward) > MAX_REWARD
    if large.any():
        worst = reward[np.abs(reward).argmax()]
        raise Faulty("too_large", f"task_reward gave {worst:g} {_when(lesson, large)}; rewards are of order 1")
    if np.ptp(reward) < SAME:
        raise Faulty(
            "constant_reward", f"task_reward is {reward[0]:g} in all {len(reward)} steps, whatever happens; pay for a change, as in inventory_diff"
        )


def _check_start(lesson: Lesson, done: np.ndarray) -> None:
    for n in lesson.counts:
        at_start = done[lesson.groups[f"start {n}"]]
        if at_start.mean() > 0.5:
            raise Faulty(
                "done_at_start",
                f"task_is_done is true at the start of {at_start.sum()} of {len(at_start)} fresh worlds with n = {n}; "
                "require what only the skill brings about",
            )


def _check_done(lesson: Lesson, done: np.ndarray, n: int) -> None:
    if not done[lesson.groups[f"with {n}"]].any():
        gains = _amounts(lesson.levels(n))
        raise Faulty("never_done", f"task_is_done stays false when {gains} has come about (n = {n}); test for what gains declares")


def _check_not_early(lesson: Lesson, done: np.ndarray, n: int) -> None:
    gains = _amounts(lesson.levels(n))
    early = done[lesson.groups[f"without {n}"]] | done[lesson.groups[f"short {n}"]]
    if early.any():
        raise Faulty(
            "done_without_gain",
            f"task_is_done is true in {early.sum()} of {len(early)} states with less than {gains} (n = {n}); "
            "ask for the whole gain, and for n times as much where it grows with n",
        )


def _check_harder(lesson: Lesson, done: np.ndarray) -> None:
    rates = [done[lesson.groups[f"ladder {n}"]] for n in lesson.counts]
    for n, larger, smaller, easy in zip(lesson.counts, lesson.counts[1:], rates[1:], rates):
        if (smaller & ~easy).any():
            raise Faulty("not_harder", f"task_is_done is easier with n = {larger} than with n = {n}; more of n must ask for more")
    if rates[-1].sum() >= rates[0].sum():
        raise Faulty(
            "not_harder",
            f"task_is_done is as easy with n = {lesson.counts[-1]} as with n = {lesson.counts[0]}, but the gains grow with n; use n in it",
        )


def _check_paid(lesson: Lesson, reward: np.ndarray, n: int) -> None:
    more = reward[lesson.groups[f"with {n}"]] - reward[lesson.groups[f"without {n}"]]
    gains = _amounts(lesson.levels(n))
    if abs(more.mean()) < SAME and np.abs(more).max() < SAME:
        raise Faulty("gain_not_paid", f"task_reward pays the same whether {gains} comes about or not (n = {n}); pay for the gain")
    if more.mean() < SAME or (more < -SAME).mean() > RARELY:
        raise Faulty(
            "gain_not_paid",
            f"task_reward pays {more.mean():+.3g} for {gains} compared to not gaining it, less in {(more < -SAME).mean():.0%} of steps "
            f"(n = {n}); look at its sign and weight",
        )


def _when(lesson: Lesson, bad: np.ndarray) -> str:
    """What the bad steps have in common, as far as it can be told."""
    best, best_score, best_text = 0, 0.0, ""
    for text, holds in _conditions(lesson):
        score = 2 * (bad & holds).sum() / (bad.sum() + holds.sum())
        if score > best_score:
            best, best_score, best_text = (bad & holds).sum(), score, text
    if best_score > 0.6:
        return f"when {best_text} ({best} of {len(bad)} steps)"
    return f"in {bad.sum()} of {len(bad)} steps"


def _conditions(lesson: Lesson) -> Iterator[tuple[str, np.ndarray]]:
    before, after, n = lesson.steps
    yield "anything happened", np.ones(len(n), bool)
    for name in before["inventory"]:
        had, has = (_total(rows["inventory"][name]) for rows in (before, after))
        yield f"{name} was gained", has > had
        yield f"{name} was lost", has < had
        yield f"{name} stayed the same", has == had
        yield f"there was no {name}", has == 0
        yield f"there was {name}", has > 0
    for name, index in lesson.recording.enums["Achievement"].items():
        yield f"{name} was unlocked", after["achievements"][:, index] & ~before["achievements"][:, index]
    for name, index in lesson.recording.enums["BlockType"].items():
        in_view = np.abs(after["closest_blocks"][:, index]).sum(axis=(1, 2)) < 30
        yield f"{name} was in view", in_view
        yield f"no {name} was in view", ~in_view
    health = after["player_intrinsics"][:, 0] - before["player_intrinsics"][:, 0]
    yield "health was lost", health < 0
    for value in lesson.counts:
        yield f"n was {value}", n == value


def _steps(before: Rows, after: Rows, n: np.ndarray | int) -> Steps:
    return Steps(before, after, np.broadcast_to(np.asarray(n, np.int32), count(before)).astype(np.int32))


def _total(held: np.ndarray) -> np.ndarray:
    return held.reshape(len(held), -1).sum(axis=1)


def _amounts(levels: dict[str, int]) -> str:
    return ", ".join(name if ":" in name else f"{level} {name}" for name, level in levels.items())
