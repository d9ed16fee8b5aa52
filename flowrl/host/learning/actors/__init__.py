"""Actors and a learner that do not wait for each other: IMPALA. Settings, memory, `actor` and `pool` import no JAX."""
