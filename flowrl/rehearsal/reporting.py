"""Reports each update of a rehearsal: for the pane, ``metrics.jsonl`` and the tracker."""

from __future__ import annotations

import contextlib
import json
from collections import deque
from collections.abc import Sequence

import numpy as np

from flowrl.files import append_line
from flowrl.records import metrics
from flowrl.rehearsal.experience import Experience
from flowrl.rehearsal.progress import RehearsalReport, SkillUse
from flowrl.rehearsal.rollout import Rehearsed
from flowrl.rehearsal.specification import RehearsalSpecification
from flowrl.training.learning.ppo import Statistics
from flowrl.training.run.resources import memory_now
from flowrl.training.run.state import RunState
from flowrl.training.run.supervision import Supervision

_NOT_IN_METRICS = ("skills", "seconds_left", "time", "memory")

LATEST_EPISODES = 800
"""The achievements that are reported are a mean over so many."""


class Reporter:
    """Follows the episodes of one rehearsal, and reports after each update.

    Args:
        num_goals: achievements that the game has.
    """

    def __init__(self, run: RehearsalSpecification, num_goals: int, supervision: Supervision):
        self._run, self._num_goals, self._supervision = run, num_goals, supervision
        self._names = [skill.name for skill in run.library.skills]
        self._unlocked: deque[int] = deque(maxlen=LATEST_EPISODES)
        self._lengths: deque[int] = deque(maxlen=LATEST_EPISODES)
        self._before = metrics.newest(run.paths.metrics) or {}

    @property
    def achievements(self) -> float | None:
        """Unlocked in an episode, the mean over the latest ones, those of earlier attempts included."""
        return self._latest("achievements", self._unlocked)

    @property
    def episode_steps(self) -> float | None:
        """The length of the latest episodes, on average."""
        return self._latest("episode_steps", self._lengths)

    @property
    def episodes(self) -> int:
        """The number of latest episodes that these figures are about."""
        return len(self._unlocked) + self._num_before()

    def _latest(self, name: str, values: Sequence[int]) -> float | None:
        num_before = self._num_before()
        total = sum(values) + (num_before * self._before[name] if num_before else 0.0)
        return total / self.episodes if self.episodes else None

    def _num_before(self) -> int:
        """Episodes of earlier attempts that are still among the latest ones."""
        return min(self._before.get("episodes") or 0, LATEST_EPISODES - len(self._unlocked))

    def report(self, state: RunState, steps: Sequence[Rehearsed], losses: Statistics, known: Experience) -> RehearsalReport:
        """Counts an update's episodes; returns the progress after it, and shows it in the pane."""
        for step in steps:
            self._unlocked.extend(step.num_goals[step.ended].tolist())
            self._lengths.extend(step.length[step.ended].tolist())
        total, frames_per_s = self._run.settings.total_timesteps, self._supervision.clock.frames_per_s
        acted = acted_frames(steps, len(self._names))
        report = RehearsalReport(
            update=state.updates,
            frames=state.frames,
            total_frames=total,
            frames_per_s=frames_per_s,
            seconds_left=(total - state.frames) / frames_per_s,
            achievements=self.achievements,
            num_goals=self._num_goals,
            episode_steps=self.episode_steps,
            episodes=self.episodes,
            skills=tuple(
                SkillUse(float(success), float(length), float(share))
                for success, length, share in zip(known.success, known.steps, acted / acted.sum())
            ),
            reward=float(np.mean([step.reward.mean() for step in steps])),
            entropy=_mean(losses.entropy, acted),
            policy_loss=_mean(losses.policy_loss, acted),
            value_loss=_mean(losses.value_loss, acted),
            kl=_mean(losses.kl, acted),
            time=self._supervision.clock.time_shares,
            memory=memory_now(),
        )
        self._supervision.pane.update(report)
        return report

    def record(self, report: RehearsalReport, losses: Statistics) -> None:
        """A line of ``metrics.jsonl``, and the same for the tracker."""
        values = {name: value for name, value in report._asdict().items() if name not in _NOT_IN_METRICS}
        values |= {"attempt": self._run.attempt, "seconds": round(self._supervision.clock.seconds_alive, 3)}
        skills = {name: use._asdict() for name, use in zip(self._names, report.skills)}
        experts = {
            name: {loss: float(parts[place]) for loss, parts in losses._asdict().items()}
            for place, name in enumerate(self._names)
        }
        line = json.dumps({**values, "skills": skills, "experts": experts}, allow_nan=False)
        with contextlib.suppress(OSError):  # a full disk loses this line; the next checkpoint waits for room, and says so
            append_line(self._run.paths.metrics, line)
        flat = {f"skills/{name}/{figure}": value for name, row in skills.items() for figure, value in row.items()}
        known = {name: value for name, value in (values | flat).items() if value is not None}
        self._supervision.tracker.log(report.frames, known)


def acted_frames(steps: Sequence[Rehearsed], num_skills: int) -> np.ndarray:
    """int64 ``[num_skills]``: the steps in which each skill acted."""
    return np.bincount(np.concatenate([step.skill for step in steps]), minlength=num_skills)


def _mean(of_experts: np.ndarray, acted: np.ndarray) -> float:
    return float(np.average(of_experts[: len(acted)], weights=acted))
