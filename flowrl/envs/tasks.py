"""Follows an execution plan: which task is active, what it pays, and when the episode is over.

An episode walks through the plan's tasks in order. While a task is active its skill's reward is paid;
once its skill's ``task_is_done`` is true, the next task that is not already done becomes active. Completing
the last task is a success and ends the episode. Each task has a step budget; running out of it ends the
episode as a *truncation* (the world could have gone on), dying ends it as a *termination*.

This is the only compiled program that depends on a skill's code, and it is a small one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flowrl.envs.features import Features, task_inputs
from flowrl.skills.module import TaskFunctions


class PlanArrays(NamedTuple):
    """An execution plan as arrays; ``P`` tasks."""

    expert: jax.Array
    """int32 ``[P]``: the local index of the expert that acts while the task is active."""
    n: jax.Array
    """int32 ``[P]``: how often the task is to be done."""
    budget: jax.Array
    """int32 ``[P]``: the task's step budget; running out of it ends the episode."""


class Progress(NamedTuple):
    """How far each environment is in the plan."""

    task: jax.Array
    """int32 ``[B]``: the active task."""
    steps: jax.Array
    """int32 ``[B]``: steps spent in the active task."""


class Verdict(NamedTuple):
    """The outcome of one step, ``[B]`` each."""

    reward: jax.Array
    """float32: the active task's reward."""
    task_done: jax.Array
    """bool: the active task was completed by this step."""
    died: jax.Array
    """bool: the game ended before the task was done."""
    truncated: jax.Array
    """bool: the task's step budget ran out."""
    success: jax.Array
    """bool: the plan's last task was completed."""
    ended: jax.Array
    """bool: the episode is over, for any of these reasons."""


Judge = Callable[[Features, Features, jax.Array, Progress, PlanArrays], tuple[Verdict, Progress]]


def plan_arrays(experts: Sequence[int], counts: Sequence[int], max_task_steps: int | Sequence[int]) -> PlanArrays:
    """The plan as arrays; each task gets ``max_task_steps`` (one value for all, or one for each task) for each unit of
    its count."""
    # On the host, as in `start`: on the device, each operation would be a small program to compile at every start of a run.
    n = np.asarray(counts, np.int32)
    return jax.device_put(PlanArrays(np.asarray(experts, np.int32), n, n * np.asarray(max_task_steps, np.int32)))


def start(num_envs: int) -> Progress:
    """Every environment at the beginning of the plan."""
    return jax.device_put(Progress(task=np.zeros(num_envs, np.int32), steps=np.zeros(num_envs, np.int32)))


def restart(progress: Progress, ended: jax.Array) -> Progress:
    """Moves environments whose episode ended back to the beginning of the plan."""
    return jax.tree.map(lambda value: jnp.where(ended, 0, value), progress)


def make_judge(functions: Sequence[TaskFunctions]) -> Judge:
    """The judge of a plan whose task ``k`` has the skill code ``functions[k]``.

    The judge takes the features before and after a step (``[B, ...]``), whether the game is over
    (bool ``[B]``), the progress before the step and the plan; it returns the verdict and the progress
    after the step. Progress of ended episodes is left as it was; see :func:`restart`.
    """
    return jax.vmap(make_judge_of_one(functions), in_axes=(0, 0, 0, 0, None))


def make_judge_of_one(functions: Sequence[TaskFunctions]) -> Judge:
    """As `make_judge`, for a single environment."""

    def judge_one(before, after, game_over, progress, plan):
        inputs = task_inputs(before, after, 0)
        done = jnp.stack([is_done(task, inputs._replace(n=plan.n[k])) for k, task in enumerate(functions)])
        rewards = jnp.stack([reward_of(task, inputs._replace(n=plan.n[k])) for k, task in enumerate(functions)])
        return _verdict(rewards[progress.task], done, game_over, progress, plan)

    return judge_one


def make_trial_judge(functions: Sequence[TaskFunctions], candidates: Sequence[TaskFunctions], new_expert: int):
    """The judge of a plan whose newest skill has several rewards on trial.

    It takes one more argument, int32 ``[B]``: which of ``candidates`` pays in each environment, wherever
    ``new_expert`` (the local index of the newest skill's expert in the plan) acts.
    """

    def judge_one(before, after, game_over, progress, plan, candidate):
        inputs = task_inputs(before, after, 0)
        done = jnp.stack([is_done(task, inputs._replace(n=plan.n[k])) for k, task in enumerate(functions)])
        rewards = jnp.stack([reward_of(task, inputs._replace(n=plan.n[k])) for k, task in enumerate(functions)])
        of_newest = inputs._replace(n=plan.n[progress.task])
        on_trial = jnp.stack([reward_of(task, of_newest) for task in candidates])
        is_newest = plan.expert[progress.task] == new_expert
        reward = jnp.where(is_newest, on_trial[candidate], rewards[progress.task])
        return _verdict(reward, done, game_over, progress, plan)

    return jax.vmap(judge_one, in_axes=(0, 0, 0, 0, None, 0))


def _verdict(reward, done, game_over, progress: Progress, plan: PlanArrays) -> tuple[Verdict, Progress]:
    """The rules of an episode, for one environment; ``done`` is bool ``[P]``."""
    num_tasks = done.shape[0]
    task_done = done[progress.task]
    following = _next_open_task(done, progress.task)
    success = task_done & (following == num_tasks)
    died = game_over & ~success
    steps = progress.steps + 1
    truncated = ~task_done & ~died & (steps >= plan.budget[progress.task])
    verdict = Verdict(reward, task_done, died, truncated, success, ended=success | died | truncated)
    moved = Progress(
        task=jnp.where(task_done, jnp.minimum(following, num_tasks - 1), progress.task),
        steps=jnp.where(task_done, 0, steps),
    )
    return verdict, moved


def _next_open_task(done: jax.Array, task: jax.Array) -> jax.Array:
    """The first task after ``task`` that is not done yet; the number of tasks if there is none."""
    numbers = jnp.arange(done.shape[0])
    return jnp.min(jnp.where((numbers > task) & ~done, numbers, done.shape[0]))


def is_done(task: TaskFunctions, inputs: NamedTuple) -> jax.Array:
    """Whether a task is done after a step, bool scalar; ``inputs`` is what the step offers (`features.task_inputs`)."""
    arguments = {name: getattr(inputs, name) for name in task.is_done_params}
    return jnp.asarray(task.is_done(**arguments)).astype(bool).reshape(())


def reward_of(task: TaskFunctions, inputs: NamedTuple) -> jax.Array:
    """What a task pays for a step, float32 scalar."""
    arguments = {name: getattr(inputs, name) for name in task.reward_params}
    return jnp.asarray(task.reward(**arguments)).astype(jnp.float32).reshape(())
