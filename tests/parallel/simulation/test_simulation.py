"""Two thousand random histories of the scheduler, and the bugs planted in it that they have to find."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import Phase

from tests.parallel.simulation.machine import histories
from tests.parallel.simulation.mutants import MUTANTS
from tests.parallel.simulation.world import Broken

HISTORIES = 2000
HISTORIES_FOR_A_MUTANT = 2000
"""At most: a bug is mostly found within the first few dozen."""


def test_whatever_happens_nothing_is_lost_counted_twice_or_left_waiting():
    lengths = histories(HISTORIES)
    assert len(lengths) >= HISTORIES
    assert statistics.median(lengths) >= 30


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_planted_bug_is_found(mutant):
    assert len(MUTANTS) >= 10
    with pytest.raises(Broken):
        histories(HISTORIES_FOR_A_MUTANT, mutant.parts, phases=(Phase.generate,))
