"""The text of a question to the model: first the rules and the game, which never change, then the library as it stands."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping

from flowrl.proposers.base import LibraryView, Measured
from flowrl.proposers.llm import prompts
from flowrl.proposers.llm.prompts import Message
from flowrl.proposers.llm.reward_menu import menu_terms
from flowrl.skills import checks
from flowrl.skills.facts import GameFacts, Kind
from flowrl.skills.frontier import reachable_skills
from flowrl.skills.graph import provides
from flowrl.skills.spec import Amount, SkillSpec

NONE = "- none"


def opening(library: LibraryView, seed: int, proposal: int, rewards: int = 1) -> list[Message]:
    """The messages that ask for a new skill.

    Args:
        seed, proposal: they determine the order of the choices.
        rewards: how many rewards to ask for.
    """
    rules = f"{prompts.render('rules')}\n\n{game_text(library.facts)}"
    if rewards > 1:
        rules = f"{rules}\n\n{prompts.render('rewards', count=rewards)}"
    return [{"role": "system", "content": rules}, {"role": "user", "content": request_text(library, seed, proposal)}]


def game_text(facts: GameFacts) -> str:
    """The game's facts, and what code may use."""
    return prompts.render(
        "game",
        env_name=facts.env_name,
        stocks=_pairs(facts.stocks),
        possessions=_pairs(facts.possessions),
        lists="\n".join(f"{heading}: {_words(words)}" for heading, words in facts.lists.items()),
        terms="\n".join(f"- {name}: {meaning}" for name, meaning in menu_terms(facts).items()),
        features="\n".join(f"- {line}" for line in facts.feature_lines),
        constants=_words(facts.constants),
        jnp_names=_words(sorted(checks.JNP_NAMES)),
        jax_names=_words(sorted(checks.JAX_NAMES)),
        array_methods=_words(sorted(checks.ARRAY_METHODS)),
        array_fields=_words(sorted(checks.ARRAY_FIELDS)),
        builtins=_words(sorted(checks.BUILTINS)),
    )


def request_text(library: LibraryView, seed: int, proposal: int) -> str:
    """The library, the frontier and the choices."""
    choices = missing_gains(library.available, library.facts)
    random.Random(f"{seed}/{proposal}").shuffle(choices)
    reached = reachable_skills(library.available, library.facts)
    return prompts.render(
        "request",
        library=_lines(line for name, spec in library.completed.items() for line in _trained(spec, library)),
        training=_lines(_skill(spec, None) for spec in library.training.values()),
        unavailable=_lines(_unavailable(name, library.reasons.get(name)) for name in sorted(library.unavailable)),
        reached=_words(dict.fromkeys(gain for spec in reached.values() for gain in spec.gains)) or "nothing yet",
        choices=_lines(f"- {choice}" for choice in choices),
    )


def missing_gains(available: Mapping[str, SkillSpec], facts: GameFacts) -> list[str]:
    """The gains that no skill in reach provides and that could come next: only the next level, only neighbouring places."""
    reached = reachable_skills(available, facts)

    def is_missing(resource: str, level: int = 1) -> bool:
        return not any(provides(spec, resource, level, facts) for spec in reached.values())

    missing = [stock for stock in facts.stocks if is_missing(stock)]
    for possession, highest in facts.possessions.items():
        levels = [level for level in range(1, highest + 1) if is_missing(possession, level)]
        missing += [possession if highest == 1 else f"{possession} (level {levels[0]})"] if levels else []
    places = [place for place in facts.places if place == facts.start_place or not is_missing(place)]
    reached_names = {place.partition(":")[2] for place in places}
    for family in facts.families:
        if family.kind is Kind.POSSESSION:
            members = [name for name in family.members if not family.is_at_places or name in reached_names]
            missing += [resource for resource in map(family.resource, members) if is_missing(resource)]
    following = {after for place, after in zip(facts.places, facts.places[1:]) if place in places}
    return missing + [place for place in facts.places if place in following and is_missing(place)]


def _trained(spec: SkillSpec, library: LibraryView) -> list[str]:
    """A skill of the library; below it, where what was observed differs from what it declares."""
    return [
        _skill(spec, library.measured.get(spec.name)),
        *(f"  observed: {line}" for line in library.differences.get(spec.name, ())),
    ]


def _unavailable(name: str, reason: str | None) -> str:
    return f"- {name}: {reason}" if reason else f"- {name}"


def _skill(spec: SkillSpec, measured: Measured | None) -> str:
    parts = [f"{role} {_amounts(getattr(spec, role))}" for role in ("requires", "consumes", "gains") if getattr(spec, role)]
    return f"- {spec.name}: {'; '.join(parts)}" + (f" [{_result(measured)}]" if measured else "")


def _result(measured: Measured) -> str:
    if measured.success_rate is None:
        return "not measured"
    chance = "" if measured.random_success_rate is None else f", a random policy {measured.random_success_rate:.2f}"
    price = "" if measured.frames_per_success is None else f", {measured.frames_per_success:.0f} frames per success"
    frames = "" if measured.frames is None else f", after {measured.frames:,} frames of training"
    return f"success {measured.success_rate:.2f}{chance}{price}{frames}"


def _amounts(amounts: Mapping[str, Amount]) -> str:
    return ", ".join(f"{name} {_amount(amount)}" for name, amount in amounts.items())


def _amount(amount: Amount) -> str:
    if not amount.per:
        return f"{amount.fixed:g}"
    per = "n" if amount.per == 1 else f"{amount.per:g}*n"
    return f"{per}+{amount.fixed:g}" if amount.fixed else per


def _pairs(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {number}" for name, number in numbers.items())


def _words(words: Iterable[str]) -> str:
    return ", ".join(words)


def _lines(lines: Iterable[str]) -> str:
    return "\n".join(lines) or NONE
