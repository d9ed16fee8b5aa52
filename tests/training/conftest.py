"""Compiled programs are kept between test runs, as a training keeps them between runs."""

from __future__ import annotations

import threading

import jax
import pytest

from flowrl.paths import compile_cache
from flowrl.training import stored_programs


@pytest.fixture(scope="session", autouse=True)
def kept_programs():
    jax.config.update("jax_compilation_cache_dir", str(compile_cache()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


@pytest.fixture
def loads(monkeypatch):
    """What was loaded: the names of programs, and whether that was in a thread."""
    seen, load = [], stored_programs.load

    def watched(path):
        found = load(path)
        if found is not None:
            seen.append((path.name.rpartition("-")[0], threading.current_thread().name == "prefetch"))
        return found

    monkeypatch.setattr(stored_programs, "load", watched)
    return seen
