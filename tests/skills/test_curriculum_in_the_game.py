"""Checks the declarations of every built-in skill in the real games: exactly what they require is needed.

Each skill starts in a state with exactly what it requires, in an otherwise empty world, and is played by hand: it must
succeed, and consume and gain what it declares. Then one unit of one requirement is taken away, and the same play must
fail. The empty world has what a skill looks for on whatever floor the skill names, so worlds that the game generates are
searched as well, to check that it is the right floor.
"""

from __future__ import annotations

import numpy as np
import pytest
from craftax.craftax.constants import FLOOR_MOB_MAPPING, FLOOR_MOB_SPAWN_CHANCE

from flowrl.config import Settings
from flowrl.envs.craftax.facts_classic import FACTS as CLASSIC_FACTS
from flowrl.envs.craftax.facts_full import CREATURES, MOBS
from flowrl.envs.craftax.facts_full import FACTS as CRAFTAX_FACTS
from flowrl.proposers.curricula import craftax
from flowrl.proposers.curriculum import load_curriculum
from flowrl.skills.menu import once
from tests.skills import scenes
from tests.skills.stages import ClassicStage, CraftaxStage, ladder_down

GAMES = {
    "craftax_classic": (CLASSIC_FACTS, ClassicStage, scenes.CLASSIC),
    "craftax": (CRAFTAX_FACTS, CraftaxStage, scenes.CRAFTAX),
}
SPECS = {name: {spec.name: spec for spec in load_curriculum(name, facts)} for name, (facts, _, _) in GAMES.items()}
RECIPES = {recipe.name: recipe for recipe in craftax.SKILLS}
SKILLS = [pytest.param(name, spec, id=f"{name}-{spec.name}") for name, specs in SPECS.items() for spec in specs.values()]


@pytest.fixture(scope="session")
def stages():
    """Compiles each game once, when the first of its skills is played."""
    made = {}

    def stage(name):
        if name not in made:
            facts, kind, _ = GAMES[name]
            made[name] = kind(facts.env_name)
        return made[name]

    return stage


@pytest.mark.parametrize(("name", "spec"), SKILLS)
def test_a_skill_succeeds_with_exactly_what_it_declares_and_fails_with_less(stages, name, spec):
    stage, scene = stages(name), GAMES[name][2][spec.name]
    repeated = [2] if any(amount.per for amount in spec.gains.values()) else []
    for n in (1, *repeated):
        succeeded = stage.play(spec, scene, n)
        assert not succeeded.done_at_start and succeeded.done
        check_what_was_declared(spec, n, succeeded, scene.loot)
        for resource in spec.requires:
            failed = stage.play(spec, scene, n, without=resource)
            assert not failed.done_at_start and not failed.done, f"succeeds with too little of {resource}"
            assert failed.rewards < succeeded.rewards or scene.loot


def check_what_was_declared(spec, n, played, loot):
    """Checks that stocks and possessions changed as declared, and that the achievements were unlocked."""
    for resource, before in played.before.items():
        expected = max(before - spec.consumes.get(resource, once(0)).at(n), spec.gains.get(resource, once(0)).at(n))
        found = played.after[resource]
        assert found == expected or (loot and found > expected), resource
    declared = {name.removeprefix("achievement:") for name in spec.gains if name.startswith("achievement:")}
    assert declared <= played.achievements
    # Here an opened chest is put back for free; in the game, the reward pays for approaching the next one.
    assert played.rewards > 0 or loot


def test_eating_a_plant_fits_into_the_skills_step_limit(stages):
    """Counted from the step after planting; the default of 200 steps would not be enough."""
    for name in GAMES:
        spec = SPECS[name]["Eat_Plant"]
        steps = stages(name).steps_to_eat(spec, GAMES[name][2][spec.name], at_most=spec.max_task_steps)
        assert steps is not None and steps > Settings().max_task_steps, name


KINDS = ("passive", "melee", "ranged")
"""As the columns of the game's tables of mobs."""

GROWS_ON = {"PLANT": "GRASS", "RIPE_PLANT": "GRASS"}
"""What no fresh world holds, and what it is made from there."""


@pytest.fixture(scope="session")
def num_in_worlds(stages):
    """How many of a block or an item some fresh worlds have: ``[num_worlds, num_floors]``."""
    stage = stages("craftax")
    worlds = [stage.new_world(seed) for seed in range(1, 7)]
    return lambda name: np.stack([stage.amount(world, name) for world in worlds])


def looked_for(spec):
    """The blocks and items in a skill's scene, and those that its reward leads to, except what players build."""
    scene, recipe = scenes.CRAFTAX[spec.name], RECIPES[spec.name]
    approached = {term.target for term in recipe.reward if term.term == "approach"} - set(CREATURES)
    at_hand = {resource.removeprefix("near:") for resource in spec.requires} - GROWS_ON.keys()
    names = {scene.front, "LADDER_DOWN" if scene.setup is ladder_down else None} - {None} | approached - at_hand
    return {GROWS_ON.get(name, name) for name in names}


@pytest.mark.parametrize("spec", SPECS["craftax"].values(), ids=SPECS["craftax"])
def test_the_floor_of_a_skill_has_what_the_skill_looks_for(stages, num_in_worlds, spec):
    """In every fresh world, and no less of it than a floor above; where no floor is named, the overworld, which is the
    first."""
    floor = stages("craftax").floor(spec)
    for name in looked_for(spec):
        found = num_in_worlds(name)
        assert found[:, floor].all(), f"{name} is missing on floor {floor}: {found[:, floor]}"
        amounts = found.sum(axis=0)[: floor + 1]
        assert amounts[floor] == amounts.max(), f"{name} is rather found above floor {floor}: {amounts}"
    if mob := scenes.CRAFTAX[spec.name].mob:
        kind = KINDS.index(mob[0])
        assert FLOOR_MOB_MAPPING[floor, kind] == mob[1] and FLOOR_MOB_SPAWN_CHANCE[floor, kind] > 0
        hunted = {term.target for term in RECIPES[spec.name].reward} & set(CREATURES)
        assert hunted <= {MOBS[f"{mob[0]}_mobs"][mob[1]]}, f"{spec.name} approaches {hunted}, which are not on its floor"


def test_every_floor_that_is_named_is_looked_at():
    """A skill that names a floor without looking for anything there would pass the test above with any floor."""
    named = [spec for spec in SPECS["craftax"].values() if any(name.startswith("level:") for name in spec.requires)]
    assert len(named) > 20
    assert [spec.name for spec in named if not looked_for(spec) and not scenes.CRAFTAX[spec.name].mob] == []


@pytest.mark.parametrize("name", GAMES)
def test_every_skill_has_a_scene_and_every_scene_a_skill(name):
    facts, _, known = GAMES[name]
    assert {spec.name for spec in load_curriculum(name, facts)} == set(known)
