"""Reports of the gate: only code with a report that it passed is trained."""

import pytest

from flowrl.errors import BadInput
from flowrl.skills.fingerprint import fingerprint
from flowrl.skills.gate_report import BY_HAND, built_in, check_module, report_for, unprobed
from flowrl.skills.module import TaskSource, render_module
from tests.skills.builders import IS_DONE, REWARD, skill

OTHER_REWARD = REWARD.replace("1.0", "2.0")


def module(reward=REWARD):
    return render_module("Chop", 3, {3: 0}, [TaskSource("Chop", 2, 0, IS_DONE, reward)])


def test_layout_comments_and_docstrings_do_not_change_a_fingerprint():
    spaced = (
        'def task_reward( inventory_diff ):\n    """Pays."""\n    # for wood\n    return (1.0 *\n        inventory_diff.wood)\n'
    )
    assert fingerprint(IS_DONE, spaced) == fingerprint(IS_DONE, REWARD)


@pytest.mark.parametrize(
    "changed",
    [
        OTHER_REWARD,
        REWARD.replace("*", "+"),
        REWARD.replace("wood", "stone"),
        REWARD.replace("1.0", "1"),
        REWARD.replace("1.0", "-1.0"),
    ],
)
def test_names_numbers_and_operators_change_a_fingerprint(changed):
    assert fingerprint(IS_DONE, changed) != fingerprint(IS_DONE, REWARD)


def test_a_module_has_the_fingerprints_of_its_skills():
    check_module(module(), [built_in(skill("Chop"))])


@pytest.mark.parametrize(
    "reports",
    [
        [],
        [unprobed(IS_DONE, OTHER_REWARD, BY_HAND)],
        [{**unprobed(IS_DONE, REWARD, BY_HAND), "passed": False}],
    ],
)
def test_a_module_with_code_that_has_not_passed_is_refused(reports):
    with pytest.raises(BadInput, match="Chop .*has not passed the gate.*delete the run's folder"):
        check_module(module(), reports)


def test_code_that_was_changed_after_its_report_is_refused():
    with pytest.raises(BadInput, match="is not the code that passed the gate"):
        report_for("Chop", IS_DONE, OTHER_REWARD, unprobed(IS_DONE, REWARD, "ran"))


def test_code_whose_report_says_that_it_failed_is_refused():
    with pytest.raises(BadInput, match="did not pass the gate: never_done"):
        report_for("Chop", IS_DONE, REWARD, {"passed": False, "message": "never_done"})


def test_code_without_a_report_counts_as_written_by_hand():
    assert report_for("Chop", IS_DONE, REWARD, None)["probe"] == BY_HAND
