"""The real calibration process, for a game so small that it is compiled in seconds."""

import sys

from flowrl.envs.craftax.facts_classic import FACTS
from flowrl.envs.registry import GAMES, GameEntry
from flowrl.training.calibration import __main__ as calibration

GOLD = GameEntry("Gold", FACTS, "benchmarks.fault_game:GoldGame", "none", observation_size=1, num_actions=2)

if __name__ == "__main__":
    GAMES[GOLD.env_name] = GOLD
    sys.exit(calibration.main())
