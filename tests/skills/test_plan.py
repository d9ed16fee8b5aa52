"""Plans, checked by playing them forward with plain arithmetic and against hand-worked cases."""

import re

import pytest
from hypothesis import event, given, reject, settings
from hypothesis import strategies as st

from flowrl.envs.registry import GAMES, game
from flowrl.errors import BadInput
from flowrl.proposers.curriculum import load_curriculum
from flowrl.skills.plan import build_plan, plan_in_order
from tests.skills.builders import FACTS, by_name, short, skill

CLASSIC = game("Craftax-Classic-Symbolic-v1").facts
CRAFTAX = game("Craftax-Symbolic-v1").facts

WOOD = skill("Wood", gains={"wood": "n"})
TABLE = skill("Table", {"wood": 2}, {"wood": 2}, {"near:TABLE": 1})
PICKAXE = skill("Pickaxe", {"wood": 1, "near:TABLE": 1}, {"wood": 1}, {"pickaxe": 1})
STONE = skill("Stone", {"pickaxe": 1}, gains={"stone": "n"})
FURNACE = skill("Furnace", {"stone": 1, "near:TABLE": 1}, {"stone": 1}, {"near:FURNACE": 1})
BETTER = skill("Better", {"stone": 1, "near:TABLE": 1, "near:FURNACE": 1}, {"stone": 1}, {"pickaxe": 2})
DOWN = skill("Down", {"level:GROUND": 1}, gains={"level:CELLAR": 1})
DEEPER = skill("Deeper", {"level:CELLAR": 1, "cleared:CELLAR": 1}, gains={"level:CAVE": 1})
CLEAR = skill("Clear", {"level:CELLAR": 1, "bow": 1}, gains={"cleared:CELLAR": 1})
BOW = skill("Bow", {"wood": 3}, {"wood": 3}, {"bow": 1})
GEM = skill("Gem", {"level:CAVE": 1, "pickaxe": 1}, gains={"gem": "n"})
LIBRARY = by_name(WOOD, TABLE, PICKAXE, STONE, FURNACE, BETTER, DOWN, CLEAR, BOW, DEEPER, GEM)


def play_forward(plan, skills, facts):
    """Plays a plan with plain arithmetic in the worst case: no task finds or gains more than it declares.

    Fails where a requirement does not hold when its task starts, or more is to be held than the game allows.
    """
    held, near, floor = {}, set(), facts.start_place
    for task in plan:
        spec, n = skills[task["skill_name"]], task["n"]
        for amounts in (spec.requires, spec.consumes):
            for resource, amount in amounts.items():
                if resource.startswith("near:"):
                    assert resource in near, f"{spec.name} starts away from {resource}"
                elif resource.startswith("level:"):
                    assert resource == floor, f"{spec.name} starts on {floor}"
                else:
                    assert held.get(resource, 0) >= amount.at(n), f"{spec.name} starts without {resource}"
        for resource, amount in spec.consumes.items():
            held[resource] -= amount.at(n)
        gained_places = {resource for resource in spec.gains if resource.startswith("near:")}
        near = near | gained_places if gained_places else set()
        for resource, amount in spec.gains.items():
            if resource.startswith("level:"):
                floor = resource
            elif resource not in gained_places:
                held[resource] = max(held.get(resource, 0), amount.at(n))
                assert held[resource] <= facts.highest(resource), f"{spec.name} is never done: {resource} over the cap"


def check_plan(spec, available, facts, n=1):
    plan = build_plan(spec, available, facts, n)
    play_forward(plan, {**available, spec.name: spec}, facts)
    assert plan[-1] == {"skill_name": spec.name, "n": n}
    assert all(task["skill_name"] in available for task in plan[:-1])
    return plan


@pytest.mark.parametrize(
    ("spec", "plan"),
    [
        (WOOD, "Wood*1"),
        (TABLE, "Wood*2 Table*1"),
        (PICKAXE, "Wood*3 Table*1 Pickaxe*1"),
        (STONE, "Wood*3 Table*1 Pickaxe*1 Stone*1"),
        (FURNACE, "Wood*5 Table*1 Pickaxe*1 Stone*1 Table*1 Furnace*1"),
        (BETTER, "Wood*5 Table*1 Pickaxe*1 Stone*2 Table*1 Furnace*1 Better*1"),
        (GEM, "Wood*6 Bow*1 Table*1 Pickaxe*1 Down*1 Clear*1 Deeper*1 Gem*1"),
    ],
)
def test_hand_worked_plans(spec, plan):
    assert short(check_plan(spec, LIBRARY, FACTS)) == plan


def test_stocks_are_pooled_at_the_front_in_the_amount_that_all_tasks_use():
    torch = skill("Torch", {"wood": "n", "stone": "2n"}, {"wood": "n", "stone": "2n"}, {"arrows": "n"})
    assert short(check_plan(torch, LIBRARY, FACTS, n=2)) == "Wood*5 Table*1 Pickaxe*1 Stone*4 Torch*2"


def test_a_stock_is_split_if_a_player_cannot_hold_it_all():
    house = skill("House", {"wood": 8}, {"wood": 8}, {"bow": 1})
    plan = check_plan(skill("Town", {"bow": 1, "wood": 7}), {**LIBRARY, **by_name(house), "Bow": house}, FACTS)
    assert [task["n"] for task in plan if task["skill_name"] == "Wood"] == [8, 7]


def test_a_provider_that_gains_several_at_once_is_planned_in_whole_multiples():
    # Four at a time, at most nine: two times give eight, and a third would never be done.
    make = skill("Make", {"wood": "n"}, {"wood": "n"}, {"arrows": "4n"})
    shoot = skill("Shoot", {"arrows": "n"}, {"arrows": "n"}, {"bow": 1})
    aim = skill("Aim", {"bow": 1, "arrows": 3}, {"arrows": 3}, {"achievement:SLEEP": 1})
    available = by_name(WOOD, make, shoot)
    assert short(check_plan(aim, available, FACTS)) == "Wood*1 Make*1 Shoot*1 Aim*1"
    with pytest.raises(BadInput, match="Volley x1 need 9 arrows at once, but a player can get at most 8"):
        build_plan(skill("Volley", {"arrows": 9}), available, FACTS)


def test_a_possession_is_provided_once_however_many_need_it():
    both = skill("Both", {"stone": 2, "gem": 1, "pickaxe": 2}, {"stone": 2})
    plan = check_plan(both, {**LIBRARY, **by_name(skill("Up", {"level:CAVE": 1}, gains={"level:GROUND": 1}))}, FACTS)
    names = [task["skill_name"] for task in plan]
    assert all(names.count(name) == 1 for name in ("Pickaxe", "Better", "Bow", "Clear", "Down", "Deeper"))


def test_a_skill_that_names_no_floor_is_planned_where_an_episode_starts():
    assert short(check_plan(skill("Hunt", {"level:CAVE": 1, "stone": 1}), LIBRARY, FACTS)) == (
        "Wood*6 Bow*1 Table*1 Pickaxe*1 Stone*1 Down*1 Clear*1 Deeper*1 Hunt*1"
    )


def test_a_skill_that_names_no_floor_is_planned_on_the_floor_of_what_it_needs():
    plan = check_plan(skill("Ring", {"gem": 1, "near:TABLE": 1}, {"gem": 1}), LIBRARY, FACTS)
    assert short(plan).endswith("Deeper*1 Gem*1 Table*1 Ring*1")


def test_going_back_up_needs_a_skill_that_leads_up():
    altar = skill("Altar", {"gem": 1, "level:GROUND": 1})
    with pytest.raises(BadInput, match="requires level:CAVE and gains level:GROUND"):
        build_plan(altar, LIBRARY, FACTS)
    up = skill("Up", {"level:CAVE": 1}, gains={"level:GROUND": 1})
    assert short(check_plan(altar, {**LIBRARY, "Up": up}, FACTS)).endswith("Deeper*1 Gem*1 Up*1 Altar*1")


def test_after_an_achievement_on_another_floor_the_plan_returns():
    down = skill("Down", {"level:GROUND": 1}, gains={"level:CELLAR": 1, "achievement:SLEEP": 1})
    up = skill("Up", {"level:CELLAR": 1}, gains={"level:GROUND": 1})
    boast = skill("Boast", {"achievement:SLEEP": 1, "level:GROUND": 1})
    assert short(check_plan(boast, by_name(down, up), FACTS)) == "Down*1 Up*1 Boast*1"


@pytest.mark.parametrize(
    ("spec", "available", "message"),
    [
        (skill("X", {"gem": 1}), by_name(WOOD), "X needs gem, which none of the 1 skills.*add a skill that gains gem"),
        (skill("X", consumes={"stone": 1}), by_name(STONE), "skill X needs stone, which none of the 0 skills in reach"),
        (skill("X", {"wood": 10}), by_name(WOOD), "X x1 need 10 wood at once, but a player can get at most 9"),
        (
            skill("X", {"stone": 1}, gains={"bow": 1}),
            by_name(skill("Y", {"bow": 1}, gains={"stone": "n"})),
            "circle: .*X -> Y|Y -> X",
        ),
        (
            skill("X", {"near:TABLE": 1, "level:CELLAR": 1}),
            by_name(WOOD, DOWN, skill("Table", {"level:GROUND": 1}, gains={"near:TABLE": 1})),
            "X is done at level:CELLAR, but Table, which provides near:TABLE, is done at level:GROUND",
        ),
    ],
)
def test_an_impossible_plan_is_refused_with_the_remedy(spec, available, message):
    with pytest.raises(BadInput, match=message) as error:
        build_plan(spec, available, FACTS)
    assert "\n" not in str(error.value)


def test_a_plan_of_names_is_the_dependencies_in_order_then_the_skill():
    assert plan_in_order(["Collect_Wood", "Collect_Stone"], "Make_Pickaxe") == [
        {"skill_name": "Collect_Wood", "n": 1},
        {"skill_name": "Collect_Stone", "n": 1},
        {"skill_name": "Make_Pickaxe", "n": 1},
    ]


@pytest.mark.parametrize("entry", GAMES.values(), ids=GAMES)
def test_every_skill_of_a_curriculum_can_be_planned_from_those_before_it(entry):
    available = {}
    for spec in load_curriculum(entry.curriculum, entry.facts):
        check_plan(spec, available, entry.facts)
        available[spec.name] = spec


def test_the_iron_pickaxe_of_classic_takes_every_piece_of_wood_that_a_player_can_hold():
    skills = by_name(*load_curriculum("craftax_classic", CLASSIC))
    assert short(build_plan(skills["Make_Iron_Pickaxe"], skills, CLASSIC)) == (
        "Collect_Wood*9 Place_Table*1 Make_Wood_Pickaxe*1 Collect_Stone*3 Collect_Coal*1 Place_Table*1 "
        "Make_Stone_Pickaxe*1 Collect_Iron*1 Place_Table*1 Place_Furnace*1 Make_Iron_Pickaxe*1"
    )


def test_diamond_tools_are_made_down_in_the_mines():
    skills = by_name(*load_curriculum("craftax", CRAFTAX))
    plan = short(build_plan(skills["Make_Diamond_Sword"], skills, CRAFTAX))
    assert plan.endswith("Clear_Dungeon*1 Enter_Gnomish_Mines*1 Collect_Diamond*2 Place_Table*1 Make_Diamond_Sword*1")
    assert plan.startswith("Collect_Wood*12 ")


STOCKS = ("wood", "stone", "arrows", "gem")
PLACES = ("near:TABLE", "near:FURNACE")
KEPT = ("pickaxe", "bow", "cleared:CELLAR", "achievement:SLEEP")
FLOORS = ("level:CELLAR", "level:CAVE")


@st.composite
def libraries(draw):
    """Skills that each require what earlier ones gain: a chain of floors, and all kinds of resources."""
    skills, gained, floor = [], [], "level:GROUND"
    order = draw(st.permutations([*STOCKS, *PLACES, *KEPT, *FLOORS]))
    for index, gain in enumerate(order[: draw(st.integers(3, 10))]):
        needed = draw(st.lists(st.sampled_from(gained), min_size=1, max_size=4, unique=True)) if gained else []
        if gain in FLOORS:
            needed = [name for name in needed if name not in PLACES]
            place, floor = floor, gain
        else:
            place = draw(st.sampled_from([None, None, floor, "level:GROUND"]))
        requires = {name: draw(_amounts(name)) for name in needed} | ({place: 1} if place else {})
        consumes = {name: amount for name, amount in requires.items() if name in STOCKS and draw(st.booleans())}
        gains = {gain: draw(st.sampled_from(["n", "2n", "3n", "n+1"])) if gain in STOCKS else 1}
        skills.append(skill(f"S{index}", requires, consumes, gains))
        gained += [gain] if gain not in FLOORS else []
    return skills


def _amounts(name):
    return st.sampled_from([1, 2, 3, "n", "2n"]) if name in STOCKS else st.just(1)


@settings(max_examples=400, deadline=None)
@given(libraries(), st.integers(1, 3))
def test_any_plan_can_be_played_forward(skills, n):
    *others, goal = skills
    available = by_name(*others)
    try:
        plan = build_plan(goal, available, FACTS, n)
    except BadInput as error:
        # Generated plans can fail only because of caps, or because no skill leads from one floor to another.
        for_want = "at once, but a player can get at most|from place to place|no skill leads there|is done at"
        assert re.search(for_want, str(error))
        reject()
    event(f"{min(len(plan), 12)} tasks")
    play_forward(plan, {**available, goal.name: goal}, FACTS)
    assert plan[-1] == {"skill_name": goal.name, "n": n}
    assert goal.name not in [task["skill_name"] for task in plan[:-1]]
    names = [task["skill_name"] for task in plan]
    assert all(names.count(spec.name) <= 1 for spec in skills if set(spec.gains) & set(KEPT))
