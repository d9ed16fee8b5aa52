"""The updates of an ordinary run without the rest of it, to measure how fast this machine trains.

The programs are those of a real run with the same settings, so what is compiled here serves that run too.
"""

from __future__ import annotations

import contextlib
import time

import jax
import jax.numpy as jnp
import numpy as np

from flowrl.envs import tasks
from flowrl.envs.registry import make_adapter
from flowrl.skills.facts import GameFacts
from flowrl.skills.module import TaskFunctions
from flowrl.training.learning.networks import ExpertNetwork
from flowrl.training.learning.ppo import Hyperparameters
from flowrl.training.playing import fused_rollout
from flowrl.training.playing.environments import Judge, Playing, Stage, begin, plan_judge, refresh_worlds
from flowrl.training.playing.learning import Updater
from flowrl.training.playing.programs import Source, compile_programs
from flowrl.training.playing.rollout import values
from flowrl.training.playing.world import WORLDS_AT_ONCE
from flowrl.training.run.measuring import TEST_EPISODES
from flowrl.training.run.updates import bank_size, turnover

DEFAULTS = Hyperparameters()

MAX_TASK_STEPS = 200
LR = 2e-4


def task(number: int, facts: GameFacts) -> TaskFunctions:
    """The code of a plan's task, different for each task; only its step budget ends it. Reads every feature of the game."""
    now = tuple(feature.name for feature in facts.features)
    over_step = tuple(name for feature in facts.features for name in feature.names)

    def is_done(**features):
        return _sum(features) > 1e9 + number

    def reward(**features):
        return _sum(features) / (1000 + number)

    return TaskFunctions(is_done, now, reward, over_step)


def _sum(features: dict) -> jax.Array:
    """The sum of the absolute values of all numbers in the features."""
    return sum(jnp.abs(leaf).astype(jnp.float32).sum() for leaf in jax.tree.leaves(features))


class Workload:
    """A run of fresh experts on endless tasks, one task per expert, updated as in a real run."""

    def __init__(
        self,
        env_name: str,
        num_envs: int,
        num_steps: int,
        layer_size: int,
        hyper: Hyperparameters = DEFAULTS,
        num_experts: int = 1,
        num_tasks: int | None = None,
        acting: np.ndarray | None = None,
        mixed_precision: bool = False,
        max_task_steps: int | None = None,
    ):
        """Raises BadInput if there is no such game.

        Args:
            num_tasks: of the plan; by default one for each expert.
            acting: int ``[num_envs]``, the expert that acts in each environment, in every task; by default, the plan's.
            max_task_steps: steps after which an episode ends; by default `MAX_TASK_STEPS`.
        """
        self.num_steps = num_steps
        self.frames_per_update = num_envs * num_steps
        adapter = make_adapter(env_name)
        network = ExpertNetwork(adapter.layout, adapter.num_actions, layer_size, mixed_precision)
        experts = [task % num_experts for task in range(num_tasks or num_experts)]
        max_task_steps = max_task_steps or MAX_TASK_STEPS
        plan = tasks.plan_arrays(experts, [1] * len(experts), max_task_steps)
        judge = plan_judge([task(number, adapter.facts) for number in range(len(experts))], plan, num_envs)
        judge = judge if acting is None else _assigned(judge, np.asarray(acting, np.int32))
        self.programs = compile_programs(Source(adapter, network, hyper, num_envs), num_experts, num_steps)
        self.stage = Stage(self.programs.world, self.programs.acting, judge)
        learning = self.programs.learning
        self.learner = learning.fresh_learner([learning.fresh_expert(jax.random.key(number)) for number in range(num_experts)])
        self.playing = _at_all_ages(begin(self.stage, jax.random.key(0), bank_size(num_envs)), max_task_steps)
        self._rollouts, self._updater = fused_rollout.Rollouts(self.programs, judge, num_steps), Updater(learning)
        if fused_rollout.pays():
            with contextlib.suppress(Exception):  # a run goes on step by step then, and so does this
                self._rollouts.fuse(self.learner.params, self.playing)
        self._turnover = turnover(num_envs, num_steps)
        self._num_updates = 0

    @property
    def test_bytes(self) -> int:
        """The extra memory that a run's tests for the goal hold: they have their own environments and worlds."""
        num_envs = len(self.playing.expert)
        of_each = sum(leaf.nbytes for leaf in jax.tree.leaves(self.playing.scene)) // num_envs
        return of_each * (num_envs + (WORLDS_AT_ONCE if num_envs >= TEST_EPISODES else TEST_EPISODES))

    def update(self) -> dict[str, float]:
        """Collects and learns once; the seconds of each part, as the host saw them, and their ``total``."""
        key = jax.random.fold_in(jax.random.key(1), self._num_updates)
        collect_key, learn_key, world_key = jax.random.split(key, 3)
        begun_s = time.perf_counter()
        self.playing, rollout, outcomes = self._rollouts.collect(self.learner.params, self.playing, collect_key)
        last_values = jax.block_until_ready(values(self.stage, self.learner.params, self.playing))
        collected_s = time.perf_counter()
        self.learner, _ = self._updater.update(self.learner, rollout, last_values, learn_key, LR)
        jax.block_until_ready(self.learner)
        learned_s = time.perf_counter()
        ended = sum(int(step.ended.sum()) for step in outcomes)
        refreshed = refresh_worlds(self.stage, self.playing, world_key, self._turnover.due(ended))
        self.playing = jax.block_until_ready(refreshed)
        self._num_updates += 1
        done_s = time.perf_counter()
        return {
            "total": done_s - begun_s,
            "rollout": collected_s - begun_s,
            "update": learned_s - collected_s,
            "worlds": done_s - learned_s,
        }


def _assigned(judge: Judge, acting: np.ndarray) -> Judge:
    """The same judge, but each environment keeps its expert, in later episodes too."""
    expert = jnp.asarray(acting)
    return judge._replace(judge_step=lambda *inputs: (*judge.judge_step(*inputs)[:2], expert), first=acting)


def _at_all_ages(playing: Playing, max_task_steps: int) -> Playing:
    """Environments in the middle of their episodes, so that these end evenly."""
    steps = np.random.default_rng(0).integers(0, max_task_steps, len(playing.expert)).astype(np.int32)
    return playing._replace(progress=playing.progress._replace(steps=jnp.asarray(steps)))
