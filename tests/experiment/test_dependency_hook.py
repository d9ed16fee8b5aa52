"""The user's own function: whatever it does, the result is names of skills, or one line that names the function."""

import pytest

from flowrl.errors import BadInput
from flowrl.experiment.dependency_hook import ask, asked_once

SKILLS = {name: {"execution_plan": []} for name in ("Collect_Wood", "Collect_Stone", "Make_Pickaxe")}


def asked(function):
    return ask(function, "Make_Pickaxe", SKILLS, {})


@pytest.mark.parametrize(
    ("said", "names"),
    [
        ([], ()),
        (["Collect_Wood", "Collect_Stone", "Collect_Wood"], ("Collect_Wood", "Collect_Stone")),
        (("Collect_Wood",), ("Collect_Wood",)),
        ({"Collect_Wood", "Collect_Stone"}, ("Collect_Stone", "Collect_Wood")),
        ({"Collect_Wood": 1}.keys(), ("Collect_Wood",)),
    ],
)
def test_any_collection_of_names_will_do(said, names):
    assert asked(lambda *_: said) == names


@pytest.mark.parametrize(
    "said", [None, "Collect_Wood", b"x", 3, {"Make_Pickaxe": ["Collect_Wood"]}, [None], [["Collect_Wood"]], iter([]), True]
)
def test_what_is_no_list_of_names_is_one_line_that_names_the_function(said):
    with pytest.raises(
        BadInput,
        match="^get_skill_dependencies returned .* for Make_Pickaxe, expected a list .* "
        "return \\[\\] if there is nothing to add$",
    ):
        asked(lambda *_: said)


@pytest.mark.parametrize("name", ["Mine_Diamond", "Make_Pickaxe", ""])
def test_a_name_that_is_none_of_the_other_skills_is_told_with_those_that_are(name):
    with pytest.raises(
        BadInput, match=f"^get_skill_dependencies returned {name!r} for Make_Pickaxe, .* \\(Collect_Wood, Collect_St"
    ):
        asked(lambda *_: [name])


@pytest.mark.parametrize(
    "error", [KeyError("Make_Pickaxe"), ValueError("a line\nand another"), RecursionError(), SystemExit(3)]
)
def test_an_error_of_the_function_is_one_line_with_its_place(error):
    def fails(*_):
        raise error

    with pytest.raises(
        BadInput, match=f"^get_skill_dependencies raised an error for Make_Pickaxe: {type(error).__name__}"
    ) as caught:
        asked(fails)
    assert "\n" not in str(caught.value) and "(test_dependency_hook.py:" in str(caught.value)


def test_an_error_while_a_list_is_read_is_the_functions_too():
    class Broken(list):
        def __iter__(self):
            raise OSError("gone")

    with pytest.raises(BadInput, match="get_skill_dependencies raised an error for Make_Pickaxe: OSError: gone"):
        asked(lambda *_: Broken(["Collect_Wood"]))


def test_ctrl_c_is_nobodys_error():
    def interrupted(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        asked(interrupted)


def test_the_function_gets_copies():
    def spoils(name, skills, training):
        skills["Collect_Wood"]["execution_plan"].append("spoilt")
        return []

    asked(spoils)
    assert SKILLS["Collect_Wood"] == {"execution_plan": []}


def test_an_answer_is_kept_but_no_error():
    calls = []

    def once(name, *skills):
        calls.append(name)
        if len(calls) == 1:
            raise ValueError("not yet")
        return ["Collect_Wood"]

    function = asked_once(once)
    with pytest.raises(BadInput):
        asked(function)
    assert asked(function) == asked(function) == ("Collect_Wood",)
    assert calls == ["Make_Pickaxe"] * 2
