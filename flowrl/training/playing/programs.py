"""The compiled programs of a run, in groups: the world's, the acting experts', the learning, and its random keys.

All of them are the same for every skill with the same game, batch and padded number of experts, so they are stored
(`stored_programs`), and the second run finds them ready. Only the `environments.Judge` is specific to a skill.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import numpy as np

from flowrl import paths
from flowrl.envs.adapter import GameAdapter
from flowrl.training.compiled.stored_programs import Compile, Program, ProgramStore, StoredProgram, as_it_is
from flowrl.training.learning import experts
from flowrl.training.learning.networks import ExpertNetwork
from flowrl.training.learning.ppo import Hyperparameters
from flowrl.training.playing.acting import Acting, build_acting
from flowrl.training.playing.learning import Learning, build_learning
from flowrl.training.playing.world import World, build_world


class Source(NamedTuple):
    """What programs are made from, besides the number of experts."""

    adapter: GameAdapter
    network: ExpertNetwork
    hyper: Hyperparameters
    num_envs: int


class Keys(NamedTuple):
    """The random key of each part of a run."""

    init: jax.Array
    worlds: jax.Array
    updates: jax.Array
    tests: jax.Array
    random_policy: jax.Array


@dataclass(frozen=True)
class KeyPrograms:
    """Random keys, made by compiled programs: operation by operation they took half a second of a start."""

    run_keys: Program
    update_keys: Program
    folded: Program

    def of_run(self, seed: int, global_expert_idx: int) -> Keys:
        """The keys of the run that trains an expert."""
        return self.run_keys(np.uint32(seed % 2**32), np.uint32(global_expert_idx))

    def of_update(self, key: jax.Array, number: int) -> tuple[jax.Array, jax.Array, jax.Array]:
        """The keys of this update: for its rollout, for learning, and for fresh worlds."""
        return self.update_keys(key, np.uint32(number))

    def fold_in(self, key: jax.Array, number: int) -> jax.Array:
        """``jax.random.fold_in``."""
        return self.folded(key, np.uint32(number))


@dataclass(frozen=True)
class Programs:
    """Every compiled program that a run calls, except its skills' code."""

    world: World
    acting: Acting
    learning: Learning
    keys: KeyPrograms
    source: Source
    store: ProgramStore


def compile_programs(
    source: Source,
    num_experts: int,
    num_steps: int | None = None,
    before_compiling: Callable[[], None] = lambda: None,
) -> Programs:
    """The programs of a run; each is compiled, or loaded, when it is called for the first time.

    Args:
        num_steps: steps of a rollout. Any number may be played; this one decides which programs are preloaded.
        before_compiling: called before a program is loaded or compiled, which may take minutes in the middle of a training.
    """
    network = source.network
    kind = source.num_envs, num_steps, network.layer_size, network.mixed_precision, source.hyper
    store = ProgramStore(paths.stored_programs(), source.adapter.identity, kind, before_compiling)
    num_experts = experts.padded_count(num_experts)
    programs = Programs(
        world=build_world(source.adapter, source.num_envs, store.program),
        acting=build_acting(network, num_experts, for_experts(store, num_experts)),
        learning=build_learning(network, source.hyper, num_experts, store.program, for_experts(store, num_experts)),
        keys=build_keys(store.program),
        source=source,
        store=store,
    )
    store.preload("", _group(num_experts))
    return programs


def inlined(programs: Programs) -> tuple[World, Acting]:
    """The functions that play a step, uncompiled, to be part of a larger program; nothing is stored or donated."""
    source = programs.source
    return (
        build_world(source.adapter, source.num_envs, as_it_is),
        build_acting(source.network, programs.acting.num_experts, as_it_is),
    )


def of_experts(acting: Acting, learning: Learning) -> list[StoredProgram]:
    """The programs that depend on the number of experts; the first argument of each has a first axis of experts."""
    return [learning.fresh_state, acting.act, acting.values, *learning.updates]


def for_experts(store: ProgramStore, num_experts: int) -> Compile:
    """Compiles programs that only runs with this (padded) number of experts call."""
    return functools.partial(store.program, group=_group(num_experts))


def _group(num_experts: int) -> str:
    return f"{num_experts} experts"


def build_keys(compiled: Compile) -> KeyPrograms:
    """The programs that make random keys."""
    return KeyPrograms(
        run_keys=compiled("keys of a run", run_keys),
        update_keys=compiled("keys of an update", update_keys),
        folded=compiled("fold in", jax.random.fold_in),
    )


def run_keys(seed, number):
    """A run's keys from its seed and its expert's number."""
    return Keys(*jax.random.split(jax.random.fold_in(jax.random.key(seed), number), len(Keys._fields)))


def update_keys(key, number):
    """The three keys of an update."""
    return tuple(jax.random.split(jax.random.fold_in(key, number), 3))
