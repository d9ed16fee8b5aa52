"""One skill of a library as an environment: the plan, the rewards and the ends of episodes are those of its training."""

from __future__ import annotations

from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from flowrl.api import extras
from flowrl.api.batching import one_of
from flowrl.api.environment import Environment
from flowrl.api.experts import Experts, experts_of
from flowrl.api.opening import opened, skill_of
from flowrl.envs import tasks
from flowrl.envs.adapter import GameAdapter, State
from flowrl.envs.features import Features
from flowrl.envs.tasks import PlanArrays, Progress
from flowrl.evaluation.library import Library, LibrarySkill
from flowrl.skills.module import compile_module

if TYPE_CHECKING:
    from flowrl.api.gymnasium_skill import GymnasiumSkill


class SkillState(NamedTuple):
    """Where one environment is."""

    game: State
    """The game's own state."""
    features: Features
    progress: Progress
    """The active task of the plan, and the steps spent in it."""


class SkillEnvironment(Environment):
    """Episodes that walk through a skill's plan from a fresh world.

    While a task of the plan is active, its skill's reward is paid. When it is done, the next task that is not done yet becomes
    active; the last one, the skill's own, ends the episode with success. So does death without it (``terminated``), and a
    task whose steps are used up (``truncated``).

    ``info`` also has ``task`` (int32: the number of the task in which the step was taken, in `task_names`), ``task_done`` and
    ``success``. ``params`` are the plan: ``default_params._replace(budget=...)`` gives tasks other numbers of steps.
    """

    def __init__(self, library: Library, adapter: GameAdapter, skill: LibrarySkill):
        super().__init__(adapter)
        self.skill = skill
        self.task_names = tuple(task.skill_name for task in skill.plan)
        self._library = library
        self._params = _plan_of(skill)
        self._judge = tasks.make_judge_of_one(compile_module(skill.module_text, adapter.scope, adapter.facts.feature_names))

    @property
    def name(self):
        return self.skill.name

    @property
    def default_params(self) -> PlanArrays:
        return self._params

    @cached_property
    def policy(self) -> PlanPolicy:
        """The library's experts for this plan, each for its own task."""
        by_name = {skill.name: skill for skill in self._library.skills}
        names = dict.fromkeys(self.task_names)
        experts = experts_of(self._library, self.adapter, [by_name[name] for name in names])
        return PlanPolicy(experts, self.default_params.expert, _PolicyParts(self.adapter))

    def to_gymnasium(self) -> GymnasiumSkill:
        """The same environment for Gymnasium.

        Raises:
            BadInput: gymnasium is not installed.
        """
        extras.check_gymnasium()
        from flowrl.api.gymnasium_skill import GymnasiumSkill

        return GymnasiumSkill(self)

    def reset_env(self, key, params):
        observation, game = self.adapter.reset(key)
        return observation, SkillState(game, self.adapter.features(game), Progress(jnp.int32(0), jnp.int32(0)))

    def step_env(self, key, state, action, params):
        observation, game, game_over = self.adapter.step(key, state.game, action)
        features = self.adapter.features(game)
        verdict, progress = self._judge(state.features, features, game_over, state.progress, params)
        info = {
            "task": state.progress.task,
            "task_done": verdict.task_done,
            "success": verdict.success,
            "terminated": verdict.success | verdict.died,
            "truncated": verdict.truncated,
            "final_observation": observation,
        }
        return observation, SkillState(game, features, progress), verdict.reward, verdict.ended, info


class PlanPolicy(struct.PyTreeNode):
    """The experts of a plan, each for its own tasks. A pytree, as `flowrl.api.agent.Agent` is."""

    experts: Experts
    expert: jax.Array
    """int32 ``[P]``: the expert of each task."""
    parts: _PolicyParts = struct.field(pytree_node=False)

    def act(self, key: jax.Array, state: SkillState) -> jax.Array:
        """The action of the active task's expert, int32, in one environment."""
        return _act(self.parts, self, key, state)


class _PolicyParts:
    def __init__(self, adapter: GameAdapter):
        self.adapter = adapter
        self.act = one_of(self._act_all)

    def _act_all(self, policy: PlanPolicy, each):
        keys, games, task = each
        observation = jax.vmap(self.adapter.observe)(games)
        return policy.experts.actions(keys, policy.expert[task], observation)


@partial(jax.jit, static_argnums=0)
def _act(parts: _PolicyParts, policy: PlanPolicy, key, state: SkillState) -> jax.Array:
    return parts.act(policy, (key, state.game, state.progress.task))


def _plan_of(skill: LibrarySkill) -> PlanArrays:
    names = list(dict.fromkeys(task.skill_name for task in skill.plan))
    places = [names.index(task.skill_name) for task in skill.plan]
    return tasks.plan_arrays(places, [task.n for task in skill.plan], skill.max_task_steps)


def skill_env(graph_path: Path | str, skill_name: str) -> SkillEnvironment:
    """A skill of an experiment's library as an environment with gymnax's signature.

    Raises:
        BadInput: the folder holds no experiment, its library is empty or damaged, or it has no such skill.
    """
    _, library, adapter = opened(graph_path)
    return SkillEnvironment(library, adapter, skill_of(library, skill_name))
