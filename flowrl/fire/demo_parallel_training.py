"""``python -m flowrl.fire.demo_parallel_training``: ways of stepping fuel break environments, measured on this machine."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flowrl.config import parse
from flowrl.errors import ALL_COMPLETED, INTERRUPTED, FlowrlError
from flowrl.fire.training.settings import SIDE
from flowrl.machine import usable_cores
from flowrl.ranges import AT_LEAST_ONE, NOT_NEGATIVE, POSITIVE, check_ranges

if TYPE_CHECKING:
    from flowrl.fire.breaks.throughput import Throughput

PROG = "python -m flowrl.fire.demo_parallel_training"
SCALING = (1, 2, 4, 8, 16)
_MOST_S = 75.0
"""After so many seconds, no larger number of environments is measured: the demo takes less than 2 minutes."""


@dataclass(frozen=True)
class DemoSettings:
    """Measures the ways of stepping environments against each other, and how each grows with more of them."""

    grid_size: int = 20
    """Rows and columns of an area."""
    num_envs: int = 8
    """Environments in the comparison of methods."""
    memory_simulations: int = 64
    """Fires that judge the breaks of an episode."""
    seconds: float = 2.0
    """Seconds for each measurement."""
    seed: int = 0
    """Of areas and fires."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code."""
    try:
        settings = parse(DemoSettings, list(sys.argv[1:] if arguments is None else arguments), PROG)
        check_ranges(
            settings,
            {
                AT_LEAST_ONE: ("num_envs", "memory_simulations"),
                POSITIVE: ("seconds",),
                NOT_NEGATIVE: ("seed",),
                SIDE: ("grid_size",),
            },
        )
        _show(settings)
    except FlowrlError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    return ALL_COMPLETED


def _show(settings: DemoSettings) -> None:
    from flowrl import jax_cache, number_types

    number_types.keep_to_defaults()
    jax_cache.prepare()
    from flowrl.fire.breaks.areas import made_areas
    from flowrl.fire.breaks.rules import BreakRules
    from flowrl.fire.breaks.throughput import measure
    from flowrl.fire.breaks.vectorized import METHODS

    began_s = time.monotonic()
    rules = BreakRules(memory_simulations=settings.memory_simulations, num_steps=3 * settings.grid_size)
    areas = made_areas(4, settings.grid_size, settings.seed)
    size = f"{settings.grid_size} x {settings.grid_size}"
    print(f"{len(usable_cores())} cores; areas of {size} cells, {settings.memory_simulations} fires for each episode\n")
    print(f"{settings.num_envs} environments, one after the other and in parallel (random cells, no learning):", flush=True)
    found = []
    for method in ("sequential", *(name for name in METHODS if name != "sequential")):
        found.append(measure(areas, rules, method, settings.num_envs, settings.seconds))
        print(f"  {_line(found[-1], found[0])}", flush=True)
    best = max(found, key=lambda one: one.experiences_per_second)
    print(f"\n{best.method} with more environments:", flush=True)
    growing: list[Throughput] = []
    for num_envs in SCALING:
        growing.append(measure(areas, rules, best.method, num_envs, settings.seconds))
        print(f"  {_line(growing[-1], growing[0])}", flush=True)
        if num_envs < SCALING[-1] and time.monotonic() - began_s > _MOST_S:
            print("  no more are measured: this machine is busy or slow")
            break
    print(f"\n{_recommended(growing)}")
    print(f"This took {time.monotonic() - began_s:.0f} s.")


def _line(one: Throughput, first: Throughput) -> str:
    ratio = one.experiences_per_second / first.experiences_per_second
    return f"{one.method:16}{one.num_envs:4} environments {one.experiences_per_second:10,.0f} experiences/s {ratio:6.1f} x"


def _recommended(growing: Sequence[Throughput]) -> str:
    """The fewest environments that give nine tenths of the most experiences a second."""
    most = max(one.experiences_per_second for one in growing)
    enough = next(one for one in growing if one.experiences_per_second >= 0.9 * most)
    recommended = f'Recommended here: "parallel_method": "{enough.method}", "num_parallel_envs": {enough.num_envs}.'
    is_the_last = enough is growing[-1]
    return recommended if is_the_last else f"{recommended} More environments than that are hardly faster."


if __name__ == "__main__":
    sys.exit(main())
