"""The compiled programs of a run, and how a step is put together from them.

A step is driven from Python, program by program. All programs but one (`judge`) are the same for every
skill with the same game, batch and padded number of experts, so JAX's persistent cache serves them from
the second run on; the judge holds the skills' code, and is small.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from flowrl.envs import tasks, worlds
from flowrl.envs.adapter import GameAdapter
from flowrl.envs.tasks import PlanArrays, Progress, Verdict
from flowrl.envs.worlds import Scene, WorldBank
from flowrl.skills.module import TaskFunctions
from flowrl.training import experts, losses
from flowrl.training.networks import ExpertNetwork, Params
from flowrl.training.ppo import Hyperparameters, Transition, make_update

ACTING_BLOCK_SIZE = 64
"""Environments a block while acting; smaller than a learning block, since fewer rows are spread over the experts."""

WORLDS_AT_ONCE = 16
"""Worlds that one call of the generator makes."""


class Decision(NamedTuple):
    """What the acting experts chose, ``[B]`` each."""

    action: jax.Array
    log_prob: jax.Array
    value: jax.Array


class Playing(NamedTuple):
    """A batch of environments in the middle of their episodes."""

    bank: WorldBank
    scene: Scene
    progress: Progress
    expert: jax.Array
    """int32 ``[B]``: who acts next in each environment."""


Decide = Callable[[jax.Array, jax.Array, jax.Array, int], Decision]
"""``(observation [B, O], expert [B], key, step) -> Decision``."""


class Programs:
    """Everything compiled that a run needs."""

    def __init__(
        self,
        adapter: GameAdapter,
        network: ExpertNetwork,
        functions: Sequence[TaskFunctions],
        plan: PlanArrays,
        num_envs: int,
        num_experts: int,
        hyper: Hyperparameters,
    ):
        self.num_envs = num_envs
        self.num_experts = experts.padded_count(num_experts)
        self.plan = plan
        self._generate = jax.jit(lambda keys: worlds.generate(adapter, keys))
        self._step = jax.jit(make_step(adapter, num_envs))
        self._act = jax.jit(make_act(network, self.num_experts))
        self._act_at_random = jax.jit(make_random_act(adapter.num_actions, num_envs))
        self._values = jax.jit(make_values(network, self.num_experts))
        self._judge = jax.jit(make_judge(tasks.make_judge(functions)))
        self._renew = jax.jit(worlds.renew)
        self._replace_worlds = jax.jit(worlds.replace_worlds)
        self.update = jax.jit(make_update(network, hyper, self.num_experts), donate_argnums=(0,))

    def fresh_worlds(self, key: jax.Array, count: int) -> Scene:
        """At least ``count`` fresh worlds, made some at a time so that little memory is held at once."""
        num_calls = -(-count // WORLDS_AT_ONCE)
        parts = [self._generate(jax.random.split(part, WORLDS_AT_ONCE)) for part in jax.random.split(key, num_calls)]
        return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)

    def begin(self, key: jax.Array, num_worlds: int) -> Playing:
        """Every environment at the start of an episode, in the bank's first worlds."""
        bank = WorldBank(self.fresh_worlds(key, max(num_worlds, self.num_envs)), jnp.int32(0))
        first = jax.tree.map(lambda leaf: leaf[: self.num_envs], bank.worlds)
        bank = bank._replace(next_world=jnp.int32(self.num_envs))
        expert = jnp.broadcast_to(self.plan.expert[0], (self.num_envs,))
        return Playing(bank, first, tasks.start(self.num_envs), expert)

    def refresh_worlds(self, playing: Playing, key: jax.Array, count: int) -> Playing:
        """Replaces the worlds handed out last, at least ``count`` of them, by fresh ones."""
        bank = playing.bank
        for number in range(-(-count // WORLDS_AT_ONCE)):
            fresh = self._generate(jax.random.split(jax.random.fold_in(key, number), WORLDS_AT_ONCE))
            bank = self._replace_worlds(bank, fresh, number * WORLDS_AT_ONCE)
        return playing._replace(bank=bank)

    def learned_policy(self, params: Params) -> Decide:
        """Actions sampled from the experts."""
        return lambda observation, expert, key, step: self._act(params, observation, expert, key, step)

    def random_policy(self) -> Decide:
        """Every action equally likely: what a skill is compared with."""
        return lambda observation, expert, key, step: self._act_at_random(key, step)

    def values(self, params: Params, playing: Playing) -> jax.Array:
        """``[B]``: the acting experts' values of where the environments are."""
        return self._values(params, playing.scene.observation, playing.expert, jnp.ones(self.num_envs, bool))

    def play_step(self, playing: Playing, decision: Decision, key: jax.Array, step: int):
        """One step of every environment.

        Returns:
            where the environments are afterwards (ended ones in their next world), the verdict, and the
            observation ``[B, O]`` that the step led to (before a new world took its place).
        """
        state, observation, features, game_over = self._step(playing.scene.state, decision.action, key, step)
        verdict, progress, expert = self._judge(
            playing.scene.features, features, game_over, playing.progress, self.plan
        )
        bank, scene = self._renew(playing.bank, Scene(state, observation, features), verdict.ended)
        return Playing(bank, scene, progress, expert), verdict, observation

    def transition(self, params: Params, before: Playing, decision: Decision, verdict: Verdict, led_to) -> Transition:
        """What learning needs to know of a step."""
        return Transition(
            observation=before.scene.observation,
            action=decision.action,
            log_prob=decision.log_prob,
            value=decision.value,
            expert=before.expert,
            reward=verdict.reward,
            continues=~(verdict.task_done | verdict.ended),
            truncation_value=self._values(params, led_to, before.expert, verdict.truncated),
        )


def make_step(adapter: GameAdapter, num_envs: int):
    """The game and its features, one step of ``B`` environments."""

    def step(state, action, key, number):
        keys = jax.random.split(jax.random.fold_in(key, number), num_envs)
        observation, state, game_over = jax.vmap(adapter.step)(keys, state, action)
        return state, observation, jax.vmap(adapter.features)(state), game_over

    return step


def make_act(network: ExpertNetwork, num_experts: int):
    """Sampled actions of the acting experts, with their log probabilities and values."""

    def both(params, observation):
        return jnp.concatenate(
            [network.logits(params, observation), network.value(params, observation)[:, None]], axis=1
        )

    def act(params, observation, expert, key, number):
        blocks = experts.sort_into_blocks(expert, jnp.ones_like(expert, bool), num_experts, ACTING_BLOCK_SIZE)
        outputs = experts.apply(both, params, observation, blocks)
        logits, value = outputs[:, :-1], outputs[:, -1]
        action = jax.random.categorical(jax.random.fold_in(key, number), logits)
        return Decision(action, losses.log_prob_of(logits, action), value)

    return act


def make_random_act(num_actions: int, num_envs: int):
    """Uniformly random actions."""

    def act_at_random(key, number):
        action = jax.random.randint(jax.random.fold_in(key, number), (num_envs,), 0, num_actions)
        return Decision(action, jnp.full(num_envs, -jnp.log(num_actions)), jnp.zeros(num_envs))

    return act_at_random


def make_values(network: ExpertNetwork, num_experts: int):
    """The values of the wanted rows by each row's expert; 0 for the others, which cost nothing."""

    def values(params, observation, expert, wanted):
        blocks = experts.sort_into_blocks(expert, wanted, num_experts, ACTING_BLOCK_SIZE)
        return experts.apply(network.value, params, observation, blocks)

    return values


def make_judge(judge: tasks.Judge):
    """The skills' code: a step's verdict, the progress to go on with, and who acts next."""

    def judge_step(before, after, game_over, progress, plan):
        verdict, progress = judge(before, after, game_over, progress, plan)
        progress = tasks.restart(progress, verdict.ended)
        return verdict, progress, plan.expert[progress.task]

    return judge_step
