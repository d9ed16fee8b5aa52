import subprocess
import sys

import pytest

from flowrl.envs.craftax.facts import MONSTERS_TO_CLEAR
from flowrl.envs.registry import GAMES, game, make_adapter
from flowrl.errors import BadInput
from flowrl.proposers.curriculum import load_curriculum
from flowrl.skills.facts import Kind, check_resources
from tests.envs.played import creature_names
from tests.skills.builders import FACTS, skill

CLASSIC = game("Craftax-Classic-Symbolic-v1").facts
CRAFTAX = game("Craftax-Symbolic-v1").facts


@pytest.mark.parametrize(
    ("resource", "kind"),
    [
        ("wood", Kind.STOCK),
        ("pickaxe", Kind.POSSESSION),
        ("achievement:WAKE_UP", Kind.POSSESSION),
        ("cleared:DUNGEON", Kind.POSSESSION),
        ("near:CRAFTING_TABLE", Kind.NEARNESS),
        ("level:GNOMISH_MINES", Kind.PLACE),
    ],
)
def test_a_resource_has_one_kind(resource, kind):
    assert CRAFTAX.kind(resource) is kind
    assert resource in CRAFTAX.resources()


@pytest.mark.parametrize(
    ("resource", "hint"),
    [("woood", "wood"), ("near:TABLE", "near:"), ("achievement:EAT_COWS", "EAT_COW"), ("zzz", "an inventory field")],
)
def test_an_unknown_resource_is_refused_with_the_closest_ones(resource, hint):
    with pytest.raises(BadInput, match=f"no resource '{resource}'.*{hint}"):
        CLASSIC.kind(resource)


def test_every_listed_resource_has_a_kind_and_a_highest_level():
    for entry in GAMES.values():
        for resource in entry.facts.resources():
            assert entry.facts.highest(resource) >= 1


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (skill("A", requires={"mithril": 1}), "skill A requires an unknown resource.*mithril"),
        (skill("A", gains={"near:LAKE": 1}), "skill A gains an unknown resource"),
        (skill("A", consumes={"pickaxe": 1}), "consumes pickaxe, which is a possession: only stocks are used up"),
        (skill("A", requires={"wood": 10}), "requires 10 of wood, but Test-Game lets a player hold 9"),
        (skill("A", gains={"pickaxe": 3}), "gains 3 of pickaxe, but Test-Game lets a player hold 2"),
    ],
)
def test_a_skill_with_impossible_resources_is_refused_by_name(spec, message):
    with pytest.raises(BadInput, match=message):
        check_resources(spec, FACTS)


@pytest.mark.parametrize("entry", GAMES.values(), ids=GAMES)
def test_every_skill_of_the_curriculum_has_resources_that_its_game_knows(entry):
    for spec in load_curriculum(entry.curriculum, entry.facts):
        check_resources(spec, entry.facts)


def test_an_unknown_game_is_refused_with_the_choices():
    with pytest.raises(BadInput, match="unknown environment 'Chess'.*Craftax-Classic-Symbolic-v1, Craftax-Symbolic-v1"):
        game("Chess")


def test_facts_and_curricula_load_without_jax():
    code = (
        "import sys; from flowrl.envs.registry import game; from flowrl.proposers.curriculum import load_curriculum;"
        "facts = game('Craftax-Symbolic-v1').facts; load_curriculum('craftax', facts); assert 'jax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("entry", [game(facts.env_name) for facts in (CLASSIC, CRAFTAX)], ids=["classic", "craftax"])
def test_the_facts_are_those_of_the_game(entry):
    """Blocks, achievements and inventory fields by name and in the game's own order; every field is listed once."""
    scope, facts = make_adapter(entry.env_name).scope, entry.facts
    for constant, family in (("BlockType", "near"), ("Achievement", "achievement")):
        members = tuple(member.name for member in sorted(scope[constant], key=lambda member: member.value))
        assert facts.constants[constant] == facts.members(family) == members
    fields = list(scope["Inventory"].__dataclass_fields__)
    assert sorted(facts.inventory_fields) == sorted(fields)
    assert {"jax", "jnp", *facts.constants} == set(scope)


@pytest.mark.parametrize("facts", [CLASSIC, CRAFTAX], ids=["classic", "craftax"])
def test_creatures_have_the_games_own_names_and_none_that_a_block_has(facts):
    creatures, scope = facts.constants["CreatureType"], make_adapter(facts.env_name).scope
    assert sorted(creatures) == sorted(name for names in creature_names(facts.env_name).values() for name in names)
    assert [(member.name, member.value) for member in scope["CreatureType"]] == [(name, i) for i, name in enumerate(creatures)]
    assert not set(creatures) & set(facts.members("near"))


def test_craftax_names_its_floors_as_its_achievements_do():
    from craftax.craftax import constants
    from craftax.craftax.craftax_state import StaticEnvParams

    floors = CRAFTAX.members("level")
    assert len(floors) == StaticEnvParams().num_levels
    entering = {member.value: member.name for member in constants.Achievement}
    for floor, name in list(enumerate(floors))[1:]:
        assert entering[int(constants.LEVEL_ACHIEVEMENT_MAP[floor])] == f"ENTER_{name}"
    assert constants.MONSTERS_KILLED_TO_CLEAR_LEVEL == MONSTERS_TO_CLEAR


def test_stocks_stop_at_the_cap_of_the_real_games():
    from craftax.craftax.craftax_state import EnvParams
    from craftax.craftax.util.game_logic_utils import clip_inventory_and_intrinsics
    from craftax.craftax_classic.game_logic import cap_inventory

    class State:
        """The fields that the two functions read, and nothing else."""

        def __init__(self, **fields):
            vars(self).update(fields)

        def replace(self, **fields):
            return State(**{**vars(self), **fields})

    def heaped(facts):
        scope = make_adapter(facts.env_name).scope
        return scope["Inventory"](**dict.fromkeys(facts.inventory_fields, 1000))

    attributes = ("strength", "dexterity", "intelligence", "health", "food", "drink", "energy", "mana")
    full = State(inventory=heaped(CRAFTAX), **{f"player_{name}": 1 for name in attributes})
    found = [
        (CLASSIC, cap_inventory(State(inventory=heaped(CLASSIC))).inventory),
        (CRAFTAX, clip_inventory_and_intrinsics(full, EnvParams()).inventory),
    ]
    for facts, inventory in found:
        assert {name: int(getattr(inventory, name)) for name in facts.stocks} == facts.stocks


def test_craftax_counts_monsters_and_classic_does_not():
    counted = {"monsters_killed", "monsters_killed_diff"}
    assert set(CRAFTAX.feature_names) - set(CLASSIC.feature_names) == counted
