"""Compiled programs are kept between test files, and between test runs, as a training keeps them between runs."""

from __future__ import annotations

import jax
import pytest

from flowrl.jax_cache import LIMIT_BYTES
from flowrl.paths import compile_cache


@pytest.fixture(scope="session", autouse=True)
def kept_programs():
    """For the folders whose ``conftest`` imports this."""
    jax.config.update("jax_compilation_cache_dir", str(compile_cache()))
    # With the limit of the trainings: what is stored without one would keep them from storing anything (see jax_cache.py).
    jax.config.update("jax_compilation_cache_max_size", LIMIT_BYTES)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
