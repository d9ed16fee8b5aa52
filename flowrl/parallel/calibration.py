"""``--max_parallel_skills auto``: how many trainings at a time make the most frames per second on this machine.

Each candidate number is measured (``throughput.py``), and the answer is kept for the next start. Among numbers that are
about equally fast, the smallest wins: each skill finishes sooner, and so do the skills that wait for it; and when fewer
skills are ready than there are slots, less of the machine is idle.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

import psutil
from pydantic import BaseModel, Field

import flowrl
from flowrl.errors import FlowrlError
from flowrl.files import write_json
from flowrl.machine import free_memory, total_memory, usable_cores
from flowrl.parallel import throughput
from flowrl.parallel.gpus import choose_gpus, gpu_models, visible_gpus
from flowrl.parallel.slots import plan_slots
from flowrl.parallel.throughput import DoesNotWork, Throughput
from flowrl.paths import calibrations
from flowrl.records.run_record import Slot

VERSION = 1
ABOUT_EQUAL = 0.95
"""A number that reaches this share of the highest throughput counts as equally good."""
HOPELESS = 0.9
"""Once a number falls below this share of the highest throughput, higher numbers are not tried."""
MOST_ON_A_GPU = 4
USABLE_MEMORY = 0.9
"""Share of the free memory that may be used; the rest is a margin, as a training grows with the experts it builds on."""
QUIET = 0.25
"""A measurement is kept if other processes use at most this share of the cores."""
_LOOK_S = 0.5
_SETTINGS_THAT_COUNT = ("num_envs", "num_steps", "layer_size", "update_epochs", "num_minibatches", "mixed_precision")


class Arrangement(NamedTuple):
    """How many runs train at a time; ``skills_per_gpu`` is 1 where there is no GPU."""

    max_parallel: int
    skills_per_gpu: int = 1

    def __str__(self) -> str:
        on_gpus = f" ({self.skills_per_gpu} on each GPU)" if self.skills_per_gpu > 1 else ""
        return f"{self.max_parallel} at a time{on_gpus}"


class Answer(BaseModel):
    """A measurement that is kept. ``key``: the machine and the workload; ``frames_per_s``: total throughput by number
    of runs."""

    key: dict[str, Any]
    max_parallel: int = Field(ge=1)
    skills_per_gpu: int = Field(ge=1)
    frames_per_s: dict[int, float]
    measured_at: str

    @property
    def arrangement(self) -> Arrangement:
        return Arrangement(self.max_parallel, self.skills_per_gpu)


class _Answers(BaseModel):
    """The file that holds all answers for this machine."""

    version: Literal[1] = VERSION
    answers: list[Answer] = []


def candidates(num_cores: int, num_gpus: int) -> list[Arrangement]:
    """The numbers to measure: 1 to 4 on each GPU; without GPUs 1, 2, 4, ... and one for each core."""
    if num_gpus:
        return [Arrangement(num_gpus * on_each, on_each) for on_each in range(1, MOST_ON_A_GPU + 1)]
    powers = (2**exponent for exponent in range(num_cores.bit_length()))
    return [Arrangement(number) for number in sorted({*powers, num_cores})]


def choose(frames_per_s: Mapping[int, float]) -> int:
    """The smallest number whose throughput is about as high as the best; ``frames_per_s`` is not empty."""
    most = max(frames_per_s.values())
    return min(number for number, frames in frames_per_s.items() if frames >= ABOUT_EQUAL * most)


def key_of(env_name: str, settings: Mapping[str, Any], gpus: Sequence[str]) -> dict[str, Any]:
    """What an answer depends on: the machine, jax, and the size of the workload."""
    return {
        "flowrl": flowrl.__version__,
        "jax": importlib.metadata.version("jax"),
        "cpu": cpu_model(),
        "cores": len(usable_cores()),
        "gpus": gpu_models(gpus),
        "memory_gb": round(total_memory() / 2**30),
        "env_name": env_name,
        **{name: settings[name] for name in _SETTINGS_THAT_COUNT},
    }


def cpu_model() -> str:
    """The processor's name."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def others_share() -> float:
    """The share of the usable cores that is in use now, 0 to 1."""
    used = psutil.cpu_percent(_LOOK_S, percpu=True)
    cores = [core for core in usable_cores() if core < len(used)]
    return sum(used[core] for core in cores) / 100 / max(1, len(cores))


@dataclass(frozen=True)
class Calibration:
    """Finds the number for one experiment.

    Attributes:
        settings: as in ``run.json``.
        say: takes a line for the terminal.
        gpu_ids: as given to ``--gpu_ids``.
        path: the file that keeps the answers.
        command: runs the updates that are measured.
        busy: returns the share of the cores that other processes use.
    """

    env_name: str
    settings: Mapping[str, Any]
    say: Callable[[str], None]
    gpu_ids: object = None
    path: Path = field(default_factory=calibrations)
    command: Sequence[str] = throughput.COMMAND
    busy: Callable[[], float] = others_share

    def arrangement(self) -> Arrangement:
        """The answer kept from an earlier start, or a new one, which takes minutes to measure.

        Raises:
            BadInput: a GPU is asked for that is not there.
            FlowrlError: not even one training runs here.
        """
        gpus = choose_gpus(self.gpu_ids, visible_gpus())
        key = key_of(self.env_name, self.settings, gpus)
        kept = [answer for answer in self._read() if answer.key == key]
        if kept:
            shown = ", ".join(f"{number}: {frames:,.0f}" for number, frames in kept[-1].frames_per_s.items())
            self.say(
                f"--max_parallel_skills auto: {kept[-1].arrangement} (frames/s in all: {shown}; measured "
                f"{kept[-1].measured_at}, kept in {self.path})"
            )
            return kept[-1].arrangement
        return self._measured(key, candidates(len(usable_cores()), len(gpus)))

    def _measured(self, key: dict[str, Any], wanted: Sequence[Arrangement]) -> Arrangement:
        if len(wanted) == 1:
            self.say(f"--max_parallel_skills auto: {wanted[0]}, as there is one core")
            return wanted[0]
        numbers = ", ".join(str(arrangement.max_parallel) for arrangement in wanted)
        self.say(
            f"--max_parallel_skills auto: measuring {numbers} trainings of {self.env_name} at a time ({key['num_envs']} x "
            f"{key['num_steps']}, width {key['layer_size']}); takes a minute or more for each number, once on this machine"
        )
        busy = self.busy()
        frames_per_s = self._try_all(wanted)
        number = choose(frames_per_s)
        chosen = next(arrangement for arrangement in wanted if arrangement.max_parallel == number)
        if busy > QUIET:
            self.say(f"chosen: {chosen}; not kept, because other processes used {busy:.0%} of the cores and may have skewed it")
        else:
            measured_at = datetime.now(UTC).isoformat(timespec="seconds")
            try:
                self._keep(Answer(key=key, **chosen._asdict(), frames_per_s=frames_per_s, measured_at=measured_at))
            except OSError as error:
                self.say(f"chosen: {chosen}; not kept, because {self.path} cannot be written ({error.strerror or error})")
            else:
                self.say(f"chosen: {chosen}; kept in {self.path} (delete it to measure again)")
        return chosen

    def _try_all(self, wanted: Sequence[Arrangement]) -> dict[int, float]:
        """Frames per second in all, by the number of trainings, for those that work and fit."""
        free_mb = USABLE_MEMORY * free_memory() / 2**20
        found: dict[int, float] = {}
        peak_mb = 0.0
        for arrangement in wanted:
            number = arrangement.max_parallel
            if number * peak_mb > free_mb:
                needed = f"{number} x {peak_mb:,.0f} MB of memory"
                self.say(f"{arrangement}: not tried, as it needs {needed}, and {free_mb:,.0f} MB are free")
                break
            try:
                measured = self._try(arrangement)
            except DoesNotWork as error:
                self._say_or_raise(arrangement, error, found)
                break
            found[number], peak_mb = measured.frames_per_s, max(peak_mb, measured.peak_mb)
            self.say(f"{arrangement}: {measured.frames_per_s:,.0f} frames/s in all, {measured.peak_mb:,.0f} MB of memory each")
            if measured.frames_per_s < HOPELESS * max(found.values()):
                self.say("higher numbers are not tried: they would be slower still")
                break
        return found

    def _try(self, arrangement: Arrangement) -> Throughput:
        slots: list[Slot] = plan_slots(
            arrangement.max_parallel, gpu_ids=self.gpu_ids, skills_per_gpu=arrangement.skills_per_gpu
        )
        return throughput.measure(slots, self.env_name, self.settings, self.command)

    def _say_or_raise(self, arrangement: Arrangement, error: DoesNotWork, found: Mapping[int, float]) -> None:
        if not found:
            raise FlowrlError(
                f"--max_parallel_skills auto: {arrangement} does not work here, {error}; give a smaller --num_envs or "
                "--layer_size, or set --max_parallel_skills to a number to see a training's own output"
            ) from error
        self.say(f"{arrangement}: does not work here, {error}")

    def _read(self) -> list[Answer]:
        # A file that is not ours is replaced by what is measured now.
        with contextlib.suppress(OSError, ValueError):
            return _Answers.model_validate_json(self.path.read_bytes()).answers
        return []

    def _keep(self, answer: Answer) -> None:
        others = [other for other in self._read() if other.key != answer.key]
        write_json(self.path, _Answers(answers=[*others, answer]).model_dump(mode="json"))
