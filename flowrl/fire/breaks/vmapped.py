"""Many areas stepped as one batch: the fires of all environments burn in one call of JAX."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple, Self

import jax
import numpy as np

from flowrl.fire.breaks import rules as rules_module
from flowrl.fire.breaks.areas import FireArea, same_shape
from flowrl.fire.breaks.environment import spaces_of
from flowrl.fire.breaks.observation import CHANNELS, NUM_FIXED, allowed_cells, changing_channels, fixed_channels
from flowrl.fire.breaks.rules import BreakRules, burned_share, fires_of_episode, num_burned, place, reward, seed_number
from flowrl.fire.breaks.turns import turns_of
from flowrl.fire.landscapes.landscape import Landscape, stack
from flowrl.host.interface import StepResult, VecEnv
from flowrl.host.spaces import Tree


class VmappedFireEnv(VecEnv):
    """Environment ``i`` is a `FuelBreakEnv` of area ``i``, with the same transitions for the same seeds.

    Args:
        areas: all of one shape.
        num_envs: as many environments as areas if None; with other numbers, areas are shared or taken in turn (`turns_of`).
        with_infos: hand on ``burned_share`` and ``breaks`` of an episode that ends. Results are always copies.

    Raises:
        BadInput: shapes differ, or the rules are impossible.
    """

    def __init__(self, areas: Sequence[FireArea], rules: BreakRules, num_envs: int | None = None, *, with_infos: bool = False):
        rules_module.check(rules)
        shape = same_shape(areas)
        self._turns = turns_of([_Prepared.of(area, rules) for area in areas], num_envs or len(areas))
        count = len(self._turns)
        super().__init__(count, *spaces_of(shape, rules))
        self._rules, self._with_infos = rules, with_infos
        self._areas = [mine[0] for mine in self._turns]
        self._num_turns = np.array([len(mine) for mine in self._turns], np.uint32)
        self._landscapes = stack([one.landscape for one in self._areas])
        self._seeds, self._episodes_begun = np.zeros(count, np.uint32), np.zeros(count, np.uint32)
        self._breaks, self._left = np.zeros((count, *shape), bool), np.zeros(count, int)
        self._shares = [0.0] * count
        self._returns, self._lengths = np.zeros(count), np.zeros(count, np.int64)
        self._row_observations = np.zeros((count, len(CHANNELS), *shape), np.float32)
        self._row_observations[:, :NUM_FIXED] = [one.fixed for one in self._areas]

    def get_action_masks(self) -> np.ndarray:
        self._check_open()
        burnable = self._landscapes.burnable
        masks = allowed_cells(burnable, self._breaks).reshape(self.num_envs, -1)
        return np.tile(masks, self._rules.cells_per_step(burnable.shape[1:]))

    def _reset(self, seeds: Sequence[int | None], options: dict[str, Any] | None) -> Tree:
        for row, seed in enumerate(seeds):
            if seed is not None or not self._episodes_begun[row]:
                chosen = np.random.default_rng().integers(2**32) if seed is None else seed
                self._seeds[row], self._episodes_begun[row] = seed_number(chosen), 0
        self.reset_infos = ({},) * self.num_envs if self._with_infos else ()
        self._begin_episodes(np.ones(self.num_envs, bool))
        return self._row_observations.copy()

    def _begin_step(self, actions: np.ndarray) -> None:
        burnable = self._landscapes.burnable
        placed = [
            place(self._breaks[row], allowed_cells(burnable[row], self._breaks[row]), actions[row], int(self._left[row]))
            for row in range(self.num_envs)
        ]
        self._breaks, self._left = np.stack([breaks for breaks, _ in placed]), np.array([left for _, left in placed])
        self._burning = self._burn() if self._rules.reward == "difference" or not self._left.all() else None

    def _finish_step(self) -> StepResult:
        is_over = self._left == 0
        before, self._shares = self._shares, self._shares if self._burning is None else self._shares_of(self._burning)
        # Environments whose budget is not spent have burned nothing yet, if only the end counts.
        rewards = [reward(self._rules, *shares) for shares in zip(before, self._shares, is_over.tolist(), strict=True)]
        self._returns += rewards
        self._lengths += 1
        self._ended_totals = self._returns.copy(), self._lengths.copy()
        infos = tuple(self._info(row) if is_over[row] else {} for row in range(self.num_envs)) if self._with_infos else ()
        self._show(np.ones(self.num_envs, bool))
        final = self._row_observations.copy()
        if is_over.any():
            self._begin_episodes(is_over)
        never = np.zeros(self.num_envs, bool)
        return StepResult(self._row_observations.copy(), np.array(rewards), is_over, never, final, infos)

    def _drop_step(self) -> None:
        self._burning = None

    def _totals(self) -> tuple[np.ndarray, np.ndarray]:
        return self._ended_totals

    def _close(self) -> None:
        self._fires = None

    def _info(self, row: int) -> dict[str, Any]:
        return {"final_info": {"burned_share": self._shares[row], "breaks": self._breaks[row].copy()}}

    def _begin_episodes(self, rows: np.ndarray) -> None:
        self._move_on(rows)
        episodes = self._episodes_begun // self._num_turns
        drawn = _draw(self._landscapes, self._rules.climate, self._seeds, episodes, self._rules.memory_simulations)
        self._fires = drawn if rows.all() else _chosen(rows, drawn, self._fires)
        self._episodes_begun[rows] += 1
        self._breaks[rows] = False
        self._left[rows] = np.array([one.budget for one in self._areas])[rows]
        self._returns[rows], self._lengths[rows] = 0.0, 0
        if self._rules.reward == "difference":
            shares = self._shares_of(self._burn())
            self._shares = [shares[row] if rows[row] else share for row, share in enumerate(self._shares)]
        self._show(rows)

    def _move_on(self, rows: np.ndarray) -> None:
        """Some environments go on to the area of their next episode."""
        moving = np.flatnonzero(rows & (self._num_turns > 1))
        if not moving.size:
            return
        for row in moving:
            self._areas[row] = self._turns[row][self._episodes_begun[row] % self._num_turns[row]]
            self._row_observations[row, :NUM_FIXED] = self._areas[row].fixed
        # A new batch: JAX may still read the arrays of the one before.
        self._landscapes = stack([one.landscape for one in self._areas])

    def _show(self, rows: np.ndarray) -> None:
        for row in np.flatnonzero(rows):
            self._row_observations[row, NUM_FIXED:] = changing_channels(self._breaks[row], self._left[row])

    def _burn(self) -> jax.Array:
        """Begins to burn all fires; JAX answers when the numbers are asked for."""
        return _burn_all(self._fires, self._rules.num_steps, self._breaks)

    def _shares_of(self, burned_cells: jax.Array) -> list[float]:
        found = np.asarray(burned_cells).tolist()
        fires = self._rules.memory_simulations
        return [burned_share(cells, fires, one.num_burnable) for cells, one in zip(found, self._areas, strict=True)]


class _Prepared(NamedTuple):
    """What an episode needs of an area."""

    landscape: Landscape
    fixed: np.ndarray
    budget: int
    num_burnable: int

    @classmethod
    def of(cls, area: FireArea, rules: BreakRules) -> Self:
        budget = rules_module.budget_of(area.landscape, rules)
        return cls(area.landscape, fixed_channels(area, rules.climate), budget, int(area.landscape.burnable.sum()))


@partial(jax.jit, static_argnames="num_fires")
def _draw(landscapes, climate, seeds, episodes, num_fires):
    return jax.vmap(lambda landscape, seed, episode: fires_of_episode(landscape, climate, seed, episode, num_fires))(
        landscapes, seeds, episodes
    )


_burn_all = jax.jit(jax.vmap(num_burned, in_axes=(0, None, 0)))


@jax.jit
def _chosen(rows, new, old):
    return jax.tree.map(lambda mine, theirs: jax.numpy.where(rows.reshape(-1, *[1] * (mine.ndim - 1)), mine, theirs), new, old)
