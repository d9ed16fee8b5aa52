"""While a run trains, compiles the programs that runs with more experts will need.

A skill with a longer plan trains more experts, which need other network programs. To keep its start from compiling
them, an earlier run does, in a thread, once on a machine: for the shapes and the bound of columns of its own first
update.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax

from flowrl.machine import free_memory
from flowrl.training.compiled.stored_programs import StoredProgram
from flowrl.training.host import process
from flowrl.training.host.fair_lock import FairLock
from flowrl.training.learning import experts
from flowrl.training.playing.acting import build_acting
from flowrl.training.playing.learning import build_learning
from flowrl.training.playing.programs import Programs, for_experts, of_experts


class Following(NamedTuple):
    """What is likely to train after a run."""

    num_experts: tuple[int, ...]
    """Padded."""
    after_s: float = 0.0
    """Seconds of training before these are compiled: a plan of many tasks takes a while to be reached."""


FOLLOWING = {1: Following((2, 4)), 2: Following((4,)), 4: Following((8,), 300.0), 8: Following((16,), 300.0)}
"""By a run's own number of experts (padded)."""

COMPILED = "programs for later runs with"
"""How the line that reports the end of this begins."""

LEAST_MEMORY = 3 * 2**30
"""Bytes that must be free: this run matters more than another one's start."""


class Stored(NamedTuple):
    """The outcome of storing programs for runs with another number of experts."""

    num_stored: int
    num_left: int
    """Not stored, since compiling ended before their turn."""


def begin(programs: Programs, turn: FairLock, go_on: Callable[[], bool], say: Callable[[str], None]) -> None:
    """Starts compiling for later runs in a thread, unless that is switched off (`process.COMPILE_AHEAD`).

    Args:
        programs: those of a run that has made an update.
        turn: as for `compile_for`.
        go_on: asked before each program; False ends it.
        say: called from another thread with one line on what was compiled, or why it failed.
    """
    following = FOLLOWING.get(programs.acting.num_experts)
    if not process.compiles_ahead() or following is None:
        return

    def may_go_on() -> bool:
        return go_on() and free_memory() > LEAST_MEMORY

    def compile_for_later() -> None:
        time.sleep(following.after_s)
        begun_s = time.monotonic()
        try:
            done = [compile_for(programs, num_experts, turn, may_go_on) for num_experts in following.num_experts]
            num_stored, num_left = map(sum, zip(*done))
            numbers = " or ".join(map(str, following.num_experts))
            taken = f"{num_stored} in {time.monotonic() - begun_s:.0f} s"
            if num_left:
                why = "this run was asked to end" if not go_on() else f"less than {LEAST_MEMORY >> 30} GiB of memory were free"
                say(f"{COMPILED} {numbers} experts: {num_stored} compiled, {num_left} left for those runs; {why}")
            elif num_stored:
                say(f"{COMPILED} {numbers} experts are compiled ({taken}, beside training)")
        except Exception as error:  # this run is not affected
            say(f"programs for later runs were not compiled: {' '.join(str(error).split())[:200]}")

    threading.Thread(target=compile_for_later, name=process.BACKGROUND, daemon=True).start()


def compile_for(programs: Programs, num_experts: int, turn: FairLock, go_on: Callable[[], bool] = lambda: True) -> Stored:
    """Compiles and stores the programs of a later run with another number of experts.

    Uses the shapes and the bound of columns of this run's updates. Takes up to a minute of
    compiling for each number of experts, once on a machine.

    Args:
        turn: held while an update is compiled; the run holds it while it plays or learns, since both take hundreds of MB.
        go_on: asked before each program.

    Returns:
        how many programs were stored now, and how many are still to be.
    """
    count = experts.padded_count(num_experts)
    num_stored = num_left = 0
    for mine, other in zip(of_experts(programs.acting, programs.learning), programs_for(programs, count), strict=True):
        if mine.shapes is None:
            continue
        learner, *others = mine.shapes
        shapes = with_experts(learner, count), *others
        if other.is_missing(*shapes):
            with alone(turn) if mine in programs.learning.updates else contextlib.nullcontext():
                may = go_on()
                num_stored += may and other.store_ahead(*shapes)
            num_left += not may
    return Stored(num_stored, num_left)


def programs_for(programs: Programs, count: int) -> list[StoredProgram]:
    """As `of_experts`, for this number of experts."""
    source, store = programs.source, programs.store
    compiled = for_experts(store, count)
    return of_experts(
        build_acting(source.network, count, compiled),
        build_learning(source.network, source.hyper, count, store.program, compiled),
    )


def with_experts(learner, count: int):
    """The shapes for this number of experts, from those for another number."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((count, *leaf.shape[1:]), leaf.dtype), learner)


@contextlib.contextmanager
def alone(turn: FairLock) -> Iterator[None]:
    """Makes training wait on a CPU; a GPU has its own memory, so it goes on."""
    with turn if jax.default_backend() == "cpu" else contextlib.nullcontext():
        yield
