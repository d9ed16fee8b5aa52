"""What tries at a skill's own task needed, spent and gained: read in tests, and held against what the skill declares."""

from __future__ import annotations

import dataclasses
from types import MappingProxyType

import jax
import numpy as np
import pytest

from flowrl.envs import tasks
from flowrl.parallel.training_setup import prepare_training_run
from flowrl.records import result as run_result
from flowrl.records.observed import Difference, DifferenceKind, Observed
from flowrl.skills.facts import Family, GameFacts, Kind
from flowrl.skills.module import compile_module
from flowrl.skills.spec import SkillSpec
from flowrl.training.learning.networks import ExpertNetwork
from flowrl.training.learning.ppo import Hyperparameters
from flowrl.training.playing.environments import random_policy
from flowrl.training.playing.evaluation import evaluate
from flowrl.training.playing.tries import TryLog
from flowrl.training.run import parts
from flowrl.training.run.observed import LEAST_TRIES, Levels, fisher, levels_of, observed, of_a_copy
from flowrl.training.run.specification import RunSpecification, read
from tests.evaluation.camp import FULL, Camp, camp_library
from tests.training.probes import by_source, programs_of, stage_of
from tests.training.test_loop import DONE, PAY, Gold, specification, train

RESOURCES = ("wood", "deed:CHOP", "deed:DRINK", "deed:BUILD")
CODE = {"task_is_done": DONE, "task_reward": PAY}
WOOD, CHOPPED, DRUNK, BUILT = range(4)


# Read in a test.

NUM_ENVS, LIMIT = 64, 8


@pytest.fixture(scope="module")
def stage():
    """Chop twice, then build, by whatever policy."""
    adapter = Camp()
    build = next(skill for skill in camp_library().skills if skill.name == "Build")
    functions = compile_module(build.module_text, adapter.scope, adapter.facts.feature_names)
    plan = tasks.plan_arrays([0] * len(build.plan), [task.n for task in build.plan], LIMIT)
    network = ExpertNetwork(adapter.layout, adapter.num_actions, layer_size=4)
    return stage_of(programs_of(adapter, network, NUM_ENVS, 1, Hyperparameters()), functions, plan)


def played_by_hand(stage, key, num_episodes) -> list[tuple[list[int], list[int], bool, int]]:
    """The levels before and after each try to build, whether it succeeded, and its steps: the game in plain Python."""
    _, act_key, _ = jax.random.split(key, 3)
    actions = np.stack([stage.world.act_at_random(act_key, step).action for step in range(3 * LIMIT)])
    found = []
    for env in range(num_episodes):
        wood, water, deeds, task, steps = 0, FULL, [0, 0, 0], 0, 0
        for action in actions[:, env]:
            if steps == 0:
                before = [int(wood), *map(int, deeds)]
            water = FULL if action == 1 else water - 1
            builds = action == 2 and wood >= 2
            deeds = [deeds[0] or action == 0, deeds[1] or action == 1, deeds[2] or builds]
            wood += (action == 0) - 2 * builds
            steps += 1
            is_done = deeds[2] if task else wood >= 2
            if water > 0 and not task and is_done:
                task, steps = 1, 0
            elif water <= 0 or is_done or steps == LIMIT * (1 if task else 2):
                if task:
                    found.append((before, [int(wood), *map(int, deeds)], bool(is_done), steps))
                break
    return found


def test_levels_are_those_of_the_tries_at_the_last_task(stage):
    key = jax.random.key(3)
    levels = levels_of(Camp(), evaluate(stage, random_policy(stage), key, NUM_ENVS, log=TryLog(1)).tries)
    assert levels.resources == RESOURCES
    expected = played_by_hand(stage, key, NUM_ENVS)
    assert {success for _, _, success, _ in expected} == {True, False}
    held = levels.before.astype(int).tolist(), levels.after.astype(int).tolist()
    shown = zip(*held, levels.success.tolist(), levels.steps.tolist())
    assert sorted(shown) == sorted(expected)


def test_noting_tries_changes_nothing_else(stage):
    key = jax.random.key(4)
    plain = evaluate(stage, random_policy(stage), key, NUM_ENVS + 9)
    read = evaluate(stage, random_policy(stage), key, NUM_ENVS + 9, log=TryLog(1))
    assert plain.tries is None and read._replace(tries=None) == plain
    assert 0 < len(read.tries.success) <= NUM_ENVS + 9


def test_without_a_try_there_are_no_levels(stage):
    levels = levels_of(Camp(), TryLog(1).tries())
    assert levels.before.shape == levels.after.shape == (0, len(RESOURCES))
    assert observed(spec_of(**TRUE), 1, Camp.facts, levels).resources == {}


# Held against what is declared.


def spec_of(**amounts) -> SkillSpec:
    return SkillSpec.from_data({"skill_name": "Build", **CODE, **amounts})


def alike(num_successes, num_failures=0, before=(2, 1, 0, 0), after=(0, 1, 0, 1), failed_before=(2, 1, 0, 0)) -> Levels:
    """Tries that are all alike, but for their steps: 1, 2, 3 and so on, the failures after the successes."""
    start = np.array([before] * num_successes + [failed_before] * num_failures, np.float32).reshape(-1, 4)
    end = np.array([after] * num_successes + [failed_before] * num_failures, np.float32).reshape(-1, 4)
    number = np.arange(num_successes + num_failures)
    return Levels(RESOURCES, start, end, number < num_successes, number + 1)


def of(spec, levels, n=1):
    return observed(spec, n, Camp.facts, levels)


TRUE = {"requires": {"wood": {"fixed": 2}}, "consumes": {"wood": {"fixed": 2}}, "gains": {"deed:BUILD": {"fixed": 1}}}


def test_how_many_steps_nearly_all_successes_took():
    spec = spec_of(**TRUE)
    assert [of(spec, alike(100, 50), n).most_steps for n in (1, 2, 7)] == [95, 48, 14]  # rounded up
    assert of(spec, alike(LEAST_TRIES)).most_steps == 31
    assert of(spec, alike(LEAST_TRIES - 1, 50)).most_steps is None


def test_what_is_as_declared_makes_no_difference():
    found = of(spec_of(**TRUE), alike(100, 50))
    assert found.differences == () and found.added_gains == ()
    assert (found.successes, found.failures) == (100, 50)
    wood = found.resources["wood"]
    assert (wood.requirement_held, wood.spent, wood.change) == (1.0, 1.0, -2.0)
    assert found.resources["deed:BUILD"].gain_held == 1.0 and "deed:DRINK" not in found.resources


def test_a_wrong_consumption_is_found():
    found = of(
        spec_of(**TRUE | {"consumes": {"wood": {"fixed": 5}}, "requires": {}}),
        alike(100, before=(9, 1, 0, 0), after=(7, 1, 0, 1)),
    )
    assert found.lines == [
        "Build: declares to use up 5 wood; 1.00 of 100 successful episodes used less, 2 in the median",
    ]
    (undeclared,) = of(spec_of(gains=TRUE["gains"]), alike(100)).differences
    assert undeclared.kind is DifferenceKind.CONSUMPTION and "declares to use up no wood; 1.00 of 100" in undeclared.text


def test_the_amounts_are_those_of_the_tasks_count():
    declared = spec_of(gains={"deed:BUILD": {"fixed": 1}}, consumes={"wood": {"per": 2}})
    assert of(declared, alike(40, before=(6, 1, 0, 0), after=(0, 1, 0, 1)), n=3).differences == ()
    assert of(declared, alike(40, before=(6, 1, 0, 0), after=(0, 1, 0, 1)), n=2).lines != []


def test_an_achievement_that_is_not_declared_is_found_and_added():
    found = of(spec_of(**TRUE), alike(100, after=(0, 1, 1, 1)))
    text = "Build: declares no gain of deed:DRINK; gained by 1.00 of 100 successful episodes; added to its gains"
    assert found.lines == [text] and found.added_gains == ("deed:DRINK",)


def test_a_stock_that_is_not_declared_is_found_and_not_added():
    found = of(spec_of(gains={"deed:BUILD": {"fixed": 1}}), alike(100, before=(0, 0, 0, 0), after=(3, 0, 0, 1)))
    assert found.lines == ["Build: declares no gain of wood; gained by 1.00 of 100 successful episodes, 3 in the median"]
    assert found.added_gains == ()


def test_a_gain_counts_among_those_that_could_gain():
    levels = alike(100, after=(0, 1, 1, 1))
    levels.before[:60, DRUNK] = 1  # an earlier task had brought it
    assert "gained by 1.00 of 40 successful episodes" in of(spec_of(**TRUE), levels).lines[0]
    levels.before[:80, DRUNK] = 1
    assert of(spec_of(**TRUE), levels).lines == []


def test_a_gain_that_is_never_seen_is_found():
    (difference,) = of(
        spec_of(**TRUE | {"gains": {"deed:BUILD": {"fixed": 1}, "deed:DRINK": {"fixed": 1}}}), alike(50)
    ).differences
    assert difference.kind is DifferenceKind.GAIN_NOT_OBSERVED
    assert difference.text == "Build: declares a gain of 1 deed:DRINK; none of 50 successful episodes held that"


def test_a_requirement_that_successes_did_not_have_is_found():
    declared = spec_of(**TRUE | {"requires": {"wood": {"fixed": 4}}})
    (difference,) = of(declared, alike(50)).differences
    assert difference.kind is DifferenceKind.REQUIREMENT_NOT_HELD
    assert difference.text == "Build: requires 4 wood; only 0.00 of 50 successful episodes began with that"


def test_a_need_that_is_not_declared_is_found():
    levels = alike(100, 100)
    levels.before[levels.success, WOOD], levels.after[levels.success, WOOD] = 3, 3  # it is needed, and not used up
    levels.before[~levels.success, WOOD] = np.arange(100) % 2
    (difference,) = of(spec_of(gains=TRUE["gains"]), levels).differences
    assert (difference.kind, difference.resource) == (DifferenceKind.NEED_NOT_DECLARED, "wood")
    assert difference.text == (
        "Build: declares no need of wood; 1.00 of 100 successful episodes began with it, and 0.50 of 100 failed ones"
    )
    assert of(spec_of(**TRUE | {"consumes": {}}), levels).differences == ()


@pytest.mark.parametrize("share", [0.95, 0.9])
def test_what_some_successes_lacked_is_no_need(share):
    levels = alike(200, 100, failed_before=(0, 0, 0, 0))
    levels.before[:200, WOOD] = levels.after[:200, WOOD] = np.arange(200) < 200 * share
    assert of(spec_of(gains=TRUE["gains"]), levels).differences == ()


def test_chance_makes_no_difference():
    rng = np.random.default_rng(0)
    spec = spec_of(gains={"deed:BUILD": {"fixed": 1}})
    for _ in range(300):
        before = rng.integers(0, 2, (120, 4)).astype(np.float32)
        before[:, WOOD] = rng.random(120) < 0.97
        after = before.copy()
        after[:, BUILT] = 1
        assert of(spec, Levels(RESOURCES, before, after, rng.random(120) < 0.6, np.ones(120, int))).differences == ()


@pytest.mark.parametrize("num_successes", [0, 1, LEAST_TRIES - 1])
def test_few_successes_show_nothing(num_successes):
    found = of(spec_of(gains={"deed:DRINK": {"fixed": 1}}), alike(num_successes, 100))
    assert found.differences == () and found.added_gains == () and found.successes == num_successes


def test_fishers_test_is_that_of_the_lady_tasting_tea():
    assert fisher(3, 1, 1, 3) == pytest.approx(17 / 70)
    assert fisher(4, 0, 0, 4) == pytest.approx(1 / 70)
    assert fisher(0, 4, 4, 0) == pytest.approx(1)


# In a run.


class Nuggets(Gold):
    """Gold in a game that declares it, and counts having found some."""

    facts = dataclasses.replace(
        Gold.facts,
        stocks=MappingProxyType({"gold": 9}),
        families=(Family("found", Kind.POSSESSION, ("GOLD",), "inventory.gold >= 1", "1.0 * (inventory_diff.gold >= 1)"),),
        goals="found",
    )

    @property
    def identity(self):
        return by_source(Gold)  # only its facts differ: its programs are the same


@pytest.fixture
def nuggets(monkeypatch) -> GameFacts:
    monkeypatch.setattr(parts, "make_adapter", lambda env_name: Nuggets())
    return Nuggets.facts


FIND = {"skill_name": "Find_Gold", "gains": {"gold": {"per": 1}}, **CODE}


def declared_run(folder, declared=FIND) -> RunSpecification:
    return dataclasses.replace(specification(folder), spec=SkillSpec.from_data(declared))


def test_a_run_reports_what_its_skill_does_not_declare(tmp_path, nuggets):
    run = declared_run(tmp_path)
    result = train(run)
    (line,) = result.observed.lines
    assert line.startswith("Find_Gold: declares no gain of found:GOLD; gained by 1.00 of ") and result.observed.n == 1
    assert result.observed.successes == round(512 * result.success_rate)
    assert line in run.paths.log.read_text()
    run_result.write(run.paths.result, result)
    assert run_result.read(run.paths.result) == result


def test_a_run_without_a_declaration_observes_nothing(tmp_path, nuggets):
    assert train(specification(tmp_path)).observed is None


def test_a_run_knows_its_skills_declaration_from_its_folder(tmp_path):
    folder, _, _ = prepare_training_run("Find_Gold", FIND, 0, [], {}, tmp_path)
    assert read(folder).spec == SkillSpec.from_data(FIND)
    (folder / "skill.json").write_text("{")
    assert read(folder).spec is None  # it is trained all the same


def test_what_a_copy_of_another_expert_gains_on_the_side_says_nothing_about_the_skill():
    def difference(kind):
        return Difference(kind, "wood", f"{kind}")

    kinds = (DifferenceKind.GAIN_NOT_DECLARED, DifferenceKind.CONSUMPTION)
    seen = Observed(1, 400, 0, {}, tuple(map(difference, kinds)), added_gains=("achievement:COLLECT_WOOD",))
    assert of_a_copy(seen) == Observed(1, 400, 0, {}, (difference(DifferenceKind.CONSUMPTION),))
