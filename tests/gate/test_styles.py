"""The compiled code of a skill computes what its source says: Python, run step by step on the source, agrees."""

import enum

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowrl.envs.features import task_inputs
from flowrl.envs.registry import game, make_steps
from flowrl.gate import recorded_states
from flowrl.gate.edited_states import Editor, count, joined, taken
from flowrl.gate.execution import CompiledSkill
from flowrl.paths import cache_folder
from flowrl.skills.checks import parse_function
from tests.gate.corpus import CLASSIC, CRAFTAX, GOOD
from tests.gate.styles import STYLES

STEPS = 6


@pytest.fixture(scope="module")
def recorded_games(gates):
    for env_name in (CLASSIC, CRAFTAX):
        gates[env_name].report(next(case for case in GOOD if case.env_name == env_name).spec)
    return {env_name: recorded_states.load(env_name, cache_folder()) for env_name in (CLASSIC, CRAFTAX)}


def steps(spec, recorded):
    """Recorded steps, followed by the same steps edited to make the skill's gains."""
    places = np.linspace(0, count(recorded.before) - 1, STEPS).astype(int)
    before, after = taken(recorded.before, places), taken(recorded.after, places)
    levels = {resource: int(amount.at(1)) for resource, amount in spec.gains.items()}
    gained_before, gained_after, _ = Editor(make_steps(recorded.env_name)).gained(before, after, levels)
    return joined([before, gained_before]), joined([after, gained_after])


def as_written(source, name, scope):
    """The function that Python itself makes of the source."""
    code = source.partition("```python\n")[2].partition("```")[0] if "```" in source else source
    namespace = dict(scope)
    exec(f"from __future__ import annotations\n{code}", namespace)
    return namespace[name]


@pytest.mark.parametrize("case", STYLES, ids=lambda case: case.name)
def test_what_is_compiled_computes_what_is_written(case, recorded_games):
    spec, recorded = case.spec, recorded_games[case.env_name]
    compiled = CompiledSkill(spec, game(case.env_name).facts, recorded.enums)
    before, after = steps(spec, recorded)
    results = compiled.run(before, after, np.ones(2 * STEPS, np.int32))
    scope = {"jax": jax, "jnp": jnp, **{name: enum.Enum(name, dict(members)) for name, members in recorded.enums.items()}}
    for name, computed in (("task_is_done", results.done), ("task_reward", results.reward)):
        source = getattr(spec, name)
        function = as_written(source, name, scope)
        parameters = [argument.arg for argument in parse_function(source, name).args.args]
        for row, found in enumerate(computed):
            features = [
                jax.tree.map(lambda values: jnp.asarray(values[row]), compiled._features(rows)) for rows in (before, after)
            ]
            inputs = task_inputs(*features, jnp.int32(1))
            expected = function(**{parameter: getattr(inputs, parameter) for parameter in parameters})
            np.testing.assert_allclose(float(found), float(expected), rtol=1e-5, atol=1e-6, err_msg=name)
    assert len(set(results.reward.tolist())) > 1 and results.done.any()
