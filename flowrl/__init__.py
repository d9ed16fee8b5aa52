"""flowrl: skills proposed as code, trained as experts, merged into a growing library."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowrl.api.agent import load_agent as load_agent
    from flowrl.api.episodes import export_episodes as export_episodes
    from flowrl.api.skill import skill_env as skill_env

__version__ = "0.1.0"

_OFFERED = {
    "export_episodes": "flowrl.api.episodes",
    "load_agent": "flowrl.api.agent",
    "skill_env": "flowrl.api.skill",
}
"""What programs use of a library, and where it is: imported when it is used, since it needs jax."""

__all__ = ["__version__", *_OFFERED]


def __getattr__(name: str) -> Any:
    if name not in _OFFERED:
        raise AttributeError(f"module 'flowrl' has no attribute {name!r}")
    return getattr(importlib.import_module(_OFFERED[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_OFFERED])
