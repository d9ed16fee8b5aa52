"""Games so small that the right values are known, each of which can only be learned if one more part works.

After the probe environments of rejax and Stoix. A probe's world is one number that the agent sees; rewards
are paid as *gold* in the inventory, and what a task is or pays is said with plain functions of the features.
"""

from __future__ import annotations

import hashlib
import inspect
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp

from flowrl.envs import tasks
from flowrl.envs.adapter import GameAdapter
from flowrl.envs.observations import Layout, dense
from flowrl.skills.facts import Feature, GameFacts, OverStep
from flowrl.skills.module import TaskFunctions
from flowrl.training.learning import experts, optimiser
from flowrl.training.learning.networks import ExpertNetwork
from flowrl.training.learning.ppo import Hyperparameters, Learner
from flowrl.training.playing.environments import Stage, begin, plan_judge, refresh_worlds
from flowrl.training.playing.learning import Updater
from flowrl.training.playing.programs import Programs, Source, compile_programs
from flowrl.training.playing.rollout import collect, values

NUM_ENVS, NUM_STEPS = 16, 8
GAMMA = 0.5


class Pouch(NamedTuple):
    """A probe's inventory."""

    gold: jax.Array
    """float32: rewards so far."""
    steps: jax.Array
    """int32: steps since the world began."""


class World(NamedTuple):
    """A probe's state."""

    sight: jax.Array
    """float32: what the agent sees."""
    pouch: Pouch


def by_source(game: type[GameAdapter]) -> str:
    """The identity of a game without parameters: its name, and the content of the files that it is made from.

    With it, a game's programs are compiled once for all tests, instead of once for each run.
    """
    files = {inspect.getfile(part) for part in game.__mro__ if issubclass(part, Probe)}
    digest = hashlib.sha256(b"".join(Path(file).read_bytes() for file in sorted(files)))
    return f"{game.__module__}.{game.__qualname__} {digest.hexdigest()}"


class Probe(GameAdapter):
    """A game in which the agent sees one number; says nothing, pays nothing and never ends by itself."""

    facts = GameFacts(
        env_name="Probe",
        features=(
            Feature("inventory", "gold and steps", over_step=OverStep.CHANGE, step_meaning="their change over the step"),
        ),
    )
    num_actions = 2
    observation_size = 1
    layout = Layout(num_columns=0, num_fields=0, num_scalars=1)
    scope: dict = {}

    def __init__(self, env_name: str = "Probe"):
        super().__init__(env_name)

    def reset(self, key):
        world = World(self.first_sight(key), Pouch(jnp.float32(0), jnp.int32(0)))
        return self.observation(world), world

    def step(self, key, state, action):
        pouch = Pouch(state.pouch.gold + self.pay(state, action), state.pouch.steps + 1)
        world = World(self.next_sight(key, state), pouch)
        return self.observation(world), world, self.is_over(world)

    def observe(self, state):
        return dense(self.observation(state))

    def features(self, state):
        return self.features_type(inventory=state.pouch)

    def observation(self, world):
        return world.sight[None]

    def first_sight(self, key):
        return jnp.float32(0)

    def next_sight(self, key, world):
        return world.sight

    def pay(self, world, action):
        return jnp.float32(0)

    def is_over(self, world):
        return jnp.bool_(False)


def done_after(steps):
    """A task that is done after this many steps of the world, and pays the gold of each step."""
    return TaskFunctions(lambda inventory: inventory.steps >= steps, ("inventory",), paid, ("inventory_diff",))


def paid(inventory_diff):
    return inventory_diff.gold


def stage_of(programs, functions, plan) -> Stage:
    """Where a run with these programs would play this plan."""
    return Stage(programs.world, programs.acting, plan_judge(functions, plan, programs.world.num_envs))


def programs_of(adapter, network, num_envs, num_experts, hyper, **how) -> Programs:
    """The programs of a run."""
    return compile_programs(Source(adapter, network, hyper, num_envs), num_experts, **how)


class Trained(NamedTuple):
    """The result of training on a probe."""

    network: ExpertNetwork
    learner: Learner

    def value(self, *sights, expert=0):
        params = experts.select(self.learner.params, expert)
        return self.network.value(params, dense(jnp.float32(sights)[:, None]))

    def probability(self, action, *sights, expert=0):
        params = experts.select(self.learner.params, expert)
        return jax.nn.softmax(self.network.logits(params, dense(jnp.float32(sights)[:, None])))[:, action]


def train(
    adapter, functions, owners=None, max_task_steps=10, num_updates=60, seed=0, mixed_precision=False, **hyper
) -> Trained:
    """Trains with the programs of a real run; ``owners`` names the expert of each task."""
    owners = owners or [0] * len(functions)
    num_experts = max(owners) + 1
    hyper = Hyperparameters(**{"gamma": GAMMA, "num_minibatches": 2, "ent_coef": 0.0} | hyper)
    network = ExpertNetwork(adapter.layout, adapter.num_actions, 16, mixed_precision)
    plan = tasks.plan_arrays(owners, [1] * len(owners), max_task_steps)
    programs = programs_of(adapter, network, NUM_ENVS, num_experts, hyper)
    stage, updater = stage_of(programs, functions, plan), Updater(programs.learning)
    init_key, world_key, train_key = jax.random.split(jax.random.key(seed), 3)
    init = jax.jit(network.init)
    params = experts.stack([init(key) for key in jax.random.split(init_key, num_experts)])
    learner = Learner(params, optimiser.init(optimiser.make(hyper.max_grad_norm), params))
    playing = begin(stage, world_key, 2 * NUM_ENVS)
    for update in range(num_updates):
        collect_key, learn_key, fresh_key = jax.random.split(jax.random.fold_in(train_key, update), 3)
        playing, rollout, _ = collect(stage, learner.params, playing, collect_key, NUM_STEPS)
        last_values = values(stage, learner.params, playing)
        lr = 0.02 * (1 - update / num_updates)
        learner, _ = updater.update(learner, rollout, last_values, learn_key, lr)
        playing = refresh_worlds(stage, playing, fresh_key, NUM_ENVS)
    return Trained(network, learner)
