"""How many experiences a second the ways of stepping environments give."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from flowrl.fire.breaks.areas import FireArea
from flowrl.fire.breaks.rules import BreakRules
from flowrl.fire.breaks.vectorized import VectorizedFireEnv

ROUNDS = 3
"""Measurements of each; the median counts."""


class Throughput(NamedTuple):
    """What was measured.

    Attributes:
        method: a way of stepping.
        num_envs: environments.
        experiences_per_second: with random cells, fires included, learning not.
    """

    method: str
    num_envs: int
    experiences_per_second: float


def measure(
    areas: Sequence[FireArea], rules: BreakRules, method: str, num_envs: int, seconds: float, max_workers: int | None = None
) -> Throughput:
    """Steps environments with random cells for some seconds, in `ROUNDS` parts, after a first episode that compiles."""
    with VectorizedFireEnv(areas, num_envs, method, max_workers, rules=rules) as env:
        rng = np.random.default_rng(0)
        env.reset(0)
        while not _step(env, rng).any():
            pass
        rates = [_rate(env, rng, seconds / ROUNDS) for _ in range(ROUNDS)]
    return Throughput(method, num_envs, statistics.median(rates))


def _rate(env: VectorizedFireEnv, rng: np.random.Generator, seconds: float) -> float:
    """Experiences a second; ends with an episode, where fires burn."""
    began_s, count = time.perf_counter(), 0
    while True:
        is_over = _step(env, rng).any()
        count += env.num_envs
        if is_over and (taken := time.perf_counter() - began_s) >= seconds:
            return count / taken


def _step(env: VectorizedFireEnv, rng: np.random.Generator) -> np.ndarray:
    """One step with random cells; returns where an episode has ended."""
    masks = env.get_action_masks()
    scores = np.where(masks, rng.random(masks.shape), -1.0)
    cells = np.argsort(-scores, axis=1)[:, : env.cells_per_step]
    return env.step(cells if env.cells_per_step > 1 else cells[:, 0])[2]
