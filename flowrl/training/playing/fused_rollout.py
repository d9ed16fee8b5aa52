"""A rollout as one compiled program, for devices that would wait while Python drives it step by step.

A step is five programs, each started from Python. On a CPU a step takes much longer than these starts; on a GPU it does
not. The plain reference is `rollout.collect`; the fused program is made of the same functions, in the same order, with
the same random keys. It holds the skills' code, so every run compiles its own: in a thread, while rollouts go on step
by step.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp

from flowrl.errors import FlowrlError
from flowrl.training.compiled.stored_programs import shape_of
from flowrl.training.host import process
from flowrl.training.learning.networks import Params
from flowrl.training.learning.ppo import Transition
from flowrl.training.playing import rollout
from flowrl.training.playing.environments import Judge, Playing, Stage, look_around
from flowrl.training.playing.programs import Programs, inlined
from flowrl.training.playing.rollout import StepOutcome
from flowrl.training.playing.stopwatch import UNWATCHED, Stopwatch


class Rollouts:
    """Collects the rollouts of a run: step by step, until a fused program is ready."""

    def __init__(self, programs: Programs, judge: Judge, num_steps: int):
        self._programs, self._judge, self._num_steps = programs, judge, num_steps
        self._stage = Stage(programs.world, programs.acting, judge)
        self._fused: Callable | None = None

    @property
    def is_fused(self) -> bool:
        return self._fused is not None

    def collect(
        self, params: Params, playing: Playing, key: jax.Array, stopwatch: Stopwatch = UNWATCHED
    ) -> tuple[Playing, tuple[Transition, ...], list[StepOutcome]]:
        """As `rollout.collect`. With a fused program all of ``playing`` is donated, including the bank of worlds, and nothing
        is measured."""
        if self._fused is None:
            return rollout.collect(self._stage, params, playing, key, self._num_steps, stopwatch)
        playing, transitions, outcomes = self._fused(params, playing, key)
        outcomes = jax.device_get(outcomes)
        return playing, transitions, [StepOutcome(*(part[t] for part in outcomes)) for t in range(self._num_steps)]

    def fuse(self, params: Params, playing: Playing) -> None:
        """Compiles the fused program for arguments like these; the rollouts after it use it.

        Raises:
            FlowrlError: the device has no room for it.
        """
        shapes = jax.tree.map(shape_of, (params, playing, jax.random.key(0)))
        fused = jax.jit(make_fused(self._programs, self._judge, self._num_steps), donate_argnums=(1,)).lower(*shapes).compile()
        check_room(fused)  # running out of memory later would lose the donated buffers
        self._fused = fused

    def fuse_beside(self, params: Params, playing: Playing, say: Callable[[str], None]) -> None:
        """Does the same in a thread, if it is worth it (`pays`); a failure only prints a line.

        Args:
            say: called from another thread with one line about the outcome.
        """
        if not pays():
            return
        shapes = jax.tree.map(shape_of, (params, playing))

        def fuse() -> None:
            begun_s = time.monotonic()
            try:
                self.fuse(*shapes)
                say(f"rollouts are one program from here on (compiled beside training in {time.monotonic() - begun_s:.0f} s)")
            except Exception as error:  # step by step is slower, but just as good
                say(f"rollouts continue step by step: {' '.join(str(error).split())[:200]}")

        threading.Thread(target=fuse, name=process.BACKGROUND, daemon=True).start()


def pays() -> bool:
    """Whether to fuse this process's rollouts: as the environment variable says, by default on all devices but CPUs."""
    asked = process.fuses_rollouts()
    return jax.default_backend() != "cpu" if asked is None else asked


def check_room(compiled) -> None:
    """Raises FlowrlError if a program needs more memory than the device has free."""
    free, sizes = free_bytes(), compiled.memory_analysis()
    if free is None or sizes is None:
        return
    needed = sizes.temp_size_in_bytes + sizes.output_size_in_bytes - sizes.alias_size_in_bytes
    if needed > free:
        raise FlowrlError(f"as one program they need {needed / 2**20:,.0f} MiB, and {free / 2**20:,.0f} MiB are free")


def free_bytes() -> int | None:
    """Free bytes of the device memory that this process may use; None if the device does not report it, as on CPUs."""
    known = jax.devices()[0].memory_stats()
    return known["bytes_limit"] - known["bytes_in_use"] if known and "bytes_limit" in known else None


def make_fused(programs: Programs, judge: Judge, num_steps: int):
    """`rollout.collect` as a function that can be compiled; ``StepOutcome`` with a first axis of ``T``."""
    stage = Stage(*inlined(programs), judge)

    def collect(params, playing, key):
        act_key, step_key = jax.random.split(key)

        def step(playing, number):
            return rollout.play(stage, params, playing, act_key, step_key, number)

        playing, (transitions, outcomes) = jax.lax.scan(step, look_around(stage, playing), jnp.arange(num_steps))
        # An update takes the steps one by one, however they were collected, so that one stored program serves both.
        return playing, tuple(jax.tree.map(lambda leaf: leaf[t], transitions) for t in range(num_steps)), outcomes

    return collect
