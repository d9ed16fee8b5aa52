"""Learning: an update in two programs, which make a batch from a rollout and train the experts on it.

If a rollout shows few of the columns, narrower programs suffice (see `active_columns`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax

from flowrl.envs.observations import Layout
from flowrl.training.compiled.stored_programs import Compile, Program
from flowrl.training.learning import experts, optimiser, ppo
from flowrl.training.learning.networks import ExpertNetwork, Params
from flowrl.training.learning.ppo import Hyperparameters, Learner, Statistics, Transition, stack_time
from flowrl.training.one_hot import active_columns


@dataclass(frozen=True)
class Learning:
    """The functions by which ``K`` experts learn."""

    layout: Layout
    fresh_expert: Program
    """``key -> params`` of an expert that has learned nothing."""
    fresh_state: Program
    """``params [K, ...] -> optimiser state [K, ...]``."""
    find_columns: Program
    """``rollout -> columns``: the columns that it shows."""
    demands: Program
    """``columns -> usage``: the figures that the choice of a bound needs."""
    plain_batch: Program
    """``(rollout, last_values, key) -> batch``."""
    narrow_batches: dict[int, Program]
    """``(rollout, columns, last_values, key) -> batch``, by bound of columns."""
    plain_update: Program
    """``(learner, batch, lr) -> (learner, statistics)``; the learner is donated."""
    narrow_updates: dict[int, Program]
    """The same for narrow batches, by bound."""

    def fresh_learner(self, params: Sequence[Params]) -> Learner:
        """A learner that starts from the parameters of some experts."""
        stacked = experts.stack(params)
        return Learner(stacked, self.fresh_state(stacked))

    @property
    def updates(self) -> list[Program]:
        """All programs that learn."""
        return [self.plain_update, *self.narrow_updates.values()]


class Updater:
    """Makes the updates of one run, with the cheapest programs that fit."""

    def __init__(self, learning: Learning):
        self._learning = learning
        self._bound: int | None = 0
        """The bound of columns in use; None once a rollout showed more than the largest bound holds."""

    def update(
        self, learner: Learner, rollout: tuple[Transition, ...], last_values: jax.Array, key: jax.Array, lr: float
    ) -> tuple[Learner, Statistics]:
        """As the function that `ppo.make_update` returns; ``learner`` is donated."""
        learning = self._learning
        if learning.narrow_updates and self._bound is not None:
            columns = learning.find_columns(rollout)
            bound = active_columns.smallest_bound(*jax.device_get(learning.demands(columns)), learning.layout)
            # A bound that was too small once will be again, so its program is not used again.
            self._bound = bound and max(bound, self._bound)
            if self._bound:
                batch = learning.narrow_batches[self._bound](rollout, columns, last_values, key)
                return learning.narrow_updates[self._bound](learner, batch, lr)
        return learning.plain_update(learner, learning.plain_batch(rollout, last_values, key), lr)


def build_learning(
    network: ExpertNetwork, hyper: Hyperparameters, num_experts: int, compiled: Compile, compiled_for_experts: Compile
) -> Learning:
    """
    Args:
        num_experts: padded.
        compiled: compiles programs that are the same for any number of experts.
        compiled_for_experts: compiles the others.
    """
    layout, bounds = network.layout, active_columns.bounds(network.layout)

    def learning(name, function):
        return compiled_for_experts(name, function, (hyper, network.mixed_precision), donate_argnums=(0,))

    return Learning(
        layout=layout,
        fresh_expert=jax.jit(network.init),
        fresh_state=compiled_for_experts(
            "fresh state", lambda params: optimiser.init(optimiser.make(hyper.max_grad_norm), params)
        ),
        find_columns=compiled("find columns", lambda rollout: active_columns.find(rollout, layout)),
        demands=compiled("demands", lambda columns: active_columns.demands(columns, layout)),
        plain_batch=compiled("batch", lambda rollout, *rest: ppo.make_batch(stack_time(rollout), *rest, hyper), hyper),
        narrow_batches={bound: compiled(f"batch {bound}", make_narrow_batch(layout, hyper, bound), hyper) for bound in bounds},
        plain_update=learning("update", ppo.make_learning(network, hyper, num_experts)),
        narrow_updates={
            bound: learning(f"update {bound}", active_columns.make_narrow_learning(network, hyper, num_experts, bound))
            for bound in bounds
        },
    )


def make_narrow_batch(layout: Layout, hyper: Hyperparameters, bound: int):
    """`active_columns.narrow_batch` of a rollout step by step."""

    def narrow_batch(rollout, *rest):
        return active_columns.narrow_batch(stack_time(rollout), *rest, layout, hyper, bound)

    return narrow_batch
