"""Where creatures are shown, against the games' own way: one creature after the other, written into an array."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from flowrl.envs.craftax.creatures import Creatures, creature_cells

VIEW, CHANNELS, COUNT = (3, 5), 2, 4
PLAYER = (10, 10)

shown_cells = jax.jit(lambda creatures: creature_cells(creatures, jnp.asarray(PLAYER), VIEW))
written = jax.jit(lambda array, place, channel, value: array.at[place[0], place[1], channel].set(value))

# Around the view and well outside of it, so that places count from the other end, or lie beyond.
creature = st.tuples(st.integers(3, 17), st.integers(1, 19), st.booleans(), st.integers(0, CHANNELS - 1))


@settings(max_examples=300, deadline=None)
@given(st.lists(creature, min_size=COUNT, max_size=COUNT))
def test_creatures_are_shown_where_the_games_draw_them(creatures):
    expected = jnp.zeros((*VIEW, CHANNELS))
    for row, column, alive, channel in creatures:
        place = (row - PLAYER[0] + VIEW[0] // 2, column - PLAYER[1] + VIEW[1] // 2)
        in_view = all(0 <= part < size for part, size in zip(place, VIEW))
        expected = written(expected, jnp.asarray(place), channel, float(in_view and alive))
    rows, columns, alive, channels = map(np.asarray, zip(*creatures))
    cell, shown = shown_cells(Creatures(np.stack([rows, columns], axis=1), alive, channels))
    found = np.zeros((VIEW[0] * VIEW[1], CHANNELS))
    np.add.at(found, (cell[shown], channels[shown]), 1)
    np.testing.assert_array_equal(found.reshape(*VIEW, CHANNELS), expected)


def test_a_dead_creature_erases_the_one_before_it_on_the_same_cell_only():
    position = np.array([[10, 10], [10, 10], [10, 11], [10, 11]])
    alive, channel = np.array([True, False, False, True]), np.zeros(4, int)
    _, shown = shown_cells(Creatures(position, alive, channel))
    assert shown.tolist() == [False, False, False, True]
