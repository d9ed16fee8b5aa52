"""Where the files of an experiment are, and those that all experiments share. No other module builds these paths.

The layout is the project's contract with its users (see docs/architecture.md): people type these paths
into ``jq``, ``tail`` and ``cat``.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from flowrl.errors import BadInput
from flowrl.machine import processor, usable_cores

_RUN_FOLDER = re.compile(r"skill_(\d+)_(.+)")
_REHEARSAL = re.compile(r"rehearsal_(\d+)")
_SKILL_FOLDER = re.compile(r"(\d+)_(.+)")
_CHECKPOINT = re.compile(r"checkpoint_(\d+)\.pkl")

MERGE, EXPERIENCE = "merge.json", "experience.json"
"""What a merge decided: first in the run's folder, then with its records. What a rehearsal knows of each skill: likewise."""
SKILL_DATA = "skill.json"
"""In a run's folder, and later in its skill's: the skill as it was proposed, with its plan."""

CANDIDATES = "candidates.json"
"""In a run's folder, and later in its skill's, if the skill was proposed with several rewards."""
MOMENTS = "moments.pkl"
"""In a run's folder, and later in its skill's: what the expert was like at some moments of the training."""
WANDB_RUN = "wandb_run.json"
"""In a run's folder, and later in its skill's, if the training was reported: which wandb run that is."""
FILM_SUFFIXES = (".mp4", ".webp", ".gif")
WHOLE_FILM = "whole"
"""In place of a skill's name: the film of whole episodes."""


CACHE = "FLOWRL_CACHE_DIR"
"""Environment variable: the cache folder, in place of the user's own."""


def given_path(path: Path | str, name: str) -> Path:
    """A path that a user or a program gave, with the home folder for a leading ``~``.

    A shell does not expand ``~`` in a flag written with ``=``.

    Args:
        name: what the path is called, for the message.

    Raises:
        BadInput: it is empty, or there is no such home folder.
    """
    if isinstance(path, str) and not path.strip():
        raise BadInput(f"{name} is empty; give a path, or . for the current folder")
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise BadInput(f"{name} {path}: the home folder of {Path(path).parts[0]} is not known; give the path in full") from None


def cache_folder() -> Path:
    """The folder that all experiments on this machine share (``FLOWRL_CACHE_DIR``, or the user's own); may be deleted.

    Raises:
        BadInput: the user has no home folder, and the variable is not set.
    """
    if named := os.environ.get(CACHE):
        return given_path(named, CACHE)
    try:
        folder = Path(platformdirs.user_cache_dir("flowrl"))
    except RuntimeError:
        folder = Path()
    if not folder.is_absolute():
        raise BadInput(f"this user has no home folder to keep compiled programs in; set {CACHE} to a writable folder")
    return folder


def check_cache_folder() -> None:
    """Called before anything is launched: accepts a cache folder that exists, or can be created.

    Raises:
        BadInput: it does not, and cannot. Nothing was created.
    """
    folder = cache_folder()
    if not folder.is_dir() and (why := why_not_writable(folder)):
        raise BadInput(
            f"the folder for compiled programs, {folder}, cannot be created: {why}; set {CACHE} to a writable folder"
        )


def cache_remark() -> str | None:
    """A remark for the user about a read-only cache folder; None if it can be written."""
    if why := why_not_writable(cache_folder()):
        return f"{why}: compiled programs are loaded from it, but new ones are not kept; set {CACHE} to another folder"
    return None


def why_not_writable(folder: Path) -> str | None:
    """Why a folder, or the nearest existing one above it, cannot be written to; None if it can."""
    nearest = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(path))
    if not os.path.isdir(nearest):
        return f"{nearest} is a file"
    return None if os.access(nearest, os.W_OK | os.X_OK) else f"{nearest} is not writable"


def compile_cache() -> Path:
    """Compiled programs, as JAX keeps them: a folder for each kind of processor and each number of cores, which JAX does not
    distinguish. Nodes of several kinds may share the folder above."""
    kind = hashlib.sha256(processor().encode()).hexdigest()[:8]
    return cache_folder() / "jax" / f"{len(usable_cores())}-cores-{kind}"


def stored_programs() -> Path:
    """Compiled programs that are looked up by what they are made from."""
    return cache_folder() / "programs"


def calibrations() -> Path:
    """How many trainings at a time are fastest in total, as measured on this machine."""
    return cache_folder() / "calibration.json"


@dataclass(frozen=True)
class ExperimentPaths:
    """The folder of one experiment (``--graph_path``).

    Raises:
        BadInput: its path is empty, or begins with a home folder that does not exist.
    """

    root: Path

    def __post_init__(self):
        object.__setattr__(self, "root", given_path(self.root, "the experiment's folder (--graph_path)"))

    @property
    def skills(self) -> Path:
        return self.root / "skills"

    @property
    def training_runs(self) -> Path:
        return self.root / "training_runs"

    def tensorboard(self, run_name: str) -> Path:
        """Event files of one run, all of its attempts."""
        return self.root / "tensorboard" / run_name

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def config(self) -> Path:
        return self.root / "config.json"

    @property
    def state(self) -> Path:
        return self.root / "scheduler_state.json"

    @property
    def previous_state(self) -> Path:
        return self.root / "scheduler_state.json.prev"

    @property
    def llm(self) -> Path:
        """The recorded questions and answers of the language model."""
        return self.root / "llm"

    @property
    def scheduler_lock(self) -> Path:
        return self.root / "scheduler.lock"

    @property
    def history(self) -> Path:
        """When each skill came to which status."""
        return self.root / "history.jsonl"

    @property
    def retry_request(self) -> Path:
        """Asks a scheduler at work to try again what failed: an empty file, removed once it is heeded."""
        return self.root / "retry_failed.request"

    @property
    def queue(self) -> Path:
        """Where the jobs of the experiment stand in a cluster's queue."""
        return self.root / "queue.json"

    @property
    def global_latest(self) -> Path:
        return self.checkpoints / "global_latest.pkl"

    @property
    def global_lock(self) -> Path:
        return self.checkpoints / "global.lock"

    @property
    def evaluation(self) -> Path:
        """What ``flowrl evaluate`` found last."""
        return self.root / "evaluation.json"

    @property
    def report(self) -> Path:
        """The page that ``flowrl report`` writes, and the films beside it."""
        return self.root / "report"

    def film(self, skill_name: str, suffix: str, of_progress: bool = False) -> Path:
        """The film of a skill, or of how its expert got better."""
        return self.report / "films" / f"{skill_name}{'_progress' if of_progress else ''}{suffix}"

    def has_film(self, expert_idx: int, skill_name: str, of_progress: bool = False) -> bool:
        """Whether there is a film of the skill that is as new as its expert."""
        expert = self.expert_params(expert_idx, skill_name)
        films = [film for suffix in FILM_SUFFIXES if (film := self.film(skill_name, suffix, of_progress)).exists()]
        return any(film.stat().st_mtime >= expert.stat().st_mtime for film in films)

    @property
    def film_costs(self) -> Path:
        """Processor seconds of the films that were made while the experiment trained."""
        return self.report / "films" / "costs.json"

    @property
    def planner_log(self) -> Path:
        """Why the planner chose each task of an evaluation's first episode."""
        return self.root / "planner.log"

    def skill_folder(self, expert_idx: int, skill_name: str) -> Path:
        return self.skills / f"{expert_idx}_{skill_name}"

    def moments(self, expert_idx: int, skill_name: str) -> Path:
        """What the skill's expert was like during its last training."""
        return self.skill_folder(expert_idx, skill_name) / MOMENTS

    def skill_module(self, expert_idx: int, skill_name: str) -> Path:
        return self.skill_folder(expert_idx, skill_name) / f"{expert_idx}.py"

    def expert_params(self, expert_idx: int, skill_name: str) -> Path:
        return self.skill_folder(expert_idx, skill_name) / f"expert_{expert_idx}_policy" / "params.pkl"

    def run_folder(self, expert_idx: int | None, name: str) -> Path:
        """The folder of a skill's run; of a rehearsal's, which has no expert of its own, if ``expert_idx`` is None."""
        return self.training_runs / (name if expert_idx is None else f"skill_{expert_idx}_{name}")

    def rehearsal_records(self, name: str) -> Path:
        """Where the records of a merged rehearsal stay: ``rehearsals/<n>``."""
        return self.root / "rehearsals" / str(rehearsal_number(name))

    def rehearsal_experience(self, name: str) -> Path:
        """What a merged rehearsal knew of each skill in the end."""
        return self.rehearsal_records(name) / EXPERIENCE

    def rehearsal_merge(self, name: str) -> Path:
        """What the merge of a rehearsal did with each expert."""
        return self.rehearsal_records(name) / MERGE

    def rehearsals(self) -> list[str]:
        """The names of all rehearsals that have left a folder, the first one first."""
        merged = (f"rehearsal_{folder.name}" for folder in (self.root / "rehearsals").glob("*"))
        under_way = (folder.name for folder in self.training_runs.glob("rehearsal_*"))
        return sorted({name for name in (*merged, *under_way) if rehearsal_number(name)}, key=rehearsal_number)

    def library(self) -> dict[int, str]:
        """The skills that have a folder in the library: global expert index to skill name."""
        if not self.skills.is_dir():
            return {}
        matches = (_SKILL_FOLDER.fullmatch(folder.name) for folder in self.skills.iterdir() if folder.is_dir())
        return {int(match[1]): match[2] for match in matches if match}


def rehearsal_number(name: str) -> int | None:
    """The number of a rehearsal; None for what is not a rehearsal's name."""
    found = _REHEARSAL.fullmatch(name)
    return int(found[1]) if found else None


def batch_file(folder: Path) -> Path:
    """The script of a run's newest job on a cluster."""
    return folder / "job.sbatch"


def job_receipt(folder: Path) -> Path:
    """The number that the cluster gave a run's newest job, and the attempt that it is for."""
    return folder / "run.job"


def unfinished_film(film: Path, process_id: int) -> Path:
    """Where a process writes a film until it is whole."""
    return film.with_name(f".{film.stem}.{process_id}.unfinished{film.suffix}")


def start_script(folder: Path) -> Path:
    """What a pane runs first: the variables that Python needs to start, and the command; it removes itself."""
    return folder / "run.sh"


@dataclass(frozen=True)
class RunPaths:
    """The folder of one run, ``training_runs/skill_<index>_<Name>`` or ``training_runs/rehearsal_<n>``: the contract between
    scheduler and training."""

    folder: Path

    def __post_init__(self):
        object.__setattr__(self, "folder", given_path(self.folder, "the folder of a run"))
        if not (_RUN_FOLDER.fullmatch(self.folder.name) or rehearsal_number(self.folder.name)):
            raise ValueError(f"a run folder is named skill_<index>_<Name> or rehearsal_<n>, not {self.folder.name!r}")

    @property
    def expert_idx(self) -> int | None:
        """Of the skill's own expert; None in a rehearsal."""
        found = _RUN_FOLDER.fullmatch(self.folder.name)
        return int(found[1]) if found else None

    @property
    def skill_name(self) -> str:
        """The name of the skill, or of the rehearsal."""
        found = _RUN_FOLDER.fullmatch(self.folder.name)
        return found[2] if found else self.folder.name

    @property
    def module(self) -> Path:
        return self.folder / f"{self.expert_idx}.py"

    @property
    def policies(self) -> Path:
        return self.folder / ("policies" if self.expert_idx is None else f"{self.expert_idx}_policies")

    @property
    def library(self) -> ExperimentPaths:
        """In a rehearsal: the skills that play, with their experts, as they were in the library when it was prepared."""
        return ExperimentPaths(self.folder)

    @property
    def experience(self) -> Path:
        """In a rehearsal: how often each skill's tasks have succeeded lately, and in how many steps."""
        return self.folder / EXPERIENCE

    @property
    def trial(self) -> RunPaths:
        """The run while several rewards are on trial: the trial has its own checkpoints."""
        return TrialPaths(self.folder)

    @property
    def moments(self) -> Path:
        """What the run's own expert was like at some moments."""
        return self.folder / MOMENTS

    @property
    def candidates(self) -> Path:
        """The results of the rewards on trial, and which one was chosen."""
        return self.folder / CANDIDATES

    @property
    def has_checkpoints(self) -> bool:
        """Whether the run can resume from a checkpoint of an earlier attempt."""
        return bool(self.checkpoints() or self.trial.checkpoints())

    @property
    def initial(self) -> Path:
        """The experts that the run starts from, as they were in the library when it was prepared."""
        return self.policies / "initial.pkl"

    @property
    def run_json(self) -> Path:
        return self.folder / "run.json"

    @property
    def metrics(self) -> Path:
        return self.folder / "metrics.jsonl"

    @property
    def log(self) -> Path:
        return self.folder / "training.log"

    @property
    def lock(self) -> Path:
        return self.folder / "run.lock"

    @property
    def pid(self) -> Path:
        return self.folder / "run.pid"

    @property
    def environment(self) -> Path:
        """Variables for the training process that must not appear on a command line; read once, then removed."""
        return self.folder / "run.env"

    @property
    def start_script(self) -> Path:
        return start_script(self.folder)

    @property
    def heartbeat(self) -> Path:
        return self.folder / "heartbeat"

    @property
    def pane(self) -> Path:
        """What the run's pane shows, if the training has no terminal of its own."""
        return self.folder / "pane.json"

    @property
    def exit(self) -> Path:
        """How the training process ended, written by its keeper."""
        return self.folder / "run.exit"

    @property
    def result(self) -> Path:
        return self.folder / "result.json"

    @property
    def measured(self) -> Path:
        """How the run's experts did beside the library's, where both had changed."""
        return self.folder / "measured.json"

    @property
    def measuring(self) -> Path:
        """What a process needs that measures them; gone once it has ended."""
        return self.folder / "measuring"

    def checkpoint(self, frames: int) -> Path:
        return self.policies / f"checkpoint_{frames}.pkl"

    def checkpoints(self) -> list[Path]:
        """All checkpoints, the fewest frames first."""
        return _checkpoints_in(self.policies)

    @property
    def checkpointed_frames(self) -> int:
        """The frames of the newest checkpoint; 0 without any."""
        return max(map(self.frames_of, self.checkpoints()), default=0)

    @staticmethod
    def frames_of(checkpoint: Path) -> int:
        """The frames that the name of a checkpoint says."""
        return int(_CHECKPOINT.fullmatch(checkpoint.name)[1])

    is_of_trial = False
    """Whether its checkpoints are those of a trial of several rewards."""


class TrialPaths(RunPaths):
    """The folder of one run, with the checkpoints of its trial."""

    is_of_trial = True

    @property
    def policies(self) -> Path:
        return super().policies / "trial"


@dataclass(frozen=True)
class HostRunPaths:
    """The folder of one training on host environments (``--checkpoint_dir``)."""

    folder: Path

    @property
    def settings(self) -> Path:
        """The settings of its last start."""
        return self.folder / "settings.json"

    @property
    def metrics(self) -> Path:
        return self.folder / "metrics.jsonl"

    @property
    def result(self) -> Path:
        """The last evaluation, once the training has ended."""
        return self.folder / "result.json"

    @property
    def lock(self) -> Path:
        """A kernel lock that the training holds."""
        return self.folder / "run.lock"

    @property
    def tensorboard(self) -> Path:
        """Event files for TensorBoard."""
        return self.folder / "tensorboard"

    def checkpoint(self, frames: int) -> Path:
        return self.folder / f"checkpoint_{frames}.pkl"

    def checkpoints(self) -> list[Path]:
        """All checkpoints, the fewest frames first."""
        return _checkpoints_in(self.folder)


class FuelBreakPaths(HostRunPaths):
    """The folder of one training that places fuel breaks (``--output_dir``). Checkpoints are numbered by rounds."""

    @property
    def memories(self) -> Path:
        """The best breaks that are known for each area."""
        return self.folder / "memories.npz"

    @property
    def maps(self) -> Path:
        """Pictures and rasters of what came out."""
        return self.folder / "maps"


def _checkpoints_in(folder: Path) -> list[Path]:
    found = ((_CHECKPOINT.fullmatch(path.name), path) for path in folder.glob("checkpoint_*.pkl"))
    return [path for _, path in sorted((int(match[1]), path) for match, path in found if match)]
