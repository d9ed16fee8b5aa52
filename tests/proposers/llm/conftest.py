"""A model server for tests that need one, an environment without the developer's keys, and a clock that does not wait."""

from __future__ import annotations

import time

import pytest

from tests.proposers.llm.server import ModelServer


@pytest.fixture(autouse=True)
def without_keys(monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def make_server():
    servers = []

    def make(**how) -> ModelServer:
        servers.append(ModelServer(**how))
        return servers[-1]

    yield make
    for server in servers:
        server.close()
    assert [surprise for server in servers for surprise in server.surprises] == []


@pytest.fixture
def server(make_server) -> ModelServer:
    """A server that supports every form."""
    return make_server()


class HurriedClock:
    """A clock whose pauses pass at once."""

    def __init__(self):
        self.pauses: list[float] = []

    def monotonic(self) -> float:
        return time.monotonic() + sum(self.pauses)

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)


@pytest.fixture
def clock() -> HurriedClock:
    return HurriedClock()
