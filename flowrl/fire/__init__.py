"""Fuel breaks: where to keep strips of a landscape free of fuel, so that fires burn less of it.

``landscapes`` is what can burn, ``spread`` how fires run through it, ``heuristics`` the known ways of placing breaks,
``validation`` the comparison with fires that happened, ``breaks`` environments in which an agent places them, ``agent`` a
deep Q-network that does, ``training`` its trainings, ``pictures`` the maps. Names are imported when they are used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowrl.fire.agent.agent import AgentSettings as AgentSettings
    from flowrl.fire.agent.agent import DQNAgent as DQNAgent
    from flowrl.fire.agent.collector import ParallelExperienceCollector as ParallelExperienceCollector
    from flowrl.fire.breaks.environment import FuelBreakEnv as FuelBreakEnv
    from flowrl.fire.breaks.rules import BreakRules as BreakRules
    from flowrl.fire.breaks.vectorized import VectorizedFireEnv as VectorizedFireEnv
    from flowrl.fire.training.settings import FuelBreakSettings as FuelBreakSettings
    from flowrl.fire.training.trainer import IterativeFuelBreakTrainer as IterativeFuelBreakTrainer
    from flowrl.fire.training.trainer import ParallelFuelBreakTrainer as ParallelFuelBreakTrainer

_OFFERED = {
    "AgentSettings": "flowrl.fire.agent.agent",
    "BreakRules": "flowrl.fire.breaks.rules",
    "DQNAgent": "flowrl.fire.agent.agent",
    "FuelBreakEnv": "flowrl.fire.breaks.environment",
    "FuelBreakSettings": "flowrl.fire.training.settings",
    "IterativeFuelBreakTrainer": "flowrl.fire.training.trainer",
    "ParallelExperienceCollector": "flowrl.fire.agent.collector",
    "ParallelFuelBreakTrainer": "flowrl.fire.training.trainer",
    "VectorizedFireEnv": "flowrl.fire.breaks.vectorized",
}

__all__ = list(_OFFERED)


def __getattr__(name: str) -> Any:
    if name not in _OFFERED:
        raise AttributeError(f"module 'flowrl.fire' has no attribute {name!r}")
    return getattr(importlib.import_module(_OFFERED[name]), name)
