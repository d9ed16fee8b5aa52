"""What an expert tries: by hand, and by the games' own names."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from flowrl.envs.registry import make_adapter
from flowrl.records import tried
from flowrl.training.playing.rollout import StepOutcome
from flowrl.training.run.exploration import MEMORY, ActionWatch, numbers_of, watch_of

NAMES = ("NOOP", "LEFT", "RIGHT", "DO", "MAKE_SWORD", "MAKE_PICKAXE")
KINDS = {"move": ("LEFT", "RIGHT"), "use": ("DO",), "make": ("MAKE_",)}
OWN, OTHERS = 1, 0


def step(experts, done=(), task=1):
    size = len(experts)
    flags, none = np.isin(np.arange(size), done), np.zeros(size, bool)
    tasks = np.full(size, task)
    return StepOutcome(tasks, tasks, flags, none, none, np.zeros(size, np.float32), np.array(experts))


@pytest.fixture
def watch():
    return ActionWatch(NAMES, numbers_of(NAMES, KINDS), OWN, last_task=1)


def test_actions_are_put_into_kinds_and_what_is_left_is_other():
    assert numbers_of(NAMES, KINDS) == {"move": [1, 2], "use": [3], "make": [4, 5], "other": [0]}
    assert numbers_of(NAMES, {"any": NAMES, "none": ("FLY",)}) == {"any": [0, 1, 2, 3, 4, 5]}


def test_only_the_own_experts_actions_count_and_old_ones_less_and_less(watch):
    assert watch.tried is None
    watch.add([step([OWN, OWN, OWN, OWN, OTHERS])], [np.array([1, 1, 2, 3, 5])])
    assert watch.tried.kinds == {"move": 0.75, "use": 0.25, "make": 0.0, "other": 0.0}
    third = math.log(3) - 2 / 3 * math.log(2)
    assert watch.tried.entropies == {"move": pytest.approx(third), "make": 0.0}
    assert watch.tried.entropies_described() == f"move {third:.2f}, make 0.00"
    watch.add([step([OWN] * 4)], [np.array([3, 3, 3, 3])])
    assert watch.tried.kinds["use"] == pytest.approx((MEMORY + 4) / (4 * MEMORY + 4))


def test_the_decisive_action_is_the_one_with_which_most_successes_of_the_own_task_came(watch):
    watch.add([step([OWN] * 4, done=[0], task=0)], [np.array([5, 1, 1, 1])])
    assert watch.tried.decisive is None and watch.tried.described() == "move 75%, use 0.0%, make 25%, other 0.0%"
    watch.add([step([OWN] * 4, done=[0, 1, 2])], [np.array([3, 3, 4, 1])])
    found = watch.tried
    assert found.decisive == "DO" and found.decisive_share == pytest.approx(2 / (4 * MEMORY + 4))
    assert found.described().endswith("; DO, which succeeds, 26%")
    assert found.to_data()["decisive_share"] == pytest.approx(found.decisive_share, abs=1e-5)
    # As many other actions have succeeded: none of them decides.
    watch.add([step([OWN] * 4, done=[0, 1, 2])], [np.array([1, 2, 4, 1])])
    assert watch.tried.decisive is None and watch.tried.to_data()["decisive"] is None


def test_the_report_reads_what_a_training_wrote(watch):
    watch.add([step([OWN] * 4, done=[0])], [np.array([3, 1, 2, 4])])
    found = tried.from_data(json.loads(json.dumps(watch.tried.to_data())))
    assert found.described() == watch.tried.described() and found.decisive == "DO"
    assert found.entropies_described() == watch.tried.entropies_described()
    assert tried.from_data(None) is None


@pytest.mark.parametrize("env_name", ["Craftax-Classic-Symbolic-v1", "Craftax-Symbolic-v1"])
def test_every_action_of_the_games_is_of_one_kind(env_name):
    adapter = make_adapter(env_name)
    names = list(adapter.scope["Action"].__members__)
    kinds = numbers_of(names, adapter.facts.action_kinds)
    assert sorted(number for numbers in kinds.values() for number in numbers) == list(range(adapter.num_actions))
    assert {names[number] for number in kinds["use"]} == {"DO"} and ("other" in kinds) == ("READ_BOOK" in names)
    watch = watch_of(adapter, OWN, 1)
    watch.add([step([OWN] * 2)], [np.array([names.index("DO"), names.index("SLEEP")])])
    assert watch.tried.kinds["use"] == watch.tried.kinds["rest"] == 0.5
