"""The trial of several rewards for one skill: trained side by side in one process, and the best one goes on.

A reward on trial is a local expert of the new skill. Environment ``i`` belongs to reward ``i % K``: there the newest
task pays that reward, and that expert acts in it. The experts that the plan builds on are shared, and learn from all
environments. After the trial all experts are frozen and every reward's expert plays the same fresh worlds; the
highest success rate wins, whatever the rewards themselves have paid. The winner's expert, with its optimiser state, is
the new expert of the ordinary run, which goes on from there.

What is decided is written down at once and whole (``candidates.json``), then the checkpoint that the ordinary run goes
on from: a killed run decides once, or goes on with the trial, but never decides twice.
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flowrl.envs import tasks
from flowrl.envs.worlds import Scene, WorldBank
from flowrl.errors import BadInput, FlowrlError
from flowrl.files import read_json, write_json
from flowrl.paths import RunPaths
from flowrl.records.heartbeat import Activity
from flowrl.skills.fingerprint import fingerprint
from flowrl.skills.module import TaskFunctions, compile_rewards, read_module, with_reward
from flowrl.training.learning import experts
from flowrl.training.learning.ppo import Learner, Statistics
from flowrl.training.playing.evaluation import STEPS_BETWEEN_LOOKS
from flowrl.training.playing.programs import Decide, Playing, Programs
from flowrl.training.playing.rollout import StepOutcome, outcome
from flowrl.training.playing.success import RecentSuccess
from flowrl.training.run import checkpoints
from flowrl.training.run.checkpoints import Standing
from flowrl.training.run.loop import Pace, Session
from flowrl.training.run.progress import Pane
from flowrl.training.run.specification import RunSpecification, StartingExpert

TRIAL_EPISODES = 256
"""Fresh episodes behind each reward's success rate, at least."""


class Score(NamedTuple):
    """What the fresh episodes of one reward showed."""

    success_rate: float
    progress: float
    """The share of the plan's tasks that were behind the agent at the end of an episode, on average."""
    mean_return: float
    """The reward of an episode by the reward on trial itself; decides nothing."""


class Tried(NamedTuple):
    """A run whose reward is decided."""

    run: RunSpecification
    """With one reward for every task."""
    record: dict[str, Any] | None
    """``candidates.json``; None where there was nothing to decide."""
    pace: Pace
    """Of the trial, where it ran in this process."""

    def completed(self, result: dict[str, Any]) -> dict[str, Any]:
        """The run's result, with what the trial has shown."""
        if self.record is None:
            return result
        rates = [score["success_rate"] for score in self.record["candidates"]]
        trial = {"chosen": self.record["chosen"], "success_rates": rates, "frames": self.record["frames"]}
        return {**result, "candidates": trial}


def decide(run: RunSpecification, pane: Pane, tracker, lifetime, started_s: float) -> Tried:
    """The run as it goes on: unchanged where its skill has one reward, else with the best one of a trial.

    Args:
        started_s: when the process started, in seconds since the epoch.

    Raises:
        Stopped: the run was asked to end during the trial.
        BadInput: the run has gone on from a trial, and what was decided is not known any more.
        FlowrlError, KeyboardInterrupt: as ``Session.train``.
    """
    if not read_module(run.module_text).candidates:
        return Tried(run, None, Pace())
    record, pace = read_decision(run.paths), Pace()
    if not run.paths.checkpoints():
        trial = Trial(run, pane, tracker, lifetime, started_s)
        record, pace = trial.decide(record), trial.pace
    elif record is None:
        raise BadInput(
            f"{run.paths.candidates} is missing, which says which reward {run.skill_name} is trained with; restore it from a "
            f"copy, or move {run.paths.policies} away to try the rewards anew"
        )
    shutil.rmtree(run.paths.trial.policies, ignore_errors=True)
    chosen = with_reward(run.module_text, record["chosen"])
    return Tried(dataclasses.replace(run, module_text=chosen), record, pace)


def read_decision(paths: RunPaths) -> dict[str, Any] | None:
    """What was decided in an earlier attempt, None where nothing was.

    Raises:
        BadInput: the file is there, and damaged.
    """
    try:
        record = read_json(paths.candidates)
    except FileNotFoundError:
        return None
    if not isinstance(record, dict) or not {"chosen", "frames", "candidates"} <= record.keys():
        raise BadInput(f"{paths.candidates} does not say which reward was chosen; restore it from a copy, or remove it")
    return record


class Trial(Session):
    """A run in which the rewards of its newest skill are trained side by side, until one is chosen."""

    phase = "trying the rewards"

    def __init__(self, run: RunSpecification, pane: Pane, tracker, lifetime, started_s: float):
        self._ordinary = run
        self._rewards = read_module(run.module_text).rewards
        self._newest = next(e.local_expert_idx for e in run.experts if e.global_expert_idx == run.global_expert_idx)
        if len(self._rewards) > run.settings.num_envs:
            raise BadInput(
                f"{len(self._rewards)} rewards of {run.skill_name} are on trial in {run.settings.num_envs} environments; each "
                "needs one of its own: use more --num_envs"
            )
        # The first reward's expert stands where the skill's own will, the others' follow after all others.
        self._owners = [self._newest, *range(len(run.experts), len(run.experts) + len(self._rewards) - 1)]
        on_trial = dataclasses.replace(run, paths=run.paths.trial, experts=(*run.experts, *self._more_experts()))
        super().__init__(on_trial, pane, tracker, lifetime, started_s)

    def decide(self, decided: dict[str, Any] | None) -> dict[str, Any]:
        """Trains until the trial's frames are used up, compares, and leaves the checkpoint that an ordinary run goes on from.

        Args:
            decided: what an earlier attempt has decided, if it has.

        Returns:
            what is in ``candidates.json``.
        """
        with self._nothing_lost():
            return self._decide(decided)

    def _decide(self, decided: dict[str, Any] | None) -> dict[str, Any]:
        learner, standing = self._resume()
        if decided is None or standing.frames == 0:
            learner, standing = self._train_all(learner, standing)
            scores = self._compare(learner, standing)
            decided = self._decided(scores, standing)
            self._with_room(lambda: write_json(self.run.paths.candidates, decided))
            for line in described(decided):
                self.pane.line(line)
        self._hand_over(learner, standing, decided["chosen"] - 1)
        return decided

    def _more_experts(self) -> list[StartingExpert]:
        # No expert of the library has an index below 0.
        names = [f"{self._ordinary.skill_name} (reward {number})" for number in range(2, len(self._rewards) + 1)]
        fresh = self._ordinary.experts[self._newest].params
        return [
            StartingExpert(name, -number, owner, 0, 0, fresh)
            for number, (name, owner) in enumerate(zip(names, self._owners[1:]), 2)
        ]

    def _compile(self, adapter) -> TrialPrograms:
        rewards = compile_rewards(self.run.module_text, adapter.scope)
        return TrialPrograms(rewards, self._owners, *self._program_parts(adapter))

    def _train_all(self, learner: Learner, standing: Standing) -> tuple[Learner, Standing]:
        self.pane.line(f"trial of {len(self._rewards)} rewards: {self.settings.trial_frames:,} frames for all of them together")
        self._say_if_smaller()
        self.pane.phase("compiling")
        self.lifetime.beat(Activity.COMPILING)
        playing = self._begin()
        rates, recent = self._fresh_rates()
        estimates = self._fresh_estimates()
        while self._budget_allows(standing):
            begun_s = time.monotonic()
            learner, standing, playing, outcomes, losses = self._update(learner, standing, playing)
            rates.add(outcomes)
            recent.add(outcomes)
            for number, estimate in enumerate(estimates):
                estimate.add(self._own_outcomes(outcomes, number))
            self._count_update(time.monotonic() - begun_s)
            report = self._report(standing, rates, recent.rate, outcomes, losses)
            report = report._replace(candidate_rates=tuple(estimate.rate for estimate in estimates))
            self.pane.update(report)
            self._record(report, losses, None)
            if self.lifetime.asked_to_stop:
                self._save(learner, standing)
            else:
                self._save_now_and_then(learner, standing)
            self._stop_if_asked()
            self._beat()
        self._save(learner, standing)
        return learner, standing

    def _budget_allows(self, standing: Standing) -> bool:
        enough = standing.frames + self.settings.frames_per_update > self.settings.trial_frames
        return standing.frames == 0 or not enough

    def _acting(self, candidate: np.ndarray, task: np.ndarray) -> np.ndarray:
        """The experts that act in environments of these rewards, in these tasks."""
        expert = np.asarray(self._programs.plan.expert)[task]
        return np.where(expert == self._newest, np.asarray(self._owners)[candidate], expert)

    def _acted(self, outcomes: list[StepOutcome]) -> np.ndarray:
        acting = [self._acting(np.asarray(self._programs.candidate), step.task) for step in outcomes]
        return np.bincount(np.concatenate(acting), minlength=len(self.run.experts))

    def _check_finite(self, outcomes: list[StepOutcome], losses: Statistics) -> None:
        try:
            super()._check_finite(outcomes, losses)
        except FlowrlError as error:
            candidate = np.asarray(self._programs.candidate)
            numbers = sorted({int(owner) + 1 for step in outcomes for owner in candidate[~np.isfinite(step.reward)]})
            if not numbers:
                raise
            raise FlowrlError(f"{error} (on trial: reward {', '.join(map(str, numbers))})") from None

    def _fresh_estimates(self) -> list[RecentSuccess]:
        numbers, num_envs = range(len(self._rewards)), self.settings.num_envs
        return [self._fresh_estimate(len(range(number, num_envs, len(numbers)))) for number in numbers]

    def _own_outcomes(self, outcomes: list[StepOutcome], number: int) -> list[StepOutcome]:
        own = slice(number, None, len(self._rewards))
        return [StepOutcome(*(part[own] for part in step)) for step in outcomes]

    def _compare(self, learner: Learner, standing: Standing) -> list[Score]:
        """Plays the same fresh worlds with each reward's expert, all experts frozen."""
        programs = self._programs
        key = programs.fold_in(self._keys.tests, standing.updates)
        policy = programs.learned_policy(learner.params)
        episodes = Episodes.none()
        self.lifetime.beat(Activity.COMPILING)  # the first wave does
        for wave in range(self._num_waves):

            def show(ended: int, before: int = len(episodes.success)) -> None:
                self.pane.phase(f"comparing the rewards {before + ended}/{self._num_episodes * len(self._rewards)}")
                self._beat()
                self._stop_if_asked()

            episodes = episodes.with_more(play_wave(programs, policy, jax.random.fold_in(key, wave), show))
        return [episodes.score(number, len(self.run.plan)) for number in range(len(self._rewards))]

    @property
    def _num_waves(self) -> int:
        return -(-TRIAL_EPISODES // (self.settings.num_envs // len(self._rewards)))

    @property
    def _num_episodes(self) -> int:
        """Of each reward."""
        return self._num_waves * (self.settings.num_envs // len(self._rewards))

    def _decided(self, scores: list[Score], standing: Standing) -> dict[str, Any]:
        chosen, why = best(scores)
        is_done = read_module(self.run.module_text).tasks[-1].task_is_done
        return {
            "skill_name": self.run.skill_name,
            "attempt": self.run.attempt,
            "frames": standing.frames,
            "episodes": self._num_episodes,
            "chosen": chosen + 1,
            "why": why,
            "candidates": [
                {
                    "number": number,
                    "success_rate": score.success_rate,
                    "progress": round(score.progress, 4),
                    "mean_return": round(score.mean_return, 4),
                    "sha256": fingerprint(is_done, reward),
                    "task_reward": reward,
                }
                for number, (score, reward) in enumerate(zip(scores, self._rewards), 1)
            ],
        }

    def _hand_over(self, learner: Learner, standing: Standing, chosen: int) -> None:
        """Writes the first checkpoint of the ordinary run: the winner's expert is the new one, the other rewards' are gone."""
        kept = list(range(len(self._ordinary.experts)))
        kept[self._newest] = self._owners[chosen]
        parts = [experts.unstack(part, len(self.run.experts)) for part in learner]
        winner = Learner(*(experts.stack([part[index] for index in kept]) for part in parts))
        standing = standing._replace(acted_frames=standing.acted_frames[kept])
        run, key = self._ordinary, self._keys.updates
        self._with_room(lambda: checkpoints.save(run.paths, winner, standing, run.local_to_global, run.attempt, key))


class TrialPrograms(Programs):
    """The programs of a run, with a reward and an expert of its own for every ``K``-th environment.

    Args:
        rewards: the newest task's functions, once with each reward.
        owners: the local expert of each reward; the first is the one that the plan names.
        parts: as for :class:`Programs`.
    """

    def __init__(self, rewards: list[TaskFunctions], owners: list[int], adapter, network, functions, plan, num_envs, *parts):
        super().__init__(adapter, network, functions, plan, num_envs, *parts)
        self.candidate = jnp.arange(num_envs) % len(rewards)
        self.num_candidates = len(rewards)
        self._newest, self._owner = owners[0], jnp.asarray(owners, jnp.int32)[self.candidate]
        judge = tasks.make_trial_judge(functions, rewards, owners[0])

        def judge_step(before, after, game_over, progress, plan):
            verdict, progress = judge(before, after, game_over, progress, plan, self.candidate)
            progress = tasks.restart(progress, verdict.ended)
            return verdict, progress, self._acting(plan.expert[progress.task])

        self._judge = jax.jit(judge_step)

    def _at_the_start(self, bank: WorldBank, first: Scene) -> Playing:
        playing = super()._at_the_start(bank, first)
        return playing._replace(expert=self._acting(playing.expert))

    def begin_alike(self, key: jax.Array) -> Playing:
        """Every environment at the start of an episode, those of all rewards in the same fresh worlds."""
        worlds = self.fresh_worlds(key, -(-self.num_envs // self.num_candidates))
        places = jnp.arange(self.num_envs) // self.num_candidates
        first = jax.tree.map(lambda leaf: leaf[places], worlds)
        # Episodes after the first ones are not counted, so any worlds will do for them.
        return self._at_the_start(WorldBank(worlds, jnp.int32(0)), first)

    def _acting(self, expert: jax.Array) -> jax.Array:
        return jnp.where(expert == self._newest, self._owner, expert)


class Episodes(NamedTuple):
    """Episodes that have ended, ``[E]`` each."""

    candidate: np.ndarray
    success: np.ndarray
    tasks_behind: np.ndarray
    total_reward: np.ndarray

    @classmethod
    def none(cls) -> Episodes:
        return cls(*[np.zeros(0)] * 4)

    def with_more(self, others: Episodes) -> Episodes:
        return Episodes(*(np.concatenate(pair) for pair in zip(self, others)))

    def score(self, candidate: int, num_tasks: int) -> Score:
        own = self.candidate == candidate
        progress = self.tasks_behind[own].mean() / num_tasks
        return Score(float(self.success[own].mean()), float(progress), float(self.total_reward[own].mean()))


def play_wave(
    programs: TrialPrograms, policy: Decide, key: jax.Array, show: Callable[[int], None] = lambda ended: None
) -> Episodes:
    """One episode in each environment, as many for each reward, to its end; all rewards start in the same worlds.

    Args:
        show: called now and then with the number of episodes that have ended.
    """
    world_key, act_key, step_key = jax.random.split(key, 3)
    counted = programs.num_envs // programs.num_candidates * programs.num_candidates
    playing = programs.begin_alike(world_key)
    running = np.arange(programs.num_envs) < counted
    success, behind, total = (np.zeros(programs.num_envs, kind) for kind in (bool, int, float))
    number = 0
    while running.any():
        steps = []
        for _ in range(STEPS_BETWEEN_LOOKS):
            decision = policy(playing, act_key, number)
            after, verdict, _ = programs.play_step(playing, decision, step_key, number)
            steps.append(outcome(playing, verdict, after))
            playing, number = after, number + 1
        for step in jax.device_get(steps):
            behind = np.where(running, step.task, behind)
            total += np.where(running, step.reward, 0.0)
            success |= running & step.success
            running &= ~step.ended
        show(counted - int(running.sum()))
    behind = np.where(success, len(programs.plan.n), behind)
    candidate = np.asarray(programs.candidate)
    return Episodes(*(part[:counted] for part in (candidate, success, behind, total)))


def best(scores: list[Score]) -> tuple[int, str]:
    """Which reward goes on, and why: the highest success rate; then the furthest along the plan; then the first."""
    chosen = max(range(len(scores)), key=lambda index: (scores[index].success_rate, scores[index].progress, -index))
    others = [score for index, score in enumerate(scores) if index != chosen]
    equals = [score for score in others if score.success_rate == scores[chosen].success_rate]
    if not equals:
        return chosen, "the highest success rate"
    if all(score.progress < scores[chosen].progress for score in equals):
        return chosen, "the furthest along the plan, of those with the highest success rate"
    return chosen, "proposed first, of those that did equally well"


def described(decided: dict[str, Any]) -> list[str]:
    """What was decided, for a person."""
    lines = [
        f"reward {score['number']}: success rate {score['success_rate']:.3f} of {decided['episodes']} fresh episodes, "
        f"{score['progress']:.2f} of the plan, {score['mean_return']:.3f} paid an episode"
        for score in decided["candidates"]
    ]
    return [*lines, f"reward {decided['chosen']} of {len(lines)} goes on: {decided['why']}"]
