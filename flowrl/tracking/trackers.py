"""Reporting a run to Weights & Biases. The only module that imports wandb, and only when it is asked for.

Reporting never stops a run: without a network, it reports offline; if wandb itself fails, it goes on without reports.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from flowrl.errors import BadInput
from flowrl.files import read_json, write_json
from flowrl.paths import WANDB_RUN, ExperimentPaths, RunPaths

START_LIMIT_S = 30
"""Longest wait for the server at the start; after it the run is reported offline."""

FINISH_LIMIT_S = 60
"""Longest wait for the upload at the end; what is not sent by then stays in the run folder."""

FRAMES = "frames"
"""The metric on the x axis of all others."""


class Tracker(Protocol):
    """Where a run's metrics go besides its own files."""

    def log(self, frames: int, values: Mapping[str, float | None]) -> None:
        """Metrics after ``frames`` frames; those that are None are left out."""

    def finish(self, summary: Mapping[str, Any], failed: bool) -> None:
        """The last call: the run's result, and whether it ended with an error."""


class _NoTracker:
    def log(self, frames, values):
        pass

    def finish(self, summary, failed):
        pass


def no_tracker() -> Tracker:
    """A tracker that forgets everything."""
    return _NoTracker()


class _Several:
    def __init__(self, trackers: Sequence[Tracker]):
        self._trackers = tuple(trackers)

    def log(self, frames, values):
        for tracker in self._trackers:
            tracker.log(frames, values)

    def finish(self, summary, failed):
        for tracker in self._trackers:
            tracker.finish(summary, failed)


def all_of(trackers: Sequence[Tracker]) -> Tracker:
    """Everything goes to each of them."""
    return _Several(trackers)


def wandb_tracker(
    project: str,
    group: str,
    name: str,
    config: Mapping[str, Any],
    folder: Path,
    say: Callable[[str], None] = lambda line: None,
    code: Sequence[Path] = (),
) -> Tracker:
    """One wandb run for one skill; a later attempt at an unfinished one adds to the same wandb run.

    ``WANDB_MODE`` decides between online and offline. Nothing is ever asked, printed or captured.

    Args:
        group: the experiment; its skills are shown together.
        name: the skill.
        folder: the run folder; wandb's own files go to ``folder/wandb``, and the run's name there to `WANDB_RUN`.
        say: called with one line when reporting changes its mode.
        code: files that are kept with the run, as its code.

    Raises:
        BadInput: there is no key (and reports are not kept offline), or wandb refuses a name.
    """
    run = _begun(
        {"project": project, "group": group, "name": name, "config": dict(config), "dir": str(folder), "resume": "auto"}, say
    )
    run.define_metric("*", step_metric=FRAMES)
    with contextlib.suppress(OSError):  # then no film can be added later
        write_json(folder / WANDB_RUN, {"id": run.id, "project": project})
    tracker = _WandbTracker(run, say)
    tracker.keep(code)
    return tracker


def add_film(skill_folder: Path, film: Path, name: str, say: Callable[[str], None] = lambda line: None) -> bool:
    """Adds a film to the wandb run of a skill that was trained. What goes wrong is said, and changes nothing else.

    Args:
        skill_folder: with `WANDB_RUN`, which says what run that is.
        name: of the film among what the run has logged.

    Returns:
        whether it was added; False for a skill whose training was not reported.
    """
    try:
        known = read_json(skill_folder / WANDB_RUN)
        import wandb

        settings = {"project": known["project"], "id": known["id"], "resume": "allow", "dir": str(skill_folder)}
        run = _begun(settings, say)
        video = wandb.Video(str(film)) if film.suffix[1:] in wandb.Video.EXTS else None
        if video is None:
            run.save(str(film), base_path=str(film.parent), policy="now")
        else:
            run.log({name: video})
        run.finish()
        return True
    except FileNotFoundError:
        return False
    except Exception as error:  # a film in its file is worth more than one that ends with an error
        say(f"wandb did not take {film.name} ({_one_line(error)}); it is in {film}")
        return False


def _begun(settings: dict[str, Any], say: Callable[[str], None]) -> Any:
    import wandb

    from flowrl.tracking.wandb_key import check_wandb_key

    check_wandb_key(os.environ)
    settings["settings"] = wandb.Settings(console="off", silent=True, init_timeout=START_LIMIT_S, finish_timeout=FINISH_LIMIT_S)
    try:
        return _start(wandb, settings, say)
    except wandb.errors.UsageError as error:
        what = settings.get("name") or settings["id"]
        raise BadInput(f"wandb refuses to report {what}: {error}; correct it, or use --no-use_wandb") from error


def _start(wandb: Any, settings: dict[str, Any], say: Callable[[str], None]) -> Any:
    online = wandb.setup().settings.mode not in ("offline", "dryrun", "disabled")
    try:
        # A key for another server than the one in use passes the check; wandb.init would then ask for one.
        if online and not wandb.login(prompt=False):
            raise BadInput("wandb has no key for its server: run `wandb login`, or set WANDB_MODE=offline")
        return wandb.init(**settings)
    except wandb.errors.UsageError:
        raise
    except wandb.errors.Error as error:
        if not online:
            raise
        say(
            f"wandb cannot report online ({_one_line(error)}); reporting offline; once the skill is trained, send it with: "
            f"wandb sync {_later_place(Path(settings['dir']))}/wandb/offline-run-*"
        )
        return wandb.init(**settings, mode="offline")


def _later_place(folder: Path) -> Path:
    """Where a run's reports are once it is merged, since its own folder is gone then."""
    try:
        run = RunPaths(folder)
    except ValueError:
        return folder  # not a run of an experiment
    experiment = ExperimentPaths(run.folder.parent.parent)
    return experiment.skill_folder(run.expert_idx, run.skill_name)


class _WandbTracker:
    def __init__(self, run: Any, say: Callable[[str], None]):
        self._run = run
        self._say = say

    def keep(self, code: Sequence[Path]) -> None:
        """Keeps files with the run, as its code."""
        files = [path for path in code if path.is_file()]

        def hand_over(run: Any) -> None:
            import wandb

            artifact = wandb.Artifact(f"code-{run.id}", type="code")
            for path in files:
                artifact.add_file(str(path))
            run.log_artifact(artifact)

        if files:
            self._attempt(hand_over)

    def log(self, frames, values):
        known = {name: value for name, value in values.items() if value is not None}
        self._attempt(lambda run: run.log({FRAMES: frames, **known}))

    def finish(self, summary, failed):
        def last_words(run):
            run.summary.update(dict(summary))
            run.finish(exit_code=1 if failed else 0)

        self._attempt(last_words)
        self._run = None

    def _attempt(self, report: Callable[[Any], None]) -> None:
        if self._run is None:
            return
        try:
            report(self._run)
        except Exception as error:  # An error in wandb or its process must not end the training.
            self._run = None
            self._say(f"wandb failed ({_one_line(error)}); the run continues without it, metrics.jsonl has everything")


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
