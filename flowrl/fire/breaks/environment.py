"""One area as a Gymnasium environment: an agent places breaks until the budget is spent, then fires judge them."""

from __future__ import annotations

from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium import spaces

from flowrl.fire.breaks import rules as rules_module
from flowrl.fire.breaks.areas import area_of
from flowrl.fire.breaks.observation import CHANNELS, allowed_cells, changing_channels, fixed_channels
from flowrl.fire.breaks.rules import USUAL, BreakRules, burned_share, fires_of_episode, num_burned, place, reward, seed_number


class FuelBreakEnv(gymnasium.Env):
    """Breaks in one area.

    An observation is float32 ``[channels, H, W]`` (:data:`~flowrl.fire.breaks.observation.CHANNELS`). An action is the flat
    index of a cell, or with ``percentage_increment`` several, the best first. `action_masks` says which cells are allowed.
    Episode ``n`` after a reset with a seed burns the same fires each time; a reset without a seed goes on with the next ones.
    ``info`` of the last step has ``burned_share`` and ``breaks``.

    Args:
        landscape_data: an area, a landscape or layers (`area_of`).

    Raises:
        BadInput: the rules are impossible, or the landscape has no room for the budget.
    """

    metadata = {"render_modes": []}

    def __init__(self, landscape_data: Any, rules: BreakRules = USUAL):
        rules_module.check(rules)
        self.area, self.rules = area_of(landscape_data), rules
        self._burnable = self.area.landscape.burnable
        self._budget = rules_module.budget_of(self.area.landscape, rules)
        self._fixed = fixed_channels(self.area, rules.climate)
        self.observation_space, self.action_space = spaces_of(self._burnable.shape, rules)
        self._seed, self._episode = None, -1

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None or self._seed is None:
            self._seed = seed_number(int(self.np_random.integers(2**32)) if seed is None else seed)
            self._episode = -1
        self._episode += 1
        self._fires = fires_of_episode(
            self.area.landscape,
            self.rules.climate,
            np.uint32(self._seed),
            np.uint32(self._episode),
            self.rules.memory_simulations,
        )
        self._breaks, self._left = np.zeros(self._burnable.shape, bool), self._budget
        self._share = self._burned() if self.rules.reward == "difference" else 0.0
        return self._observation(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """
        Raises:
            BadInput: a cell is not allowed.
        """
        allowed = allowed_cells(self._burnable, self._breaks)
        self._breaks, self._left = place(self._breaks, allowed, np.asarray(action), self._left)
        before, is_over = self._share, self._left == 0
        if is_over or self.rules.reward == "difference":
            self._share = self._burned()
        info = {"burned_share": self._share, "breaks": self._breaks.copy()} if is_over else {}
        return self._observation(), reward(self.rules, before, self._share, is_over), is_over, False, info

    def action_masks(self) -> np.ndarray | list[np.ndarray]:
        """Which cells are allowed: bool ``[H * W]``, or one such array for each cell of a step."""
        mask = allowed_cells(self._burnable, self._breaks).ravel()
        return mask if isinstance(self.action_space, spaces.Discrete) else [mask] * len(self.action_space.nvec)

    def _observation(self) -> np.ndarray:
        return np.concatenate([self._fixed, changing_channels(self._breaks, self._left)])

    def _burned(self) -> float:
        cells = int(num_burned(self._fires, self.rules.num_steps, self._breaks))
        return burned_share(cells, self.rules.memory_simulations, int(self._burnable.sum()))


class MakeFuelBreakEnv(NamedTuple):
    """A function without arguments that makes the environment, and can be sent to a worker."""

    landscape_data: Any
    rules: BreakRules = USUAL

    def __call__(self) -> FuelBreakEnv:
        return FuelBreakEnv(self.landscape_data, self.rules)


def spaces_of(shape: tuple[int, int], rules: BreakRules) -> tuple[spaces.Box, spaces.Discrete | spaces.MultiDiscrete]:
    """The observation space and the action space of an area with this shape."""
    num_cells, num_chosen = shape[0] * shape[1], rules.cells_per_step(shape)
    seen = spaces.Box(-np.inf, np.inf, (len(CHANNELS), *shape), np.float32)
    return seen, spaces.Discrete(num_cells) if num_chosen == 1 else spaces.MultiDiscrete([num_cells] * num_chosen)
