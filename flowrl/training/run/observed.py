"""Holds what the tries at a skill's own task showed against what the skill declares.

The rules are conservative: nothing is said without `LEAST_TRIES` successes, and a difference needs nearly all of them. An
undeclared need is inferred, from what failures lacked, so it has the strictest rule: nearly every success held the resource at
its start, clearly fewer of the failures did, and Fisher's exact test (1934, *Statistical Methods for Research Workers*) calls
chance unlikely, although many resources are looked at. Achievements are left out there, since they are traces of other things.
"""

from __future__ import annotations

import dataclasses
from math import comb
from typing import NamedTuple

import jax
import numpy as np

from flowrl.envs.adapter import GameAdapter
from flowrl.envs.readings import make_level_reader
from flowrl.records.observed import Difference, DifferenceKind, Observed, ObservedResource
from flowrl.skills.facts import GameFacts, Kind
from flowrl.skills.graph import needs
from flowrl.skills.spec import SkillSpec
from flowrl.training.playing.tries import Tries

LEAST_TRIES = 32
"""Successes without which nothing is said; for an undeclared need, failures as well."""
NEARLY_ALL = 0.9
NEARLY_EVERY = 0.98
"""Share of the successes that held, at their start, what is called a need."""
NEARLY_ALL_STEPS = 0.95
"""Share of the successes that came within `Observed.most_steps`."""
CLEARLY_FEWER = 0.2
"""By so much the share of the failures that held it is smaller."""
LIKELY_CHANCE = 0.01
"""The largest probability, for all resources together, with which chance may look like a need."""
MOST_NEEDS = 3
"""Of several undeclared needs, which often go together, the clearest are named."""
NOTEWORTHY = 0.1
_LASTING = (Kind.STOCK, Kind.POSSESSION, Kind.PLACE)
"""What a gain that is not declared may be; what happens to be near the player at the end is none."""


class Levels(NamedTuple):
    """How much was held in ``E`` tries at a task, of each of ``R`` resources."""

    resources: tuple[str, ...]
    before: np.ndarray
    """float32 ``[E, R]``: as the task began."""
    after: np.ndarray
    """float32 ``[E, R]``: after the step that ended it."""
    success: np.ndarray
    """bool ``[E]``."""
    steps: np.ndarray
    """int32 ``[E]``: of each try."""


def of_a_copy(seen: Observed) -> Observed:
    """What was observed with an expert that began as a copy of another: it goes on doing what that one has learned, so what it
    gains on the side says nothing about the skill."""
    differences = tuple(each for each in seen.differences if each.kind is not DifferenceKind.GAIN_NOT_DECLARED)
    return dataclasses.replace(seen, differences=differences, added_gains=())


def levels_of(adapter: GameAdapter, tries: Tries) -> Levels:
    """The levels of all resources of a game.

    They are read operation by operation: once in a run that takes about a second, and to compile it takes several.
    """
    resources, num_tries = tuple(adapter.facts.resources()), len(tries.success)
    if not num_tries:
        nothing = np.zeros((0, len(resources)), np.float32)
        return Levels(resources, nothing, nothing, tries.success, tries.steps)
    both = jax.tree.map(lambda *two: np.concatenate(two), tries.begun, tries.ended)
    found = np.asarray(jax.vmap(make_level_reader(adapter, resources))(both))
    return Levels(resources, found[:num_tries], found[num_tries:], tries.success, tries.steps)


class _Tries(NamedTuple):
    """The levels of one resource in the tries at a task."""

    resource: str
    before: np.ndarray
    """float32 ``[S]``: in successes."""
    after: np.ndarray
    failed_before: np.ndarray
    """float32 ``[F]``: in failures."""

    @property
    def drop(self) -> np.ndarray:
        return self.before - self.after


def observed(spec: SkillSpec, n: int, facts: GameFacts, levels: Levels) -> Observed:
    """
    Args:
        n: how often the task was to be done.
    """
    success = levels.success
    tries = [
        _Tries(resource, levels.before[success, column], levels.after[success, column], levels.before[~success, column])
        for column, resource in enumerate(levels.resources)
    ]
    comparison = _Comparison(spec, n, facts)
    found = comparison.differences(tries) if success.sum() >= LEAST_TRIES else []
    declared = {*spec.requires, *spec.consumes, *spec.gains, *(difference.resource for difference in found)}
    figures = {each.resource: _figures(each, spec, n, facts) for each in tries} if success.any() else {}
    return Observed(
        n=n,
        successes=int(success.sum()),
        failures=int((~success).sum()),
        resources={name: each for name, each in figures.items() if name in declared or _is_noteworthy(each)},
        differences=tuple(found),
        most_steps=_most_steps(levels.steps[success], n),
        added_gains=tuple(each.resource for each in tries if found and comparison.adds(each)),
    )


def _most_steps(steps: np.ndarray, n: int) -> int | None:
    """See `Observed.most_steps`; ``steps``: of the successes."""
    if len(steps) < LEAST_TRIES:
        return None
    return int(np.ceil(np.quantile(steps, NEARLY_ALL_STEPS, method="inverted_cdf") / n))


class _Comparison(NamedTuple):
    """The rules for one skill."""

    spec: SkillSpec
    n: int
    facts: GameFacts

    def differences(self, tries: list[_Tries]) -> list[Difference]:
        rules = (self.gain_not_observed, self.gain_not_declared, self.consumption, self.requirement_not_held)
        found = [difference for rule in rules for each in tries if (difference := rule(each))]
        return [*found, *self.needs_not_declared(tries)]

    def gain_not_observed(self, tries: _Tries) -> Difference | None:
        gain = self.spec.gains.get(tries.resource)
        if gain is None or gain.at(self.n) <= 0 or np.any(tries.after >= gain.at(self.n)):
            return None
        text = (
            f"declares a gain of {gain.at(self.n):g} {tries.resource}; none of {len(tries.after)} successful episodes held that"
        )
        return self.difference(DifferenceKind.GAIN_NOT_OBSERVED, tries, text)

    def gain_not_declared(self, tries: _Tries) -> Difference | None:
        if not self.gains_undeclared(tries):
            return None
        could = self.could_gain(tries)
        share = _share(tries.drop[could] < 0)
        text = f"declares no gain of {tries.resource}; gained by {share:.2f} of {could.sum()} successful episodes"
        if self.facts.kind(tries.resource) is Kind.STOCK:
            text += f", {-np.median(tries.drop[could]):g} in the median"
        if self.adds(tries):
            text += "; added to its gains"
        return self.difference(DifferenceKind.GAIN_NOT_DECLARED, tries, text)

    def gains_undeclared(self, tries: _Tries) -> bool:
        if tries.resource in self.spec.gains or self.facts.kind(tries.resource) not in _LASTING:
            return False
        could = self.could_gain(tries)
        return could.sum() >= LEAST_TRIES and _share(tries.drop[could] < 0) >= NEARLY_ALL

    def adds(self, tries: _Tries) -> bool:
        """Whether the library adds a gain: no plan that exists can break by it."""
        return self.is_achievement(tries.resource) and self.gains_undeclared(tries) and _share(tries.after >= 1) >= NEARLY_ALL

    def could_gain(self, tries: _Tries) -> np.ndarray:
        """bool ``[S]``: the successes that began with less than can be held."""
        return tries.before < self.facts.highest(tries.resource)

    def consumption(self, tries: _Tries) -> Difference | None:
        if self.facts.kind(tries.resource) is not Kind.STOCK or tries.resource in self.spec.gains:
            return None
        amount = self.spec.consumes.get(tries.resource)
        declared = amount.at(self.n) if amount else 0
        less, more = _share(tries.drop < declared) if declared else 0.0, _share(tries.drop > declared)
        if max(less, more) < NEARLY_ALL:
            return None
        uses = f"declares to use up {declared:g} {tries.resource}" if declared else f"declares to use up no {tries.resource}"
        which = "less" if less > more else "more"
        text = (
            f"{uses}; {max(less, more):.2f} of {len(tries.drop)} successful episodes used {which}, "
            f"{np.median(tries.drop):g} in the median"
        )
        return self.difference(DifferenceKind.CONSUMPTION, tries, text)

    def requirement_not_held(self, tries: _Tries) -> Difference | None:
        level = needs(self.spec, self.facts, self.n).get(tries.resource)
        if level is None or (share := _share(tries.before >= level)) > 1 - NEARLY_ALL:
            return None
        text = (
            f"requires {level:g} {tries.resource}; only {share:.2f} of {len(tries.before)} successful episodes began with that"
        )
        return self.difference(DifferenceKind.REQUIREMENT_NOT_HELD, tries, text)

    def needs_not_declared(self, tries: list[_Tries]) -> list[Difference]:
        declared = {*needs(self.spec, self.facts, self.n), self.facts.start_place}
        open_to = [each for each in tries if each.resource not in declared and not self.is_achievement(each.resource)]
        seeming = [(each, _gap(each)) for each in open_to if _seems_needed(each, LIKELY_CHANCE / len(open_to))]
        clearest = sorted(seeming, key=lambda pair: -pair[1])[:MOST_NEEDS]
        return [self.difference(DifferenceKind.NEED_NOT_DECLARED, each, _need_text(each)) for each, _ in clearest]

    def is_achievement(self, resource: str) -> bool:
        return bool(self.facts.goals) and resource.startswith(f"{self.facts.goals}:")

    def difference(self, kind: DifferenceKind, tries: _Tries, text: str) -> Difference:
        return Difference(kind, tries.resource, f"{self.spec.name}: {text}")


def _seems_needed(tries: _Tries, likely_chance: float) -> bool:
    with_it, without = int((tries.before >= 1).sum()), int((tries.before < 1).sum())
    failed_with_it, failed_without = int((tries.failed_before >= 1).sum()), int((tries.failed_before < 1).sum())
    if min(with_it + without, failed_with_it + failed_without) < LEAST_TRIES:
        return False
    if _share(tries.before >= 1) < NEARLY_EVERY or _gap(tries) < CLEARLY_FEWER:
        return False
    return fisher(with_it, without, failed_with_it, failed_without) < likely_chance


def _need_text(tries: _Tries) -> str:
    return (
        f"declares no need of {tries.resource}; {_share(tries.before >= 1):.2f} of {len(tries.before)} successful episodes "
        f"began with it, and {_share(tries.failed_before >= 1):.2f} of {len(tries.failed_before)} failed ones"
    )


def fisher(a: int, b: int, c: int, d: int) -> float:
    """Fisher's exact test, one-sided: the probability that, of the table ``[[a, b], [c, d]]`` with its sums given, the first
    cell is ``a`` or larger by chance."""
    rows, column = a + b, a + c
    ways = sum(comb(rows, k) * comb(c + d, column - k) for k in range(a, min(rows, column) + 1))
    return ways / comb(rows + c + d, column)


def _gap(tries: _Tries) -> float:
    return _share(tries.before >= 1) - _share(tries.failed_before >= 1)


def _share(holds: np.ndarray) -> float:
    return float(holds.mean()) if len(holds) else 0.0


def _figures(tries: _Tries, spec: SkillSpec, n: int, facts: GameFacts) -> ObservedResource:
    resource = tries.resource
    needed, gain = needs(spec, facts, n).get(resource), spec.gains.get(resource)
    could = tries.before < facts.highest(resource)
    return ObservedResource(
        held_before=_rounded(tries.before >= 1),
        held_before_failures=_rounded(tries.failed_before >= 1) if len(tries.failed_before) else None,
        requirement_held=None if needed is None else _rounded(tries.before >= needed),
        gain_held=None if gain is None else _rounded(tries.after >= gain.at(n)),
        gained=_rounded(tries.drop[could] < 0) if could.any() else None,
        spent=_rounded(tries.drop > 0),
        change=float(-np.median(tries.drop)) + 0.0,
    )


def _rounded(holds: np.ndarray) -> float:
    return round(_share(holds), 4)


def _is_noteworthy(figures: ObservedResource) -> bool:
    return max(figures.gained or 0.0, figures.spent) >= NOTEWORTHY
