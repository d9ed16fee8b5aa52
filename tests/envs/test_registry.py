from __future__ import annotations

import pytest

from flowrl.envs.registry import game, make_adapter
from flowrl.errors import BadInput


def test_an_unknown_game_is_refused_with_the_choices():
    with pytest.raises(BadInput, match="Crafter-v1.*Craftax-Classic-Symbolic-v1"):
        game("Crafter-v1")
    with pytest.raises(BadInput):
        make_adapter("Crafter-v1")
