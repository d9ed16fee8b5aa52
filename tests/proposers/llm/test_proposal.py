"""Answers: how a proposal is found in a text, what it has to be, and what becomes of it."""

from __future__ import annotations

import json

import pytest

from flowrl.envs.registry import GAMES, game
from flowrl.errors import BadInput
from flowrl.proposers.llm.errors import AnswerRefused
from flowrl.proposers.llm.proposal import MenuTerm, parse_proposal, schema
from flowrl.skills.checks import check_skill_code
from flowrl.skills.menu import Approach, Gain, Pay, Recover
from tests.proposers.llm.server import skill_json

CLASSIC = game("Craftax-Classic-Symbolic-v1").facts
CRAFTAX = game("Craftax-Symbolic-v1").facts
CODE = {
    "reward_menu": None,
    "task_is_done": "```python\ndef task_is_done(inventory, n):\n    return inventory.wood >= n\n```",
    "task_reward": "def task_reward(inventory_diff):\n    return 1.0 * inventory_diff.wood",
}


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"gains": [{"resource": "wood", "per": "two", "fixed": 0}]}, "gains.0.per"),
        ({"gains": "wood"}, "gains"),
        ({"reward_menu": [{"term": "fly", "target": None, "weight": 1}]}, "reward_menu.0.term"),
        ({"name": 3}, "name"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_wrong_field_is_named_in_one_line(change, place):
    with pytest.raises(AnswerRefused, match=f"^{place}: ") as refused:
        parse_proposal(skill_json("X", **change))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("facts", [CLASSIC, CRAFTAX], ids=["classic", "craftax"])
def test_a_menu_becomes_code_that_passes_the_checks(facts):
    menu = [
        {"term": "gain", "target": "wood", "weight": 1}, {"term": "approach", "target": "near:TREE", "weight": 0.5},
        {"term": "approach", "target": "COW", "weight": 0.5},
        {"term": "recover", "target": "food", "weight": 0.1}, {"term": "avoid_damage", "target": None, "weight": 1},
    ]  # fmt: skip
    spec = parse_proposal(skill_json("Collect_Wood", reward_menu=menu)).spec(facts)
    check_skill_code(spec, facts)
    assert "inventory.wood >= n" in spec.task_is_done
    assert spec.task_reward.count("reward = ") == 5
    assert spec.gains["wood"].at(3) == 3


def test_the_terms_of_the_menu_are_those_of_the_skills_room():
    def written(term, target, weight=0.5):
        return MenuTerm(term=term, target=target, weight=weight).written()

    assert written("gain", "wood") == Gain("wood", 0.5)
    assert written("approach", "near:TREE") == written("approach", "TREE") == Approach("TREE", 0.5)
    assert written("recover", "food") == Recover("food", 0.5)
    assert written("avoid_damage", None) == Pay("avoid_damage", None, 0.5)
    assert written("descend", "DUNGEON") == written("descend", "level:DUNGEON") == Gain("level:DUNGEON", 0.5)


def test_a_menu_that_forgets_the_gain_is_paid_for_it_all_the_same():
    menu = [{"term": "avoid_damage", "target": None, "weight": 1}]
    assert "inventory_diff.wood" in parse_proposal(skill_json("X", reward_menu=menu)).spec(CLASSIC).task_reward


@pytest.mark.parametrize(
    ("term", "complaint"),
    [
        ({"term": "gain", "target": "gold", "weight": 1}, "gold"),
        ({"term": "approach", "target": None, "weight": 1}, "no target"),
        ({"term": "gain", "target": "wood", "weight": -1}, "weight -1"),
        ({"term": "gain", "target": "wood", "weight": 1e9}, "up to 10"),
        ({"term": "recover", "target": "mood", "weight": 1}, "mood"),
    ],
)
def test_a_term_that_the_game_does_not_have_is_refused(term, complaint):
    with pytest.raises(BadInput, match=complaint):
        parse_proposal(skill_json("X", reward_menu=[term])).spec(CLASSIC)


def test_code_is_taken_as_it_is_but_for_its_fence():
    spec = parse_proposal(skill_json("X", **CODE)).spec(CLASSIC)
    assert spec.task_is_done == "def task_is_done(inventory, n):\n    return inventory.wood >= n\n"
    check_skill_code(spec, CLASSIC)


@pytest.mark.parametrize("missing", ["task_is_done", "task_reward"])
def test_half_of_the_code_is_refused(missing):
    with pytest.raises(BadInput, match=f"neither a reward_menu nor a {missing}"):
        parse_proposal(skill_json("X", **{**CODE, missing: None})).spec(CLASSIC)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"name": "../../etc"}, "not usable"),
        ({"gains": []}, "gains nothing"),
        ({"gains": [{"resource": "gold", "per": 1, "fixed": 0}]}, "'gold'"),
        ({"gains": [{"resource": "wood", "per": -1, "fixed": 0}]}, "per"),
        ({"consumes": [{"resource": "wood_pickaxe", "per": 0, "fixed": 1}]}, "only stocks are used up"),
        ({"requires": [{"resource": "wood", "per": 0, "fixed": 99}]}, "hold 9"),
    ],
)
def test_a_skill_that_cannot_be_is_refused(change, complaint):
    with pytest.raises(BadInput, match=complaint):
        parse_proposal(skill_json("X", **change)).spec(CLASSIC)


def test_amounts_as_an_object_are_understood():
    text = json.dumps({"name": "X", "gains": {"wood": {"per": 1}}, "requires": {"stone": 2}, **CODE})
    spec = parse_proposal(text).spec(CLASSIC)
    assert (spec.gains["wood"].at(3), spec.requires["stone"].at(3)) == (3, 2)


def test_the_schema_keeps_to_what_structured_outputs_allow():
    allowed = {"type", "properties", "required", "additionalProperties", "items", "anyOf", "enum"}

    def check(node):
        assert node.keys() <= allowed, node
        if node.get("type") == "object":
            assert node["additionalProperties"] is False
            assert sorted(node["required"]) == sorted(node["properties"])
        for child in [
            *node.get("properties", {}).values(),
            *node.get("anyOf", []),
            *([node["items"]] if "items" in node else []),
        ]:
            check(child)

    check(schema())


@pytest.mark.parametrize("entry", GAMES.values(), ids=GAMES)
def test_every_skill_of_the_curriculum_could_have_been_proposed(entry):
    from flowrl.proposers.curriculum import load_curriculum

    for skill in load_curriculum(entry.curriculum, entry.facts):
        amounts = {
            role: [{"resource": name, **amount.model_dump()} for name, amount in getattr(skill, role).items()]
            for role in ("requires", "consumes", "gains")
        }
        text = json.dumps({"name": skill.name, "description": skill.description, **amounts, "reward_menu": None,
                           "task_is_done": skill.task_is_done, "task_reward": skill.task_reward})  # fmt: skip
        found = parse_proposal(text).spec(entry.facts)
        assert found.gains == skill.gains and found.task_reward.strip() == skill.task_reward.strip()
