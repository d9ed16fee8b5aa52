"""Environments that are not JAX: many Gymnasium environments, stepped as one batch.

Names are imported when they are used: a worker process imports this package, and needs few of them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowrl.host.choice import make_vec as make_vec
    from flowrl.host.envpool_adapter import from_envpool as from_envpool
    from flowrl.host.gymnasium_adapter import from_gymnasium as from_gymnasium
    from flowrl.host.gymnasium_adapter import to_gymnasium as to_gymnasium
    from flowrl.host.interface import EpisodeStats as EpisodeStats
    from flowrl.host.interface import StepResult as StepResult
    from flowrl.host.interface import VecEnv as VecEnv
    from flowrl.host.processes import ParallelEnv as ParallelEnv
    from flowrl.host.sequential import SequentialVecEnv as SequentialVecEnv
    from flowrl.host.threads import ThreadVecEnv as ThreadVecEnv

_OFFERED = {
    "EpisodeStats": "flowrl.host.interface",
    "ParallelEnv": "flowrl.host.processes",
    "SequentialVecEnv": "flowrl.host.sequential",
    "StepResult": "flowrl.host.interface",
    "ThreadVecEnv": "flowrl.host.threads",
    "VecEnv": "flowrl.host.interface",
    "from_envpool": "flowrl.host.envpool_adapter",
    "from_gymnasium": "flowrl.host.gymnasium_adapter",
    "make_vec": "flowrl.host.choice",
    "to_gymnasium": "flowrl.host.gymnasium_adapter",
}

__all__ = list(_OFFERED)


def __getattr__(name: str) -> Any:
    if name not in _OFFERED:
        raise AttributeError(f"module 'flowrl.host' has no attribute {name!r}")
    return getattr(importlib.import_module(_OFFERED[name]), name)
