"""Compiled programs are kept between test runs, as a training keeps them between runs."""

from __future__ import annotations

import jax
import pytest

from flowrl.envs.registry import GAMES
from flowrl.training.process import compile_cache
from tests.envs.played import CLASSIC, played_game


@pytest.fixture(scope="session", autouse=True)
def kept_programs():
    jax.config.update("jax_compilation_cache_dir", str(compile_cache()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


@pytest.fixture(scope="session", params=list(GAMES))
def played(request):
    """Each registered game in turn, with states reached by random play."""
    return played_game(request.param)


@pytest.fixture(scope="session")
def classic():
    """Craftax-Classic alone, where compiling a second program for both games would take too long."""
    return played_game(CLASSIC)
