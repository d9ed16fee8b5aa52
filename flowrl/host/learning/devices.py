"""Where an agent learns: ``--device`` as a device of JAX."""

from __future__ import annotations

import os

from flowrl import jax_cache, number_types
from flowrl.errors import BadInput

_PLATFORMS = {"cpu": "cpu", "cuda": "cuda", "mps": "METAL"}
_INSTALL = {"cuda": "pip install -e '.[cuda]' on a machine with an NVIDIA GPU", "mps": "pip install jax-metal on a Mac"}


def prepare(device: str) -> None:
    """Chooses the device for this process. Call it before JAX is imported: JAX reads its environment once."""
    number_types.keep_to_defaults()
    os.environ["JAX_PLATFORMS"] = _PLATFORMS[device]
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # XLA's warnings would draw over the progress bar
    jax_cache.prepare()


def check(device: str) -> None:
    """Starts JAX on the device.

    Raises:
        BadInput: JAX finds no such device; the line says what would install it.
    """
    import jax

    try:
        jax.devices(_PLATFORMS[device])
    except (RuntimeError, AssertionError) as error:  # the latter where no plugin of this platform is installed
        reason = (str(error).splitlines() or ["no plugin for it is installed"])[0][:200]
        raise BadInput(
            f"--device {device}: JAX finds no such device ({reason}); use --device cpu"
            + (f", or {_INSTALL[device]}" if device in _INSTALL else "")
        ) from None
