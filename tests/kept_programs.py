"""Compiled programs are kept between test files, and between test runs, as a training keeps them between runs."""

from __future__ import annotations

import jax
import pytest

from flowrl.paths import compile_cache


@pytest.fixture(scope="session", autouse=True)
def kept_programs():
    """For the folders whose ``conftest`` imports this."""
    jax.config.update("jax_compilation_cache_dir", str(compile_cache()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
