"""One warm probe a game for the whole session: what is recorded, is recorded once on a machine."""

import jax
import pytest

from flowrl.gate.client import Gate
from flowrl.paths import compile_cache
from tests.gate.corpus import CLASSIC, CRAFTAX


@pytest.fixture(scope="session")
def gates():
    with Gate(CLASSIC) as classic, Gate(CRAFTAX) as craftax:
        yield {CLASSIC: classic, CRAFTAX: craftax}


@pytest.fixture(scope="session", autouse=True)
def kept_programs():
    """What is compiled in this process is kept between test runs; a probe has no such cache."""
    jax.config.update("jax_compilation_cache_dir", str(compile_cache()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    yield
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
