"""What is true of a game, as data: which resources there are, of which kind, and what skill code may ask for.

A *resource* is a name that a skill may require, consume or gain:

=====================  ============  ==========================================================================
resource               kind          it holds when
=====================  ============  ==========================================================================
``wood``               stock         the inventory holds so many; adds up along a plan, up to the game's cap
``pickaxe``            possession    the inventory field has that level; once had, it is kept
``achievement:X``      possession    the game has unlocked achievement ``X`` in this episode
``cleared:FLOOR``      possession    enough monsters are beaten on that floor for its ladder down to be open
``near:BLOCK``         nearness      a block of that type is within the 3x3 ring around the player
``level:FLOOR``        nearness      the player stands on that floor
=====================  ============  ==========================================================================

Both nearnesses say where the player stands, and must hold when their consumer starts. They differ in what undoes
them: any other skill may walk away from a block, while only a skill that gains another floor leaves a floor.
An inventory field that is an array (Craftax: ``armour``, ``potions``) counts as the sum of its entries.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from flowrl.errors import BadInput
from flowrl.skills.spec import SkillSpec

#: Every feature that a skill's functions may ask for by parameter name, in any game.
FEATURES = (
    "inventory",
    "inventory_diff",
    "closest_blocks",
    "closest_blocks_prev",
    "player_level",
    "player_level_diff",
    "monsters_killed",
    "monsters_killed_diff",
    "player_intrinsics",
    "player_intrinsics_diff",
    "achievements",
    "achievements_diff",
    "health_penalty",
    "n",
)


class Kind(Enum):
    """How a resource behaves along a plan."""

    STOCK = "stock"
    POSSESSION = "possession"
    NEARNESS = "nearness"


@dataclass(frozen=True)
class GameFacts:
    """A game as the planner, the checks and a proposer see it."""

    env_name: str
    stocks: dict[str, int]
    """Inventory fields that are used up, each with the most that the game lets a player hold."""
    possessions: dict[str, int]
    """Inventory fields that are kept, each with its highest level."""
    blocks: tuple[str, ...]
    """Block types, by name."""
    achievements: tuple[str, ...]
    """Achievements, by name."""
    levels: tuple[str, ...]
    """Floors from the top down, a ``player_level`` each; the first is where an episode starts. Empty: one floor."""
    features: tuple[str, ...]
    """What a skill's functions may ask for by parameter name; a subset of :data:`FEATURES`."""
    constants: tuple[str, ...]
    """Names of the game that are in scope of a skill's code, such as ``BlockType``."""

    @property
    def start_level(self) -> str | None:
        return self.levels[0] if self.levels else None

    def kind(self, resource: str) -> Kind:
        """The kind of a resource.

        Raises:
            BadInput: the game has no such resource; names the closest ones.
        """
        family, _, member = resource.partition(":")
        if resource in self.stocks:
            return Kind.STOCK
        if resource in self.possessions:
            return Kind.POSSESSION
        if member in self._families().get(family, ()):
            return Kind.NEARNESS if family in ("near", "level") else Kind.POSSESSION
        raise BadInput(f"{self.env_name} has no resource {resource!r}; {_near_matches(resource, self.resources())}")

    def highest(self, resource: str) -> int:
        """The most of a resource that can be held: a stock's cap, a possession's highest level, 1 for the rest."""
        self.kind(resource)
        return self.stocks.get(resource, self.possessions.get(resource, 1))

    def resources(self) -> list[str]:
        """Every resource of the game, by name."""
        prefixed = (f"{family}:{member}" for family, members in self._families().items() for member in members)
        return [*self.stocks, *self.possessions, *prefixed]

    def _families(self) -> dict[str, tuple[str, ...]]:
        return {
            "near": self.blocks,
            "achievement": self.achievements,
            "level": self.levels,
            "cleared": self.levels,
        }


def check_resources(spec: SkillSpec, facts: GameFacts) -> None:
    """Accepts a skill whose resources the game knows, in amounts that the game allows.

    Raises:
        BadInput: an unknown resource, more than can be held, or something consumed that is not a stock.
    """
    for role in ("requires", "consumes", "gains"):
        for resource, amount in getattr(spec, role).items():
            try:
                kind, highest = facts.kind(resource), facts.highest(resource)
            except BadInput as error:
                raise BadInput(f"skill {spec.name} {role} what is not there: {error}") from error
            if role == "consumes" and kind is not Kind.STOCK:
                raise BadInput(
                    f"skill {spec.name} consumes {resource}, which is a {kind.value}: only stocks are used up; "
                    "declare it in requires alone"
                )
            if amount.at(1) > highest:
                raise BadInput(
                    f"skill {spec.name} {role} {amount.at(1):g} of {resource}, but {facts.env_name} lets a player "
                    f"hold {highest}; declare {highest} or less"
                )


def _near_matches(word: str, known: Iterable[str]) -> str:
    matches = difflib.get_close_matches(word, list(known), n=3, cutoff=0.5)
    if matches:
        return "did you mean " + ", ".join(matches) + "?"
    return "use an inventory field, achievement:NAME, near:BLOCK, level:FLOOR or cleared:FLOOR"
