"""While a run trains, the programs that later runs will need are compiled, beside it or in turn with it.

A skill with longer plans trains more experts, and its network programs are others. So that its start is not spent on
compiling, the run before it sees to them, in a thread of its own, once on a machine: for the shapes, and the bound of
columns, of its own first update.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from flowrl.machine import free_memory
from flowrl.training.host import process
from flowrl.training.playing.programs import Programs


class Following(NamedTuple):
    """What is likely to be trained after a run."""

    num_experts: tuple[int, ...]
    """Padded."""
    after_s: float = 0.0
    """Seconds of training before anything is compiled for it: a plan of many tasks is not made in a hurry."""


FOLLOWING = {1: Following((2, 4)), 2: Following((4,)), 4: Following((8,), 300.0), 8: Following((16,), 300.0)}
"""By a run's own number of experts (padded)."""

COMPILED = "programs for later runs with"
"""How the line begins that says that this has ended."""

LEAST_MEMORY = 3 * 2**30
"""Bytes that must be free: a run is worth more than another one's start."""


def provide(programs: Programs, go_on: Callable[[], bool], say: Callable[[str], None]) -> None:
    """Starts compiling for later runs, unless that is switched off (`process.COMPILE_AHEAD`).

    Args:
        programs: of a run that has made an update.
        go_on: asked before each program; False ends it.
        say: told in a line what was compiled, or that it failed, from another thread.
    """
    following = FOLLOWING.get(programs.num_experts)
    if not process.compiles_ahead() or following is None:
        return

    def may_go_on() -> bool:
        return go_on() and free_memory() > LEAST_MEMORY

    def compile_for_later() -> None:
        time.sleep(following.after_s)
        begun_s = time.monotonic()
        try:
            done = [programs.put_by_for(num_experts, may_go_on) for num_experts in following.num_experts]
            num_stored, num_left = map(sum, zip(*done))
            numbers = " or ".join(map(str, following.num_experts))
            taken = f"{num_stored} in {time.monotonic() - begun_s:.0f} s"
            if num_left:
                why = "this run was asked to end" if not go_on() else f"less than {LEAST_MEMORY >> 30} GiB of memory were free"
                say(f"{COMPILED} {numbers} experts: {num_left} are left to those, {num_stored} compiled; {why}")
            elif num_stored:
                say(f"{COMPILED} {numbers} experts are compiled ({taken}, beside training)")
        except Exception as error:  # this run has lost nothing by it
            say(f"programs for later runs were not compiled: {' '.join(str(error).split())[:200]}")

    threading.Thread(target=compile_for_later, name=process.BACKGROUND, daemon=True).start()
