"""Cases of the nearest blocks and creatures that play does not reach by itself; ``test_games`` has those that it does."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from flowrl.envs.craftax.creatures import Creatures
from flowrl.envs.craftax.facts import NOT_IN_VIEW
from flowrl.envs.craftax.nearest import nearest_blocks, nearest_creatures


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


NOWHERE = [NOT_IN_VIEW, NOT_IN_VIEW]
PLAYER = (20, 20)


def creatures(*places, alive=None, channel=7):
    """Creatures at offsets from the player."""
    position = np.array(PLAYER) + np.array(places)
    alive = np.ones(len(places), bool) if alive is None else np.array(alive)
    return Creatures(jnp.asarray(position, jnp.int32), jnp.asarray(alive), jnp.broadcast_to(jnp.asarray(channel), len(places)))


def nearest_of(some, channels=(7,), visible=None):
    visible = jnp.ones((5, 7), bool) if visible is None else jnp.asarray(visible)
    return np.asarray(nearest_creatures(some, np.array(channels, np.int32), jnp.asarray(PLAYER), visible))[:, :, 0].tolist()


def test_of_equally_near_creatures_the_first_in_reading_order_counts():
    assert nearest_of(creatures((0, 1), (1, 0), (0, -1))) == [[0, -1]]
    assert nearest_of(creatures((1, 0), (0, 3), (-1, 0))) == [[-1, 0]]


def test_the_nearest_creature_is_that_of_the_fewest_steps():
    assert nearest_of(creatures((2, 2), (0, 3))) == [[0, 3]]


def test_each_type_has_its_own_and_others_are_left_out():
    some = creatures((0, 1), (0, 2), (0, 3), channel=[9, 7, 8])
    assert nearest_of(some, channels=(7, 8, 5)) == [[0, 2], [0, 3], NOWHERE]


def test_dead_creatures_do_not_count():
    assert nearest_of(creatures((0, 1), (2, 0), alive=[False, True])) == [[2, 0]]
    assert nearest_of(creatures((0, 1), alive=[False])) == [NOWHERE]


def test_creatures_beyond_the_view_do_not_count():
    """Also where their place counted from the other end of the view would lie in it."""
    for place in ((3, 0), (-3, 0), (0, 4), (0, -4), (-5, 2), (1, 7)):
        assert nearest_of(creatures(place)) == [NOWHERE]
    for place in ((2, 3), (-2, -3), (2, -3)):
        assert nearest_of(creatures(place)) == [list(place)]


def test_creatures_in_the_dark_do_not_count():
    dark = np.ones((5, 7), bool)
    dark[2, 4] = False  # one step to the right of the player
    assert nearest_of(creatures((0, 1), (0, 2)), visible=dark) == [[0, 2]]


def test_a_dead_creature_on_the_same_cell_hides_no_living_one():
    """It does in the observation (see `creature_cells`), for want of care in the games."""
    assert nearest_of(creatures((0, 1), (0, 1), alive=[True, False])) == [[0, 1]]
