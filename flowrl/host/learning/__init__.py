"""Agents that learn on batches of environments. Settings, observations, actions and `numpy_policy` import no JAX."""
