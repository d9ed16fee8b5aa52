"""docs/add_a_game.md, followed: its game keeps to what every game keeps to."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import flowrl.envs
import flowrl.proposers.curricula
from flowrl.envs import registry
from flowrl.gate import recorded_states
from tests.envs.contract import GameContract

PAGE = Path(__file__).parents[2] / "docs/add_a_game.md"


@pytest.fixture(scope="module")
def entry(tmp_path_factory):
    """The game of the page, with its files beside those of flowrl."""
    place = tmp_path_factory.mktemp("package")
    facts, adapter, curriculum, facts_import, listed, steps = re.findall(
        r"^```python\n(.*?)^```$", PAGE.read_text(), flags=re.DOTALL | re.MULTILINE
    )
    files = {"envs/orchard/facts.py": facts, "envs/orchard/adapter.py": adapter, "envs/orchard/steps.py": steps}
    files |= {"envs/orchard/__init__.py": "", "curricula/orchard.py": curriculum}
    for name, text in files.items():
        assert not text or name.startswith("envs/orchard/__") or f"flowrl/{name}" in PAGE.read_text().replace("proposers/", "")
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flowrl.envs, "__path__", [*flowrl.envs.__path__, str(place / "envs")])
        patch.setattr(flowrl.proposers.curricula, "__path__", [*flowrl.proposers.curricula.__path__, str(place / "curricula")])
        namespace = dict(vars(registry))
        exec(facts_import, namespace)
        game = eval(listed.strip().rstrip(","), namespace)
        patch.setitem(registry.GAMES, game.env_name, game)
        yield game


class TestTheGameOfThePage(GameContract):
    """A game with an inventory, one family and its own reward term."""

    @pytest.fixture(scope="class")
    @classmethod
    def recorded(cls, entry, tmp_path_factory):
        folder = tmp_path_factory.mktemp("cache")
        recorded_states.ensure(entry.env_name, folder)
        return recorded_states.load(entry.env_name, folder)
