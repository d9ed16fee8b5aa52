"""One warm probe per game for the whole session; states are recorded once per machine."""

import jax
import pytest

from flowrl.gate.client import Gate
from flowrl.jax_cache import LIMIT_BYTES
from flowrl.paths import compile_cache
from tests.gate.corpus import CLASSIC, CRAFTAX


@pytest.fixture(scope="session")
def gates():
    with Gate(CLASSIC) as classic, Gate(CRAFTAX) as craftax:
        yield {CLASSIC: classic, CRAFTAX: craftax}


@pytest.fixture(scope="session", autouse=True)
def kept_programs():
    """Keeps programs compiled in this process between test runs; a probe has no such cache."""
    jax.config.update("jax_compilation_cache_dir", str(compile_cache()))
    # With the limit of the trainings: what is stored without one would keep them from storing anything (see jax_cache.py).
    jax.config.update("jax_compilation_cache_max_size", LIMIT_BYTES)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    yield
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
