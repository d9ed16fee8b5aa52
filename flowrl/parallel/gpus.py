"""The GPUs that trainings can use, or why there are none.

Where jax has a CUDA plugin and the machine an NVIDIA device, a child process asks JAX itself, then frees the devices:
only JAX knows whether driver and libraries work. Otherwise no process is started.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from flowrl.errors import BadInput
from flowrl.parallel.environment import for_training, is_private, to_start, variable

CUDA_PLUGINS = ("jax_cuda13_plugin", "jax_cuda12_plugin")
DEVICE_NODES = ("/dev/nvidia0", "/dev/nvidiactl", "/dev/dxg")
"""JAX tries CUDA where one of them exists (``jax._src.hardware_utils``)."""
ASK = (sys.executable, "-m", "flowrl.training.host.devices")
ANSWER_S = 120.0
"""The longest wait for JAX's answer, in seconds; a machine with many GPUs may take 20."""


class Gpus(NamedTuple):
    """What was found."""

    ids: tuple[str, ...] = ()
    """Each as ``CUDA_VISIBLE_DEVICES`` names it."""
    models: tuple[str, ...] = ()
    """The model of each, such as ``NVIDIA H200``."""
    why_none: str = ""
    """Why trainings run on the CPU, and how to make them use a GPU; empty if there are GPUs."""
    is_surprise: bool = False
    """Whether the machine seems to have a GPU, so that the user should know why none is used."""


def visible_gpus() -> list[str]:
    """The GPUs that a training would be given.

    Raises:
        BadInput: there are none, and ``JAX_PLATFORMS`` lets JAX run on nothing else.
    """
    found = find_gpus()
    if found.why_none and _demands_cuda(platforms := variable("JAX_PLATFORMS") or ""):
        raise BadInput(f"JAX_PLATFORMS={platforms} asks for a GPU: {found.why_none}; unset the variable to train on the CPU")
    return list(found.ids)


def cpu_remark(gpu_ids: object) -> str | None:
    """What to tell the user if trainings run on the CPU although the machine seems to have a GPU; None otherwise.

    Args:
        gpu_ids: as given to ``--gpu_ids``; if it was given, there is nothing to tell.
    """
    found = find_gpus()
    return f"trainings run on the CPU: {found.why_none}" if gpu_ids is None and found.is_surprise else None


def choose_gpus(gpu_ids: object, visible: Sequence[str]) -> list[str]:
    """Which of the visible devices to use: all (None), or those named ("0,1" or a list); "none" is the CPU.

    Raises:
        BadInput: a device is named that is not visible.
    """
    if gpu_ids is None:
        return list(visible)
    chosen = [] if gpu_ids in ("none", "cpu") else _ids(gpu_ids)
    if missing := [gpu for gpu in chosen if gpu not in visible]:
        there = ", ".join(visible) or f"none ({find_gpus().why_none})"
        raise BadInput(f"--gpu_ids names {', '.join(missing)}, but the GPUs here are: {there}")
    return list(dict.fromkeys(chosen))


def gpu_models(gpus: Sequence[str]) -> list[str]:
    """The models of the given devices, such as ``NVIDIA H200``."""
    found = find_gpus()
    models = dict(zip(found.ids, found.models, strict=True))
    return [models.get(gpu, gpu) for gpu in gpus]


def find_gpus() -> Gpus:
    """The GPUs of this machine; JAX is asked once in a process."""
    return _find(variable("JAX_PLATFORMS") or "", variable("CUDA_VISIBLE_DEVICES"))


@functools.cache
def _find(platforms: str, allowed: str | None) -> Gpus:
    node = next(filter(os.path.exists, DEVICE_NODES), None)
    if platforms.split(",")[0].strip() == "cpu":
        why = f"JAX_PLATFORMS={platforms} is set" + (f", and there is a GPU ({node})" if node else "")
        return Gpus(why_none=f"{why}; unset the variable to train on a GPU", is_surprise=node is not None)
    if not any(map(importlib.util.find_spec, CUDA_PLUGINS)):
        install = f"install it: pip install 'jax[cuda12]=={importlib.metadata.version('jax')}'"
        why = f"there is a GPU ({node}), but jax has no CUDA plugin" if node else "jax has no CUDA plugin"
        return Gpus(why_none=f"{why}; {install}", is_surprise=node is not None)
    if allowed is not None and _ids(allowed)[:1] in ([], ["-1"]):
        why = f"CUDA_VISIBLE_DEVICES={allowed!r} hides all GPUs; unset it, or name the GPUs to use"
        return Gpus(why_none=why, is_surprise=True)
    if node is None:
        why = f"jax has its CUDA plugin, but there is no GPU here (no {' or '.join(DEVICE_NODES)})"
        remedy = "give a container its GPUs (docker run --gpus all), or set JAX_PLATFORMS=cpu"
        return Gpus(why_none=f"{why}; {remedy}", is_surprise=True)
    return _ask_jax(None if allowed is None else _ids(allowed))


def _ask_jax(allowed: list[str] | None) -> Gpus:
    """What JAX finds in the environment of a training."""
    values = to_start() | for_training() | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment = {name: value for name, value in values.items() if not is_private(name)}
    try:
        said = subprocess.run(ASK, env=environment, capture_output=True, text=True, timeout=ANSWER_S, check=False)
    except subprocess.TimeoutExpired:
        return _none_for_jax(f"it did not answer within {ANSWER_S:g} s")
    answer = json.loads(said.stdout.splitlines()[-1]) if said.returncode == 0 else {}
    if answer.get("platform") != "gpu":
        complaints = said.stderr.strip().splitlines()
        return _none_for_jax(complaints[-1] if complaints else "it runs on the CPU and does not say why")
    models = answer["models"]
    ids = [str(number) for number in range(len(models))] if allowed is None else allowed[: len(models)]
    return Gpus(tuple(ids), tuple(models))


def _none_for_jax(reason: str) -> Gpus:
    why = f"jax has its CUDA plugin, but finds no GPU that works: {reason[:300]}"
    return Gpus(why_none=f"{why}; to see more: {' '.join(ASK)}", is_surprise=True)


def _demands_cuda(platforms: str) -> bool:
    """Whether JAX ends with an error if a platform that JAX_PLATFORMS names does not work."""
    return any(platform.strip() in ("cuda", "gpu") for platform in platforms.split(","))


def _ids(value: object) -> list[str]:
    parts: Iterable = value.split(",") if isinstance(value, str) else value if isinstance(value, Iterable) else [value]
    return [text for part in parts if (text := str(part).strip())]
