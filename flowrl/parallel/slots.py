"""The parts of this machine, one for each run at a time: its cores, or a GPU and a share of the GPU's memory."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from flowrl.errors import BadInput
from flowrl.machine import usable_cores
from flowrl.parallel.gpus import choose_gpus, visible_gpus
from flowrl.records.run_record import Slot

USABLE_GPU_MEMORY = 0.9


def driver_environment(slot: Slot) -> dict[str, str]:
    """The variables that the CUDA driver and XLA read when they start in this slot."""
    if slot.gpu is None:
        return {}
    return {"CUDA_VISIBLE_DEVICES": slot.gpu, "XLA_PYTHON_CLIENT_MEM_FRACTION": f"{slot.memory_fraction:g}"}


def plan_slots(max_parallel: int, *, gpu_ids: object = None, skills_per_gpu: int = 1) -> list[Slot]:
    """The slots of this machine: at most ``max_parallel``; with GPUs, at most ``skills_per_gpu`` on each.

    Raises:
        BadInput: a number is below one, or a GPU is asked for that is not there.
    """
    check_number("max_parallel_skills", max_parallel)
    check_number("skills_per_gpu", skills_per_gpu)
    gpus = choose_gpus(gpu_ids, visible_gpus())
    cores = usable_cores()
    return gpu_slots(max_parallel, gpus, skills_per_gpu, cores) if gpus else cpu_slots(max_parallel, cores)


def check_number(name: str, value: object) -> None:
    """Raises BadInput if ``value`` is not a number of runs; only the front door understands ``auto``."""
    if not isinstance(value, int) or value < 1:
        raise BadInput(f"--{name} must be a whole number, 1 or more, not {value!r}")


def cpu_slots(max_parallel: int, cores: Sequence[int]) -> list[Slot]:
    """Cores dealt out in neighbouring groups; slots beyond the number of cores share them."""
    if max_parallel >= len(cores):
        return [Slot((cores[index % len(cores)],)) for index in range(max_parallel)]
    bounds = [index * len(cores) // max_parallel for index in range(max_parallel + 1)]
    return [Slot(tuple(cores[first:last])) for first, last in itertools.pairwise(bounds)]


def gpu_slots(max_parallel: int, gpus: Sequence[str], skills_per_gpu: int, cores: Sequence[int]) -> list[Slot]:
    """Spread over the devices first, then sharing them. All of them share all cores."""
    count = min(max_parallel, len(gpus) * skills_per_gpu)
    share = round(USABLE_GPU_MEMORY / skills_per_gpu, 3)
    return [Slot(tuple(cores), gpus[index % len(gpus)], share) for index in range(count)]
