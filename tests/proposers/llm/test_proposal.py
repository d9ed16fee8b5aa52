"""Answers: how a proposal is parsed and checked, and how it becomes a skill."""

from __future__ import annotations

import dataclasses
import json

import pytest

from flowrl.envs.registry import GAMES, game
from flowrl.errors import BadInput
from flowrl.proposers.llm.errors import AnswerRefused
from flowrl.proposers.llm.proposal import proposal_of, schema
from flowrl.proposers.llm.reading import json_object
from flowrl.proposers.llm.reward_menu import menu_terms, written
from flowrl.skills.checks import check_skill_code
from flowrl.skills.facts import RewardTerm
from flowrl.skills.menu import Approach, Gain, Pay, Recover
from tests.proposers.llm.server import skill_json

CLASSIC = game("Craftax-Classic-Symbolic-v1").facts
CRAFTAX = game("Craftax-Symbolic-v1").facts
CODE = {
    "reward_menu": None,
    "task_is_done": "```python\ndef task_is_done(inventory, n):\n    return inventory.wood >= n\n```",
    "task_reward": "def task_reward(inventory_diff):\n    return 1.0 * inventory_diff.wood",
}


def proposed(text):
    return proposal_of(json_object(text))


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"gains": [{"resource": "wood", "per": "two", "fixed": 0}]}, "gains.0.per"),
        ({"gains": "wood"}, "gains"),
        ({"reward_menu": [{"term": 3, "target": None, "weight": 1}]}, "reward_menu.0.term"),
        ({"name": 3}, "name"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_wrong_field_is_named_in_one_line(change, place):
    with pytest.raises(AnswerRefused, match=f"^{place}: ") as refused:
        proposed(skill_json("X", **change))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("facts", [CLASSIC, CRAFTAX], ids=["classic", "craftax"])
def test_a_menu_becomes_code_that_passes_the_checks(facts):
    menu = [
        {"term": "gain", "target": "wood", "weight": 1}, {"term": "approach", "target": "near:TREE", "weight": 0.5},
        {"term": "approach", "target": "COW", "weight": 0.5},
        {"term": "recover", "target": "food", "weight": 0.1}, {"term": "avoid_damage", "target": None, "weight": 1},
    ]  # fmt: skip
    spec = proposed(skill_json("Collect_Wood", reward_menu=menu)).spec(facts)
    check_skill_code(spec, facts)
    assert "inventory.wood >= n" in spec.task_is_done
    assert spec.task_reward.count("reward = ") == 5
    assert spec.gains["wood"].at(3) == 3


def test_menu_terms_map_to_those_of_the_skills_room():
    def term(name, target, weight=0.5):
        return written(name, target, weight, CRAFTAX)

    assert term("gain", "wood") == Gain("wood", 0.5)
    assert term("approach", "near:TREE") == term("approach", "TREE") == Approach("TREE", 0.5)
    assert term("recover", "food") == Recover("food", 0.5)
    assert term("avoid_damage", None) == term("avoid_damage", "zombies") == Pay("avoid_damage", None, 0.5)
    assert term("descend", "DUNGEON") == term("descend", "level:DUNGEON") == Gain("level:DUNGEON", 0.5)


def test_a_game_offers_the_terms_that_its_facts_declare():
    bare = dataclasses.replace(CLASSIC, terms=(RewardTerm("keep_away", "0.0", ("LAVA",), meaning="weight for distance"),))
    assert menu_terms(bare) == {"gain": menu_terms(CLASSIC)["gain"], "keep_away": "weight for distance"}
    assert list(menu_terms(CRAFTAX)) == [
        *("gain", "approach", "recover", "wall_in", "rest_sheltered", "avoid_damage", "descend")
    ]
    assert written("keep_away", "LAVA", 1.0, bare) == Pay("keep_away", "LAVA", 1.0)
    with pytest.raises(BadInput, match="has no term 'approach'; its terms are: gain, keep_away"):
        written("approach", "TREE", 1.0, bare)
    offered = schema(menu_terms(bare))["properties"]["reward_menu"]["anyOf"][0]["items"]["properties"]["term"]
    assert offered == {"type": "string", "enum": ["gain", "keep_away"]}


def test_a_menu_without_the_gain_gets_it_added():
    menu = [{"term": "avoid_damage", "target": None, "weight": 1}]
    assert "inventory_diff.wood" in proposed(skill_json("X", reward_menu=menu)).spec(CLASSIC).task_reward


@pytest.mark.parametrize(
    ("term", "complaint"),
    [
        ({"term": "gain", "target": "gold", "weight": 1}, "gold"),
        ({"term": "approach", "target": None, "weight": 1}, "no target"),
        ({"term": "gain", "target": "wood", "weight": -1}, "weight -1"),
        ({"term": "gain", "target": "wood", "weight": 1e9}, "up to 10"),
        ({"term": "recover", "target": "mood", "weight": 1}, "mood"),
        ({"term": "fly", "target": None, "weight": 1}, "has no term 'fly'; its terms are: gain, approach"),
    ],
)
def test_a_term_that_the_game_does_not_have_is_refused(term, complaint):
    with pytest.raises(BadInput, match=complaint):
        proposed(skill_json("X", reward_menu=[term])).spec(CLASSIC)


def test_code_is_used_unchanged_except_for_its_fence():
    spec = proposed(skill_json("X", **CODE)).spec(CLASSIC)
    assert spec.task_is_done == "def task_is_done(inventory, n):\n    return inventory.wood >= n\n"
    check_skill_code(spec, CLASSIC)


@pytest.mark.parametrize("missing", ["task_is_done", "task_reward"])
def test_half_of_the_code_is_refused(missing):
    with pytest.raises(BadInput, match=f"neither a reward_menu nor a {missing}"):
        proposed(skill_json("X", **{**CODE, missing: None})).spec(CLASSIC)


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
def test_an_impossible_skill_is_refused(change, complaint):
    with pytest.raises(BadInput, match=complaint):
        proposed(skill_json("X", **change)).spec(CLASSIC)


def test_amounts_may_be_an_object():
    text = json.dumps({"name": "X", "gains": {"wood": {"per": 1}}, "requires": {"stone": 2}, **CODE})
    spec = proposed(text).spec(CLASSIC)
    assert (spec.gains["wood"].at(3), spec.requires["stone"].at(3)) == (3, 2)


def test_the_schema_uses_only_what_structured_outputs_allow():
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

    check(schema(menu_terms(CLASSIC)))


@pytest.mark.parametrize("entry", GAMES.values(), ids=GAMES)
def test_every_skill_of_the_curriculum_can_be_proposed(entry):
    from flowrl.proposers.curriculum import load_curriculum

    for skill in load_curriculum(entry.curriculum, entry.facts):
        amounts = {
            role: [{"resource": name, **amount.model_dump()} for name, amount in getattr(skill, role).items()]
            for role in ("requires", "consumes", "gains")
        }
        text = json.dumps({"name": skill.name, "description": skill.description, **amounts, "reward_menu": None,
                           "task_is_done": skill.task_is_done, "task_reward": skill.task_reward})  # fmt: skip
        found = proposed(text).spec(entry.facts)
        assert found.gains == skill.gains and found.task_reward.strip() == skill.task_reward.strip()
