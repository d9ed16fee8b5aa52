"""Fires per second: two standard sizes, what size, batch and steps cost, and a peer.

    python benchmarks/fires.py                 # the standard sizes, and cost over size, batch and steps
    python benchmarks/fires.py --peer          # pytorchfire beside it (benchmarks/fires.sh makes an environment that has it)
    python benchmarks/fires.py --quick         # small sizes: to see that it works

"all" is a fire from its draw to its scar: start, wind, passages, spread. "spread" is the spread alone, as when many sets of
breaks are tried on the same fires. Measurements of one table are made in one process, in turns, and printed as medians.

The peer, pytorchfire, is the same model in PyTorch, one fire at a time; each of its fires starts in the same cell in the same
wind on the same landscape and runs for the same number of steps. It differs in two things: probabilities pass through a tanh
instead of being clipped at 1, and it runs all steps even if nothing burns any more. The second favours us, so ours is
measured with all steps too. It runs in one thread, which is faster than several for landscapes as small as these; two of it
beside each other would do twice as many fires on two cores.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import numpy as np

from flowrl.fire.landscapes.landscape import Landscape
from flowrl.fire.landscapes.synthetic import Recipe, make_synthetic
from flowrl.fire.spread.automaton import burned, start, step
from flowrl.fire.spread.fires import WindClimate, draw_fires
from flowrl.fire.spread.passages import draw_passages
from flowrl.fire.spread.probabilities import ALEXANDRIDIS_2008

CLIMATE = WindClimate()


class Size(NamedTuple):
    """What is measured: a landscape of ``side`` x ``side`` cells, fires of at most ``num_steps`` steps, in batches."""

    side: int
    num_steps: int
    num_fires: int

    def __str__(self) -> str:
        return f"{self.side} x {self.side}, {self.num_steps} steps, {self.num_fires} fires"


STANDARD = (Size(20, 60, 1024), Size(40, 120, 1024))
OVER_SIZE = tuple(Size(side, 3 * side, 256) for side in (10, 20, 40, 80, 160))
OVER_BATCH = tuple(Size(20, 60, num_fires) for num_fires in (1, 8, 32, 128, 512, 2048, 8192))
OVER_STEPS = tuple(Size(40, num_steps, 1024) for num_steps in (15, 30, 60, 120, 240))
QUICK = (Size(10, 24, 64),)


class Ours:
    """Fires on one landscape, as programs that are compiled once."""

    def __init__(self, size: Size):
        self.size, self.landscape = size, landscape_of(size)

        def passages(landscape, key):
            return draw_passages(landscape, draw_fires(key, landscape.burnable, size.num_fires, CLIMATE))

        self._passages = passages(self.landscape, jax.random.key(0))
        self._all = jax.jit(lambda landscape, key: burned(passages(landscape, key), size.num_steps))
        self._every_step = jax.jit(lambda landscape, key: _every_step(passages(landscape, key), size.num_steps))
        self._keys = itertools.cycle([jax.random.key(number) for number in range(100)])

    def whole(self) -> None:
        """New fires, from draw to scar."""
        jax.block_until_ready(self._all(self.landscape, next(self._keys)))

    def spread(self) -> None:
        """The same fires again."""
        jax.block_until_ready(burned(self._passages, self.size.num_steps))

    def every_step(self) -> None:
        """New fires, without an end where nothing burns any more."""
        jax.block_until_ready(self._every_step(self.landscape, next(self._keys)))


def _every_step(passages, num_steps: int):
    return jax.lax.fori_loop(0, num_steps, lambda _, front: step(passages, front), start(passages)).intact


class Peer:
    """pytorchfire on the landscape of a size, a fire a call."""

    def __init__(self, size: Size):
        import torch
        from pytorchfire import WildfireModel

        torch.set_grad_enabled(False)
        torch.set_num_threads(1)
        self.size, landscape = size, landscape_of(size)
        constants = ALEXANDRIDIS_2008
        kinds, densities = np.array(constants.vegetation), np.array(constants.density)
        # What does not burn has the vegetation factor -1: its probability is 0 then.
        vegetation = np.where(landscape.burnable, kinds[landscape.vegetation], -1.0)
        ignition = np.zeros(landscape.shape, bool)
        ignition[tuple(np.argwhere(landscape.burnable)[int(landscape.burnable.sum()) // 2])] = True
        full = partial(torch.full, landscape.shape)
        data = {
            "p_veg": torch.tensor(vegetation, dtype=torch.float32),
            "p_den": torch.tensor(densities[landscape.density], dtype=torch.float32),
            "wind_velocity": full(CLIMATE.mean_speed_m_s),
            "wind_towards_direction": full(0.0),  # east, as the wind of the climate comes from the west
            "slope": torch.tensor(slopes_deg(landscape), dtype=torch.float32),
            "initial_ignition": torch.tensor(ignition),
        }
        names = {"a": constants.a, "p_h": constants.p_h, "c_1": constants.c1, "c_2": constants.c2, "p_continue": 0.0}
        self.model = WildfireModel(data, {name: torch.tensor(value) for name, value in names.items()}).eval()

    def whole(self) -> None:
        self.model.reset()
        for _ in range(self.size.num_steps):
            self.model.compute()


def landscape_of(size: Size) -> Landscape:
    return make_synthetic(0, Recipe(size.side, size.side))


def slopes_deg(landscape: Landscape) -> np.ndarray:
    """From each cell to its neighbours, degrees, ``[H, W, 3, 3]``."""
    padded = np.pad(landscape.elevation_m, 1, mode="edge")
    height, width = landscape.shape
    slopes = np.zeros((height, width, 3, 3))
    for row, column in np.ndindex(3, 3):
        distance = float(landscape.cell_size_m) * np.hypot(row - 1, column - 1)
        if distance:
            rise = landscape.elevation_m - padded[row : row + height, column : column + width]
            slopes[:, :, row, column] = np.degrees(np.arctan(rise / distance))
    return slopes


def medians(calls: dict[str, Callable[[], None]], repeats: int) -> dict[str, float]:
    """Seconds of each call, in turns; the first turn compiles and does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(repeats + 1):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            if turn:
                seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in seconds.items()}


def print_table(title: str, sizes: tuple[Size, ...], repeats: int) -> None:
    print(f"\n{title}")
    print(f"{'':40} {'fires/s, all':>14} {'fires/s, spread':>16} {'us a fire, all':>15} {'ns a cell':>10}")
    for size in sizes:
        ours = Ours(size)
        seconds = medians({"all": ours.whole, "spread": ours.spread}, repeats)
        each = seconds["all"] / size.num_fires
        print(
            f"{size!s:40} {1 / each:14,.0f} {size.num_fires / seconds['spread']:16,.0f} {each * 1e6:15.1f}"
            f" {each / size.side**2 * 1e9:10.1f}"
        )


def print_peer(sizes: tuple[Size, ...], repeats: int) -> None:
    print("\nbeside pytorchfire, on the same landscape and number of steps")
    print(f"{'':40} {'ours':>10} {'peer':>10} {'ratio':>8} {'ours, all steps':>16} {'ratio':>8}")
    for size in sizes:
        ours, peer = Ours(size), Peer(size)
        seconds = medians({"all": ours.whole, "every": ours.every_step, "peer": peer.whole}, repeats)
        fires, every, peers = size.num_fires / seconds["all"], size.num_fires / seconds["every"], 1 / seconds["peer"]
        print(f"{size!s:40} {fires:10,.0f} {peers:10,.1f} {fires / peers:7,.0f}x {every:16,.0f} {every / peers:7,.0f}x")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", action="store_true", help="measure pytorchfire too")
    parser.add_argument("--quick", action="store_true", help="small sizes only")
    parser.add_argument("--repeats", type=int, default=7)
    flags = parser.parse_args(arguments)
    print(f"{jax.device_count()} {jax.devices()[0].platform} device; medians of {flags.repeats}")
    print_table("standard sizes", QUICK if flags.quick else STANDARD, flags.repeats)
    if flags.peer:
        print_peer(QUICK if flags.quick else STANDARD, flags.repeats)
    if not flags.quick:
        print_table("over size", OVER_SIZE, flags.repeats)
        print_table("over batch", OVER_BATCH, flags.repeats)
        print_table("over steps", OVER_STEPS, flags.repeats)


if __name__ == "__main__":
    main()
