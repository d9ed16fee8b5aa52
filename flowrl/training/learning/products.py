"""Matrix products: exact ones, and ones in mixed precision.

Mixed precision rounds the factors to bfloat16 and sums in float32. `mixed` replaces ``jnp.matmul``, its plain reference
in the tests. Parameters, losses, sums of gradients and Adam are float32 either way (Kalamkar et al. 2019,
https://arxiv.org/abs/1905.12322). A factor loses at most one part in 256. This pays off on devices that multiply
bfloat16 natively.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def exact(left: jax.Array, right: jax.Array) -> jax.Array:
    """``jnp.matmul`` in float32 throughout; a GPU would round the factors of an ordinary product."""
    return jnp.matmul(left, right, precision=jax.lax.Precision.HIGHEST)


@jax.custom_vjp
def mixed(left: jax.Array, right: jax.Array) -> jax.Array:
    """``left [N, I] @ right [I, H]``, float32 ``[N, H]``; the products of its gradient are rounded in the same way."""
    return jnp.matmul(left.astype(jnp.bfloat16), right.astype(jnp.bfloat16), preferred_element_type=jnp.float32)


def _forward(left, right):
    return mixed(left, right), (left, right)


def _backward(factors, gradient):
    left, right = factors
    return mixed(gradient, right.T), mixed(left.T, gradient)


mixed.defvjp(_forward, _backward)


def mixed_dot_general(left: jax.Array, right: jax.Array, dimension_numbers: Any, **options: Any) -> jax.Array:
    """`mixed`, called as ``flax.linen.Dense`` calls its product."""
    if dimension_numbers != (((1,), (0,)), ((), ())):
        raise NotImplementedError(f"expected a product [N, I] @ [I, H], found dimension numbers {dimension_numbers}")
    return mixed(left, right)
