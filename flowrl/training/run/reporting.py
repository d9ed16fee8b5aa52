"""Reports each update: success rates and losses, for the pane, ``metrics.jsonl`` and the tracker."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Sequence

import numpy as np

from flowrl.files import append_line
from flowrl.records.tried import Tried
from flowrl.training.learning.ppo import Statistics
from flowrl.training.playing.evaluation import Evaluation
from flowrl.training.playing.rollout import StepOutcome
from flowrl.training.playing.success import PlanRates, RecentSuccess
from flowrl.training.run import measuring
from flowrl.training.run.exploration import ActionWatch
from flowrl.training.run.progress import UpdateReport
from flowrl.training.run.resources import memory_now
from flowrl.training.run.specification import RunSpecification
from flowrl.training.run.state import LocalExpert, RunState, newest_expert
from flowrl.training.run.supervision import Supervision
from flowrl.training.run.updates import Made

ESTIMATE_STEPS = 256
"""The running estimate of the success rate covers at least this many steps."""

_NOT_IN_METRICS = ("task_rates", "seconds_left", "candidate_rates", "tried", "time", "memory")


class Reporter:
    """Follows the episodes of one run, and reports after each update."""

    def __init__(
        self,
        run: RunSpecification,
        experts: Sequence[LocalExpert],
        step_budget: int,
        supervision: Supervision,
        watch: ActionWatch | None = None,
        num_rewards: int = 1,
    ):
        """
        Args:
            step_budget: the steps that all tasks of the plan may take together.
            watch: follows what the skill's own expert does; None where the game names no actions.
            num_rewards: the number of rewards on trial, each in every ``num_rewards``-th environment.
        """
        self._run, self._experts, self._supervision = run, experts, supervision
        self._newest, self._watch = newest_expert(run), watch
        num_envs = run.settings.num_envs
        window = max(1, math.ceil(ESTIMATE_STEPS / run.settings.num_steps))
        self.rates = PlanRates(num_envs, len(run.plan), measuring.TEST_EPISODES)
        self.recent = RecentSuccess(num_envs, step_budget + 1, window)
        self._environments = [slice(number, None, num_rewards) for number in range(num_rewards)] if num_rewards > 1 else []
        self._on_trial = [
            RecentSuccess(len(range(num_envs)[environments]), step_budget + 1, window) for environments in self._environments
        ]

    @property
    def tried(self) -> Tried | None:
        """What the skill's own expert does; None where that is not known."""
        return self._watch.tried if self._watch else None

    def report(self, state: RunState, made: Made) -> UpdateReport:
        """Counts an update's episodes; returns the run's progress after it, and shows it in the pane."""
        self._add(made.outcomes)
        if self._watch:
            self._watch.add(made.outcomes, made.actions)
        report = self._standing(state, made)
        self._supervision.pane.update(report)
        return report

    def record(self, report: UpdateReport, losses: Statistics, test: Evaluation | None) -> None:
        """A line of ``metrics.jsonl``, and the same for the tracker."""
        values = {
            **{name: value for name, value in report._asdict().items() if name not in _NOT_IN_METRICS},
            "attempt": self._run.attempt,
            "seconds": round(self._supervision.clock.seconds_alive, 3),
            "test_success_rate": test.success_rate if test else None,
        }
        values |= {f"reward_{number}_success": rate for number, rate in enumerate(report.candidate_rates, 1)}
        tasks_done = {task.skill_name: rate for task, rate in zip(self._run.plan, report.task_rates)}
        of_experts = {
            expert.name: {name: float(values[index]) for name, values in losses._asdict().items()}
            for index, expert in enumerate(self._experts)
        }
        tried = report.tried.to_data() if report.tried else None
        line = json.dumps({**values, "task_success_rates": tasks_done, "experts": of_experts, "tried": tried}, allow_nan=False)
        with contextlib.suppress(OSError):  # a full disk loses this line; the next checkpoint waits for room, and says so
            append_line(self._run.paths.metrics, line)
        flat = {f"experts/{skill}/{name}": value for skill, row in of_experts.items() for name, value in row.items()}
        flat |= {f"tasks/{skill}/success_rate": rate for skill, rate in tasks_done.items()}
        flat |= {f"tried/{kind}": share for kind, share in report.tried.kinds.items()} if report.tried else {}
        flat |= {"tried/decisive": report.tried.decisive_share} if report.tried else {}
        known = {name: value for name, value in (values | flat).items() if value is not None}
        self._supervision.tracker.log(report.frames, known)

    def _add(self, outcomes: list[StepOutcome]) -> None:
        self.rates.add(outcomes)
        self.recent.add(outcomes)
        for environments, estimate in zip(self._environments, self._on_trial):
            estimate.add([StepOutcome(*(part[environments] for part in step)) for step in outcomes])

    def _standing(self, state: RunState, made: Made) -> UpdateReport:
        total_frames, frames_per_s = self._run.settings.total_timesteps, self._supervision.clock.frames_per_s
        return UpdateReport(
            update=state.updates,
            frames=state.frames,
            total_frames=total_frames,
            frames_per_s=frames_per_s,
            seconds_left=(total_frames - state.frames) / frames_per_s,
            success_rate=self.rates.episode.rate,
            estimate=self.recent.rate,
            task_rates=tuple(task.rate for task in self.rates.tasks),
            reward=float(np.mean([step.reward.mean() for step in made.outcomes])),
            entropy=float(made.losses.entropy[self._newest]),
            policy_loss=float(made.losses.policy_loss[self._newest]),
            value_loss=float(made.losses.value_loss[self._newest]),
            kl=float(made.losses.kl[self._newest]),
            candidate_rates=tuple(estimate.rate for estimate in self._on_trial),
            tried=self.tried,
            time=self._supervision.clock.time_shares,
            memory=memory_now(),
        )
