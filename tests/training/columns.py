"""Random observations with one-hot columns, for tests of the fast paths that leave zeros out."""

from __future__ import annotations

import numpy as np

from flowrl.envs.observations import Layout, Observation

LAYOUT = Layout(num_columns=40, num_fields=7, num_scalars=3)


def random_observation(rng, shape, layout=LAYOUT, most=None):
    """Observations ``[*shape]`` whose fields show different columns below ``most``, or nothing now and then."""
    most = most or layout.num_columns
    order = rng.random((*shape, most)).argsort(axis=-1)[..., : layout.num_fields]
    columns = np.where(rng.random(order.shape) < 0.2, layout.num_columns, order)
    return Observation(columns.astype(np.uint16), rng.normal(size=(*shape, layout.num_scalars)).astype(np.float32))
