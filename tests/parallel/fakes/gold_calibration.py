"""The real calibration process, for a game so small that it is compiled in seconds."""

import sys

from benchmarks import fault_game
from flowrl.training.calibration import __main__ as calibration

if __name__ == "__main__":
    fault_game.register()
    sys.exit(calibration.main())
