"""The proposer that needs no network: a list of skills for each game, in the order in which to learn them."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

from flowrl.errors import BadInput
from flowrl.proposers import curricula
from flowrl.proposers.base import LibraryView
from flowrl.skills.facts import GameFacts
from flowrl.skills.frontier import feasible
from flowrl.skills.spec import SkillSpec


def curriculum_names() -> list[str]:
    """The built-in curricula: the modules of :mod:`flowrl.proposers.curricula`."""
    return sorted(module.name for module in pkgutil.iter_modules(curricula.__path__))


def load_curriculum(name: str, facts: GameFacts) -> list[SkillSpec]:
    """The skills of a built-in curriculum, in order.

    Raises:
        BadInput: there is no such curriculum, listing those that there are; or it is for another game.
    """
    if name not in curriculum_names():
        raise BadInput(f"unknown curriculum {name!r}; choose one of {', '.join(curriculum_names())}")
    recipes = importlib.import_module(f"{curricula.__name__}.{name}").SKILLS
    return [recipe.spec(facts) for recipe in recipes]


class CurriculumProposer:
    """Proposes a curriculum's next skill that is new and in reach of the library and the skills in training."""

    def __init__(self, name: str, facts: GameFacts):
        self.name = name
        self._skills = load_curriculum(name, facts)

    @property
    def state(self) -> dict[str, Any]:
        return {"kind": "curriculum", "cost_usd": 0.0, "last_error": None}

    def propose(self, library: LibraryView) -> SkillSpec | None:
        new = (spec for spec in self._skills if not library.knows(spec.name))
        return next((spec for spec in new if feasible(spec, library.available, library.facts)), None)

    def prepare(self, is_resumed: bool) -> None:
        """There is nothing to find out."""

    def refused(self, spec: SkillSpec, error: BadInput) -> None:
        """A fixed list cannot be mended.

        Raises:
            BadInput: always.
        """
        raise error

    def dropped(self, spec: SkillSpec, number: int, error: BadInput) -> None:
        """Does not happen: each skill has one reward."""

    def accepted(self, spec: SkillSpec) -> None:
        """The library says so itself."""

    def describe(self) -> str:
        return f"the built-in curriculum {self.name} ({len(self._skills)} skills, no network, no cost)"
