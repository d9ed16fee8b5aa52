"""Plain agents: one expert each, trained on the game's own reward alone. What a library is compared with.

A plain agent is a library of its own, ``flat/<name>/`` in the experiment's folder, with one skill that is never done. It is
trained as any skill is, in a process of its own, and goes on from its last checkpoint if that was interrupted.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from flowrl.envs.registry import GameEntry
from flowrl.errors import FlowrlError
from flowrl.parallel.training_processor import process_completed_training
from flowrl.parallel.training_setup import prepare_training_run, write_launch
from flowrl.paths import ExperimentPaths, RunPaths
from flowrl.records import metrics, run_record
from flowrl.records import result as run_result
from flowrl.records.result import Outcome
from flowrl.records.run_record import Slot
from flowrl.records.training_settings import RunSettings
from flowrl.skills.explore import EXPLORE, explore, unending

_SMALL = {
    "num_envs": 64,
    "num_steps": 64,
    "num_minibatches": 8,
    "update_epochs": 4,
    "lr": 5e-4,
    "gamma": 0.99,
    "gae_lambda": 0.8,
}
SMALL_BATCHES: dict[str, dict[str, Any]] = {
    "small batches": {**_SMALL, "anneal_lr": False},
    "small batches, falling learning rate": {**_SMALL, "anneal_lr": True},
}
"""Those that are beside every library."""
VARIANTS: dict[str, dict[str, Any]] = {**SMALL_BATCHES, "settings of the skills": {}}
"""Plain agents differ more by their settings than by chance: the best one of these is what a library has to beat."""
_LOOK_S = 0.5


def variants_beside(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of the plain agents beside a library with these settings; of equal ones only the first."""
    different = {}
    for name, own in VARIANTS.items():
        different.setdefault(RunSettings.of({**settings, **own}), name)
    return tuple(different.values())


def folder_of(experiment: ExperimentPaths, variant: str) -> ExperimentPaths:
    """Where a plain agent is kept."""
    return ExperimentPaths(experiment.root / "flat" / variant.replace(",", "").replace(" ", "_"))


def train(
    experiment: ExperimentPaths,
    entry: GameEntry,
    variant: str,
    settings: Mapping[str, Any],
    frames: int,
    on_frames: Callable[[int], None] = lambda frames: None,
) -> ExperimentPaths:
    """Trains a plain agent for so many frames, unless there is one already that was; returns its folder.

    Args:
        settings: of the library's skills; the variant's own are put on top.
        on_frames: called now and then with the frames trained so far.

    Raises:
        FlowrlError: the training failed.
        BadInput: the game declares no own reward.
    """
    paths = folder_of(experiment, variant)
    chosen = RunSettings.of({**settings, **VARIANTS[variant], **unending(frames)})
    run = RunPaths(paths.run_folder(0, EXPLORE))
    if _settings_of(paths.skill_folder(0, EXPLORE)) == chosen:
        return paths
    if _settings_of(run.folder) != chosen:
        shutil.rmtree(paths.root, ignore_errors=True)  # of other settings or frames: it would go on from there
    data = explore(entry.facts).to_data()
    prepare_training_run(EXPLORE, data, 0, [], {}, paths.root, settings={**asdict(chosen), "env_name": entry.env_name})
    write_launch(run.folder, run_record.attempt(run.run_json) + 1, Slot())
    _run(run, on_frames)
    result = run_result.read(run.result)
    if result.outcome is not Outcome.COMPLETED:
        raise FlowrlError(f"the plain agent with {variant} was not trained: {result.error}; see {run.log}")
    process_completed_training(run.folder, EXPLORE, 0, paths.root, result.frames)
    return paths


def _settings_of(folder: Path) -> RunSettings | None:
    found = run_record.find(folder / run_record.NAME)
    return found.settings if found else None


def _run(run: RunPaths, on_frames: Callable[[int], None]) -> None:
    command = [sys.executable, "-m", "flowrl.training", str(run.folder)]
    with tempfile.TemporaryFile() as words:
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=words, stderr=words) as training:
            while training.poll() is None:
                on_frames(_frames_so_far(run))
                time.sleep(_LOOK_S)
        on_frames(_frames_so_far(run))
        words.seek(0)
        last_words = words.read().decode(errors="replace").strip()[-300:]
    if not run.result.exists():
        raise FlowrlError(f"the training of a plain agent ended without a result: {last_words}; see {run.log}")


def _frames_so_far(run: RunPaths) -> int:
    return int((metrics.newest(run.metrics) or {}).get("frames", 0))
