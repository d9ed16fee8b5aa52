"""The parts of this machine: each run at a time gets one slot, with its cores, or its GPU and a share of its memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flowrl.errors import BadInput
from flowrl.parallel.gpus import choose_gpus, visible_gpus
from flowrl.paths import usable_cores

USABLE_GPU_MEMORY = 0.9


@dataclass(frozen=True)
class Slot:
    """One place to train in. ``memory_fraction`` is of the GPU's memory."""

    index: int
    cores: tuple[int, ...] | None = None
    gpu: str | None = None
    memory_fraction: float | None = None

    def to_data(self) -> dict:
        """As ``run.json`` has it."""
        cores = None if self.cores is None else list(self.cores)
        return {"cores": cores, "gpu": self.gpu, "memory_fraction": self.memory_fraction}

    def environment(self) -> dict[str, str]:
        """What the CUDA driver and XLA read as they start."""
        if self.gpu is None:
            return {}
        return {"CUDA_VISIBLE_DEVICES": self.gpu, "XLA_PYTHON_CLIENT_MEM_FRACTION": f"{self.memory_fraction:g}"}


def plan_slots(max_parallel: int, *, gpu_ids: object = None, skills_per_gpu: int = 1) -> list[Slot]:
    """The slots of this machine: at most ``max_parallel``; with GPUs, at most ``skills_per_gpu`` on each.

    Raises:
        BadInput: a number is below one, or a GPU is asked for that is not there.
    """
    check_number("max_parallel_skills", max_parallel)
    check_number("skills_per_gpu", skills_per_gpu)
    gpus = choose_gpus(gpu_ids, visible_gpus())
    return gpu_slots(max_parallel, gpus, skills_per_gpu) if gpus else cpu_slots(max_parallel, usable_cores())


def check_number(name: str, value: object) -> None:
    """Raises BadInput where ``value`` is no number of runs; ``auto`` is one to the front door only."""
    if not isinstance(value, int) or value < 1:
        raise BadInput(f"--{name} is a whole number from 1 on, not {value!r}")


def cpu_slots(max_parallel: int, cores: Sequence[int]) -> list[Slot]:
    """Cores dealt out in neighbouring groups; slots beyond the number of cores share them."""
    if max_parallel >= len(cores):
        return [Slot(index, (cores[index % len(cores)],)) for index in range(max_parallel)]
    bounds = [index * len(cores) // max_parallel for index in range(max_parallel + 1)]
    return [Slot(index, tuple(cores[bounds[index] : bounds[index + 1]])) for index in range(max_parallel)]


def gpu_slots(max_parallel: int, gpus: Sequence[str], skills_per_gpu: int) -> list[Slot]:
    """Spread over the devices first, then sharing them. Cores are left to the operating system."""
    count = min(max_parallel, len(gpus) * skills_per_gpu)
    share = round(USABLE_GPU_MEMORY / skills_per_gpu, 3)
    return [Slot(index, None, gpus[index % len(gpus)], share) for index in range(count)]
