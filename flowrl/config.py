"""Every setting of an experiment, and the command line that sets them.

The only module that imports tyro. A field of :class:`Settings` is a flag; its docstring is the flag's help.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Iterator, Literal, Sequence, TypeVar

import tyro
from tyro import _errors as tyro_errors

from flowrl.errors import BadInput
from flowrl.paths import given_path

PROG = "python -m flowrl.bottomup_parallel"

_TRAINING = (
    "total_timesteps success_rate num_envs num_steps layer_size lr anneal_lr gamma gae_lambda clip_eps ent_coef "
    "vf_coef max_grad_norm update_epochs num_minibatches max_task_steps seed use_wandb wandb_project candidate_timesteps "
    "mixed_precision"
).split()
_AT_LEAST_ONE = (
    "max_nodes total_timesteps num_envs num_steps layer_size update_epochs num_minibatches "
    "max_task_steps skills_per_gpu candidates"
).split()
_POSITIVE = ("lr", "clip_eps", "max_grad_norm", "scheduler_poll_interval", "lock_timeout_s", "llm_timeout_s")
_NOT_NEGATIVE = ("max_retries", "stall_timeout", "max_repairs", "ent_coef", "vf_coef", "seed")
_FRACTIONS = ("success_rate", "gamma", "gae_lambda")

T = TypeVar("T")

AUTO = "auto"


def _number_of_skills(text: str) -> int | str:
    with contextlib.suppress(ValueError):
        return text if text == AUTO else whole_number(text)
    raise ValueError(f"expected a whole number from 1 on, such as 3, or {AUTO}; found {text!r}")


_NUMBER_OR_AUTO = tyro.constructors.PrimitiveConstructorSpec(
    nargs=1,
    metavar="INT|auto",
    instance_from_str=lambda texts: _number_of_skills(texts[0]),
    is_instance=lambda value: value == AUTO or isinstance(value, int) and not isinstance(value, bool),
    str_from_instance=lambda value: [str(value)],
)


@dataclass(frozen=True)
class Settings:
    """Proposes skills, trains each in a tmux session of its own, many at once, and merges them into a library.

    Settings are stored in GRAPH_PATH/config.json: `--graph_path` alone goes on with an experiment, and flags given
    again override. `-` and `_` are the same in a flag, and counts may be written as 1e8.
    """

    # The experiment
    env_name: str = "Craftax-Symbolic-v1"
    """The game: Craftax-Symbolic-v1 or Craftax-Classic-Symbolic-v1."""
    graph_path: Path = Path("exp/bottom_up/")
    """Folder of the experiment; made where it is missing, resumed where it exists."""
    max_nodes: int = 40
    """Most skills of the experiment, whatever becomes of them, those of earlier starts included."""
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
    """How often the model may mend a refused proposal before it is asked for another skill."""
    llm_budget_usd: Annotated[float | None, tyro.conf.arg(metavar="USD")] = None
    """Dollars after which no more skills are proposed, earlier starts included (no limit)."""
    llm_timeout_s: float = 600
    """Seconds for one answer of the model, repeated tries included."""
    candidates: int = 1
    """Rewards that the model proposes for each skill. They are trained side by side for a while, and the one under which
    the skill succeeds most often goes on."""
    candidate_timesteps: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Frames of total_timesteps in which the rewards of a skill are tried, all together (a fifth of total_timesteps)."""
    seed: int = 0
    """Seed of all randomness."""

    # Many runs at once
    max_parallel_skills: Annotated[int | Literal["auto"], _NUMBER_OR_AUTO] = 3
    """Skills in training at the same time; 1 trains one after the other. auto: as many as make most frames per second in
    all, measured once on this machine, which takes minutes; on GPUs it finds skills_per_gpu too."""
    scheduler_poll_interval: float = 30
    """Most seconds between safety checks; a finished run is noticed at once, without them."""
    max_retries: int = 2
    """New tries for a run that ended with an error, died, hung, lost its session or ran out of memory."""
    stall_timeout: float = 0
    """Seconds without a sign of life after which a run is ended and tried again; 0: ten times its usual update, at
    least 300. Starting and compiling may take an hour."""
    lock_timeout_s: float = 300
    """Seconds to wait for another process that holds the library; then it is named, and the merge is tried again later."""
    gpu_ids: Annotated[str | None, tyro.conf.arg(metavar="LIST")] = None
    """GPUs to train on, as 0,1 (all visible ones)."""
    skills_per_gpu: int = 1
    """Runs that share one GPU and its memory."""
    continue_skill: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Train this completed skill further, from its expert, for extra_timesteps; no new skills are proposed."""
    extra_timesteps: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Frames that continue_skill is trained further."""
    retry_failed: bool = False
    """Try failed and cancelled skills again, and what they blocked."""

    # One run
    total_timesteps: int = 100_000_000
    """Most frames that a run trains, summed over its environments."""
    success_rate: float = 0.8
    """A run ends early when this share of fresh episodes succeeds, 0 to 1."""
    max_task_steps: int = 200
    """Steps that an episode has for one task of the plan, for each time it is to be done."""
    num_envs: int = 1024
    """Environments stepped side by side in a run."""
    num_steps: int = 64
    """Steps of each environment between two updates."""
    layer_size: int = 512
    """Width of the hidden layers of every actor and critic."""
    lr: float = 2e-4
    """Learning rate."""
    anneal_lr: bool = True
    """Let the learning rate fall to zero over total_timesteps."""
    gamma: float = 0.99
    """Discount of the reward, for each step."""
    gae_lambda: float = 0.95
    """Trade of bias for variance in the advantage estimate, 0 to 1."""
    clip_eps: float = 0.2
    """PPO's clipping range."""
    ent_coef: float = 0.01
    """Weight of the entropy bonus."""
    vf_coef: float = 0.5
    """Weight of the critic's loss."""
    max_grad_norm: float = 1.0
    """Largest gradient norm of an expert; larger ones are scaled down."""
    update_epochs: int = 4
    """Passes over the collected steps in an update."""
    num_minibatches: int = 8
    """Minibatches in a pass."""
    mixed_precision: bool = False
    """Multiply in bfloat16 and add up in float32, for GPUs; parameters stay float32."""

    # What a person sees
    use_wandb: bool = False
    """Report each run to Weights & Biases, grouped by experiment."""
    wandb_project: str = "flow_rl_parallel"
    """Weights & Biases project."""
    dry_run: bool = False
    """Print the resolved settings as JSON and leave; nothing is touched."""

    def __post_init__(self):
        object.__setattr__(self, "graph_path", given_path(self.graph_path, "--graph_path"))
        for names, holds, rule in (
            (_AT_LEAST_ONE, lambda value: value >= 1, "at least 1"),
            (_POSITIVE, lambda value: 0 < value < math.inf, "more than 0"),
            (_NOT_NEGATIVE, lambda value: 0 <= value < math.inf, "0 or more"),
            (_FRACTIONS, lambda value: 0 <= value <= 1, "from 0 to 1"),
        ):
            for name in names:
                if not holds(getattr(self, name)):
                    raise BadInput(f"--{name} has to be {rule}, found {getattr(self, name)}")
        if self.max_parallel_skills != AUTO and self.max_parallel_skills < 1:
            raise BadInput(f"--max_parallel_skills has to be at least 1, or {AUTO}, found {self.max_parallel_skills}")
        if self.llm_budget_usd is not None and not 0 < self.llm_budget_usd < math.inf:
            raise BadInput(
                f"--llm_budget_usd has to be more than 0, found {self.llm_budget_usd:g}; leave it out for no limit, or use "
                "--proposer curriculum, which costs nothing"
            )
        if self.extra_timesteps is not None and self.extra_timesteps < 1:
            raise BadInput(f"--extra_timesteps has to be at least 1, found {self.extra_timesteps}")
        if (self.continue_skill is None) != (self.extra_timesteps is None):
            raise BadInput("--continue_skill NAME and --extra_timesteps FRAMES belong together; give both")
        self._check_minibatches()
        self._check_candidates()
        self.gpus()

    def _check_minibatches(self):
        if self.num_envs * self.num_steps % self.num_minibatches:
            raise BadInput(
                f"--num_minibatches {self.num_minibatches} does not divide --num_envs * --num_steps "
                f"({self.num_envs} * {self.num_steps}); choose powers of two"
            )

    def _check_candidates(self):
        if self.candidates > self.num_envs:
            raise BadInput(
                f"--candidates {self.candidates} is more than --num_envs {self.num_envs}: each reward needs an environment "
                "of its own"
            )
        frames = self.candidate_timesteps
        if frames is not None and not 1 <= frames <= self.total_timesteps:
            raise BadInput(
                f"--candidate_timesteps has to be at least 1 and at most --total_timesteps ({self.total_timesteps}), of which "
                f"they are a part; found {frames}"
            )

    def gpus(self) -> list[str] | None:
        """The GPUs named by ``--gpu_ids``, None for all visible ones."""
        if self.gpu_ids is None:
            return None
        gpus = [gpu.strip() for gpu in self.gpu_ids.split(",")]
        if not all(gpu.isdigit() for gpu in gpus) or len(set(gpus)) < len(gpus):
            raise BadInput(f"--gpu_ids has to be different numbers with commas between, as 0,1; found {self.gpu_ids!r}")
        return gpus

    def training(self) -> dict[str, Any]:
        """What one run needs to know; becomes ``settings`` in its run.json."""
        return {name: getattr(self, name) for name in _TRAINING}

    def to_json(self) -> dict[str, Any]:
        """All settings as plain values."""
        return {**dataclasses.asdict(self), "graph_path": str(self.graph_path)}


@dataclass(frozen=True)
class MigrationArguments:
    """Splits the checkpoint of a sequential run into a library that parallel training goes on with.

    The form of such a checkpoint is told in docs/migration.md.
    """

    src: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SRC")]
    """The checkpoint: a pickle with expert_params and skills."""
    graph_path: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="GRAPH_PATH")]
    """Folder of the experiment to make; it must not hold one yet."""


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
            args=list(arguments),
            use_underscores=True,
            registry=_values(),
            **({} if default is None else {"default": default}),
        )


def _values() -> tyro.constructors.ConstructorRegistry:
    """Rules that read ``1e8`` as a whole number and ``~`` as the home folder, and say what a number or a path is."""
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
        if type_info.type is not number_type:
            return None
        return tyro.constructors.PrimitiveConstructorSpec(
            nargs=1,
            metavar=number_type.__name__.upper(),
            instance_from_str=lambda texts: read(texts[0]),
            is_instance=lambda value: isinstance(value, (number_type, int)) and not isinstance(value, bool),
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
            return f"unexpected argument {token!r}: a value follows its flag, and an on/off flag takes none (--no-FLAG is off)"
        case tyro_errors.InvalidChoice(argument=argument, value=value, choices=choices):
            return unknown_choice(f"value for {_flag(argument)}", value, choices)
        case tyro_errors.InstantiationFailure(argument=argument, message=message) if argument is not None:
            return f"{_flag(argument)}: {message}"
        case tyro_errors.BadValue(argument=argument, offending_value=None):
            return f"missing: {_flag(argument)} {argument.lowered.metavar}; see --help"
        case tyro_errors.MissingArgs(missing_arguments=missing):
            return f"missing: {', '.join(_flag(item.arg) for item in missing)}; see --help"
    return f"the command line is not understood ({type(event).__name__}); see --help"


def _flag(argument: Any) -> str:
    return str(argument.lowered.metavar) if argument.is_positional() else argument.lowered.name_or_flags[0]


def unknown_choice(what: str, found: str, choices: Sequence[str]) -> str:
    """One line for a word that is none of the choices: the near matches, or else all of them."""
    word = found.replace("-", "_").replace("__", "--", 1)
    beginnings = [choice for choice in choices if len(word) > 4 and choice.startswith(word)]
    matches = beginnings[:3] or difflib.get_close_matches(word, choices, n=3, cutoff=0.7)
    if matches and len(choices) > 8:
        return f"unknown {what} {found!r}: did you mean {' or '.join(matches)}? (--help lists all)"
    hint = f"; did you mean {matches[0]}?" if matches else ""
    return f"unknown {what} {found!r}: valid are {', '.join(choices)}{hint}"
