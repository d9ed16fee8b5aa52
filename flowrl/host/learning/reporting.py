"""What a user sees of a training: lines with the newest episodes, a progress bar, and ``metrics.jsonl``."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from flowrl.files import append_line
from flowrl.host.learning.evaluation import Evaluation
from flowrl.host.learning.flow import Flow
from flowrl.host.learning.pace import Pace
from flowrl.host.learning.trainer import TrainingState, VectorizedEpisode
from flowrl.lines_and_bar import LinesAndBar
from flowrl.paths import HostRunPaths
from flowrl.tracking.trackers import Tracker

RECENT = 100
"""Episodes that the mean is over."""
FIRST_LINES = 3
"""So many updates are always shown; later ones every `LINE_S`, so that fast trainings do not flood the terminal."""
LINE_S = 2.0


class Display(LinesAndBar):
    """Standard output with a progress bar below its lines; a context manager. Without a terminal there is no bar."""

    def __init__(self, num_episodes: int | None):
        """
        Args:
            num_episodes: None if something else ends the training.
        """
        super().__init__("training", num_episodes, f"{_of(num_episodes)} episodes")

    def progress(self, episodes: int, frames_per_s: float) -> None:
        self.show(completed=episodes, speed=f"{frames_per_s:,.0f} frames/s")

    def doing(self, what: str) -> None:
        """Names what the training does, such as ``evaluating``."""
        self.show(description=what)


class Reporter:
    """Counts the episodes of a training, and reports each update.

    Attributes:
        recent: returns of the newest episodes.
        pace: of this start.
    """

    def __init__(
        self,
        paths: HostRunPaths,
        num_episodes: int | None,
        display: Display,
        tracker: Tracker,
        recent: Iterable[float] = (),
        clock: Callable[[], float] = time.monotonic,
    ):
        self._paths, self._num_episodes = paths, num_episodes
        self._display, self._tracker, self._clock = display, tracker, clock
        self.recent = deque(recent, maxlen=RECENT)
        self._last: tuple[float, int] | None = None
        self._shown, self._next_line_s = 0, clock()
        self._unshown = ""
        self._flow: Flow | None = None
        self.pace = Pace()

    @property
    def mean(self) -> float | None:
        """The mean return of the newest episodes; None before the first."""
        return float(np.mean(self.recent)) if self.recent else None

    def report(self, state: TrainingState, made: VectorizedEpisode, seconds: float) -> None:
        """Reports an update.

        Args:
            state: after it.
            seconds: of training, those before a resumption included.
        """
        self.recent.extend(made.episodes.returns.tolist())
        seconds_of_update = made.rollout_s + made.update_s
        frames_per_s = made.frames / seconds_of_update
        self.pace.add(made.frames, seconds_of_update)
        if made.flow:
            self._flow = self._flow + made.flow if self._flow else made.flow
        self._display.progress(min(state.episodes, self._num_episodes or state.episodes), frames_per_s)
        if made.n_completed_episodes:
            self._last = float(made.episodes.returns[-1]), int(made.episodes.lengths[-1])
            self._unshown = self._lines(state, made)
        values = {
            "update": state.updates,
            "frames": state.frames,
            "episodes": state.episodes,
            "n_completed_episodes": made.n_completed_episodes,
            "n_envs": made.n_envs,
            "reward": _mean(made.episodes.returns),
            "length": _mean(made.episodes.lengths),
            "mean_100": self.mean,
            **made.statistics,
            **(made.flow.to_json() if made.flow else {}),
            "rollout_s": round(made.rollout_s, 4),
            "update_s": round(made.update_s, 4),
            "frames_per_s": round(frames_per_s, 1),
            "seconds": round(seconds, 3),
        }
        self._record(state.frames, values)
        if self._clock() >= self._next_line_s or (self._shown < FIRST_LINES and self._unshown):
            self.flush()

    def evaluated(self, state: TrainingState, found: Evaluation) -> None:
        """Reports an evaluation."""
        self._display.say(f"Evaluation on a single environment: {found.in_words()}")
        values = {"evaluation_reward": found.mean, "evaluation_episodes": len(found.returns)}
        self._record(state.frames, {"update": state.updates, "frames": state.frames, "episodes": state.episodes, **values})

    def flush(self) -> None:
        """Shows the newest update that is not shown yet, and how steps came to the learner since the last one shown."""
        lines = [self._unshown] if self._unshown else []
        if self._flow:
            lines.append(f"  {self._flow.in_words()}")
        if lines:
            self._display.say("\n".join(lines))
            self._unshown, self._flow = "", None
            self._shown += 1
            self._next_line_s = self._clock() + LINE_S

    def _lines(self, state: TrainingState, made: VectorizedEpisode) -> str:
        reward, length = self._last
        return (
            f"Episode {state.episodes}{_of(self._num_episodes)}\n"
            f"  Reward: {reward:8.2f}  |  Length: {length:4d}  |  Mean(100): {self.mean:8.2f}\n"
            f"  n_completed_episodes: {made.n_completed_episodes}  |  n_envs: {made.n_envs}"
        )

    def _record(self, frames: int, values: dict[str, Any]) -> None:
        plain = {name: _finite(value) for name, value in values.items()}
        with contextlib.suppress(OSError):  # a full disk loses this line; the next checkpoint says so
            append_line(self._paths.metrics, json.dumps(plain, allow_nan=False))
        self._tracker.log(frames, {name: value for name, value in plain.items() if name != "frames"})


def _of(num_episodes: int | None) -> str:
    return f"/{num_episodes}" if num_episodes is not None else ""


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
