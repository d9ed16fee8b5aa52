"""What a job asks of a cluster: the ``--slurm_*`` flags, checked and turned into options of ``sbatch``."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import Any

from flowrl.errors import BadInput

STOP_LEAD_S = 90
"""Seconds before the end of its time at which a job is asked to stop; Slurm may ask up to a minute sooner."""
LEAST_TIME_S = 300
"""Seconds that a job must get: less would be over when it has started, compiled, and written a checkpoint."""

_OURS = {
    "array": "each skill is a job of its own", "chdir": "it is the folder that the command was given in",
    "comment": "it says which run a job belongs to", "export": "the environment comes with the run's folder",
    "job-name": "it is the name of the job's session", "output": "it is job.out in the run's folder",
    "error": "it is job.out in the run's folder", "requeue": "the scheduler starts the next attempt itself",
    "no-requeue": "it is set already", "signal": "it is set already", "wait": "the scheduler never waits for one job",
    "nodes": "a run is one process on one node", "ntasks": "a run is one process on one node",
    "wrap": "the script is flowrl's own", "test-only": "use --dry_run", "parsable": "it is set already",
    "partition": "use --slurm_partition", "time": "use --slurm_time", "mem": "use --slurm_mem",
    "version": "it submits nothing", "help": "it submits nothing", "usage": "it submits nothing",
    "cpus-per-task": "use --slurm_cpus", "clusters": "set SLURM_CLUSTERS, which all of Slurm's commands heed",
}  # fmt: skip
"""Options of sbatch that are no one else's, and why."""
_SHORT = {
    "a": "array", "c": "cpus-per-task", "D": "chdir", "e": "error", "J": "job-name", "M": "clusters", "n": "ntasks",
    "N": "nodes", "o": "output", "p": "partition", "t": "time", "W": "wait",
}  # fmt: skip

_MEMORY = frozenset({"mem", "mem-per-cpu", "mem-per-gpu"})
_GPUS = frozenset({"gres", "gpus", "gpus-per-node", "gpus-per-task"})
_VARIABLES = {
    frozenset({"time"}): ("SBATCH_TIMELIMIT",),
    _MEMORY: ("SBATCH_MEM_PER_NODE", "SBATCH_MEM_PER_CPU", "SBATCH_MEM_PER_GPU"),
    _GPUS: ("SBATCH_GRES", "SBATCH_GPUS", "SBATCH_GPUS_PER_NODE", "SBATCH_GPUS_PER_TASK"),
}
"""Variables of sbatch that have other names than the options which they stand for, or exclude one another."""


@dataclass(frozen=True)
class SlurmOptions:
    """The options of every job; see the flags of the same names. None: the cluster's own default."""

    partition: str | None = None
    time: str | None = None
    gpus: int | None = None
    cpus: int | None = None
    mem: str | None = None
    args: str = ""
    setup: str = ""
    pending_timeout_s: float = 0.0

    @classmethod
    def of(cls, settings: Any) -> SlurmOptions:
        """Those that ``settings`` has as attributes, such as the front door's.

        Raises:
            BadInput: see `check`.
        """
        names = {"partition": "slurm_partition", "time": "slurm_time", "gpus": "slurm_gpus", "cpus": "slurm_cpus",
                 "mem": "slurm_mem", "args": "slurm_args", "setup": "slurm_setup",
                 "pending_timeout_s": "slurm_pending_timeout"}  # fmt: skip
        given = {name: getattr(settings, flag, None) for name, flag in names.items()}
        options = cls(**{name: value for name, value in given.items() if value is not None})
        options.check()
        return options

    def check(self) -> None:
        """
        Raises:
            BadInput: a time is no time or too short, or ``--slurm_args`` has what flowrl sets itself.
        """
        if self.time is not None and (seconds := seconds_of(self.time)) is not None and seconds < LEAST_TIME_S:
            raise BadInput(
                f"--slurm_time must be at least {LEAST_TIME_S // 60} minutes, found {self.time} ({seconds / 60:g} minutes): a "
                f"job is asked to stop up to {STOP_LEAD_S + 60} s before its end, and a start and its first compilation take "
                "minutes; give more"
            )
        for name, value in (("slurm_partition", self.partition), ("slurm_mem", self.mem)):
            if value is not None and not re.fullmatch(r"[\w.,:+-]+", value):
                raise BadInput(f"--{name} must be one word, as sbatch expects, found {value!r}")
        for word in self._extra():
            if "\n" in word or "\r" in word:
                raise BadInput(f"--slurm_args must be in one line, found {word!r}")
            if (name := _ours(_option(word))) is not None:
                raise BadInput(f"--slurm_args must not have {word!r}: {_OURS[name]}; leave it out")

    def directives(self) -> list[str]:
        """The options of sbatch, one a line of a batch script."""
        asked = {"partition": self.partition, "time": self.time, "cpus-per-task": self.cpus, "mem": self.mem}
        found = [f"--{name}={value}" for name, value in asked.items() if value is not None]
        gpus = [f"--gres=gpu:{self.gpus}"] if self.gpus else []
        return ["--nodes=1", "--ntasks=1", *found, *gpus, *map(_quoted, self._extra())]

    def variables_instead(self) -> set[str]:
        """The variables that sbatch would heed in place of these options."""
        given = {_option(directive) for directive in self.directives()}
        usual = {f"SBATCH_{name.upper().replace('-', '_')}" for name in given}
        return usual | {variable for names, variables in _VARIABLES.items() if names & given for variable in variables}

    def _extra(self) -> list[str]:
        try:
            words = shlex.split(self.args)
        except ValueError as error:
            raise BadInput(f"--slurm_args cannot be read ({error}); found {self.args!r}") from None
        if words and not words[0].startswith("-"):
            raise BadInput(f"--slurm_args must be options of sbatch, such as --account=x; found {words[0]!r}")
        joined: list[str] = []
        for word in words:  # `--account x` is one option
            if word.startswith("-"):
                joined.append(word)
            else:
                joined[-1] += f" {word}"
        return joined


def seconds_of(time: str) -> float | None:
    """The seconds of a time as sbatch takes it: ``30``, ``30:00``, ``4:00:00``, ``2-12``, ``2-12:30``, ``2-12:30:00``; None for
    a time without a limit.

    Raises:
        BadInput: it is none of these.
    """
    if time.upper() in ("UNLIMITED", "INFINITE"):
        return None
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", time)
    if not match:
        raise BadInput(
            f"--slurm_time must be minutes, hours:minutes:seconds or days-hours, such as 90, 4:00:00 or 2-12; found {time!r}"
        )
    days, *parts = match.groups()
    numbers = [int(part) for part in parts if part is not None]
    if days is not None:
        hours, minutes, seconds = [*numbers, 0, 0][:3]
    elif len(numbers) == 3:
        hours, minutes, seconds = numbers
    else:
        hours, (minutes, seconds) = 0, [*numbers, 0][:2]
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds


def _option(word: str) -> str:
    """The long name of the option that a word gives; empty for any other."""
    if word.startswith("--"):
        return re.split(r"[= ]", word[2:], maxsplit=1)[0]
    return _SHORT.get(word[1:2], "")


def _ours(name: str) -> str | None:
    """The option of flowrl's own that a name stands for, if it does: sbatch takes the beginning of a name, too."""
    if not name or name in _OURS:
        return name or None
    return next((ours for ours in _OURS if ours.startswith(name)), None)


def _quoted(word: str) -> str:
    """A word as a batch script's line takes it: there, a ``#`` begins a comment, and blanks end a word."""
    name, separator, value = word.partition("=") if word.startswith("--") and "=" in word else word.partition(" ")
    return f"{name}{separator}{shlex.quote(value)}" if separator else word
