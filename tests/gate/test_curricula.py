"""The built-in skills are not probed when they are proposed, but here: each passes the checks for a model's code."""

import pytest

from flowrl.envs.registry import GAMES, make_steps
from flowrl.gate import recorded_states
from flowrl.gate.rules import examine
from flowrl.paths import cache_folder
from flowrl.proposers.curriculum import load_curriculum

SKILLS = [(entry, spec) for entry in GAMES.values() for spec in load_curriculum(entry.curriculum, entry.facts)]


@pytest.fixture(scope="module")
def recorded_games():
    for env_name in GAMES:
        recorded_states.ensure(env_name, cache_folder())
    return {env_name: recorded_states.load(env_name, cache_folder()) for env_name in GAMES}


@pytest.mark.parametrize(("entry", "spec"), SKILLS, ids=[f"{entry.curriculum}-{spec.name}" for entry, spec in SKILLS])
def test_a_built_in_skill_passes_the_examination(entry, spec, recorded_games):
    assert len(examine(spec, make_steps(entry.env_name), recorded_games[entry.env_name])) >= 5
