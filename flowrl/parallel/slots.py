"""The parts of this machine: each run at a time gets one slot, with its cores, or its GPU and a share of its memory.

Devices are looked for without jax, which would take hold of them.
"""

from __future__ import annotations

import importlib.util
import itertools
import shutil
import subprocess
from collections.abc import Iterable, Sequence

from flowrl.errors import BadInput
from flowrl.machine import usable_cores
from flowrl.parallel.environment import variable
from flowrl.records.run_record import Slot

CUDA_PLUGINS = ("jax_cuda13_plugin", "jax_cuda12_plugin")
USABLE_GPU_MEMORY = 0.9
_NVIDIA_SMI_TIMEOUT_S = 20


def driver_environment(slot: Slot) -> dict[str, str]:
    """What the CUDA driver and XLA read as they start in this slot."""
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
    """Raises BadInput where ``value`` is no number of runs; ``auto`` is one to the front door only."""
    if not isinstance(value, int) or value < 1:
        raise BadInput(f"--{name} is a whole number from 1 on, not {value!r}")


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


def visible_gpus() -> list[str]:
    """The devices that a training would see: none unless jax has its CUDA plugin."""
    if variable("JAX_PLATFORMS") == "cpu" or not any(map(importlib.util.find_spec, CUDA_PLUGINS)):
        return []
    installed = _nvidia_smi_indices()
    allowed = variable("CUDA_VISIBLE_DEVICES")
    if not installed or allowed is None:
        return installed
    # As CUDA does: from the first that there is not, nothing counts; so -1 hides them all.
    return list(itertools.takewhile(lambda gpu: gpu in installed or not gpu.lstrip("-").isdigit(), _ids(allowed)))


def choose_gpus(gpu_ids: object, visible: Sequence[str]) -> list[str]:
    """Which of the visible devices to use: all (None), or those named ("0,1" or a list); "none" is the CPU.

    Raises:
        BadInput: a device is named that is not visible.
    """
    if gpu_ids is None:
        return list(visible)
    chosen = [] if gpu_ids in ("none", "cpu") else _ids(gpu_ids)
    if missing := [gpu for gpu in chosen if gpu not in visible]:
        there = ", ".join(visible) or "none (is jax installed with CUDA?)"
        raise BadInput(f"--gpu_ids names {', '.join(missing)}, but the GPUs here are: {there}")
    return list(dict.fromkeys(chosen))


def _ids(value: object) -> list[str]:
    parts: Iterable = value.split(",") if isinstance(value, str) else value if isinstance(value, Iterable) else [value]
    return [text for part in parts if (text := str(part).strip())]


def gpu_models(gpus: Sequence[str]) -> list[str]:
    """What the given devices are, such as ``NVIDIA H200``."""
    models = dict(enumerate(line.partition(": ")[2].partition(" (UUID")[0] for line in _nvidia_smi_listing()))
    return [models.get(int(gpu), gpu) if gpu.isdigit() else gpu for gpu in gpus]


def _nvidia_smi_indices() -> list[str]:
    return [str(index) for index in range(len(_nvidia_smi_listing()))]


def _nvidia_smi_listing() -> list[str]:
    """A line a device, as ``GPU 0: NVIDIA H200 (UUID: ...)``."""
    if shutil.which("nvidia-smi") is None:
        return []
    try:
        listing = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=_NVIDIA_SMI_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line for line in listing.stdout.splitlines() if line.startswith("GPU ")]
