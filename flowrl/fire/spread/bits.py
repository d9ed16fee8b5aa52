"""Thirty-two fires in a word: one bit of an unsigned integer for each."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

WORD = 32


def num_words(num_fires: int) -> int:
    """Words that hold a bit for each fire."""
    return -(-num_fires // WORD)


@jax.jit
def pack(flags: jax.Array) -> jax.Array:
    """Packs flags of ``N`` fires.

    Args:
        flags: bool ``[N, ...]``.

    Returns:
        uint32 ``[G, ...]`` with ``G = ceil(N / 32)``: fire ``i`` is bit ``i % 32`` of word ``i // 32``; bits without a fire
        are 0.
    """
    words = num_words(flags.shape[0])
    padded = jnp.pad(flags, [(0, words * WORD - flags.shape[0])] + [(0, 0)] * (flags.ndim - 1))
    bits = padded.reshape(words, WORD, *flags.shape[1:]).astype(jnp.uint32)
    return jnp.sum(bits << _places(bits.ndim - 2), axis=1, dtype=jnp.uint32)


@partial(jax.jit, static_argnames="num_fires")
def unpack(words: jax.Array, num_fires: int) -> jax.Array:
    """The flags of :func:`pack`: bool ``[N, ...]`` from uint32 ``[G, ...]``."""
    bits = (words[:, None] >> _places(words.ndim - 1)) & 1
    return bits.reshape(-1, *words.shape[1:])[:num_fires].astype(bool)


def count(words: jax.Array) -> jax.Array:
    """In how many fires each flag is set: int32 ``[...]`` from uint32 ``[G, ...]``."""
    return jnp.sum(jax.lax.population_count(words), axis=0, dtype=jnp.int32)


def _places(trailing: int) -> jax.Array:
    return jnp.arange(WORD, dtype=jnp.uint32).reshape(1, WORD, *[1] * trailing)
