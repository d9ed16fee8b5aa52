"""The automaton in plain loops, written from the paper alone: what the fast one is compared with."""

from __future__ import annotations

import math

import numpy as np

NEIGHBOURS = [(-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1)]
P_H, A, C1, C2 = 0.58, 0.078, 0.045, 0.131
P_VEG, P_DEN = (-0.3, 0.0, 0.4), (-0.4, 0.0, 0.3)


def probability(landscape, source, target, speed: float, from_deg: float) -> float:
    """How likely fire passes from the burning cell ``source`` to its neighbour ``target``."""
    rows, columns = target[0] - source[0], target[1] - source[1]
    moving_deg = math.degrees(math.atan2(columns, -rows))
    theta = math.radians(moving_deg - (from_deg + 180))
    wind = math.exp(C1 * speed) * math.exp(speed * C2 * (math.cos(theta) - 1))
    distance = float(landscape.cell_size_m) * math.hypot(rows, columns)
    rise = float(landscape.elevation_m[target]) - float(landscape.elevation_m[source])
    slope = math.exp(A * math.degrees(math.atan(rise / distance)))
    vegetation, density = P_VEG[landscape.vegetation[target]], P_DEN[landscape.density[target]]
    return min(1.0, max(0.0, P_H * (1 + vegetation) * (1 + density) * wind * slope))


def arrivals(landscape, start, speed: float, from_deg: float, uniform, num_steps: int, breaks=None) -> np.ndarray:
    """The step at which each cell catches fire, -1 for never.

    ``uniform[direction, row, column]`` decides whether fire passes into the cell in that direction.
    """
    height, width = landscape.shape
    arrival = np.full((height, width), -1)
    if (breaks is not None and breaks[start]) or not landscape.burnable[start]:
        return arrival
    arrival[start], burning = 0, [start]
    for step in range(1, num_steps + 1):
        caught = []
        for row, column in burning:
            for direction, (rows, columns) in enumerate(NEIGHBOURS):
                target = (row + rows, column + columns)
                if not (0 <= target[0] < height and 0 <= target[1] < width):
                    continue
                if arrival[target] >= 0 or not landscape.burnable[target] or (breaks is not None and breaks[target]):
                    continue
                if uniform[direction][target] < probability(landscape, (row, column), target, speed, from_deg):
                    arrival[target] = step
                    caught.append(target)
        burning = caught
    return arrival


def burned_step_by_step(landscape, start, speed: float, from_deg: float, rng, num_steps: int) -> np.ndarray:
    """As the paper says it: in each step, a cell with burning neighbours catches fire with ``1 - prod(1 - p)``."""
    height, width = landscape.shape
    burned, burning = np.zeros((height, width), bool), {start}
    burned[start] = True
    for _ in range(num_steps):
        spared = {}
        for row, column in burning:
            for rows, columns in NEIGHBOURS:
                target = (row + rows, column + columns)
                if 0 <= target[0] < height and 0 <= target[1] < width and landscape.burnable[target] and not burned[target]:
                    p = probability(landscape, (row, column), target, speed, from_deg)
                    spared[target] = spared.get(target, 1.0) * (1 - p)
        burning = {target for target, chance in sorted(spared.items()) if rng.random() < 1 - chance}
        for target in burning:
            burned[target] = True
    return burned
