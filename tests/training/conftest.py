from __future__ import annotations

import threading

import pytest

from flowrl.training.compiled import stored_programs
from tests.kept_programs import kept_programs  # noqa: F401


@pytest.fixture
def loads(monkeypatch):
    """The programs that were loaded: their names, and whether that was in a thread."""
    seen, load = [], stored_programs.load

    def watched(path):
        found = load(path)
        if found is not None:
            seen.append((path.name.rpartition("-")[0], threading.current_thread().name == "preload"))
        return found

    monkeypatch.setattr(stored_programs, "load", watched)
    return seen
