"""Every setting of an experiment, and the command line that sets them.

The only module that imports tyro. A field of :class:`Settings` is a flag; its docstring is the flag's help.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tyro
from tyro import _errors as tyro_errors

from flowrl.errors import BadInput
from flowrl.paths import given_path
from flowrl.ranges import AT_LEAST_ONE, NOT_NEGATIVE, POSITIVE, check_ranges
from flowrl.records.rehearsal_settings import RehearsalRequest, RehearsalSettings
from flowrl.records.training_settings import AUTO_INIT, DEFAULT_ENV_NAME, RunSettings, TrainingSettings
from flowrl.suggestions import unknown_choice

PROG = "python -m flowrl.bottomup_parallel"

_RANGES = {
    AT_LEAST_ONE: (
        "slurm_cpus",
        "max_nodes",
        "candidates",
        "skills_per_gpu",
        "extra_timesteps",
        "rehearse_every",
        "rehearsal_frames",
        "skill_budget_frames",
    ),
    POSITIVE: ("scheduler_poll_interval", "lock_timeout_s", "llm_timeout_s"),
    NOT_NEGATIVE: (
        "slurm_gpus",
        "slurm_pending_timeout",
        "max_retries",
        "max_repairs",
        "explore_frames",
        "stall_timeout",
        "keep_failed_session_s",
    ),
}

T = TypeVar("T")

_TAKES_FLAGS = ("__slurm_args", "__slurm_setup")

BELOW_GOAL, MOST_USEFUL = "below_goal", "most_useful"
"""The values of ``--continue_skill`` that name no skill."""
AUTO = "auto"


def _number_of_skills(text: str) -> int | str:
    with contextlib.suppress(ValueError):
        return text if text == AUTO else whole_number(text)
    raise ValueError(f"expected a whole number of at least 1, such as 3, or {AUTO}; found {text!r}")


_NUMBER_OR_AUTO = tyro.constructors.PrimitiveConstructorSpec(
    nargs=1,
    metavar="INT|auto",
    instance_from_str=lambda texts: _number_of_skills(texts[0]),
    is_instance=lambda value: value == AUTO or (isinstance(value, int) and not isinstance(value, bool)),
    str_from_instance=lambda value: [str(value)],
)


@dataclass(frozen=True)
class ProposalSettings:
    """Which game, where, and who proposes skills."""

    env_name: str = DEFAULT_ENV_NAME
    """The game: Craftax-Symbolic-v1 or Craftax-Classic-Symbolic-v1."""
    graph_path: Path = Path("exp/bottom_up/")
    """Folder of the experiment; created if it does not exist, resumed if it does."""
    max_nodes: int = 40
    """Most skills that the experiment may hold, whatever their status; those of earlier starts count, Explore does not."""
    explore_frames: int = 0
    """Train the skill Explore first, for this many frames: it plays for the game's own reward and is never done. 0: none."""
    proposer: Literal["auto", "curriculum", "llm"] = "auto"
    """Who proposes skills: the built-in curriculum (no network), a language model, or auto: the model when --llm_name,
    --llm_base_url, --llm_mode replay, OPENAI_API_KEY or OPENAI_BASE_URL is given, else the curriculum."""
    llm_name: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Language model, such as gpt-4o-mini (gpt-5 when a key is set and no name is given)."""
    llm_base_url: Annotated[str | None, tyro.conf.arg(metavar="URL")] = None
    """Address of an OpenAI-compatible server, such as http://localhost:8000/v1."""
    llm_mode: Literal["live", "record", "replay"] = "live"
    """live: ask the model, and record every answer in GRAPH_PATH/llm. record: begin with new recordings, moving
    earlier ones aside. replay: take the answers from the recordings; no key, no cost."""
    max_repairs: int = 3
    """How often the model may repair a refused proposal before it is asked for another skill."""
    llm_budget_usd: Annotated[float | None, tyro.conf.arg(metavar="USD")] = None
    """Stop proposing skills when this many dollars are spent; earlier starts count (no limit)."""
    llm_timeout_s: float = 600
    """Seconds to wait for one answer of the model, retries included."""
    candidates: int = 1
    """Rewards that the model proposes for each skill. They are trained side by side for a while, and the one with which
    the skill succeeds most often is kept."""


@dataclass(frozen=True)
class SchedulingSettings:
    """Many runs at once."""

    max_parallel_skills: Annotated[int | Literal["auto"], _NUMBER_OR_AUTO] = 3
    """Skills in training at the same time. auto: as many as give the most frames per second in total, measured once on
    this machine, which takes minutes; on GPUs it finds skills_per_gpu too."""
    scheduler_poll_interval: float = 30
    """Most seconds between safety checks; a finished run is noticed at once anyway."""
    max_retries: int = 2
    """Retries for a run that ended with an error, died, hung, lost its session or ran out of memory."""
    stall_timeout: float = 0
    """Seconds without a heartbeat after which a run is ended and retried; 0: ten times its usual update, at least 300.
    Starting and compiling may take an hour."""
    keep_failed_session_s: float = 600
    """Seconds for which the session of a failed run stays to be looked at, with its error and what to do about it."""
    lock_timeout_s: float = 300
    """Seconds to wait for another process that holds the library; after that it is named, and the merge is retried later."""
    merge_guard: bool = True
    """Where two trainings side by side trained the same expert, play both versions and keep the one that is better by more
    than the interval. Without it, and where neither is, the one with most frames stays."""
    guard_changes: bool = False
    """With merge_guard: also play every expert that a training has changed without a competitor, beside the version that it
    started from, and keep that one if it is better by more than the interval. Merges then take longer."""
    gpu_ids: Annotated[str | None, tyro.conf.arg(metavar="LIST")] = None
    """GPUs to train on, such as 0,1 (all visible ones)."""
    skills_per_gpu: int = 1
    """Runs that share one GPU and its memory."""
    continue_skill: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Train the expert of this completed skill for another extra_timesteps; no new skills are proposed. below_goal: every
    completed skill that is below success_rate, until it reaches that. most_useful: the frames are shared among the completed
    skills whose own task succeeds less often than success_rate, each piece to the one by which episodes would gain most."""
    extra_timesteps: int | None = None
    """Frames to train continue_skill for: each of the skills that are below_goal, and all that are most_useful together."""
    retry_failed: bool = False
    """Retry failed and cancelled skills, and train those that they blocked."""
    films: bool = True
    """Film completed skills meanwhile, for flowrl report: in a process that yields to trainings, for at most a hundredth of
    their time."""
    rehearse_every: int | None = None
    """Whenever this many more skills are in the library, let it play whole episodes while its experts continue to learn; and
    once more at the end (never)."""
    rehearsal_frames: int = 1_000_000
    """Frames of each of these rehearsals."""
    skill_budget_frames: int | None = None
    """Most frames that one skill may train, over its retries and further training; earlier starts count (no limit)."""


@dataclass(frozen=True)
class ClusterSettings:
    """Where runs are started: on this machine, or as jobs of a cluster."""

    launcher: Literal["tmux", "slurm"] = "tmux"
    """tmux: on this machine, each in a session. slurm: as jobs of a Slurm cluster, each with a session that shows it;
    --max_parallel_skills is then the number of jobs in the queue at a time."""
    slurm_partition: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Partition of the jobs (the cluster's default)."""
    slurm_time: Annotated[str | None, tyro.conf.arg(metavar="TIME")] = None
    """Time of a job, such as 4:00:00; a skill that needs more goes on in another job (the cluster's default)."""
    slurm_gpus: int | None = None
    """GPUs of a job (the cluster's default)."""
    slurm_cpus: int | None = None
    """CPUs of a job (the cluster's default)."""
    slurm_mem: Annotated[str | None, tyro.conf.arg(metavar="SIZE")] = None
    """Memory of a job, such as 16G (the cluster's default)."""
    slurm_args: Annotated[str, tyro.conf.arg(metavar="OPTIONS")] = ""
    """Further options of sbatch, such as "--account=x --constraint=y"."""
    slurm_setup: Annotated[str, tyro.conf.arg(metavar="COMMAND")] = ""
    """A shell command that each job runs first, in a login shell, such as "module load cuda"."""
    slurm_pending_timeout: float = 0
    """Seconds after which a job that still waits in the queue has failed; 0: it may wait forever."""

    def cluster_flags_without_effect(self) -> list[str]:
        """The flags that apply to jobs of a cluster, and were given without ``--launcher slurm``."""
        if self.launcher == "slurm":
            return []
        cluster_fields = (field for field in dataclasses.fields(ClusterSettings) if field.name.startswith("slurm_"))
        return [f"--{field.name}" for field in cluster_fields if getattr(self, field.name) != field.default]


@dataclass(frozen=True)
class Settings(TrainingSettings, ClusterSettings, SchedulingSettings, ProposalSettings):
    """Proposes skills, trains each in its own tmux session, many at once, and merges them into a library.

    Settings are stored in GRAPH_PATH/config.json: `--graph_path` alone resumes an experiment, and flags given again
    override what is stored. `-` and `_` are the same in a flag, and counts may be written as 1e8.
    """

    # --help lists the bases from the last to the first.
    dry_run: bool = False
    """Print the resolved settings as JSON and exit; nothing is written. With --launcher slurm, the batch script of a first job
    follows."""

    def __post_init__(self):
        object.__setattr__(self, "graph_path", given_path(self.graph_path, "--graph_path"))
        super().__post_init__()
        check_ranges(self, _RANGES)
        if self.max_parallel_skills != AUTO and self.max_parallel_skills < 1:
            raise BadInput(f"--max_parallel_skills must be at least 1, or {AUTO}, found {self.max_parallel_skills}")
        if self.llm_budget_usd is not None and not 0 < self.llm_budget_usd < math.inf:
            raise BadInput(
                f"--llm_budget_usd must be more than 0, found {self.llm_budget_usd:g}; leave it out for no limit, or use "
                "--proposer curriculum, which costs nothing"
            )
        if (self.continue_skill is None) != (self.extra_timesteps is None):
            raise BadInput("--continue_skill NAME and --extra_timesteps FRAMES belong together; give both")
        if self.rehearse_every:
            check_frames("--rehearsal_frames", self.rehearsal_frames, self)
        if self.guard_changes and not self.merge_guard:
            raise BadInput("--guard_changes needs --merge_guard; give --merge_guard, or --no-guard_changes")
        self._check_cluster()
        self._check_candidates()
        self._check_init_trial()
        self._check_skill_budget()
        if 0 < self.explore_frames < self.frames_per_update:
            raise BadInput(
                f"--explore_frames must be 0 or at least the frames of an update, --num_envs * --num_steps "
                f"({self.frames_per_update}); found {self.explore_frames}"
            )
        self.gpus()

    def _check_cluster(self):
        if self.launcher == "tmux":
            return
        if self.max_parallel_skills == AUTO:
            raise BadInput(
                f"--max_parallel_skills {AUTO} measures this machine, and says nothing about a cluster; with --launcher "
                f"{self.launcher} give the number of jobs that may be in the queue at a time"
            )
        if self.gpu_ids is not None or self.skills_per_gpu != 1:
            raise BadInput(
                "--gpu_ids and --skills_per_gpu apply to this machine's GPUs; with --launcher slurm, give --slurm_gpus, the "
                "GPUs of each job"
            )

    def _check_candidates(self):
        if self.candidates > self.num_envs:
            raise BadInput(
                f"--candidates {self.candidates} is more than --num_envs {self.num_envs}, but each reward needs its own "
                "environment; use fewer candidates or a larger --num_envs"
            )
        if self.candidates > 1 and not self.total_timesteps:
            raise BadInput(
                f"--candidates {self.candidates} rewards cannot be tried in --total_timesteps 0; give frames, or one candidate"
            )
        if self.candidate_timesteps is not None and self.candidate_timesteps > self.total_timesteps:
            raise BadInput(
                f"--candidate_timesteps must be at most --total_timesteps ({self.total_timesteps}), of which it is a part; "
                f"found {self.candidate_timesteps}"
            )

    def _check_init_trial(self):
        if self.init_trial > 1 and self.init_from != AUTO_INIT:
            raise BadInput(
                f"--init_trial {self.init_trial} tries what --init_from {AUTO_INIT} offers, found --init_from "
                f"{self.init_from}; give --init_from {AUTO_INIT}, or leave --init_trial out"
            )
        if self.init_trial > self.num_envs:
            raise BadInput(
                f"--init_trial {self.init_trial} is more than --num_envs {self.num_envs}, but each initial expert needs an "
                "environment of its own; try fewer, or use a larger --num_envs"
            )

    def _check_skill_budget(self):
        if self.skill_budget_frames is None:
            return
        for what, frames in (
            ("the frames of an update, --num_envs * --num_steps", self.frames_per_update),
            ("--candidate_timesteps", self.candidate_timesteps or 0),
        ):
            if self.skill_budget_frames < frames:
                raise BadInput(f"--skill_budget_frames must be at least {what} ({frames}); found {self.skill_budget_frames}")

    def gpus(self) -> list[str] | None:
        """The GPUs named by ``--gpu_ids``, None for all visible ones."""
        if self.gpu_ids is None:
            return None
        gpus = [gpu.strip() for gpu in self.gpu_ids.split(",")]
        if not all(gpu.isdigit() for gpu in gpus) or len(set(gpus)) < len(gpus):
            raise BadInput(f"--gpu_ids must be different numbers separated by commas, such as 0,1; found {self.gpu_ids!r}")
        return gpus

    def to_json(self) -> dict[str, Any]:
        """All settings as plain values."""
        return {**dataclasses.asdict(self), "graph_path": str(self.graph_path)}


@dataclass(frozen=True)
class MigrationArguments:
    """Splits the checkpoint of a sequential run into a library that parallel training goes on with.

    docs/migration.md describes the format of such a checkpoint.
    """

    src: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SRC")]
    """The checkpoint: a pickle with expert_params and skills."""
    graph_path: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="GRAPH_PATH")]
    """Folder of the new experiment; it must not hold one yet."""


@dataclass(frozen=True)
class EvaluationArguments:
    """Measures what a library can do: each skill on its own plan, then whole episodes played by a planner.

    Prints tables, and writes evaluation.json into the experiment's folder.
    """

    graph_path: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="GRAPH_PATH")]
    """Folder of the experiment."""
    episodes: int = 1024
    """Whole episodes, each in a fresh world."""
    skill_episodes: int = 512
    """Episodes for each skill; this many environments are stepped side by side."""
    max_steps: int = 10_000
    """Longest whole episode, in steps."""
    seed: int = 0
    """Seed of all randomness: the same seed gives the same figures."""
    flat: bool = False
    """Train plain agents on the game's own reward for as many frames as the library, and print them beside it."""
    log: bool = False
    """Write down why the planner chose each task of the first episode, in planner.log."""

    def __post_init__(self):
        check_ranges(self, {AT_LEAST_ONE: ("episodes", "skill_episodes", "max_steps"), NOT_NEGATIVE: ("seed",)})


@dataclass(frozen=True, kw_only=True)
class StatusArguments:
    """Shows how an experiment stands: its skills, what runs and how fast, how long is left, and what failed.

    Reads the experiment's folder alone, so it works on a running, a finished and a copied one. Exit code 0: all is well,
    1: something failed, 2: bad input.
    """

    graph_path: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="GRAPH_PATH")]
    """Folder of the experiment."""
    watch: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Refresh the screen in place, until q is pressed; keys attach to a training, show its log, or retry what failed."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print it as JSON, for scripts (flowrl/report/status/status.schema.json)."""
    interval: float = 1.0
    """With --watch: seconds between two looks."""

    def __post_init__(self):
        check_ranges(self, {POSITIVE: ("interval",)})
        if self.watch and self.json:
            raise BadInput("--watch and --json exclude each other: leave one of them out")


@dataclass(frozen=True, kw_only=True)
class ReportArguments:
    """Writes an experiment as one page, report/index.html in its folder, which opens from disk and needs no network."""

    graph_path: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="GRAPH_PATH")]
    """Folder of the experiment."""
    serve: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Serve the page to this machine instead, and follow the experiment."""
    port: int = 0
    """With --serve: the port; 0 takes a free one."""
    films: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Film the skills first that have no film yet, in a process of its own that yields to trainings."""

    def __post_init__(self):
        check_ranges(self, {NOT_NEGATIVE: ("port",)})


@dataclass(frozen=True, kw_only=True)
class WatchArguments:
    """Films what a skill's experts do: its plan on a fresh world, drawn by the game itself. Or a whole episode: the planner
    chooses the tasks, until the player dies.

    The film is report/films/SKILL.mp4 in the experiment's folder, where flowrl report shows it.
    """

    graph_path: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="GRAPH_PATH")]
    """Folder of the experiment."""
    skill: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SKILL")]
    """Name of a skill; all: every completed skill that has no film yet, or has been trained since; whole: whole episodes."""
    seed: int = 0
    """Seed of the worlds and of all that happens in them: the same seed gives the same film."""
    episodes: int = 1
    """Episodes in the film, one after the other."""
    outcome: Literal["any", "success", "failure"] = "any"
    """Which episodes are filmed."""
    max_steps: int = 2_000
    """Steps after which a whole episode is ended."""
    tile: int = 32
    """Pixels on a side of one cell of the game."""
    fps: int = 8
    """Steps of the game a second."""
    out: Path | None = None
    """The film's file: .mp4, .webp or .gif."""
    progress: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """The same world played with the skill's expert at four moments of its training, side by side."""
    training: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Film the newest checkpoint of a training under way, although the library has the skill. A skill that it does not have
    yet is filmed so anyway."""
    in_terminal: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Play it in the terminal instead, as coloured half blocks."""

    def __post_init__(self):
        check_ranges(self, {AT_LEAST_ONE: ("episodes", "tile", "fps", "max_steps"), NOT_NEGATIVE: ("seed",)})
        if self.progress and self.episodes > 1:
            raise BadInput("--progress shows one world: leave --episodes out")
        if self.skill == "all" and self.training:
            raise BadInput("--training films one training: name its skill")
        if self.skill == "whole" and (self.progress or self.training or self.outcome != "any"):
            raise BadInput("--progress, --training and --outcome are about one skill: leave them out, or name a skill")
        if self.skill == "all" and (self.out or self.in_terminal):
            raise BadInput(
                "all skills have a film each, in report/films/; leave --out and --in_terminal out, or name one skill"
            )


@dataclass(frozen=True, kw_only=True)
class RehearsalArguments(RehearsalSettings):
    """Lets a library play whole episodes while every expert that acts goes on learning, from its own reward and the game's.

    A run like any other: it appears in `tmux list-sessions`, goes on from its checkpoints, and is merged at its end. Training
    settings that are not given are those of the experiment. One that was interrupted goes on.
    """

    graph_path: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="GRAPH_PATH")]
    """Folder of the experiment."""
    frames: int = 1_000_000
    """Frames to rehearse, summed over the environments."""
    num_envs: int | None = None
    """Environments stepped side by side."""
    num_steps: int | None = None
    """Steps of each environment between two updates."""
    num_minibatches: int | None = None
    """Minibatches in a pass."""
    update_epochs: int | None = None
    """Passes over the collected steps in an update."""
    lr: float | None = None
    """Learning rate."""
    anneal_lr: bool | None = None
    """Let the learning rate fall to zero over the rehearsal."""
    gamma: float | None = None
    """Discount of the reward, per step."""
    gae_lambda: float | None = None
    """Bias-variance trade-off of the advantage estimate, 0 to 1."""
    ent_coef: float | None = None
    """Weight of the entropy bonus."""
    seed: int | None = None
    """Seed of all randomness."""

    def __post_init__(self):
        super().__post_init__()
        check_ranges(self, {AT_LEAST_ONE: ("frames",)})

    def check(self, settings: TrainingSettings) -> None:
        """Accepts training settings that fit together with those of the experiment.

        Raises:
            BadInput: they do not; names the flag.
        """
        together = RunSettings.of({**settings.training(), **self.training()})
        check_frames("--frames", self.frames, together)

    def request(self) -> RehearsalRequest:
        """What the scheduler is asked for."""
        return RehearsalRequest(self.frames, RehearsalSettings(**self.own()), self.training())

    def training(self) -> dict[str, Any]:
        """The training settings that were given."""
        given = {name: getattr(self, name) for name in TrainingSettings.names() if hasattr(self, name)}
        return {name: value for name, value in given.items() if value is not None}


def check_frames(flag: str, frames: int, settings: TrainingSettings) -> None:
    """Accepts as many frames as an update has, or more."""
    if frames < settings.frames_per_update:
        raise BadInput(
            f"{flag} must be at least the frames of an update, --num_envs * --num_steps ({settings.frames_per_update}); "
            f"found {frames}"
        )


def config_file_in(arguments: Sequence[str]) -> str | None:
    """The file that a command line names; the last one, as with every flag. None if it names none."""
    found = None
    for place, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name == "--config":
            found = value if equals else arguments[place + 1] if place + 1 < len(arguments) else None
    return found


def parse(settings_type: type[T], arguments: Sequence[str], prog: str, default: T | None = None) -> T:
    """Reads a command line into a dataclass.

    Args:
        default: the values of flags that are not given; the dataclass's own when None.

    Raises:
        BadInput: one line that names the flag, what was found and what is valid.
        SystemExit: 0, after ``--help`` was printed.
    """
    with _one_line_errors(settings_type):
        return tyro.cli(
            settings_type,
            prog=prog,
            args=_joined(arguments),
            use_underscores=True,
            registry=_values(),
            **({} if default is None else {"default": default}),
        )


def _joined(arguments: Sequence[str]) -> list[str]:
    """The arguments, with ``--flag=value`` for flags whose value is itself made of flags."""
    left, joined = list(arguments), []
    while left:
        argument = left.pop(0)
        if argument.replace("-", "_") in _TAKES_FLAGS and left:
            argument = f"{argument}={left.pop(0)}"
        joined.append(argument)
    return joined


def _values() -> tyro.constructors.ConstructorRegistry:
    """Rules that read ``1e8`` as a whole number and ``~`` as the home folder, and explain what a number or a path must be."""
    registry = tyro.constructors.ConstructorRegistry()
    for number_type, read in ((int, whole_number), (float, _decimal)):
        registry.primitive_rule(_number_rule(number_type, read))
    registry.primitive_rule(_path_rule)
    return registry


def _path_rule(type_info: tyro.constructors.PrimitiveTypeInfo):
    if type_info.type is not Path:
        return None
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="PATH",
        instance_from_str=lambda texts: _path(texts[0]),
        is_instance=lambda value: isinstance(value, Path),
        str_from_instance=lambda value: [str(value)],
    )


def _path(text: str) -> Path:
    try:
        return given_path(text, "the path")
    except BadInput as error:
        raise ValueError(str(error)) from None


def _number_rule(number_type: type, read):
    def rule(type_info: tyro.constructors.PrimitiveTypeInfo):
        if type_info.type not in (number_type, number_type | None):
            return None
        may_be_none = type_info.type is not number_type
        return tyro.constructors.PrimitiveConstructorSpec(
            nargs=1,
            metavar=number_type.__name__.upper(),
            instance_from_str=lambda texts: None if texts[0] == "None" and may_be_none else read(texts[0]),
            is_instance=lambda value: (
                (value is None and may_be_none) or (isinstance(value, (number_type, int)) and not isinstance(value, bool))
            ),
            str_from_instance=lambda value: [str(value)],
        )

    return rule


def whole_number(text: str) -> int:
    """``1e8``, ``100_000_000`` and ``100000000`` are the same number.

    Raises:
        ValueError: it is not a whole number; the text says so.
    """
    with contextlib.suppress(ValueError):
        return int(text)
    with contextlib.suppress(ValueError, OverflowError):
        number = float(text)
        if number == int(number):
            return int(number)
    raise ValueError(f"expected a whole number such as 40 or 1e8, found {text!r}")


def _decimal(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"expected a number such as 0.8 or 2e-4, found {text!r}") from None


@contextlib.contextmanager
def _one_line_errors(settings_type: type) -> Iterator[None]:
    fields = dataclasses.fields(settings_type)
    flags = ["--help", *(f"--{field.name}" for field in fields if "Positional" not in str(field.type))]

    def refuse(event: tyro_errors.ParseErrorEvent) -> None:
        raise BadInput(_one_line(event, flags))

    with tyro_errors.on_parse_error(refuse):
        yield


def _one_line(event: tyro_errors.ParseErrorEvent, flags: list[str]) -> str:
    match event:
        case tyro_errors.UnrecognizedArgs(tokens=[token, *_]) if token.startswith("-"):
            return unknown_choice("flag", token, flags)
        case tyro_errors.UnrecognizedArgs(tokens=[token, *_]):
            return (
                f"unexpected argument {token!r}: a value follows its flag; an on/off flag takes none (--no-FLAG turns it off)"
            )
        case tyro_errors.InvalidChoice(argument=argument, value=value, choices=choices):
            return unknown_choice(f"value for {_flag(argument)}", value, choices)
        case tyro_errors.InstantiationFailure(argument=argument, message=message) if argument is not None:
            return f"{_flag(argument)}: {message}"
        case tyro_errors.BadValue(argument=argument, offending_value=None):
            return f"missing: {_with_value(argument)}; see --help"
        case tyro_errors.MissingArgs(missing_arguments=missing):
            return f"missing: {', '.join(_flag(item.arg) for item in missing)}; see --help"
    return f"the command line cannot be read ({type(event).__name__}); see --help"


def _with_value(argument: Any) -> str:
    return _flag(argument) if argument.is_positional() else f"{_flag(argument)} {argument.lowered.metavar}"


def _flag(argument: Any) -> str:
    return str(argument.lowered.metavar) if argument.is_positional() else argument.lowered.name_or_flags[0]
