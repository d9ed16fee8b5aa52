"""Compressed arrays come back bit for bit, and leave no memory behind meanwhile."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowrl.training.playing import compressed
from flowrl.training.playing.compressed import Compressed


@pytest.fixture(autouse=True)
def everything_is_large(monkeypatch):
    monkeypatch.setattr(compressed, "LEAST_BYTES", 16)


def tree():
    numbers = jnp.asarray(np.random.default_rng(0).normal(size=(3, 5)), jnp.float32).at[0, 0].set(jnp.nan).at[0, 1].set(-0.0)
    return {
        "numbers": numbers,
        "map": jnp.arange(200, dtype=jnp.int32).reshape(2, 10, 10) % 7,
        "masks": [jnp.arange(40) % 3 == 0, jnp.zeros((0, 4), jnp.uint16)],
        "small": jnp.int32(5),
    }


def bits(value):
    return jax.tree.map(lambda leaf: (leaf.shape, str(leaf.dtype), np.asarray(leaf).tobytes()), value)


def test_everything_comes_back_bit_for_bit():
    assert bits(Compressed(tree()).restore()) == bits(tree())


def test_free_memory_goes_back_to_the_machine_before_and_after(monkeypatch):
    given_back = []
    monkeypatch.setattr(compressed.heap, "give_back", lambda: given_back.append(1))
    held = Compressed(tree())
    assert len(given_back) == 1
    held.restore()
    assert len(given_back) == 2


def test_the_memory_of_large_arrays_is_free_meanwhile():
    whole = tree()
    held = Compressed(whole)
    assert whole["map"].is_deleted() and whole["masks"][0].is_deleted() and not whole["small"].is_deleted()
    packed = [leaf.data for leaf in held._leaves if isinstance(leaf, compressed._Packed)]
    assert len(packed) == 3 and sum(map(len, packed)) < 400
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(held.restore()))
