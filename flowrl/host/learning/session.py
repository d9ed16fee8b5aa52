"""One training from its settings to its last evaluation: environments, trainer, checkpoints, interrupts."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

from flowrl.errors import BadInput, FlowrlError
from flowrl.files import forget_later_lines, read_json, write_json
from flowrl.host.environments import MakeEnvironment
from flowrl.host.interface import VecEnv
from flowrl.host.learning import checkpoints, reporting
from flowrl.host.learning.checkpoints import Saved
from flowrl.host.learning.evaluation import Evaluation
from flowrl.host.learning.pace import WARM_UP_UPDATES
from flowrl.host.learning.reporting import Display, Reporter
from flowrl.host.learning.settings import AgentSettings, PPOSettings
from flowrl.host.learning.trainer import PPOTrainer, TrainingState, VectorizedEpisode
from flowrl.host.sequential import SequentialVecEnv
from flowrl.own_folder import Terminated, own_folder
from flowrl.paths import HostRunPaths
from flowrl.tracking.tensorboard import tensorboard_tracker
from flowrl.tracking.trackers import Tracker, all_of, wandb_tracker


class Trainer(Protocol):
    """What a session trains.

    Attributes:
        state: replaced as a whole after an update.
    """

    state: TrainingState

    def evaluate(self, env: VecEnv, num_episodes: int) -> Evaluation:
        """Plays whole episodes on a single environment."""


class Surroundings(NamedTuple):
    """What a training finds around it."""

    paths: HostRunPaths
    display: Display
    evaluation_env: VecEnv
    """A single environment."""


def train(settings: PPOSettings, env: VecEnv) -> Evaluation:
    """Trains by PPO to the end of the settings, or goes on where an earlier start ended, and evaluates.

    Args:
        env: the batch to train on (`batch.make_batch`); stays the caller's, who closes it.

    Raises:
        BadInput: settings that do not fit each other, the environment or the folder's checkpoint.
        FolderInUse: another process trains in this folder.
        NoRoom: the disk is full.
        HostError: an environment failed.
        KeyboardInterrupt, Terminated: what was learned is saved.
    """
    with surroundings(settings) as around:
        trainer = PPOTrainer(env, settings)
        return Training(settings, around, trainer, trainer.train_episode_vectorized).run()


@contextlib.contextmanager
def surroundings(settings: AgentSettings) -> Iterator[Surroundings]:
    """The folder of a training, for this process alone, its lines on the terminal, and an environment to evaluate on. SIGTERM
    and a full disk are told apart from other errors."""
    paths = HostRunPaths(settings.folder)
    with contextlib.ExitStack() as around:
        around.enter_context(own_folder(paths.folder, paths.lock, settings.FOLDER_FLAG))
        display = around.enter_context(Display(settings.most_episodes))
        evaluation_env = around.enter_context(SequentialVecEnv([MakeEnvironment(settings.env)]))
        yield Surroundings(paths, display, evaluation_env)


class Training:
    """The parts of one training, and the loop over them.

    Args:
        train_once: one update of the trainer.
    """

    def __init__(
        self, settings: AgentSettings, around: Surroundings, trainer: Trainer, train_once: Callable[[], VectorizedEpisode]
    ):
        self._settings, self._trainer, self._train_once = settings, trainer, train_once
        self._paths, self._display, self._evaluation_env = paths, display, _ = around
        found = checkpoints.newest(paths, trainer.state.learner, settings.env, settings.FOLDER_FLAG, display.say)
        write_json(paths.settings, settings.to_json())
        if found:
            self._trainer.state = found.state
            display.say(f"Continuing after {found.state.episodes} episodes, {found.state.frames:,} frames")
        self._reported = found or Saved(self._trainer.state, [], 0.0)
        """What an interrupt saves. An update counts once it is in ``metrics.jsonl``."""
        self._saved_updates, self._seconds_before = self._reported.state.updates, self._reported.seconds
        forget_later_lines(paths.metrics, "update", self._saved_updates)
        self._tracker = _tracker(settings, paths, display)
        self._reporter = Reporter(paths, settings.most_episodes, display, self._tracker, self._reported.recent)
        self._began_s = self._saved_s = time.monotonic()
        self._next_evaluation = self._evaluation_after(self._trainer.state.episodes)

    def run(self) -> Evaluation:
        """Trains to the end; saves what was learned, however it ends."""
        try:
            self._train()
            found = self._evaluate(self._settings.eval_episodes)
            write_json(self._paths.result, self._result(found))
        except BaseException as error:
            self._save_after(error)
            self._tracker.finish({}, failed=True)
            raise
        self._tracker.finish(self._result(found), failed=False)
        return found

    def _train(self) -> None:
        if self._is_over():
            self._display.say(
                f"Nothing left to train in {self._paths.folder}: give a larger {self._limit() or '--stop-at'}, or another "
                f"{self._settings.FOLDER_FLAG.replace('_', '-')}"
            )
        while not self._is_over():
            made = self._train_once()
            self._reporter.report(self._trainer.state, made, self._seconds())
            self._reported = Saved(self._trainer.state, list(self._reporter.recent), self._seconds())
            if time.monotonic() - self._saved_s >= self._settings.checkpoint_s:
                self._save()
            if self._trainer.state.episodes >= self._next_evaluation and not self._is_over():
                self._evaluate(max(1, self._settings.eval_episodes // 10))
                self._next_evaluation = self._evaluation_after(self._trainer.state.episodes)
        self._reporter.flush()
        self._save()

    def _is_over(self) -> bool:
        mean, goal = self._reporter.mean, self._settings.stop_at
        reached = goal is not None and len(self._reporter.recent) == reporting.RECENT and mean >= goal
        return reached or self._limit() is not None

    def _limit(self) -> str | None:
        """The flag whose limit the training has reached."""
        settings = self._settings
        if settings.most_episodes is not None and self._trainer.state.episodes >= settings.most_episodes:
            return "--num-episodes"
        over = settings.duration is not None and self._seconds() >= settings.duration * 3600
        if over and self._trainer.state.updates > WARM_UP_UPDATES:  # so that a short one can be measured at least
            return "--duration"
        return None

    def _evaluate(self, num_episodes: int) -> Evaluation:
        self._display.doing("evaluating")
        found = self._trainer.evaluate(self._evaluation_env, num_episodes)
        self._reporter.flush()
        self._reporter.evaluated(self._trainer.state, found)
        self._display.doing("training")
        return found

    def _evaluation_after(self, episodes: int) -> float:
        every = self._settings.eval_every
        return (episodes // every + 1) * every if every else float("inf")

    def _seconds(self) -> float:
        return self._seconds_before + time.monotonic() - self._began_s

    def _save(self) -> None:
        if (updates := self._reported.state.updates) > self._saved_updates:
            checkpoints.save(self._paths, self._reported, self._settings.env)
            self._saved_updates = updates
        self._saved_s = time.monotonic()

    def _save_after(self, error: BaseException) -> None:
        with contextlib.suppress(OSError, FlowrlError):  # the first error is the one to show
            self._save()
        if isinstance(error, (KeyboardInterrupt, Terminated)):
            self._reporter.flush()
            self._display.say(
                f"Stopped after {self._reported.state.episodes} episodes, which are saved in {self._paths.folder}; the same "
                "command continues"
            )

    def _result(self, found: Evaluation) -> dict[str, Any]:
        state = self._trainer.state
        return {
            "env": self._settings.env,
            "episodes": state.episodes,
            "frames": state.frames,
            "updates": state.updates,
            "seconds": round(self._seconds(), 3),
            "frames_per_s": self._frames_per_s(),
            "mean_100": self._reporter.mean,
            "evaluation_reward": found.mean,
            "evaluation_episodes": len(found.returns),
        }

    def _frames_per_s(self) -> float | None:
        """Of this start; of an earlier one if nothing was left to train."""
        if (found := self._reporter.pace.frames_per_s) is not None:
            return round(found, 1)
        with contextlib.suppress(FileNotFoundError, BadInput):
            return read_json(self._paths.result).get("frames_per_s")
        return None


def _tracker(settings: AgentSettings, paths: HostRunPaths, display: Display) -> Tracker:
    chosen = []
    if settings.use_wandb:
        group, name = f"host {settings.env}", paths.folder.name
        chosen.append(wandb_tracker(settings.wandb_project, group, name, settings.to_json(), paths.folder, display.say))
    if settings.tensorboard:
        chosen.append(tensorboard_tracker(paths.tensorboard, display.say))
    return all_of(chosen)
