"""The eight ways from a cell to its neighbours, and arrays seen from the cell that a fire comes from."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

OFFSETS = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))
"""Rows and columns that a fire moves by: north, north-east, and on clockwise. The Moore neighbourhood."""
AZIMUTHS_DEG = np.arange(8) * 45.0
"""float ``[8]``: the same directions in degrees clockwise from north."""
LENGTHS = np.where(np.arange(8) % 2 == 0, 1.0, np.sqrt(2.0))
"""float ``[8]``: from the middle of a cell to its neighbour's, in sides of a cell."""


def at_source(values: jax.Array, direction: int, outside: float = 0) -> jax.Array:
    """For each cell, the value of the cell from which ``direction`` leads to it.

    Args:
        values: ``[..., H, W]``.
        direction: index into :data:`OFFSETS`.
        outside: what lies beyond the edge.

    Returns:
        ``[..., H, W]``.
    """
    return _shifted(values, *OFFSETS[direction], outside)


def at_target(values: jax.Array, direction: int, outside: float = 0) -> jax.Array:
    """For each cell, the value of the cell to which ``direction`` leads from it. Shapes as in :func:`at_source`."""
    rows, columns = OFFSETS[direction]
    return _shifted(values, -rows, -columns, outside)


def _shifted(values: jax.Array, rows: int, columns: int, outside: float) -> jax.Array:
    # Slices of a padded array, because the compiler fuses them with what follows; rolled arrays it copies.
    height, width = values.shape[-2:]
    padded = jnp.pad(values, [(0, 0)] * (values.ndim - 2) + [(1, 1), (1, 1)], constant_values=outside)
    return padded[..., 1 - rows : 1 - rows + height, 1 - columns : 1 - columns + width]
