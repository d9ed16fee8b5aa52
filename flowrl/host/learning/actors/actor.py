"""What an actor process runs: it steps environments with its own copy of the policy, and never waits for an update.

With a policy for vectors it imports no JAX. It ends when the learner does, however the learner ends.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from flowrl.errors import BadInput, FlowrlError
from flowrl.host import messages, worker
from flowrl.host.block import attached
from flowrl.host.environments import MakeEnvironment
from flowrl.host.interface import VecEnv
from flowrl.host.learning.actions import Actions, actions_of
from flowrl.host.learning.actors.exchange import Exchange, Sizes, Slot
from flowrl.host.learning.actors.parameters import Place, nested
from flowrl.host.learning.numpy_policy import NumpyPolicy, Policy
from flowrl.host.learning.observations import Layout
from flowrl.host.learning.steps import Stepper
from flowrl.host.messages import Channel, Gone
from flowrl.host.sequential import SequentialVecEnv


class ActorOrder(NamedTuple):
    """Which environments an actor steps, and how.

    Attributes:
        number: of the actor.
        env: the name of its environments.
        places: how its policy's parameters lie in a vector.
        layer_size: width of its network, for a policy that is computed by JAX.
        seed: of its first environment.
        decision_seed: of the random numbers that decide.
    """

    number: int
    env: str
    sizes: Sizes
    places: Sequence[Place]
    layer_size: int
    learns_from_signs: bool
    seed: int
    decision_seed: Sequence[int]


class Stopped(Exception):
    """The learner wants the actor to end."""


def main(descriptor: int) -> None:
    """A process that was started from nothing: its order comes as a message, and the memory after it."""
    with contextlib.suppress(Gone):
        channel, order = worker.ordered(descriptor)
        worker.end_with_parent(channel)
        memory = channel.receive_with_descriptor()[2]
        exchange = Exchange(order.sizes, attached(memory))
        os.close(memory)
        try:
            _act(channel, order, exchange)
        except Stopped:
            return
        except FlowrlError as error:
            channel.send(messages.FAULT, error)


def _act(channel: Channel, order: ActorOrder, exchange: Exchange) -> None:
    functions = [MakeEnvironment(order.env)] * order.sizes.num_envs
    with SequentialVecEnv(functions, copy=False) as env:
        _check_spaces(env, order)
        actor = Actor(order, env, exchange)
        channel.send(messages.READY, None)
        while True:
            began_s = time.perf_counter()
            kind, slot = channel.receive()
            if kind == messages.CLOSE:
                return
            actor.fill(exchange.slots[slot], time.perf_counter() - began_s)
            channel.send(messages.FULL, slot)


class Actor:
    """Environments, and the policy that acts in them."""

    def __init__(self, order: ActorOrder, env: VecEnv, exchange: Exchange):
        layout, actions = Layout(env.single_observation_space), actions_of(env.single_action_space)
        self._env, self._exchange, self._order = env, exchange, order
        self._policy_of = _policies(order, layout, actions)
        self._stepper = Stepper(env, layout, actions, order.learns_from_signs)
        self._stepper.reset(order.seed)
        self._random = np.random.default_rng(list(order.decision_seed))

    def fill(self, slot: Slot, waited_s: float) -> None:
        """Takes the next steps with the newest policy.

        Raises:
            EnvironmentFault: an environment failed.
            Stopped: the learner does not want them any more.
        """
        version, values = self._exchange.parameters.newest()
        policy = self._policy_of(nested(values, self._order.places))
        began_s = time.perf_counter()
        self._stepper.fill(slot.steps, policy, self._random, self._after_step)
        slot.version[0] = version
        if policy.log_std is not None:
            slot.log_std[:] = policy.log_std
        ended = self._env.get_episode_stats()
        slot.num_ended[0] = count = ended.num_completed
        slot.returns[:count], slot.lengths[:count], slot.environments[:count] = ended
        slot.seconds[:] = time.perf_counter() - began_s, waited_s

    def _after_step(self) -> None:
        self._exchange.progress[self._order.number] += 1
        if self._exchange.stopping[0]:
            raise Stopped


def _policies(order: ActorOrder, layout: Layout, actions: Actions) -> Callable[[Any], Policy]:
    """What makes a policy of parameters."""
    if layout.image_shape is None:
        return NumpyPolicy
    # A convolution is slow in numpy. `pool.variables` has limited JAX to one thread on the CPU.
    from flowrl.host.learning.networks import network_for
    from flowrl.host.learning.policies import Policies

    return Policies(network_for(layout, actions, order.layer_size)).of


def _check_spaces(env: VecEnv, order: ActorOrder) -> None:
    for what, expected, found in (
        ("observation", order.sizes.observation_space, env.single_observation_space),
        ("action", order.sizes.action_space, env.single_action_space),
    ):
        if found != expected:
            raise BadInput(
                f"an environment of {order.env} has the {what} space {found}, another one {expected}; all must have the same"
            )
