"""Which skills count as learned."""

from __future__ import annotations

import pytest

from flowrl.records.learned import counts_as_learned, why_not_learned


@pytest.mark.parametrize(
    ("reaches_goal", "random_rate", "is_learned"),
    [
        (True, 0.1, True),
        (True, 0.899, True),
        (True, 0.9, False),
        (True, 0.96, False),
        (True, None, True),
        (False, 0.1, False),
        (None, 0.1, False),
    ],
)
def test_a_skill_is_learned_if_it_reaches_its_goal_and_chance_does_not_do_it(reaches_goal, random_rate, is_learned):
    assert counts_as_learned(reaches_goal, random_rate) is is_learned


def test_the_line_names_the_skill_and_the_rate():
    line = "Wake_Up: a random policy does it in 0.96 of worlds; it does not count as learned"
    assert why_not_learned("Wake_Up", 0.96) == line
    assert why_not_learned("Eat_Cow", 0.89) is None and why_not_learned("Eat_Cow", None) is None
