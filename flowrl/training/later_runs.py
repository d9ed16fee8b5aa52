"""While a run trains, the programs that later runs will need are compiled beside it.

A skill with longer plans trains more experts, and its network programs are others. So that its start is not spent on
compiling, the run before it sees to them, in a thread of its own, once on a machine.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from flowrl.training import process
from flowrl.training.programs import Programs

SWITCH = "FLOWRL_COMPILE_AHEAD"
"""Environment variable: ``0`` leaves every run to compile what it needs itself."""

FOLLOWING = {1: (2, 4), 2: (4,), 4: (8,), 8: (16,)}
"""For a run's number of experts (padded), those that are likely to be next."""


def provide(programs: Programs, go_on: Callable[[], bool], say: Callable[[str], None]) -> None:
    """Starts compiling for later runs.

    Args:
        programs: of a run that has made an update.
        go_on: asked before each program; False ends it.
        say: told in a line if it fails.
    """
    if os.environ.get(SWITCH) == "0":
        return

    def compile_for_later() -> None:
        try:
            for num_experts in FOLLOWING.get(programs.num_experts, ()):
                programs.put_by_for(num_experts, go_on)
        except Exception as error:  # this run has lost nothing by it
            say(f"programs for later runs were not compiled: {' '.join(str(error).split())[:200]}")

    threading.Thread(target=compile_for_later, name=process.BACKGROUND, daemon=True).start()

