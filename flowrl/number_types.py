"""The types of numbers in all of flowrl's programs are JAX's defaults, whatever the environment says.

Networks, games and checkpoints are made for 32 bits: with ``JAX_ENABLE_X64=1`` the games do not even compile. And a skill's
code has to mean the same in a training as in the gate, whose probe gets nothing of the user's environment. So every
process of ours that computes calls `keep_to_defaults` before it imports JAX.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

_DEFAULTS = {
    "JAX_ENABLE_X64": ("0", "false", "off", "no", "f", "n"),
    "JAX_EXPLICIT_X64_DTYPES": ("warn",),
    "JAX_NUMPY_DTYPE_PROMOTION": ("standard",),
    "JAX_NUMPY_RANK_PROMOTION": ("allow",),
}
"""By variable, the values that change nothing."""


def keep_to_defaults() -> None:
    """Takes out of this process' environment what would change the types of numbers. To be called before JAX is imported."""
    for name in _DEFAULTS:
        os.environ.pop(name, None)


def without_effect(environ: Mapping[str, str] = os.environ) -> str | None:
    """The variables that a user has set and that flowrl takes no notice of, as a line for the terminal; None for none."""
    values = {name: environ[name] for name in _DEFAULTS if environ.get(name)}
    changing = [f"{name}={value}" for name, value in values.items() if value.lower() not in _DEFAULTS[name]]
    if not changing:
        return None
    return f"note: {', '.join(changing)} has no effect on flowrl, which computes with JAX's default types of numbers; unset it"
