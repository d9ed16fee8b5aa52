"""What an agent sees, what it decides, and how likely that was."""

from __future__ import annotations

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

from flowrl.errors import BadInput
from flowrl.host import SequentialVecEnv
from flowrl.host.learning.actions import Choices, Continuous, actions_of
from flowrl.host.learning.distributions import Outputs, likelihoods
from flowrl.host.learning.networks import network_for
from flowrl.host.learning.observations import Layout
from flowrl.host.learning.policies import JaxPolicy, Policies
from flowrl.host.learning.settings import PPOSettings
from tests.host.games import Rich
from tests.kept_programs import kept_programs  # noqa: F401


def test_every_kind_of_observation_becomes_numbers_and_at_most_one_image():
    space = spaces.Dict(
        {
            "image": spaces.Box(0, 255, (2, 6, 5), np.uint8),  # two channels first
            "inner": spaces.Dict({"kind": spaces.Discrete(3, start=-1), "kinds": spaces.MultiDiscrete([2, 2])}),
            "memory": spaces.Box(0, 255, (2,), np.uint8),
            "size": spaces.Box(-9, 9, (1,), np.float64),
            "switches": spaces.MultiBinary(2),
        }
    )
    image = np.arange(60, dtype=np.uint8).reshape(1, 2, 6, 5)
    seen = Layout(space).encode(
        {
            "image": image,
            "inner": {"kind": np.array([1]), "kinds": np.array([[1, 0]])},
            "memory": np.array([[255, 51]], np.uint8),
            "size": np.array([[-2.5]]),
            "switches": np.array([[0, 1]], np.int8),
        }
    )
    np.testing.assert_allclose(seen.vector, [[0, 0, 1, 0, 1, 1, 0, 1, 0.2, -2.5, 0, 1]], rtol=1e-6)
    assert seen.vector.dtype == np.float32
    assert seen.image.shape == (1, 6, 5, 2) and (seen.image[0, :, :, 1] == image[0, 1]).all()


def test_a_batch_is_encoded_as_its_rows_are():
    with SequentialVecEnv([Rich] * 3) as env:
        layout, observations = Layout(env.single_observation_space), env.reset(seed=1)
        whole = layout.encode(observations)
    for row in range(3):
        alone = layout.encode(jax.tree.map(lambda values: values[row : row + 1], observations))
        assert all((one[0] == other[row]).all() for one, other in zip(alone, whole))


def test_two_images_are_refused_by_name():
    space = spaces.Dict({name: spaces.Box(0, 255, (8, 8, 3), np.uint8) for name in ("left", "right")})
    with pytest.raises(BadInput, match="left, right"):
        Layout(space)


def drawn(actions, outputs, masks=None, log_std=None, count=4000):
    rows = np.repeat(np.float32([outputs]), count, axis=0)
    allowed = None if masks is None else np.repeat(np.array([masks], bool), count, axis=0)
    return actions.draw(rows, allowed, log_std, np.random.default_rng(0))


def test_choices_are_drawn_as_often_as_their_logits_say_and_never_against_a_mask():
    actions = Choices(spaces.MultiDiscrete([2, 3]))
    found = drawn(actions, [*np.log([0.25, 0.75]), *np.log([0.5, 0.1, 0.4])], [1, 1, 1, 0, 1])
    np.testing.assert_allclose(found.mean(axis=0)[0], 0.75, atol=0.03)
    assert set(found[:, 1]) == {0, 2}
    np.testing.assert_allclose((found[:, 1] == 2).mean(), 4 / 9, atol=0.03)


def test_numbers_are_drawn_around_their_mean_and_scaled_to_their_bounds():
    actions = Continuous(spaces.Box(np.float32([0, -np.inf]), np.float32([10, np.inf])))
    found = drawn(actions, [0.5, 3.0], log_std=np.log(np.float32([0.1, 2.0])))
    np.testing.assert_allclose(found.mean(axis=0), [0.5, 3.0], atol=0.1)
    np.testing.assert_allclose(found.std(axis=0), [0.1, 2.0], rtol=0.05)
    np.testing.assert_allclose(actions.to_env(np.float32([[0.5, 30.0], [2.0, 0.0]])), [[7.5, 30.0], [10.0, 0.0]])


@pytest.mark.parametrize(
    ("space", "decision", "action"),
    [
        (spaces.Discrete(3, start=5), [[2]], [7]),
        (spaces.MultiDiscrete([2, 3], start=[1, -1]), [[1, 2]], [[2, 1]]),
        (spaces.MultiBinary((2, 2)), [[1, 0, 0, 1]], [[[1, 0], [0, 1]]]),
    ],
)
def test_decisions_become_actions_of_the_space(space, decision, action):
    found = actions_of(space).to_env(np.int32(decision))
    np.testing.assert_array_equal(found, action)
    assert space.contains(found[0] if space.shape else space.dtype.type(found[0]))


def test_likelihoods_of_choices_are_those_of_all_combinations_together():
    actions = Choices(spaces.MultiDiscrete([2, 3]))
    logits, mask = np.float32([0.3, -0.2, 1.0, 0.5, -1.0]), np.array([1, 1, 1, 0, 1], bool)
    combinations = np.int32(list(itertools.product(range(2), range(3))))
    outputs = Outputs(jnp.tile(logits, (6, 1)), None)
    found = likelihoods(actions)(outputs, combinations, jnp.tile(mask, (6, 1)))
    first = np.exp(logits[:2]) / np.exp(logits[:2]).sum()
    second = np.exp(logits[2:]) * mask[2:] / (np.exp(logits[2:]) * mask[2:]).sum()
    expected = first[combinations[:, 0]] * second[combinations[:, 1]]
    np.testing.assert_allclose(np.exp(found.log_prob), expected, rtol=1e-5, atol=1e-8)
    entropy = -sum(p * math.log(p) for p in (*first, *second) if p > 0)
    np.testing.assert_allclose(found.entropy, entropy, rtol=1e-5)


def agent(observation_space, action_space):
    layout, actions = Layout(observation_space), actions_of(action_space)
    network = network_for(layout, actions, 16)
    return layout, actions, network, jax.jit(network.init)(jax.random.key(0))


def test_the_actor_in_numpy_gives_what_the_network_gives():
    box = spaces.Box(-1, 1, (4,), np.float32)
    _, _, network, params = agent(box, box)
    params["actor"]["head"]["kernel"] *= 100  # it begins nearly at 0, where all outputs look alike
    seen = Layout(box).encode(np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32))
    policy = Policies(network).of(params)
    expected = network.outputs(params, seen)
    assert not isinstance(policy, JaxPolicy) and float(jnp.std(expected)) > 0.1
    np.testing.assert_allclose(policy.outputs(seen), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(policy.log_std, params["log_std"])


def test_the_network_for_images_sees_the_image_and_the_numbers_beside_it():
    space = spaces.Dict({"image": spaces.Box(0, 255, (9, 11, 3), np.uint8), "speed": spaces.Box(-1, 1, (2,), np.float32)})
    layout, _, network, params = agent(space, spaces.Discrete(5))
    blank = layout.blank(4)
    compute = jax.jit(network.outputs_and_value)
    outputs, value = compute(params, blank)
    assert outputs.actor.shape == (4, 5) and value.shape == (4,)
    other = layout.blank(4)  # JAX may still read the first one
    other.image[1], other.vector[2] = 255, 1.0
    changed = compute(params, other)[1]
    assert [bool(one != other) for one, other in zip(value, changed)] == [False, True, True, False]
    policy = Policies(network).of(params)
    assert isinstance(policy, JaxPolicy)
    np.testing.assert_allclose(policy.outputs(other), compute(params, other)[0].actor, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("n_envs", [1, 3, 7, 8, 100, 2000])
def test_minibatches_divide_the_steps_of_any_number_of_environments(n_envs):
    settings = PPOSettings(n_envs=n_envs)
    for images in (False, True):
        assert settings.frames_per_update % settings.minibatches(images) == 0
    assert settings.minibatches(images=False) == 16 and settings.frames_per_update >= 900


def test_minibatches_that_do_not_divide_the_steps_are_refused():
    with pytest.raises(BadInput, match="--num_minibatches 7 does not divide"):
        PPOSettings(num_steps=16, n_envs=2, num_minibatches=7)
