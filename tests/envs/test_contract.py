"""Every registered game keeps to the contract."""

from __future__ import annotations

import pytest

from flowrl.envs.registry import GAMES
from tests.envs.contract import GameContract


@pytest.fixture(scope="class", params=GAMES.values(), ids=list(GAMES))
def entry(request):
    return request.param


class TestRegisteredGames(GameContract):
    """In turn."""

    def tried(self, skills):
        """Tests of the gate try the others, on more steps."""
        return list(skills.values())[:2]
