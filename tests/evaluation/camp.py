"""A game small enough to be worked out by hand, with a library of experts that always press one button.

Each step takes one unit of water, and at none the game is over. CHOP brings a piece of wood, DRINK fills the water, BUILD
makes a hut of two pieces of wood, WAIT does nothing. Chopping, drinking and building are the achievements.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flowrl.envs.adapter import GameAdapter
from flowrl.envs.observations import Layout, dense
from flowrl.evaluation.library import Library, LibrarySkill
from flowrl.records.run_record import PlannedTask
from flowrl.skills.facts import Ending, Family, Feature, GameFacts, Kind, OverStep, Vital
from flowrl.skills.module import TaskSource, render_module
from flowrl.skills.plan import build_plan
from flowrl.skills.spec import SkillSpec
from flowrl.training.learning.networks import ExpertNetwork

FULL = 9
DEEDS = ("CHOP", "DRINK", "BUILD")
ACTIONS = (*DEEDS, "WAIT")
LAYER_SIZE = 4
MAX_TASK_STEPS = 3
Deed = Enum("Deed", list(DEEDS), start=0)


class Pack(NamedTuple):
    wood: jax.Array


class State(NamedTuple):
    pack: Pack
    water: jax.Array
    deeds: jax.Array


class Camp(GameAdapter):
    facts = GameFacts(
        env_name="Camp",
        features=(
            Feature("inventory", "the pack", over_step=OverStep.CHANGE, step_meaning="its change"),
            Feature("water", "units of water", over_step=OverStep.CHANGE, step_meaning="its change"),
            Feature("deeds", "what was done", over_step=OverStep.CHANGE, step_meaning="what was done in this step"),
        ),
        stocks={"wood": 9},
        families=(Family("deed", Kind.POSSESSION, DEEDS, "deeds[{index}]", "deeds_diff[{index}]"),),
        goals="deed",
        own_reward="1.0 * deeds_diff.sum()",
        vitals=(Vital("water", "water", ("DRINK",)),),
        endings=(Ending("thirst", "water <= 0"),),
        constants={"Deed": DEEDS},
    )
    num_actions = len(ACTIONS)
    observation_size = 2
    layout = Layout(num_columns=0, num_fields=0, num_scalars=2)
    scope = {"jax": jax, "jnp": jnp, "Deed": Deed}

    def __init__(self, env_name: str = "Camp"):
        super().__init__(env_name)

    def reset(self, key):
        state = State(Pack(jnp.int32(0)), jnp.int32(FULL), jnp.zeros(len(DEEDS), bool))
        return self._seen(state), state

    def step(self, key, state, action):
        wood, water, deeds = state.pack.wood, state.water - 1, state.deeds
        builds = (action == 2) & (wood >= 2)
        done = jnp.stack([action == 0, action == 1, builds])
        wood = jnp.minimum(wood + (action == 0) - 2 * builds, 9)
        state = State(Pack(wood.astype(jnp.int32)), jnp.where(action == 1, FULL, water), deeds | done)
        return self._seen(state), state, state.water <= 0

    def observe(self, state):
        return dense(self._seen(state))

    def features(self, state):
        return self.features_type(inventory=state.pack, water=state.water, deeds=state.deeds)

    def _seen(self, state):
        return jnp.stack([state.pack.wood, state.water]).astype(jnp.float32)


def deed(number: int) -> tuple[str, str]:
    return (
        f"def task_is_done(deeds):\n    return deeds[{number}]\n",
        f"def task_reward(deeds_diff):\n    return 1.0 * deeds_diff[{number}]\n",
    )


CODE = {
    "Chop": (
        "def task_is_done(inventory, n):\n    return inventory.wood >= n\n",
        "def task_reward(inventory_diff):\n    return 1.0 * inventory_diff.wood\n",
    ),
    "Drink": deed(1),
    "Build": deed(2),
}
AMOUNTS = {
    "Chop": {"gains": {"wood": {"per": 1}, "deed:CHOP": {"fixed": 1}}},
    "Drink": {"gains": {"deed:DRINK": {"fixed": 1}}},
    "Build": {"requires": {"wood": {"fixed": 2}}, "consumes": {"wood": {"fixed": 2}}, "gains": {"deed:BUILD": {"fixed": 1}}},
}


def camp_library(limit: int = MAX_TASK_STEPS, **button: str) -> Library:
    """Chop, Drink and Build, whose experts press the button of that name, or another one, as ``Build="WAIT"``.

    Args:
        limit: steps of a task, for each unit of ``n``.
    """
    specs = {
        name: SkillSpec.from_data({"skill_name": name, **AMOUNTS[name], "task_is_done": done, "task_reward": reward})
        for name, (done, reward) in CODE.items()
    }
    indices = {name: place for place, name in enumerate(specs)}
    skills = []
    for name, spec in specs.items():
        plan = build_plan(spec, specs, Camp.facts)
        tasks = [
            TaskSource(task["skill_name"], task["n"], indices[task["skill_name"]], *CODE[task["skill_name"]]) for task in plan
        ]
        planned = tuple(PlannedTask(task.skill_name, task.n, task.local_expert_idx, task.local_expert_idx) for task in tasks)
        module = render_module(name, indices[name], {place: place for place in indices.values()}, tasks)
        params = pressing(button.get(name, name.upper()))
        limits = (limit,) * len(planned)
        skills.append(LibrarySkill(indices[name], name, spec, module, planned, limits, None, params))
    return Library("Camp", LAYER_SIZE, False, tuple(skills), 0)


def pressing(button: str):
    """The parameters of an expert that always presses one button."""
    network = ExpertNetwork(Camp.layout, Camp.num_actions, LAYER_SIZE)
    params = jax.tree.map(np.zeros_like, jax.device_get(network.init(jax.random.key(0))))
    bias = params["actor"]["head"]["bias"] if "head" in params["actor"] else next(iter(params["actor"].values()))["bias"]
    bias[ACTIONS.index(button)] = 100.0
    return params
