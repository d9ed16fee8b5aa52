"""The files through which processes communicate: each format has one type and one version here, used by both sides.

The scheduler, a training and its keeper share nothing but the run's folder. This package does not import jax.
"""
