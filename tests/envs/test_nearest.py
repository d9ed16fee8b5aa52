"""Cases of the nearest blocks that random play does not reach by itself; ``test_games`` has those that it does."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from flowrl.envs.craftax.facts import NOT_IN_VIEW
from flowrl.envs.craftax.nearest import nearest_blocks


def nearest(view, visible=None, num_types=5):
    view = jnp.asarray(view, jnp.int32)
    visible = jnp.ones(view.shape, bool) if visible is None else jnp.asarray(visible)
    return np.asarray(nearest_blocks(view, visible, num_types))[:, :, 0].tolist()


def test_of_equally_near_blocks_the_first_in_reading_order_counts():
    view = [[0, 2, 0], [2, 0, 2], [0, 2, 0]]
    assert nearest(view)[2] == [-1, 0]
    view = [[0, 0, 0], [2, 0, 2], [0, 2, 0]]
    assert nearest(view)[2] == [0, -1]
    view = [[1, 0, 1], [0, 0, 2], [1, 0, 1]]
    assert nearest(view)[1] == [-1, -1]


def test_distance_is_counted_in_steps():
    view = np.zeros((5, 7), int)
    view[0, 1], view[2, 6] = 4, 4  # 2 + 2 steps and 3 steps away; in a straight line the first would be nearer
    assert nearest(view)[4] == [0, 3]


def test_the_player_stands_on_a_block_too():
    assert nearest([[1, 1, 1], [1, 3, 1], [1, 1, 1]])[3] == [0, 0]


def test_invisible_blocks_are_not_in_view():
    view = [[1, 0, 0], [0, 0, 0], [0, 0, 1]]
    visible = np.ones((3, 3), bool)
    visible[0, 0] = False
    assert nearest(view, visible)[1] == [1, 1]
    visible[2, 2] = False
    assert nearest(view, visible)[1] == [NOT_IN_VIEW, NOT_IN_VIEW]
    assert nearest(view, np.zeros((3, 3), bool)) == [[NOT_IN_VIEW, NOT_IN_VIEW]] * 5
