"""The rules that a skill's two functions must follow on recorded and edited steps of the real game.

`examine` finds the first broken rule. There are five groups of steps:

- *recorded*: as played, with several values of ``n``;
- *events*: each resource of the game gained and lost, so that rare events are tried too;
- *starts*: fresh worlds with what the skill requires;
- *pairs*: the same step with and without the declared gains;
- *ladder*: increasing amounts of the gains that grow with ``n``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from flowrl.envs.steps import GameSteps, Rows
from flowrl.gate.edited_states import Editor, count, joined, taken
from flowrl.gate.execution import QUICKLY_COMPILED, CodeFault, CompiledSkill, Results
from flowrl.gate.recorded_states import RecordedStates
from flowrl.skills.facts import GameFacts
from flowrl.skills.spec import SkillSpec

COUNTS = (1, 2, 3, 5)
"""The values of ``n`` to try, as far as the game lets a player hold that much."""
PAIR_ROWS = 192
EVENT_ROWS = 6
LADDER_ROWS = 12
HIGHEST_RUNG = 16
MAX_REWARD = 1_000.0
SAME = 1e-6
"""Rewards that differ by less count as equal."""
RARELY = 0.05
"""The share of pairs in which gaining may pay less than not gaining: other terms may outweigh it."""


class Steps(NamedTuple):
    """Steps to try a skill on, ``B`` of them."""

    before: Rows
    after: Rows
    n: np.ndarray
    """int32 ``[B]``."""


class StepGroups:
    """All steps that one skill is tried on, group after group.

    Attributes:
        steps: all of them.
        slices: where each group is among them, by name.
        counts: the values of ``n`` that are tried.
    """

    def __init__(self, spec: SkillSpec, game_steps: GameSteps, recorded: RecordedStates):
        self.spec, self.facts, self.recorded = spec, game_steps.facts, recorded
        self.editor = Editor(game_steps)
        self.slices: dict[str, slice] = {}
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
        self.slices[name] = slice(self._size, self._size + size)
        self._parts.append(steps)
        self._size += size

    def _some(self, wanted: int) -> np.ndarray:
        """Indices of recorded steps, evenly spaced."""
        return np.linspace(0, count(self.recorded.before) - 1, wanted).astype(int)

    def _recorded(self) -> Steps:
        size = count(self.recorded.before)
        return _steps(self.recorded.before, self.recorded.after, np.resize([*self.counts, 1], size))

    def _events(self) -> Steps:
        """Every resource gained and lost, at its lowest and its highest level."""
        places = self._some(EVENT_ROWS)
        before, after = taken(self.recorded.before, places), taken(self.recorded.after, places)
        parts = []
        for resource in self.facts.resources():
            for level in sorted({1, self.facts.highest(resource)}):
                poor, rich, _ = self.editor.gained(before, after, {resource: level})
                parts += [(poor, rich), (rich, poor)]
        rows = joined([poor for poor, _ in parts]), joined([rich for _, rich in parts])
        return _steps(*rows, np.resize(self.counts, count(rows[0])))

    def _starts(self, n: int) -> Steps:
        required = {name: math.ceil(amount.at(n)) for name, amount in self.spec.requires.items()}
        fresh = self.editor.holding(self.recorded.fresh, required)
        return _steps(fresh, fresh, n)

    def _pairs(self, n: int) -> dict[str, Steps]:
        places = self._some(PAIR_ROWS)
        before, after = taken(self.recorded.before, places), taken(self.recorded.after, places)
        before, with_gain, without = self.editor.gained(before, after, self.levels(n))
        return {"with": _steps(before, with_gain, n), "without": _steps(before, without, n), "short": _steps(before, before, n)}

    def _ladder(self) -> Steps:
        growing = [name for name, amount in self.spec.gains.items() if amount.per]
        places = self._some(LADDER_ROWS)
        before, after = taken(self.recorded.before, places), taken(self.recorded.after, places)
        highest = min(HIGHEST_RUNG, *(self.facts.highest(name) for name in growing))
        rungs = []
        for level in range(1, highest + 1):
            held = self.levels(self.counts[-1]) | dict.fromkeys(growing, level)
            rungs.append(self.editor.gained(before, after, held)[:2])
        return _steps(joined([lower for lower, _ in rungs]), joined([upper for _, upper in rungs]), 1)


def examine(
    spec: SkillSpec, game_steps: GameSteps, recorded: RecordedStates, compiler_options: Mapping[str, Any] = QUICKLY_COMPILED
) -> list[dict[str, Any]]:
    """Tries a skill's functions; returns the rules that they follow, with what was seen.

    Args:
        compiler_options: XLA options, by name.

    Raises:
        CodeFault: the first rule that they break.
        CompilerFault: they cannot be judged, because XLA fails on them.
    """
    if not spec.gains:
        raise CodeFault("never_done", f"skill {spec.name} declares no gain; declare what holds once it is done")
    compiled = CompiledSkill(spec, game_steps.facts, recorded.enums, compiler_options)
    compiled.check_kinds(recorded.before)
    groups = StepGroups(spec, game_steps, recorded)
    results = compiled.run(*groups.steps)
    return [{"check": name, "seen": seen} for name, seen in _checks(groups, results)]


def _checks(groups: StepGroups, results: Results) -> Iterator[tuple[str, str]]:
    size = len(groups.steps.n)
    _check_inside("task_is_done", results.done_fault, groups, None)
    yield "task_is_done stays in range and finite", f"{size} steps"
    _check_inside("task_reward", results.reward_fault, groups, results.reward)
    _check_reward(groups, results.reward)
    yield "task_reward is finite, in range and varies", f"{results.reward.min():g} to {results.reward.max():g}"
    _check_start(groups, results.done)
    yield "task_is_done is false at the start", f"{count(groups.recorded.fresh)} fresh worlds"
    counts = f"n = {', '.join(map(str, groups.counts))}"
    for n in groups.counts:
        _check_done(groups, results.done, n)
    yield "task_is_done holds with the declared gains", counts
    if groups.depends_on_n:
        _check_harder(groups, results.done)
        yield "task_is_done is harder with a larger n", counts
    for n in groups.counts:
        _check_not_early(groups, results.done, n)
    yield "task_is_done does not hold with less than the declared gains", counts
    for n in groups.counts:
        _check_paid(groups, results.reward, n)
    yield "gaining pays more than not gaining", f"{PAIR_ROWS} steps with and without"


def _check_inside(name: str, fault: str | None, groups: StepGroups, values: np.ndarray | None) -> None:
    """Faults that `checkify` found, and results that are not finite."""
    reason, _, details = (fault or "").partition(": ")
    bad = ~np.isfinite(values) if values is not None else np.zeros(0, bool)
    if reason == "out_of_range":
        raise CodeFault(reason, f"{name} reads {details}; {_index_remedy(groups.facts)}")
    if bad.any():
        gave = "NaN" if np.isnan(values[bad][0]) else f"{values[bad][0]:g}"
        remedy = "use jnp.maximum to keep divisors and the arguments of log and sqrt above 0"
        raise CodeFault("not_finite", f"{name} gave {gave} {_when(groups, bad)}; {remedy}")
    if reason == "not_finite":
        raise CodeFault(
            reason, f"{name} computes {details}, although jnp.where may discard it; put jnp.maximum around the argument instead"
        )


def _index_remedy(facts: GameFacts) -> str:
    example = next((f", such as {name}.{members[-1]}.value" for name, members in facts.constants.items() if members), "")
    return f"index with the game's constants{example}"


def _check_reward(groups: StepGroups, reward: np.ndarray) -> None:
    large = np.abs(reward) > MAX_REWARD
    if large.any():
        worst = reward[np.abs(reward).argmax()]
        raise CodeFault("too_large", f"task_reward gave {worst:g} {_when(groups, large)}; choose weights of order 1")
    if np.ptp(reward) < SAME:
        raise CodeFault(
            "constant_reward",
            f"task_reward is {reward[0]:g} in all {len(reward)} steps, whatever happens; "
            "pay for a change, such as inventory_diff",
        )


def _check_start(groups: StepGroups, done: np.ndarray) -> None:
    for n in groups.counts:
        at_start = done[groups.slices[f"start {n}"]]
        if at_start.mean() > 0.5:
            raise CodeFault(
                "done_at_start",
                f"task_is_done is true at the start of {at_start.sum()} of {len(at_start)} fresh worlds with n = {n}; "
                "test for something that only the skill achieves",
            )


def _check_done(groups: StepGroups, done: np.ndarray, n: int) -> None:
    if not done[groups.slices[f"with {n}"]].any():
        gains = _amounts(groups.levels(n))
        raise CodeFault(
            "never_done", f"task_is_done stays false after gaining {gains} (n = {n}); test for exactly what gains declares"
        )


def _check_not_early(groups: StepGroups, done: np.ndarray, n: int) -> None:
    gains = _amounts(groups.levels(n))
    early = done[groups.slices[f"without {n}"]] | done[groups.slices[f"short {n}"]]
    if early.any():
        raise CodeFault(
            "done_without_gain",
            f"task_is_done is true in {early.sum()} of {len(early)} states with less than {gains} (n = {n}); "
            "test for the whole gain, and for n times as much if it grows with n",
        )


def _check_harder(groups: StepGroups, done: np.ndarray) -> None:
    rates = [done[groups.slices[f"ladder {n}"]] for n in groups.counts]
    for n, larger, smaller, easy in zip(groups.counts, groups.counts[1:], rates[1:], rates):
        if (smaller & ~easy).any():
            raise CodeFault(
                "not_harder", f"task_is_done is easier with n = {larger} than with n = {n}; a larger n must require more"
            )
    if rates[-1].sum() >= rates[0].sum():
        raise CodeFault(
            "not_harder",
            f"task_is_done is as easy with n = {groups.counts[-1]} as with n = {groups.counts[0]}, "
            "but the gains grow with n; use n in task_is_done",
        )


def _check_paid(groups: StepGroups, reward: np.ndarray, n: int) -> None:
    more = reward[groups.slices[f"with {n}"]] - reward[groups.slices[f"without {n}"]]
    gains = _amounts(groups.levels(n))
    if abs(more.mean()) < SAME and np.abs(more).max() < SAME:
        raise CodeFault(
            "gain_not_paid", f"task_reward pays the same with and without gaining {gains} (n = {n}); pay for the gain"
        )
    if more.mean() < SAME or (more < -SAME).mean() > RARELY:
        raise CodeFault(
            "gain_not_paid",
            f"task_reward pays {more.mean():+.3g} for gaining {gains} compared with not gaining it, and less in "
            f"{(more < -SAME).mean():.0%} of steps (n = {n}); check the sign and the weight of the gain",
        )


def _when(groups: StepGroups, bad: np.ndarray) -> str:
    """What the bad steps have in common, if anything stands out."""
    best, best_score, best_text = 0, 0.0, ""
    for text, holds in _conditions(groups):
        score = 2 * (bad & holds).sum() / (bad.sum() + holds.sum())
        if score > best_score:
            best, best_score, best_text = (bad & holds).sum(), score, text
    if best_score > 0.6:
        return f"when {best_text} ({best} of {len(bad)} steps)"
    return f"in {bad.sum()} of {len(bad)} steps"


def _conditions(groups: StepGroups) -> Iterator[tuple[str, np.ndarray]]:
    before, after, n = groups.steps
    yield "anything happened", np.ones(len(n), bool)
    yield from groups.editor.steps.conditions(before, after)
    for value in groups.counts:
        yield f"n was {value}", n == value


def _steps(before: Rows, after: Rows, n: np.ndarray | int) -> Steps:
    return Steps(before, after, np.broadcast_to(np.asarray(n, np.int32), count(before)).astype(np.int32))


def _amounts(levels: dict[str, int]) -> str:
    return ", ".join(name if ":" in name else f"{level} {name}" for name, level in levels.items())
