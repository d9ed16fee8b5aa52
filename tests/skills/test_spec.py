import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowrl.errors import BadInput
from flowrl.skills.spec import Amount, SkillSpec, check_name, name_from
from tests.skills.builders import IS_DONE, REWARD, skill


@settings(deadline=None)
@given(st.integers(0, 5), st.integers(0, 5), st.integers(1, 40))
def test_the_count_for_a_level_is_the_smallest_that_reaches_it(per, fixed, level):
    amount = Amount(per=per, fixed=fixed)
    if per == 0 and fixed < level:
        with pytest.raises(ValueError):
            amount.count_for(level)
    else:
        n = amount.count_for(level)
        assert amount.at(n) >= level
        assert n == 1 or amount.at(n - 1) < level


def test_an_amount_with_fractions_reaches_its_level():
    assert Amount(per=0.1).count_for(0.3) == 3
    assert Amount(per=0.5, fixed=0.25).count_for(2) == 4


@pytest.mark.parametrize("bad", [{"per": "2 * n"}, {"per": -1}, {"per": True}, {"fixed": float("nan")}, {"each": 2}, 2])
def test_an_amount_is_two_numbers_and_never_code(bad):
    with pytest.raises(BadInput, match="skill Make_Pickaxe: requires.wood") as error:
        SkillSpec.from_data(
            {"skill_name": "Make_Pickaxe", "requires": {"wood": bad}, "task_is_done": IS_DONE, "task_reward": REWARD}
        )
    assert "\n" not in str(error.value) and '"per": 2' in str(error.value)


@pytest.mark.parametrize("name", ["Collect_Wood", "a", "2nd-try", "x" * 64])
def test_ordinary_names_are_accepted(name):
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        *("", " ", "a b", "a/b", "../a", "a.b", "a:b", "a;b", "a'b", 'a"b', "a\nb", "a\n"),
        *("-a", "_a", "é", "x" * 65, None, 3),
    ],
)
def test_an_invalid_name_is_refused_and_shown(name):
    with pytest.raises(BadInput, match="skill name .*use 1 to 64 letters, digits"):
        check_name(name)


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("Collect Wood", "Collect_Wood"), (" Make  Torch ", "Make_Torch"), ("Collect Wood (n)", "Collect_Wood_n"),
        ("[Eat] <Cow>", "Eat_Cow"), ("Collect_Wood_", "Collect_Wood_"), ("2nd-try", "2nd-try"),
        ("a/b c", "a/b c"), ("../a (b)", "../a (b)"), ("a\nb", "a\nb"), ("( )", "( )"), ("", ""), ("é é", "é é"),
    ],
)  # fmt: skip
def test_only_spaces_and_brackets_in_a_name_become_an_underscore(title, name):
    assert name_from(title) == name


def test_a_skill_survives_json():
    spec = skill("Make_Torch", {"wood": "n", "near:TABLE": 1}, {"wood": "n"}, {"arrows": "4n"})
    data = json.loads(json.dumps(spec.to_data()))
    assert SkillSpec.from_data(data) == spec
    assert data["skill_name"] == "Make_Torch" and data["gains"] == {"arrows": {"per": 4, "fixed": 0}}


def test_fields_that_other_rooms_add_are_ignored():
    data = skill("Collect_Wood", gains={"wood": "n"}).to_data()
    assert SkillSpec.from_data({**data, "execution_plan": [], "expert_idx": 3}) == SkillSpec.from_data(data)


def test_amounts_may_be_missing_in_hand_written_data():
    spec = SkillSpec.from_data({"skill_name": "Wander", "task_is_done": IS_DONE, "task_reward": REWARD})
    assert (spec.requires, spec.consumes, spec.gains) == ({}, {}, {})


@pytest.mark.parametrize("field", ["task_is_done", "task_reward"])
def test_a_missing_function_is_named(field):
    data = skill("Collect_Wood").to_data()
    del data[field]
    with pytest.raises(BadInput, match=f"skill Collect_Wood: {field}"):
        SkillSpec.from_data(data)
    with pytest.raises(BadInput, match=f"skill Collect_Wood: {field}"):
        SkillSpec.from_data({**data, field: ""})
