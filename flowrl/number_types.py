"""All of flowrl's programs use JAX's default number types, even if the environment sets others.

Networks, games and checkpoints are made for 32 bits: with ``JAX_ENABLE_X64=1`` the games do not even compile. And a skill's
code must mean the same in a training as in the gate, whose probe gets none of the user's environment. So every process
of ours that computes calls `keep_to_defaults` before it imports JAX.
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
"""For each variable, the values that change nothing."""


def keep_to_defaults() -> None:
    """Removes the variables that would change number types from this process' environment. Call it before JAX is imported."""
    for name in _DEFAULTS:
        os.environ.pop(name, None)


def without_effect(environ: Mapping[str, str] = os.environ) -> str | None:
    """A line for the terminal that names the variables that the user has set and flowrl ignores; None if there are none."""
    values = {name: environ[name] for name in _DEFAULTS if environ.get(name)}
    changing = [f"{name}={value}" for name, value in values.items() if value.lower() not in _DEFAULTS[name]]
    if not changing:
        return None
    return f"note: {', '.join(changing)} has no effect on flowrl, which computes with JAX's default number types; unset it"
