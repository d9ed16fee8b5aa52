from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from flowrl.training.learning import experts, optimiser

MAX_GRAD_NORM = 2.0
LR = 0.1
STEP = optimiser.make(MAX_GRAD_NORM)


def tree(*rows):
    """Parameters of as many experts as there are rows."""
    rows = jnp.asarray(rows, jnp.float32)
    return {"weights": rows[:, :2], "bias": rows[:, 2:]}


def descend(params, state, gradients, num_samples):
    """A step of each expert that has samples."""

    def one_expert(owner, learner):
        return optimiser.step(STEP, *learner, experts.select(gradients, owner), LR), ()

    return experts.one_by_one(one_expert, (params, state), jnp.asarray(num_samples) > 0)[0]


def bits(params):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(params)]


def expert(params, index):
    return jax.tree.map(lambda leaf: leaf[index], params)


def test_two_steps_are_adams():
    params = tree([1, 2, 3])
    first, second = np.float64([0.5, -1.0, 0.25]), np.float64([-0.5, -1.0, 1.5])
    state = optimiser.init(STEP, params)
    params, state = descend(params, state, tree(first), [1])
    # The first step of Adam is the sign of the gradient, apart from its epsilon.
    expected = np.float64([1, 2, 3]) - LR * first / (np.abs(first) + 1e-5)
    np.testing.assert_allclose(np.concatenate([params["weights"][0], params["bias"][0]]), expected, rtol=1e-6)

    params, state = descend(params, state, tree(second), [1])
    mean = (0.9 * 0.1 * first + 0.1 * second) / (1 - 0.9**2)
    square = (0.999 * 0.001 * first**2 + 0.001 * second**2) / (1 - 0.999**2)
    expected = expected - LR * mean / (np.sqrt(square) + 1e-5)
    np.testing.assert_allclose(np.concatenate([params["weights"][0], params["bias"][0]]), expected, rtol=1e-5)


def test_each_experts_gradient_is_clipped_by_its_own_norm():
    params = tree([0, 0, 0], [0, 0, 0])
    _, state = descend(params, optimiser.init(STEP, params), tree([0, 30, 40], [0, 0.3, 0.4]), [1, 1])
    mean = state[1].mu
    np.testing.assert_allclose(mean["weights"], 0.1 * np.array([[0, 1.2], [0, 0.3]]), rtol=1e-6)
    np.testing.assert_allclose(mean["bias"], 0.1 * np.array([[1.6], [0.4]]), rtol=1e-6)


def test_an_expert_without_samples_stays_bit_identical():
    params = tree([1, 2, 3], [4, 5, 6])
    params, state = descend(params, optimiser.init(STEP, params), tree([1, 1, 1], [1, 1, 1]), [3, 3])
    gradients = tree([1, 1, 1], [np.nan, 1, 0])
    after, state_after = descend(params, state, gradients, [3, 0])
    assert bits(expert((after, state_after), 1)) == bits(expert((params, state), 1))
    assert bits(expert(after, 0)) != bits(expert(params, 0))
    assert state_after[1].count.tolist() == [2, 1]


def test_an_experts_step_does_not_depend_on_the_others():
    params = tree([1, 2, 3], [4, 5, 6])
    state = optimiser.init(STEP, params)
    together = descend(params, state, tree([1, 2, 3], [7, 8, 9]), [2, 5])
    other = descend(params, state, tree([1, 2, 3], [-700, 0, np.inf]), [2, 1])
    alone = descend(expert_only(params), optimiser.init(STEP, expert_only(params)), tree([1, 2, 3]), [2])
    assert bits(expert(together, 0)) == bits(expert(other, 0)) == bits(expert(alone, 0))


def expert_only(params):
    return jax.tree.map(lambda leaf: leaf[:1], params)
