"""The reward menu as a model is offered it: paying for gains, reaching another place, and the terms of the game's own facts."""

from __future__ import annotations

from flowrl.errors import BadInput
from flowrl.skills.facts import GameFacts
from flowrl.skills.menu import Gain, Pay, Term

HEAVIEST = 10.0
"""The largest weight of a term."""
GAIN, DESCEND = "gain", "descend"


def menu_terms(facts: GameFacts) -> dict[str, str]:
    """The names of the terms, each with what it pays."""
    own = {term.name: term.meaning for term in reversed(facts.terms)}
    terms = {GAIN: 'weight for each unit of the resource "target" that is gained (subtracted again when it is lost)'}
    terms |= {term.name: own[term.name] for term in facts.terms}
    return terms | ({DESCEND: 'weight for reaching the floor "target"'} if facts.places else {})


def written(name: str, target: str | None, weight: float, facts: GameFacts) -> Term:
    """One line of a model's menu as a term of :mod:`flowrl.skills.menu`.

    Raises:
        BadInput: the game has no such term, the target is missing, or the weight is out of range.
    """
    if name not in (known := menu_terms(facts)):
        raise BadInput(f"reward_menu: {facts.env_name} has no term {name!r}; its terms are: {', '.join(known)}")
    if not 0 < weight <= HEAVIEST:
        raise BadInput(f"reward_menu: {name} has weight {weight:g}; choose one above 0, up to {HEAVIEST:g}")
    if not any(term.targets for term in facts.terms if term.name == name) and name not in (GAIN, DESCEND):
        return Pay(name, None, weight)
    if not target:
        raise BadInput(f"reward_menu: {name} has no target; name what it is to pay for, such as {_example(name, facts)}")
    match name:
        case "gain":
            return Gain(target, weight)
        case "descend":
            return Gain(f"level:{target.removeprefix('level:')}", weight)
    return Pay(name, target.removeprefix("near:"), weight)


def _example(name: str, facts: GameFacts) -> str:
    targets = [target for term in facts.terms if term.name == name for target in term.targets]
    return (targets or facts.places[1:] or facts.resources())[0]
