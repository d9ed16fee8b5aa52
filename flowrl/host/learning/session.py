"""One training from its settings to its last evaluation: environments, trainer, checkpoints, interrupts."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

from filelock import FileLock, Timeout

from flowrl.errors import FlowrlError, FolderInUse, NoRoom
from flowrl.files import sweep_files, why_no_room, write_json
from flowrl.host.environments import MakeEnvironment
from flowrl.host.interface import VecEnv
from flowrl.host.learning import checkpoints, reporting
from flowrl.host.learning.checkpoints import Saved
from flowrl.host.learning.evaluation import Evaluation
from flowrl.host.learning.reporting import Display, Reporter
from flowrl.host.learning.settings import PPOSettings
from flowrl.host.learning.trainer import PPOTrainer
from flowrl.host.sequential import SequentialVecEnv
from flowrl.paths import HostRunPaths
from flowrl.tracking.trackers import Tracker, no_tracker, wandb_tracker

_LOCK_WAIT_S = 1.0


class Terminated(BaseException):
    """The process was asked to end, by SIGTERM or because its terminal is gone. Not an error, as KeyboardInterrupt."""

    def __init__(self, number: int):
        super().__init__(number)
        self.exit_code = 128 + number


def train(settings: PPOSettings, env: VecEnv) -> Evaluation:
    """Trains to the end of the settings, or goes on where an earlier start ended, and evaluates.

    Args:
        env: the batch to train on (`batch.make_batch`); stays the caller's, who closes it.

    Raises:
        BadInput: settings that do not fit each other, the environment or the folder's checkpoint.
        FolderInUse: another process trains in this folder.
        NoRoom: the disk is full.
        HostError: an environment failed.
        KeyboardInterrupt, Terminated: what was learned is saved.
    """
    paths = HostRunPaths(settings.folder)
    with contextlib.ExitStack() as around:
        around.enter_context(_held(paths))
        around.enter_context(_no_room_in_words(paths))
        around.enter_context(_signals())
        display = around.enter_context(Display(settings.num_episodes))
        evaluation_env = around.enter_context(SequentialVecEnv([MakeEnvironment(settings.env)]))
        return _Training(settings, paths, env, evaluation_env, display).run()


class _Training:
    """The parts of one training, and the loop over them."""

    def __init__(self, settings: PPOSettings, paths: HostRunPaths, env: VecEnv, evaluation_env: VecEnv, display: Display):
        self._settings, self._paths, self._display = settings, paths, display
        self._evaluation_env = evaluation_env
        self._trainer = PPOTrainer(env, settings)
        found = checkpoints.newest(paths, self._trainer.state.learner, settings.env, display.say)
        write_json(paths.settings, settings.to_json())
        if found:
            self._trainer.state = found.state
            display.say(f"Going on after {found.state.episodes} episodes, {found.state.frames:,} frames")
        self._reported = found or Saved(self._trainer.state, [], 0.0)
        """What an interrupt saves. An update counts once it is in ``metrics.jsonl``."""
        self._saved_updates, self._seconds_before = self._reported.state.updates, self._reported.seconds
        reporting.forget_later_updates(paths, self._saved_updates)
        self._tracker = _tracker(settings, paths, display)
        self._reporter = Reporter(paths, settings.num_episodes, display, self._tracker, self._reported.recent)
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
                f"Nothing left to train in {self._paths.folder}: give a larger --num-episodes, or another --checkpoint-dir"
            )
        while not self._is_over():
            made = self._trainer.train_episode_vectorized()
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
        return reached or self._trainer.state.episodes >= self._settings.num_episodes

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
                "command goes on"
            )

    def _result(self, found: Evaluation) -> dict[str, Any]:
        state = self._trainer.state
        return {
            "env": self._settings.env,
            "episodes": state.episodes,
            "frames": state.frames,
            "updates": state.updates,
            "seconds": round(self._seconds(), 3),
            "mean_100": self._reporter.mean,
            "evaluation_reward": found.mean,
            "evaluation_episodes": len(found.returns),
        }


@contextlib.contextmanager
def _held(paths: HostRunPaths) -> Iterator[None]:
    """The folder, for this process alone."""
    try:
        paths.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NoRoom(f"--checkpoint_dir {paths.folder} cannot be made: {error.strerror}") from None
    lock = FileLock(paths.lock)
    try:
        lock.acquire(timeout=_LOCK_WAIT_S)
    except Timeout:
        raise FolderInUse(
            f"another process trains in {paths.folder}; wait for it, end it, or give another --checkpoint_dir"
        ) from None
    try:
        sweep_files(paths.folder, deep=False)
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _no_room_in_words(paths: HostRunPaths) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if (why := why_no_room(error)) is None:
            raise
        raise NoRoom(f"{paths.folder} cannot be written ({why}); free disk space, and the same command goes on") from error


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the training as Ctrl-C does: what was learned is saved."""

    def terminate(number: int, _: Any) -> None:
        raise Terminated(number)

    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may handle signals
        return
    numbers = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is not signal.SIG_IGN]  # nohup
    before = {number: signal.signal(number, terminate) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _tracker(settings: PPOSettings, paths: HostRunPaths, display: Display) -> Tracker:
    if not settings.use_wandb:
        return no_tracker()
    name = paths.folder.name
    return wandb_tracker(settings.wandb_project, f"host {settings.env}", name, settings.to_json(), paths.folder, display.say)
