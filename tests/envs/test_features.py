"""A game's declarations decide which features its states have, and which inputs skill code gets for a step."""

from __future__ import annotations

import pickle
from typing import NamedTuple

import jax
import jax.numpy as jnp
import pytest

from flowrl.envs.features import features_type, task_inputs
from flowrl.errors import BadInput
from flowrl.skills.facts import Feature, GameFacts, OverStep, Penalty, RewardTerm

FACTS = GameFacts(
    env_name="Park",
    features=(
        Feature("bag", "what is carried", over_step=OverStep.CHANGE, step_meaning="its change"),
        Feature("ducks", "where they are", shape="[2]", over_step=OverStep.BEFORE, step_meaning="before the step"),
        Feature("seen", "which ducks were seen", over_step=OverStep.CHANGE, step_meaning="seen by this step"),
        Feature("light", "from 0 to 1"),
        Penalty("tiredness", "half a point for each step walked", feature="ducks", entry=1, weight=0.5),
    ),
)
Park = features_type(FACTS.features)


class Bag(NamedTuple):
    bread: jax.Array


def park(bread, ducks, seen, light):
    return Park(Bag(jnp.int32(bread)), jnp.int32(ducks), jnp.array(seen), jnp.float32(light))


BEFORE = park(3, [5, 5], [True, False], 0.5)
AFTER = park(2, [5, 1], [True, True], 0.25)


def test_a_step_offers_exactly_the_declared_features():
    inputs = jax.jit(task_inputs)(BEFORE, AFTER, 2)
    assert inputs._fields == FACTS.feature_names
    assert inputs._fields == ("bag", "bag_diff", "ducks", "ducks_prev", "seen", "seen_diff", "light", "tiredness", "n")


def test_changes_are_differences_and_truth_values_become_true():
    inputs = jax.jit(task_inputs)(BEFORE, AFTER, 2)
    assert (inputs.bag.bread, inputs.bag_diff.bread, inputs.n) == (2, -1, 2)
    assert inputs.ducks.tolist() == [5, 1] and inputs.ducks_prev.tolist() == [5, 5]
    assert inputs.seen_diff.tolist() == [False, True] and inputs.seen_diff.dtype == bool
    assert task_inputs(AFTER, BEFORE, 1).seen_diff.tolist() == [False, False]


def test_a_penalty_counts_losses_and_not_gains():
    assert task_inputs(BEFORE, AFTER, 1).tiredness == -2.0
    assert task_inputs(AFTER, BEFORE, 1).tiredness == 0.0


def test_features_are_one_type_for_each_set_of_declarations():
    """A program compiled for them fits those of another process, which come out of a pickle."""
    assert features_type(tuple(FACTS.features)) is Park
    assert features_type(FACTS.features[:2]) is not Park
    again = pickle.loads(pickle.dumps(BEFORE))
    assert jax.tree.structure(again) == jax.tree.structure(BEFORE)
    assert again.ducks.tolist() == [5, 5]


def test_each_parameter_is_described_by_its_declaration():
    assert FACTS.feature_lines[:3] == ["bag: what is carried", "bag_diff: its change", "ducks: [2], where they are"]
    assert [line.partition(":")[0] for line in FACTS.feature_lines] == list(FACTS.feature_names)


@pytest.mark.parametrize(
    ("declared", "fault"),
    [
        ({"features": (*FACTS.features, Feature("bag_diff", "again"))}, "two features have one name"),
        ({"features": FACTS.features[-1:]}, "not declared: ['ducks']"),
        ({"stocks": {"bread": 9}}, "not declared: ['inventory']"),
        ({"arrays": frozenset({"nuts"})}, "not inventory fields: ['nuts']"),
        (
            {"terms": (RewardTerm("feed", "1", ("DUCK", "SWAN")), RewardTerm("feed", "2", ("SWAN",)))},
            "share a target: feed SWAN",
        ),
        ({"terms": (RewardTerm("rest", "light"), RewardTerm("rest", "-light"))}, "share a target: rest"),
    ],
)
def test_declarations_that_contradict_each_other_are_refused(declared, fault):
    with pytest.raises(BadInput) as refusal:
        GameFacts(**{"env_name": "Park", "features": FACTS.features} | declared)
    assert fault in str(refusal.value)
