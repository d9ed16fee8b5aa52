"""The proposer that needs no network: a list of skills for each game, in the order in which to learn them."""

from __future__ import annotations

import importlib
import pkgutil
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from flowrl.errors import BadInput
from flowrl.proposers import curricula
from flowrl.proposers.base import Examined, LibraryView
from flowrl.skills.candidates import Offer
from flowrl.skills.facts import GameFacts
from flowrl.skills.frontier import feasible, missing, reachable_skills
from flowrl.skills.spec import SkillSpec


def curriculum_names() -> list[str]:
    """The built-in curricula: the modules of :mod:`flowrl.proposers.curricula`."""
    return sorted(module.name for module in pkgutil.iter_modules(curricula.__path__))


def load_curriculum(name: str, facts: GameFacts) -> list[SkillSpec]:
    """The skills of a built-in curriculum, in order.

    Raises:
        BadInput: there is no such curriculum (the known ones are listed), it is for another game, or it has a skill
            that can never be trained.
    """
    if name not in curriculum_names():
        raise BadInput(f"unknown curriculum {name!r}; choose one of {', '.join(curriculum_names())}")
    recipes = importlib.import_module(f"{curricula.__name__}.{name}").SKILLS
    skills = [recipe.spec(facts) for recipe in recipes]
    _check_learnable(name, skills, facts)
    return skills


def _check_learnable(curriculum: str, skills: Sequence[SkillSpec], facts: GameFacts) -> None:
    """Refuses what would never be proposed: a duplicate name, and a skill that needs what no other one provides."""
    by_name = {spec.name: spec for spec in skills}
    if len(by_name) < len(skills):
        twice = next(name for name, count in Counter(spec.name for spec in skills).items() if count > 1)
        raise BadInput(f"the curriculum {curriculum} has two skills called {twice}; give one of them another name")
    reached = reachable_skills(by_name, facts)
    for spec in skills:
        if spec.name in reached:
            continue
        if lacking := missing(spec, by_name, facts):
            raise BadInput(
                f"{spec.name} of the curriculum {curriculum} needs {lacking[0]}, which no other skill there gains; "
                "add a skill that does, or remove it from what it requires"
            )
        lacking = missing(spec, reached, facts)
        raise BadInput(
            f"{spec.name} of the curriculum {curriculum} needs {lacking[0]}, but the skills that gain it need {spec.name} or "
            "each other first, in a circle; change what one of them requires"
        )


class CurriculumProposer:
    """Proposes a curriculum's next skill that is new and in reach of the library and the skills in training."""

    def __init__(self, name: str, facts: GameFacts):
        self.name = name
        self._skills = load_curriculum(name, facts)

    @property
    def state(self) -> dict[str, Any]:
        return {"kind": "curriculum", "cost_usd": 0.0, "last_error": None}

    def propose(self, library: LibraryView, examine: Callable[[Offer], Examined]) -> Examined | None:
        """The next skill. A fixed list cannot be repaired.

        Raises:
            BadInput: raised by ``examine``.
        """
        new = self._new(library)
        found = next((spec for spec in new if feasible(spec, library.available, library.facts)), None)
        return None if found is None else examine(Offer.of(found))

    def prepare(self, is_resumed: bool) -> None:
        """There is nothing to check."""

    def accepted(self, spec: SkillSpec) -> None:
        """Nothing to do: the next view of the library contains the skill."""

    def num_left(self, library: LibraryView) -> int:
        """How many skills of the curriculum can still be proposed: new ones in reach, and what these bring into reach."""
        new = {spec.name: spec for spec in self._new(library)}
        return len(new.keys() & reachable_skills(library.available | new, library.facts).keys())

    def _new(self, library: LibraryView) -> list[SkillSpec]:
        return [spec for spec in self._skills if not library.knows(spec.name)]

    def describe(self) -> str:
        return f"the built-in curriculum {self.name} ({len(self._skills)} skills, no network, no cost)"
