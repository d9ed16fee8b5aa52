"""The agent: places breaks by its Q-network, remembers what happened, and learns from it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from flowrl.errors import BadInput
from flowrl.fire.agent.learning import LearningBatch, Losses, QLearner, programs_of
from flowrl.fire.agent.memory import Experiences, ReplayMemory, joined
from flowrl.fire.agent.symmetries import symmetries_of, transformed, transformed_observations
from flowrl.fire.breaks.observation import NUM_FIXED

_WORST = -np.inf


class AgentSettings(NamedTuple):
    """How an agent learns.

    Attributes:
        learning_rate, gamma: of Adam, and the discount of a step.
        batch_size: experiences of one update.
        buffer_size: experiences that are remembered.
        width: channels of the network at its finest scale.
        margin: by which a demonstrated cell should be better than the others, in units of the reward.
        demonstration_share: of a batch, as long as there are demonstrations.
        reward_scale: rewards are multiplied by it; burned shares are small numbers.
        symmetric: learn from turned and mirrored areas too. For flowrl's own observations only.
    """

    learning_rate: float = 1e-3
    gamma: float = 1.0
    batch_size: int = 32
    buffer_size: int = 20_000
    width: int = 24
    margin: float = 0.05
    demonstration_share: float = 0.5
    reward_scale: float = 10.0
    symmetric: bool = False


USUAL = AgentSettings()


class DQNAgent:
    """A dueling double DQN over the cells of areas of one shape.

    Attributes:
        epsilon: the probability of a random cell.
        updates: made so far.
        memory, demonstrations: experiences; nothing but a demonstration goes into the second.

    Args:
        observation_shape: channels, rows, columns.
        cells_per_step: cells that an action places.
        has_own_channels: whether observations are those of `FuelBreakEnv`; if not, nothing is known of their channels.
        num_demonstrations: experiences that the memory of demonstrations holds; as many as ``buffer_size`` if None.
    """

    def __init__(
        self,
        observation_shape: tuple[int, int, int],
        settings: AgentSettings = USUAL,
        *,
        cells_per_step: int = 1,
        has_own_channels: bool = True,
        num_demonstrations: int | None = None,
        seed: int = 0,
    ):
        if settings.batch_size < 1:
            raise BadInput(f"batch_size must be at least 1, found {settings.batch_size}")
        self.settings, self.cells_per_step = settings, cells_per_step
        self._shape = observation_shape[1:]
        self._turnable = settings.symmetric and has_own_channels
        self._programs = programs_of(settings.width, settings.learning_rate, settings.margin * settings.reward_scale)
        params = self._programs.new_params(seed, observation_shape)
        self.learner = QLearner(params, params, self._programs.optimiser.init(params))
        self.epsilon, self.updates = 1.0, 0
        num_fixed = NUM_FIXED if has_own_channels else 0
        self.memory = ReplayMemory(settings.buffer_size, observation_shape, num_fixed)
        capacity = settings.buffer_size if num_demonstrations is None else num_demonstrations
        self.demonstrations = ReplayMemory(capacity, observation_shape, num_fixed)
        self.rng = np.random.default_rng(seed)

    def act(self, observations: np.ndarray, masks: np.ndarray, greedy: bool = False) -> np.ndarray:
        """The cells that the agent places.

        Args:
            observations: float32 ``[N, C, H, W]``.
            masks: bool ``[N, H * W]``, allowed cells.
            greedy: no random cells.

        Returns:
            int64 ``[N, cells_per_step]``, the best first, or ``[N]`` if a step places one cell.
        """
        scores = np.array(self._programs.values(self.learner.params, observations, masks))
        if not greedy:
            randomly = self.rng.random(len(scores)) < self.epsilon
            scores[randomly] = self.rng.random((int(randomly.sum()), scores.shape[1]))
        scores[~masks] = _WORST
        chosen = np.argsort(-scores, axis=1, kind="stable")[:, : self.cells_per_step]
        return chosen if self.cells_per_step > 1 else chosen[:, 0]

    def values(self, observations: np.ndarray, masks: np.ndarray) -> np.ndarray:
        """Action values in units of the reward: float32 ``[N, H * W]``; minus infinity where a cell is not allowed."""
        values = np.asarray(self._programs.values(self.learner.params, observations, masks)) / self.settings.reward_scale
        return np.where(masks, values, _WORST)

    def remember(self, found: Experiences) -> None:
        """Keeps experiences; demonstrations in a memory of their own."""
        for memory, rows in ((self.demonstrations, found.demonstrated), (self.memory, ~found.demonstrated)):
            if rows.any():
                memory.add(Experiences(*(values[rows] for values in found)))

    @property
    def can_learn(self) -> bool:
        """Whether there is enough in the memories for a batch."""
        return self.memory.size + self.demonstrations.size >= self.settings.batch_size

    def replay(self) -> Losses | None:
        """One update from the memories; None while they hold less than a batch."""
        if not self.can_learn:
            return None
        batch = self._batch()
        scaled = batch._replace(returns=batch.returns * self.settings.reward_scale)
        self.learner, losses = self._programs.update(self.learner, scaled)
        self.updates += 1
        return losses

    def update_target(self) -> None:
        """Targets come from the network as it is now."""
        self.learner = self.learner._replace(target=self.learner.params)

    def _batch(self) -> LearningBatch:
        count = self.settings.batch_size
        demonstrated = round(self.settings.demonstration_share * count) if self.demonstrations.size else 0
        if not self.memory.size:
            demonstrated = count
        parts = [(self.demonstrations, demonstrated), (self.memory, count - demonstrated)]
        found = joined([memory.sample(self.rng, number) for memory, number in parts if number])
        complete = demonstrated if found.discounts.any() else count
        batch = LearningBatch(
            *(getattr(found, name) for name in ("observations", "allowed", "chosen", "returns", "demonstrated")),
            *(getattr(found, name)[complete:] for name in ("discounts", "later", "later_allowed")),
        )
        return self._turned(batch) if self._turnable else batch

    def _turned(self, batch: LearningBatch) -> LearningBatch:
        symmetries = symmetries_of(self._shape)
        turns, mirror = symmetries[self.rng.integers(len(symmetries))]

        def turned(flags: np.ndarray) -> np.ndarray:
            return transformed(flags.reshape(-1, *self._shape), turns, mirror).reshape(flags.shape)

        return batch._replace(
            observations=transformed_observations(batch.observations, turns, mirror),
            later=transformed_observations(batch.later, turns, mirror),
            allowed=turned(batch.allowed),
            chosen=turned(batch.chosen),
            later_allowed=turned(batch.later_allowed),
        )
