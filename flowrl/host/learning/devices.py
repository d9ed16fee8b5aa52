"""Where an agent learns: ``--device`` as a device of JAX."""

from __future__ import annotations

import os

from flowrl import number_types
from flowrl.errors import BadInput
from flowrl.paths import compile_cache

_PLATFORMS = {"cpu": "cpu", "cuda": "cuda", "mps": "METAL"}
_INSTALL = {"cuda": "pip install -e '.[cuda]' on a machine with an NVIDIA GPU", "mps": "pip install jax-metal on a Mac"}


def prepare(device: str) -> None:
    """Chooses the device for this process. Call it before JAX is imported: JAX reads its environment once."""
    number_types.keep_to_defaults()
    os.environ["JAX_PLATFORMS"] = _PLATFORMS[device]
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # XLA's warnings would draw over the progress bar
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(compile_cache()))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")


def check(device: str) -> None:
    """Starts JAX on the device.

    Raises:
        BadInput: JAX finds no such device; the line says what would install it.
    """
    import jax

    try:
        jax.devices(_PLATFORMS[device])
    except RuntimeError as error:
        reason = str(error).splitlines()[0][:200]
        raise BadInput(
            f"--device {device}: JAX finds no such device ({reason}); use --device cpu"
            + (f", or {_INSTALL[device]}" if device in _INSTALL else "")
        ) from None
