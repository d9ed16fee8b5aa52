"""One run from its folder to its result: resume, collect and update until the goal or the budget, report."""

from __future__ import annotations

import bisect
import contextlib
import json
import math
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

from flowrl.envs import tasks
from flowrl.envs.registry import make_adapter
from flowrl.envs.worlds import Turnover
from flowrl.errors import FlowrlError
from flowrl.files import append_line, why_no_room
from flowrl.records.heartbeat import Activity
from flowrl.skills.module import compile_module
from flowrl.training.host import process
from flowrl.training.host.process import Lifetime
from flowrl.training.learning.networks import ExpertNetwork
from flowrl.training.learning.ppo import Hyperparameters, Learner, Statistics
from flowrl.training.playing import evaluation
from flowrl.training.playing.compressed import Compressed
from flowrl.training.playing.evaluation import Evaluation
from flowrl.training.playing.fused_rollout import Rollouts
from flowrl.training.playing.programs import WORLDS_AT_ONCE, Playing, Programs
from flowrl.training.playing.rollout import StepOutcome
from flowrl.training.playing.success import PlanRates, RecentSuccess
from flowrl.training.run import checkpoints, compile_ahead
from flowrl.training.run.checkpoints import Standing
from flowrl.training.run.goal import GoalTest
from flowrl.training.run.progress import Pane, UpdateReport
from flowrl.training.run.saving import Saver
from flowrl.training.run.specification import RunSpecification
from flowrl.training.run.tracking import Tracker

TEST_EPISODES = 512
"""Fresh episodes behind a reported success rate."""

BANK_SIZE = 256
"""Ready worlds at least; half as many as environments where that is more."""

WORLD_REUSE = 4
"""How many episodes a world of the bank starts before a fresh one takes its place (see `worlds.Turnover`)."""

FRAMES_PER_WORLD = 256
"""Frames for each world that is made anew, at least, so that worlds cost no more than a few hundredths of them. Where episodes
are shorter than ``FRAMES_PER_WORLD / WORLD_REUSE``, each world starts more of them."""

ESTIMATE_STEPS = 256
"""Steps that the running estimate of the success rate looks back on, at least."""

CHECKPOINT_S = 60.0
"""Seconds between the checkpoints that are written in the background; more for very large ones (`Saver.is_due`)."""

T = TypeVar("T")

_NOT_IN_METRICS = ("task_rates", "seconds_left", "candidate_rates")


class Stopped(FlowrlError):
    """The run was asked to end before it was done; its last checkpoint is written."""

    exit_code = 143


def bank_size(num_envs: int) -> int:
    """The worlds that a run of so many environments keeps ready."""
    return max(BANK_SIZE, num_envs // 2)


def turnover(num_envs: int, num_steps: int) -> Turnover:
    """How such a run's worlds are made anew, after rollouts of so many steps."""
    return Turnover(WORLD_REUSE, num_envs * num_steps / FRAMES_PER_WORLD, bank_size(num_envs), WORLDS_AT_ONCE)


class Pace(NamedTuple):
    """The updates that this process has made."""

    first_update_s: float | None = None
    """Seconds from the start of the process to the end of its first update; None before that."""
    update_seconds: tuple[float, ...] = ()


class Session:
    """A run in this process. `train` returns what becomes ``result.json``."""

    phase = "training"
    """What a person sees while it makes updates."""

    def __init__(self, run: RunSpecification, pane: Pane, tracker: Tracker, lifetime: Lifetime, started_s: float):
        """
        Args:
            started_s: when the process started, in seconds since the epoch.
        """
        self.run, self.pane, self.tracker, self.lifetime = run, pane, tracker, lifetime
        self.settings = run.settings
        self._started_s = started_s
        self._first_update_s: float | None = None
        self._update_seconds: list[float] = []
        self._sorted_seconds: list[float] = []
        self._has_provided = False
        self._aside: list[str] = []
        """Lines for the log from another thread."""
        self._saver = Saver(self._write)
        self._unsaved: tuple[Learner, Standing] | None = None
        self._said_of_room: str | None = None
        adapter = make_adapter(run.env_name)
        self._network = ExpertNetwork(
            adapter.layout, adapter.num_actions, self.settings.layer_size, self.settings.mixed_precision
        )
        self._programs = self._compile(adapter)
        self._programs.before_compiling(lambda: self.lifetime.beat(Activity.COMPILING))
        self._keys = self._programs.run_keys(self.settings.seed, run.global_expert_idx)
        if self._programs.hindrance:
            pane.line(f"programs are compiled anew, and not kept for later runs: {self._programs.hindrance}")
        self._rollouts = Rollouts(self._programs, self.settings.num_steps)
        self._turnover = turnover(self.settings.num_envs, self.settings.num_steps)

    @property
    def pace(self) -> Pace:
        return Pace(self._first_update_s, tuple(self._update_seconds))

    def go_on_at(self, pace: Pace) -> Session:
        """Counts the updates that were made in this process before; returns itself."""
        self._first_update_s, self._update_seconds = pace.first_update_s, list(pace.update_seconds)
        self._sorted_seconds = sorted(pace.update_seconds[1:])
        return self

    def train(self) -> dict[str, Any]:
        """Trains to the goal or to the frame budget.

        Returns:
            the fields of ``result.json`` that only training knows.

        Raises:
            Stopped: the run was asked to end.
            FlowrlError: learning went wrong (a reward or a loss that is not a number).
            KeyboardInterrupt: a person pressed Ctrl-C; what was learned until then is in a checkpoint.
        """
        with self._nothing_lost():
            return self._train()

    @contextlib.contextmanager
    def _nothing_lost(self) -> Iterator[None]:
        """What was learned until a Ctrl-C is saved, and nothing is being written any more after the block."""
        try:
            yield
        except KeyboardInterrupt:
            if self._unsaved:
                with contextlib.suppress(OSError, FlowrlError):  # no room: what was saved before is what stays
                    self._saver.save(*self._unsaved)
            raise
        finally:
            self._saver.close()

    def _train(self) -> dict[str, Any]:
        learner, standing = self._resume()
        self._say_if_smaller()
        self.pane.phase("compiling")
        self.lifetime.beat(Activity.COMPILING)
        playing = self._begin()
        reached: Evaluation | None = None
        rates, recent = self._fresh_rates()
        goal_test = GoalTest(self.settings.success_rate)
        while reached is None and self._budget_allows(standing):
            with self._in_turn() as has_waited:
                if has_waited and self.lifetime.asked_to_stop:
                    self._save(learner, standing)
                    self._stop_if_asked()
                begun_s = time.monotonic()  # pauses are not training's pace
                learner, standing, playing, outcomes, losses = self._update(learner, standing, playing)
                self._count_update(time.monotonic() - begun_s)
            rates.add(outcomes)
            recent.add(outcomes)
            self._provide_for_later(learner, playing)
            report = self._report(standing, rates, recent.rate, outcomes, losses)
            self.pane.update(report)
            test_is_due = self.settings.stop_at_goal and goal_test.is_due(standing.updates, report.estimate)
            if test_is_due or self.lifetime.asked_to_stop:
                self._save(learner, standing)  # a test may take minutes, and be stopped
            else:
                self._save_now_and_then(learner, standing)
            self._stop_if_asked()
            if test_is_due:
                held = Compressed(playing)
                reached = self._test_for_goal(learner, goal_test, report)
                if reached is None:
                    playing = held.restore()
            self._record(report, losses, reached)
            self._beat()
        checkpoint = self._save(learner, standing)
        del playing  # tests make worlds of their own, and need as much memory
        return self._result(learner, standing, checkpoint, reached)

    def _compile(self, adapter) -> Programs:
        return Programs(*self._program_parts(adapter))

    def _program_parts(self, adapter) -> tuple:
        plan = tasks.plan_arrays(
            [task.local_expert_idx for task in self.run.plan],
            [task.n for task in self.run.plan],
            [task.max_task_steps or self.settings.max_task_steps for task in self.run.plan],
        )
        functions = compile_module(self.run.module_text, adapter.scope)
        settings, num_experts = self.settings, len(self.run.experts)
        return adapter, self._network, functions, plan, settings.num_envs, num_experts, Hyperparameters.of(settings), settings.num_steps

    def _resume(self) -> tuple[Learner, Standing]:
        """The newest checkpoint, or the library's experts and a fresh one."""
        params = [
            self._programs.fresh_expert(self._keys.init) if expert.params is None else expert.params
            for expert in self.run.experts
        ]
        fresh = self._programs.fresh_learner(params)
        found = checkpoints.newest(self.run.paths, fresh, self.run.local_to_global, self.pane.line)
        if found is None:
            return fresh, Standing(0, 0, np.zeros(len(params), np.int64))
        learner, standing, random_key = found
        self._keys = self._keys._replace(updates=random_key)
        self.pane.line(f"going on from frame {standing.frames:,} (attempt {self.run.attempt})")
        return learner, standing

    def _say_if_smaller(self) -> None:
        asked, num_envs = self.run.asked_num_envs, self.settings.num_envs
        if asked is not None and num_envs < asked:
            self.pane.line(f"{num_envs} environments instead of {asked}: an earlier attempt ran out of memory")

    def _begin(self) -> Playing:
        # Another attempt starts in other worlds: the state of the games is not kept in a checkpoint.
        key = self._programs.fold_in(self._keys.worlds, self.run.attempt)
        return self._programs.begin(key, bank_size(self.settings.num_envs))

    def _fresh_rates(self) -> tuple[PlanRates, RecentSuccess]:
        num_envs = self.settings.num_envs
        return PlanRates(num_envs, len(self.run.plan), TEST_EPISODES), self._fresh_estimate(num_envs)

    def _fresh_estimate(self, num_envs: int) -> RecentSuccess:
        longest = int(np.asarray(self._programs.plan.budget).sum()) + 1
        window = max(1, math.ceil(ESTIMATE_STEPS / self.settings.num_steps))
        return RecentSuccess(num_envs, longest, window)

    def _budget_allows(self, standing: Standing) -> bool:
        enough = standing.frames + self.settings.frames_per_update > self.settings.total_timesteps
        return standing.frames == 0 or not enough

    def _update(self, learner: Learner, standing: Standing, playing: Playing):
        """Collects a rollout and learns from it."""
        collect_key, learn_key, world_key = self._programs.update_keys(self._keys.updates, standing.updates)
        playing, rollout, outcomes = self._rollouts.collect(learner.params, playing, collect_key)
        last_values = self._programs.values(learner.params, playing)
        # The update takes the old learner's memory for the new one. Only what has learned something is worth the wait.
        with self.lifetime.uninterrupted() if self._first_update_s else contextlib.nullcontext():
            self._unsaved = None  # its memory is the update's from here on: a second Ctrl-C within it finds nothing to save
            learner, losses = self._programs.update(learner, rollout, last_values, learn_key, self._lr(standing))
            losses = jax.device_get(losses)
            self._check_finite(outcomes, losses)
            standing = self._advanced(standing, outcomes)
            self._unsaved = learner, standing
        num_ended = sum(int(step.ended.sum()) for step in outcomes)
        playing = self._programs.refresh_worlds(playing, world_key, self._turnover.due(num_ended))
        return learner, standing, playing, outcomes, losses

    def _advanced(self, standing: Standing, outcomes: list[StepOutcome]) -> Standing:
        return Standing(
            standing.frames + self.settings.frames_per_update,
            standing.updates + 1,
            standing.acted_frames + self._acted(outcomes),
        )

    def _lr(self, standing: Standing) -> float:
        left = max(0.0, 1 - standing.frames / self.settings.total_timesteps)
        return self.settings.lr * (left if self.settings.anneal_lr else 1.0)

    def _acted(self, outcomes: list[StepOutcome]) -> np.ndarray:
        """int64 ``[num experts]``: the steps in which each expert acted."""
        expert_of_task = np.asarray(self._programs.plan.expert)
        acting = expert_of_task[np.concatenate([step.task for step in outcomes])]
        return np.bincount(acting, minlength=len(self.run.experts))

    def _check_finite(self, outcomes: list[StepOutcome], losses: Statistics) -> None:
        for step in outcomes:
            bad = ~np.isfinite(step.reward)
            if bad.any():
                task = self.run.plan[int(step.task[bad][0])]
                raise FlowrlError(
                    f"task_reward of {task.skill_name} returned {step.reward[bad][0]} during the training of "
                    f"{self.run.skill_name}; expected a finite number: correct the skill's code"
                )
        if not all(np.isfinite(part).all() for part in losses):
            raise FlowrlError(f"training {self.run.skill_name} diverged: a loss is not a number; try a smaller --lr")

    def _provide_for_later(self, learner: Learner, playing: Playing) -> None:
        """Once, after an update of this session: what is compiled beside it, for its own rollouts and for later runs."""
        if not self._has_provided:
            self._has_provided = True
            self._programs.remember()
            self._rollouts.fuse_beside(learner.params, playing, self._aside.append)
            compile_ahead.provide(self._programs, lambda: not self.lifetime.asked_to_stop, self._aside.append)
        while self._aside:
            self.pane.line(self._aside.pop(0))

    def _count_update(self, seconds: float) -> None:
        if self._update_seconds:
            # Tens of thousands in the end, and their median is asked for at each update.
            bisect.insort(self._sorted_seconds, seconds)
        self._update_seconds.append(seconds)
        if self._first_update_s is None:
            self._first_update_s = time.time() - self._started_s
            self.pane.line(f"first update after {self._first_update_s:.1f} s")
        self.pane.phase(self.phase)

    @contextlib.contextmanager
    def _in_turn(self) -> Iterator[bool]:
        """Waits while an update is compiled for later runs (see `Programs.turn`), and tells whether it had to."""
        if has_to_wait := self._programs.turn.is_taken:
            self.lifetime.beat(Activity.COMPILING)
        with self._programs.turn:
            yield has_to_wait

    def _beat(self) -> None:
        self.lifetime.beat(Activity.TRAINING, self._seconds_per_update if self._update_seconds else 0.0)

    @property
    def _seconds_per_update(self) -> float:
        # The first update compiles; once there are others it says nothing about the pace.
        return statistics.median(self._sorted_seconds or self._update_seconds)

    @property
    def _frames_per_s(self) -> float:
        return self.settings.frames_per_update / self._seconds_per_update

    def _report(
        self, standing: Standing, rates: PlanRates, estimate: float, outcomes: list[StepOutcome], losses: Statistics
    ) -> UpdateReport:
        new = next(e.local_expert_idx for e in self.run.experts if e.global_expert_idx == self.run.global_expert_idx)
        return UpdateReport(
            update=standing.updates,
            frames=standing.frames,
            total_frames=self.settings.total_timesteps,
            frames_per_s=self._frames_per_s,
            seconds_left=(self.settings.total_timesteps - standing.frames) / self._frames_per_s,
            success_rate=rates.episode.rate,
            estimate=estimate,
            task_rates=tuple(task.rate for task in rates.tasks),
            reward=float(np.mean([step.reward.mean() for step in outcomes])),
            entropy=float(losses.entropy[new]),
            policy_loss=float(losses.policy_loss[new]),
            value_loss=float(losses.value_loss[new]),
            kl=float(losses.kl[new]),
        )

    def _record(self, report: UpdateReport, losses: Statistics, test: Evaluation | None) -> None:
        """A line of ``metrics.jsonl``, and the same for the tracker."""
        values = {
            **{name: value for name, value in report._asdict().items() if name not in _NOT_IN_METRICS},
            "attempt": self.run.attempt,
            "seconds": round(time.time() - self._started_s, 3),
            "test_success_rate": test.success_rate if test else None,
        }
        if report.candidate_rates:
            values |= {f"reward_{number}_success": rate for number, rate in enumerate(report.candidate_rates, 1)}
        tasks_done = {task.skill_name: rate for task, rate in zip(self.run.plan, report.task_rates)}
        of_experts = {
            expert.skill_name: {name: float(values[index]) for name, values in losses._asdict().items()}
            for index, expert in enumerate(self.run.experts)
        }
        line = json.dumps({**values, "task_success_rates": tasks_done, "experts": of_experts}, allow_nan=False)
        with contextlib.suppress(OSError):  # a full disk costs this line; the next checkpoint waits for room, and says so
            append_line(self.run.paths.metrics, line)
        flat = {f"experts/{skill}/{name}": value for skill, row in of_experts.items() for name, value in row.items()}
        flat |= {f"tasks/{skill}/success_rate": rate for skill, rate in tasks_done.items()}
        self.tracker.log(report.frames, {name: value for name, value in (values | flat).items() if value is not None})

    def _test_for_goal(self, learner: Learner, goal_test: GoalTest, report: UpdateReport) -> Evaluation | None:
        """Plays fresh episodes with the experts frozen; None if they miss the goal."""
        key = self._programs.fold_in(self._keys.tests, report.update)
        found = self._evaluate(
            self._programs.learned_policy(learner.params), key, "testing for the goal", self.settings.success_rate
        )
        if not found.decided_early and found.success_rate >= self.settings.success_rate:
            self.pane.line(f"goal reached: {found.success_rate:.3f} of {found.episodes} fresh episodes")
            return found
        bound = "at most " if found.decided_early else ""
        self.pane.line(f"not there yet: {bound}{found.success_rate:.3f} of fresh episodes (estimate {report.estimate:.3f})")
        goal_test.failed(report.update, report.estimate, found.success_rate)
        self.pane.phase("training")
        return None

    def _evaluate(self, decide, key: jax.Array, what: str, give_up_below: float | None = None) -> Evaluation:
        def show(ended: int, wanted: int) -> None:
            self.pane.phase(f"{what} {ended}/{wanted}")
            self._beat()
            self._stop_if_asked()

        self.lifetime.beat(Activity.COMPILING)  # a test may be the first with programs of its shapes
        with self._programs.turn:
            return evaluation.evaluate(self._programs, decide, key, TEST_EPISODES, give_up_below, show)

    def _stop_if_asked(self) -> None:
        """Ends a run that was asked to; everything learned is in a checkpoint when this is called."""
        if self.lifetime.asked_to_stop:
            raise Stopped(f"{self.run.skill_name} was asked to stop; it goes on from its newest checkpoint")

    def _save_now_and_then(self, learner: Learner, standing: Standing) -> None:
        """Once in `CHECKPOINT_S` a checkpoint is begun, and training goes on; the last one's failure shows here."""
        try:
            self._saver.look()
            if self._saver.is_due(CHECKPOINT_S):
                self._saver.begin(learner, standing)
        except OSError as error:
            if why_no_room(error) is None:
                raise
            self._save(learner, standing)  # in its place, once there is room

    def _save(self, learner: Learner, standing: Standing) -> str:
        """Saves a checkpoint before anything goes on; waits while the disk has no room for it."""
        path = self._with_room(lambda: self._saver.save(learner, standing))
        self._unsaved = None
        return path

    def _with_room(self, write: Callable[[], T]) -> T:
        """Calls ``write``, again and again while the disk cannot take what it writes."""
        written = process.when_there_is_room(write, self.run.paths.folder, self._wait_for_room)
        if self._said_of_room:
            self._said_of_room = None
            self.pane.line("there is room again; training goes on")
            self.pane.phase(self.phase)
        return written

    def _wait_for_room(self, message: str) -> None:
        if message != self._said_of_room:
            self.pane.line(message)
            self._said_of_room = message
        self.pane.phase("paused, the disk has no room")
        self.lifetime.beat(Activity.PAUSED)
        self._stop_if_asked()
        time.sleep(process.ROOM_POLL_S)

    def _write(self, learner: Learner, standing: Standing) -> str:
        run = self.run
        return checkpoints.save(run.paths, learner, standing, run.local_to_global, run.attempt, self._keys.updates)

    def _result(
        self, learner: Learner, standing: Standing, checkpoint: str, reached: Evaluation | None
    ) -> dict[str, Any]:
        """Measures what is still to be measured, and puts the result together."""
        if reached is None:
            key = self._programs.fold_in(self._keys.tests, standing.updates + 1)
            found = self._evaluate(self._programs.learned_policy(learner.params), key, "measuring the success rate")
        else:
            found = reached
        by_chance = self._evaluate(self._programs.random_policy(), self._keys.random_policy, "measuring the random policy")
        self.pane.line(
            f"success rate {found.success_rate:.3f}, random policy {by_chance.success_rate:.3f} "
            f"({TEST_EPISODES} fresh episodes each), {standing.frames:,} frames"
        )
        rates = [
            {"skill_name": task.skill_name, "n": task.n, "success_rate": rate, "random_success_rate": chance}
            for task, rate, chance in zip(self.run.plan, found.task_rates, by_chance.task_rates)
        ]
        acted = {str(e.global_expert_idx): int(standing.acted_frames[e.local_expert_idx]) for e in self.run.experts}
        return {
            "goal_reached": found.success_rate >= self.settings.success_rate,
            "frames": standing.frames,
            "acted_frames": acted,
            "success_rate": found.success_rate,
            "random_success_rate": by_chance.success_rate,
            "frames_per_success": None if found.frames_per_success is None else round(found.frames_per_success, 1),
            "tasks": rates,
            "checkpoint": checkpoint,
            **self._timings(),
        }

    def _timings(self) -> dict[str, float | None]:
        if not self._update_seconds:
            return dict.fromkeys(
                ("seconds_to_first_update", "seconds_per_update", "seconds_training", "frames_per_s")
            )
        return {
            "seconds_to_first_update": round(self._first_update_s, 3),
            "seconds_per_update": round(self._seconds_per_update, 4),
            "seconds_training": round(sum(self._update_seconds), 3),
            "frames_per_s": round(self._frames_per_s, 1),
        }
