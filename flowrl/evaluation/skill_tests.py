"""Each skill on its own plan: how often it succeeds with the library's experts as they are now, and where it fails."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flowrl.envs import tasks
from flowrl.envs.adapter import GameAdapter
from flowrl.envs.readings import Readings, ending_names, goal_names, make_ending, make_reader
from flowrl.envs.tasks import PlanArrays, Progress, Verdict
from flowrl.evaluation.library import Library, LibrarySkill
from flowrl.skills.module import TaskFunctions, compile_module
from flowrl.training.playing.environments import Decide, Judge, Stage, begin_test, play_step
from flowrl.training.playing.evaluation import STEPS_BETWEEN_LOOKS, FirstEpisodes

OUT_OF_STEPS = "out of steps"
"""Why a task failed whose steps were used up."""
USUAL = 0.5
"""An achievement comes with a skill if at least this share of its successes unlocks it."""


class SkillTest(NamedTuple):
    """What the test of one skill showed."""

    episodes: int
    successes: int
    started: tuple[int, ...]
    """For each task of the plan, how many episodes reached it."""
    done: tuple[int, ...]
    """Of these, how many completed it."""
    failures: Counter[tuple[str, str]]
    """Episodes that failed, by the skill of the task and the reason: one of the game's endings, or `OUT_OF_STEPS`."""
    steps: float
    """Mean steps of a try at the skill itself, for each unit of ``n``; nan where no episode came so far."""
    brings: dict[str, float]
    """The share of the skill's successes that unlocked an achievement, by achievement; those never unlocked are left out."""

    @property
    def own_rate(self) -> float:
        """How often the skill itself was done, once its turn had come; 0 where it never came."""
        return self.done[-1] / self.started[-1] if self.started[-1] else 0.0


class _Begun(NamedTuple):
    """The plan's progress, with what there was when the task at hand began, ``[B, ...]``."""

    progress: Progress
    readings: Readings


class _Shown(NamedTuple):
    """A verdict, and what else is counted of a step, ``[B, ...]`` each."""

    verdict: Verdict
    task: jax.Array
    steps: jax.Array
    """int32: of the task, this one included."""
    ending: jax.Array
    unlocked: jax.Array
    """bool ``[B, A]``: since the task began."""

    @property
    def ended(self):
        return self.verdict.ended


def measure_skill(stage: Stage, adapter: GameAdapter, skill: LibrarySkill, policy: Decide, key: jax.Array) -> SkillTest:
    """Plays the skill's plan in fresh worlds, one episode in each environment.

    Args:
        stage: with the skill's `judge_of`.
    """
    world_key, act_key, step_key = jax.random.split(key, 3)
    num_episodes = stage.world.num_envs
    playing, tally, number = begin_test(stage, world_key, num_episodes), _Tally(adapter, skill, num_episodes), 0
    while not tally.episodes.are_over:
        steps = []
        for _ in range(STEPS_BETWEEN_LOOKS):
            playing, shown, _ = play_step(stage, playing, policy(playing, act_key, number), step_key, number)
            steps.append(shown)
            number += 1
        for step in jax.device_get(steps):
            tally.add(step)
    return tally.result()


def judge_of(adapter: GameAdapter, library: Library, skill: LibrarySkill, num_envs: int) -> Judge:
    """The judge of a skill's plan that says, beside its verdict, what a step brought."""
    functions = compile_module(skill.module_text, adapter.scope, adapter.facts.feature_names)
    numbers = {name: place for place, name in enumerate(library.specs)}
    places = [numbers[task.skill_name] for task in skill.plan]
    plan = tasks.plan_arrays(places, [task.n for task in skill.plan], skill.max_task_steps)
    return Judge(plan, jax.jit(make_judge(adapter, functions)), np.full(num_envs, places[0]))


def make_judge(adapter: GameAdapter, functions: Sequence[TaskFunctions]):
    """The judge's step. What stands for the progress may be a plain `Progress`, at the start, or what this returned before."""
    judge = tasks.make_judge(functions)
    read, ending = jax.vmap(make_reader(adapter, ())), jax.vmap(make_ending(adapter))

    def judge_step(before, after, game_over, progress, plan: PlanArrays):
        begun = progress if isinstance(progress, _Begun) else _Begun(progress, read(before))
        verdict, moved = judge(before, after, game_over, begun.progress, plan)
        now = read(after)
        shown = _Shown(
            verdict=verdict,
            task=begun.progress.task,
            steps=begun.progress.steps + 1,
            ending=ending(after),
            unlocked=now.goals & ~begun.readings.goals,
        )
        moved = tasks.restart(moved, verdict.ended)
        next_task = verdict.task_done | verdict.ended
        readings = jax.tree.map(lambda new, old: _where(next_task, new, old), now, begun.readings)
        return shown, _Begun(moved, readings), plan.expert[moved.task]

    return judge_step


def _where(rows: jax.Array, new: jax.Array, old: jax.Array) -> jax.Array:
    return jnp.where(rows.reshape(-1, *[1] * (new.ndim - 1)), new, old)


class _Tally:
    def __init__(self, adapter: GameAdapter, skill: LibrarySkill, num_episodes: int):
        self.names = [task.skill_name for task in skill.plan]
        self.n = skill.plan[-1].n
        self.reasons, self.goals = ending_names(adapter), goal_names(adapter)
        self.episodes = FirstEpisodes(num_episodes, num_episodes)
        self.successes = 0
        self.started, self.done = np.zeros(len(self.names), int), np.zeros(len(self.names), int)
        self.started[0] = num_episodes
        self.failures: Counter[tuple[str, str]] = Counter()
        self.own_steps: list[int] = []
        self.unlocked: list[np.ndarray] = []

    def add(self, step: _Shown) -> None:
        counted, verdict, last = self.episodes.counting.copy(), step.verdict, len(self.names) - 1
        # Tasks that are done already are passed over, and count as neither started nor done; but for the skill's own.
        began = counted & (step.steps == 1) & (step.task > 0)
        np.add.at(self.started, step.task[began], 1)
        np.add.at(self.done, step.task[counted & verdict.task_done], 1)
        ended = counted & verdict.ended
        self.successes += int((ended & verdict.success).sum())
        for env in np.flatnonzero(ended & ~verdict.success):
            reason = self.reasons[step.ending[env]] if verdict.died[env] else OUT_OF_STEPS
            self.failures[self.names[step.task[env]], reason] += 1
        passed_over = int((ended & verdict.success & (step.task != last)).sum())
        self.started[last] += passed_over
        self.done[last] += passed_over
        of_own = ended & (step.task == last)
        self.own_steps += step.steps[of_own].tolist() + [1] * passed_over
        succeeded = of_own & verdict.success
        self.unlocked += list(step.unlocked[succeeded])
        if ended.any():
            self.episodes.end(ended)

    def result(self) -> SkillTest:
        shares = np.mean(self.unlocked, axis=0) if self.unlocked else np.zeros(len(self.goals))
        return SkillTest(
            episodes=self.episodes.wanted,
            successes=self.successes,
            started=tuple(self.started.tolist()),
            done=tuple(self.done.tolist()),
            failures=self.failures,
            steps=float(np.mean(self.own_steps)) / self.n if self.own_steps else float("nan"),
            brings={goal: float(share) for goal, share in zip(self.goals, shares) if share > 0},
        )
