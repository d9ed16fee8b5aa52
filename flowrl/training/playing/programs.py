"""The compiled programs of a run, and how a step is put together from them.

A step is driven from Python, program by program. All programs but one (`judge`) are the same for every
skill with the same game, batch and padded number of experts, so they are stored (`stored_programs`) and the
second run finds them ready; the judge holds the skills' code, and is small.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flowrl import paths
from flowrl.envs import tasks, worlds
from flowrl.envs.adapter import GameAdapter
from flowrl.envs.observations import Layout
from flowrl.envs.tasks import PlanArrays, Progress, Verdict
from flowrl.envs.worlds import Scene, WorldBank
from flowrl.skills.module import TaskFunctions
from flowrl.training.compiled.stored_programs import ProgramStore, StoredProgram
from flowrl.training.learning import experts, losses, optimiser, ppo
from flowrl.training.learning.networks import ExpertNetwork, Params
from flowrl.training.learning.ppo import Hyperparameters, Learner, Transition, stack_time
from flowrl.training.one_hot import active_columns, first_layer

ACTING_BLOCK_SIZE = 64
"""Environments a block while acting; smaller than a learning block, since fewer rows are spread over the experts."""

ACTING_BLOCK_SIZE_OFF_CPU = 1024
"""A GPU is kept waiting by many small blocks, one after the other."""

WORLDS_AT_ONCE = 16
"""Worlds that one call of the generator makes."""


class Decision(NamedTuple):
    """What the acting experts chose, ``[B]`` each."""

    action: jax.Array
    log_prob: jax.Array
    value: jax.Array


class Playing(NamedTuple):
    """A batch of environments in the middle of their episodes."""

    bank: WorldBank
    scene: Scene
    progress: Progress
    expert: jax.Array
    """int32 ``[B]``: who acts next in each environment."""
    typical: jax.Array
    """uint16 ``[num_fields]``: the columns of a typical observation (see `first_layer`)."""


Decide = Callable[[Playing, jax.Array, int], Decision]
"""``(where the environments are, key, step) -> Decision``."""


class PutBy(NamedTuple):
    """What came of storing programs for later runs."""

    num_stored: int
    num_left: int
    """That were not stored, since there was to be an end of it."""


class Keys(NamedTuple):
    """Where each part of a run draws its randomness from."""

    init: jax.Array
    worlds: jax.Array
    updates: jax.Array
    tests: jax.Array
    random_policy: jax.Array


class ExpertPrograms(NamedTuple):
    """The programs that depend on the number of experts."""

    fresh_state: StoredProgram
    act: StoredProgram
    values: StoredProgram
    plain_update: StoredProgram
    narrow_updates: dict[int, StoredProgram]
    """By their bounds of columns."""

    def all(self) -> list[StoredProgram]:
        """Each of them; its first argument has a first axis of experts."""
        return [self.fresh_state, self.act, self.values, *self.updates()]

    def updates(self) -> list[StoredProgram]:
        """Those of them that learn."""
        return [self.plain_update, *self.narrow_updates.values()]


class InTurn:
    """A lock for two threads, that neither gets twice while the other one waits for it."""

    def __init__(self):
        self._next, self._held = threading.Lock(), threading.Lock()

    @property
    def is_taken(self) -> bool:
        return self._held.locked()

    def __enter__(self) -> None:
        with self._next:
            self._held.acquire()

    def __exit__(self, *_) -> None:
        self._held.release()


class Programs:
    """Everything compiled that a run needs."""

    def __init__(
        self,
        adapter: GameAdapter,
        network: ExpertNetwork,
        functions: Sequence[TaskFunctions],
        plan: PlanArrays,
        num_envs: int,
        num_experts: int,
        hyper: Hyperparameters,
        num_steps: int | None = None,
    ):
        """
        Args:
            num_steps: of a rollout. Any may be played; those that are told apart by it load beforehand what they will call.
        """
        self.num_envs = num_envs
        self.num_experts = experts.padded_count(num_experts)
        self.plan = plan
        self._network, self._hyper = network, hyper
        kind = num_envs, num_steps, network.layer_size, network.mixed_precision, hyper
        self._store = ProgramStore(paths.stored_programs(), adapter.identity, kind)
        program = self._store.program
        # Random keys too are made by programs of their own: operation by operation they took half a second of a start.
        self._run_keys = program("keys of a run", run_keys)
        self._update_keys = program("keys of an update", update_keys)
        self._fold_in = program("fold in", jax.random.fold_in)
        self._init = jax.jit(network.init)
        self._generate = program("generate", make_generate(adapter))
        # States are large and updated in place: those of a step are used up by it.
        self._step = program("step", make_step(adapter, num_envs), donate_argnums=(0,))
        self._act_at_random = program("act at random", make_random_act(adapter.num_actions, num_envs), num_envs)
        self._judge = jax.jit(make_judge(tasks.make_judge(functions)))
        self._typical = program("typical", first_layer.typical_columns)
        self._renew = program("renew", renew_state, donate_argnums=(1,))
        self._room_for = functools.cache(lambda count: program(f"room for {count}", make_room_for(count)))
        self._replace_worlds = program("replace worlds", worlds.replace_worlds, donate_argnums=(0,))
        self._first_worlds = program("first worlds", make_first(num_envs), num_envs)
        self._some_worlds = functools.cache(lambda count: program(f"{count} worlds", make_first(count)))
        self._find_columns = program("find columns", lambda rollout: active_columns.find(rollout, network.layout))
        self._batch = program("batch", lambda rollout, *rest: ppo.make_batch(stack_time(rollout), *rest, hyper), hyper)
        self._narrow_batches = {
            bound: program(f"batch {bound}", make_narrow_batch(network.layout, hyper, bound), hyper)
            for bound in active_columns.bounds(network.layout)
        }
        self._demands = program("demands", lambda columns: active_columns.demands(columns, network.layout))
        self._of_experts = self._expert_programs(self.num_experts)
        self._bound = 0
        self.turn = InTurn()
        """Held by who plays or learns, and while an update is compiled for later runs: both take hundreds of MB."""
        self._store.preload("", _group(self.num_experts))

    def before_compiling(self, say: Callable[[], None]) -> None:
        """Has ``say`` called before a program is loaded or compiled, which may take minutes in the midst of a training."""
        self._store.announce = say

    def remember(self) -> None:
        """Has later runs load at their start, in a thread, what this one has called until now."""
        self._store.remember()

    @property
    def hindrance(self) -> str | None:
        """Why nothing that is compiled is kept for later runs, where it should be."""
        return self._store.hindrance

    def _expert_programs(self, num_experts: int) -> ExpertPrograms:
        network, hyper = self._network, self._hyper
        program = functools.partial(self._store.program, group=_group(num_experts))

        def learning(name: str, learn_from: Callable) -> StoredProgram:
            return program(name, learn_from, (hyper, network.mixed_precision), donate_argnums=(0,))

        return ExpertPrograms(
            program("fresh state", lambda params: optimiser.init(optimiser.make(hyper.max_grad_norm), params)),
            program("act", make_act(network, num_experts), network.mixed_precision),
            program("values", make_values(network, num_experts), network.mixed_precision),
            learning("update", ppo.make_learning(network, hyper, num_experts)),
            {
                bound: learning(f"update {bound}", active_columns.make_narrow_learning(network, hyper, num_experts, bound))
                for bound in active_columns.bounds(network.layout)
            },
        )

    def put_by_for(self, num_experts: int, go_on: Callable[[], bool] = lambda: True) -> PutBy:
        """Sees to it that a later run, with another number of experts, finds its programs stored.

        For the shapes, and the bound of columns, with which this run has made its updates. Takes up to a minute of
        compiling for each number of experts, once on a machine; an update's waits for its `turn`, so the caller must not have it.

        Args:
            go_on: asked before each program.

        Returns:
            how many programs were stored now, and how many are still to be.
        """
        count = experts.padded_count(num_experts)

        def with_experts(learner):
            return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((count, *leaf.shape[1:]), leaf.dtype), learner)

        num_stored = num_left = 0
        updates = self._of_experts.updates()
        for mine, other in zip(self._of_experts.all(), self._expert_programs(count).all()):
            if mine.shapes is None:
                continue
            learner, *others = mine.shapes
            shapes = with_experts(learner), *others
            if other.is_to_be_put_by(*shapes):
                # A GPU has a memory of its own, and is not to be kept waiting.
                with self.turn if mine in updates and jax.default_backend() == "cpu" else contextlib.nullcontext():
                    may = go_on()
                    num_stored += may and other.put_by(*shapes)
                num_left += not may
        return PutBy(num_stored, num_left)

    def inlined(self) -> Programs:
        """What plays a step, as plain functions that a larger program can take in; nothing is stored, or used up."""
        plain = copy.copy(self)
        for name, program in vars(self).items():
            if isinstance(program, StoredProgram):
                setattr(plain, name, program.function)
        mine = self._of_experts
        plain._of_experts = mine._replace(act=mine.act.function, values=mine.values.function)
        return plain

    def run_keys(self, seed: int, global_expert_idx: int) -> Keys:
        """The keys of the run that trains an expert."""
        return self._run_keys(np.uint32(seed % 2**32), np.uint32(global_expert_idx))

    def update_keys(self, key: jax.Array, number: int) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Of the update of this number: for its rollout, for learning, and for fresh worlds."""
        return self._update_keys(key, np.uint32(number))

    def fold_in(self, key: jax.Array, number: int) -> jax.Array:
        """``jax.random.fold_in``."""
        return self._fold_in(key, np.uint32(number))

    def fresh_expert(self, key: jax.Array) -> Params:
        """The parameters of an expert that has learned nothing."""
        return self._init(key)

    def fresh_learner(self, params: Sequence[Params]) -> Learner:
        """A learner that starts from the parameters of some experts."""
        stacked = experts.stack(params)
        return Learner(stacked, self._of_experts.fresh_state(stacked))

    def fresh_worlds(self, key: jax.Array, count: int) -> Scene:
        """At least ``count`` fresh worlds, made some at a time so that little memory is held at once."""
        num_calls = -(-count // WORLDS_AT_ONCE)
        fresh = self._generate(key, 0)
        bank = WorldBank(self._room_for(num_calls * WORLDS_AT_ONCE)(fresh), np.int32(0))
        for number in range(num_calls):
            bank = self._replace_worlds(bank, self._generate(key, number) if number else fresh)
        return bank.worlds

    def begin(self, key: jax.Array, num_worlds: int) -> Playing:
        """Every environment at the start of an episode, in worlds of its own; a bank of ``num_worlds`` for those after it.

        Of the bank's worlds the first ones are those in which the environments start.
        """
        # A copy for the first episodes, since a step uses its states up, and the bank's worlds are played again.
        fresh = self.fresh_worlds(key, max(num_worlds, self.num_envs))
        first = self._first_worlds(fresh)
        if num_worlds < self.num_envs:
            return self._at_the_start(WorldBank(self._some_worlds(num_worlds)(fresh), np.int32(0)), first)
        return self._at_the_start(WorldBank(fresh, np.int32(self.num_envs)), first)

    def begin_test(self, key: jax.Array, num_episodes: int) -> Playing:
        """As `begin`; of the episodes, the first ``num_episodes`` have a world each.

        Where there are as many environments, no world is kept for later: episodes after the first ones, which a test does not
        count, play a few of the same worlds again.
        """
        if num_episodes > self.num_envs:
            return self.begin(key, num_episodes)
        fresh = self.fresh_worlds(key, self.num_envs)
        few = self._some_worlds(WORLDS_AT_ONCE)(fresh)
        has_spare = len(fresh.observation.columns) > self.num_envs
        return self._at_the_start(WorldBank(few, np.int32(0)), self._first_worlds(fresh) if has_spare else fresh)

    def _at_the_start(self, bank: WorldBank, first: Scene) -> Playing:
        expert = jax.device_put(np.full(self.num_envs, np.asarray(self.plan.expert)[0]))
        typical = self._typical(first.observation.columns)
        return Playing(bank, first, tasks.start(self.num_envs), expert, typical)

    def refresh_worlds(self, playing: Playing, key: jax.Array, count: int) -> Playing:
        """Replaces the oldest worlds, at least ``count`` of them, by fresh ones; ``playing``'s bank is used up."""
        bank = playing.bank
        for number in range(-(-count // WORLDS_AT_ONCE)):
            bank = self._replace_worlds(bank, self._generate(key, number))
        return playing._replace(bank=bank)

    def learned_policy(self, params: Params) -> Decide:
        """Actions sampled from the experts."""
        return lambda at, key, step: self._of_experts.act(params, at.scene.observation, at.typical, at.expert, key, step)

    def random_policy(self) -> Decide:
        """Every action equally likely: what a skill is compared with."""
        return lambda at, key, step: self._act_at_random(key, step)

    def values(self, params: Params, playing: Playing) -> jax.Array:
        """``[B]``: the acting experts' values of where the environments are."""
        everyone = np.ones(self.num_envs, bool)
        return self._of_experts.values(params, playing.scene.observation, playing.typical, playing.expert, everyone)

    def update(self, learner: Learner, rollout: tuple[Transition, ...], last_values, key, lr):
        """What `ppo.make_update` makes, by the cheapest programs that serve; ``learner`` is used up."""
        narrow = self._of_experts.narrow_updates
        if narrow and self._bound is not None:
            columns = self._find_columns(rollout)
            bound = active_columns.smallest_bound(*jax.device_get(self._demands(columns)), self._network.layout)
            # A bound that was once too small will be again: its program is not gone back to.
            self._bound = bound and max(bound, self._bound)
            if self._bound:
                batch = self._narrow_batches[self._bound](rollout, columns, last_values, key)
                return narrow[self._bound](learner, batch, lr)
        return self._of_experts.plain_update(learner, self._batch(rollout, last_values, key), lr)

    def look_around(self, playing: Playing) -> Playing:
        """Takes what most environments show now for typical; no result depends on it, only the time it takes."""
        return playing._replace(typical=self._typical(playing.scene.observation.columns))

    def play_step(self, playing: Playing, decision: Decision, key: jax.Array, step: int):
        """One step of every environment; the game states of ``playing`` are used up.

        Returns:
            where the environments are afterwards (ended ones in their next world), the verdict, and the
            observation ``[B, ...]`` that the step led to (before a new world took its place).
        """
        state, observation, features, game_over = self._step(playing.scene.state, decision.action, key, step)
        verdict, progress, expert = self._judge(
            playing.scene.features, features, game_over, playing.progress, self.plan
        )
        next_world, scene = self._renew(playing.bank, state, observation, features, verdict.ended)
        bank = playing.bank._replace(next_world=next_world)
        return Playing(bank, scene, progress, expert, playing.typical), verdict, observation

    def transition(self, params: Params, before: Playing, decision: Decision, verdict: Verdict, led_to) -> Transition:
        """What learning needs to know of a step."""
        return Transition(
            observation=before.scene.observation,
            action=decision.action,
            log_prob=decision.log_prob,
            value=decision.value,
            expert=before.expert,
            reward=verdict.reward,
            continues=~(verdict.task_done | verdict.ended),
            truncation_value=self._of_experts.values(params, led_to, before.typical, before.expert, verdict.truncated),
        )


def _group(num_experts: int) -> str:
    return f"{num_experts} experts"


def run_keys(seed, number):
    """A run's keys from its seed and its expert's number."""
    return Keys(*jax.random.split(jax.random.fold_in(jax.random.key(seed), number), len(Keys._fields)))


def update_keys(key, number):
    """The three keys of an update."""
    return tuple(jax.random.split(jax.random.fold_in(key, number), 3))


def make_narrow_batch(layout: Layout, hyper: Hyperparameters, bound: int):
    """`active_columns.narrow_batch` of a rollout step by step."""

    def narrow_batch(rollout, *rest):
        return active_columns.narrow_batch(stack_time(rollout), *rest, layout, hyper, bound)

    return narrow_batch


def make_generate(adapter: GameAdapter):
    """Fresh worlds, some at a time."""

    def generate(key, number):
        return worlds.generate(adapter, jax.random.split(jax.random.fold_in(key, number), WORLDS_AT_ONCE))

    return generate


def make_first(count: int):
    """Copies of the first worlds of many."""
    return lambda scene: jax.tree.map(lambda leaf: jnp.copy(leaf[:count]), scene)


def make_room_for(count: int):
    """Worlds without anything in them, as many as are wanted, of the kind of those given."""

    def room(scene):
        return jax.tree.map(lambda leaf: jnp.tile(leaf, (count // len(leaf), *[1] * (leaf.ndim - 1))), scene)

    return room


def make_step(adapter: GameAdapter, num_envs: int):
    """The game and its features, one step of ``B`` environments."""

    def step(state, action, key, number):
        keys = jax.random.split(jax.random.fold_in(key, number), num_envs)
        _, state, game_over = jax.vmap(adapter.step)(keys, state, action)
        return state, jax.vmap(adapter.observe)(state), jax.vmap(adapter.features)(state), game_over

    return step


def renew_state(bank: WorldBank, state, observation, features, ended):
    """`worlds.renew` with the large states as an argument of their own, to be changed in place."""
    bank, scene = worlds.renew(bank, Scene(state, observation, features), ended)
    return bank.next_world, scene


def acting_block_size() -> int:
    """Environments a block while acting, on this device."""
    return ACTING_BLOCK_SIZE if jax.default_backend() == "cpu" else ACTING_BLOCK_SIZE_OFF_CPU


def make_act(network: ExpertNetwork, num_experts: int):
    """Sampled actions of the acting experts, with their log probabilities and values."""

    def both(params, inputs):
        actor_sums, critic_sums, scalars = inputs
        actor_first = first_layer.complete(params["actor"], actor_sums, scalars, network.product)
        critic_first = first_layer.complete(params["critic"], critic_sums, scalars, network.product)
        value = network.value_after_first(params, critic_first)
        return jnp.concatenate([network.logits_after_first(params, actor_first), value[:, None]], axis=1)

    def act(params, observation, typical, expert, key, number):
        everyone = jnp.ones_like(expert, bool)
        sums = [
            first_layer.column_sums(
                first_layer.kernel_of(params[part]), observation.columns, typical, expert, everyone, network.layout
            )
            for part in ("actor", "critic")
        ]
        blocks = experts.sort_into_blocks(expert, everyone, num_experts, acting_block_size())
        rest = first_layer.without_columns(params, network.layout)
        outputs = experts.apply(both, rest, (*sums, observation.scalars), blocks)
        logits, value = outputs[:, :-1], outputs[:, -1]
        action = jax.random.categorical(jax.random.fold_in(key, number), logits)
        return Decision(action, losses.log_prob_of(logits, action), value)

    return act


def make_random_act(num_actions: int, num_envs: int):
    """Uniformly random actions."""

    def act_at_random(key, number):
        action = jax.random.randint(jax.random.fold_in(key, number), (num_envs,), 0, num_actions)
        return Decision(action, jnp.full(num_envs, -jnp.log(num_actions)), jnp.zeros(num_envs))

    return act_at_random


def make_values(network: ExpertNetwork, num_experts: int):
    """The values of the wanted rows by each row's expert; 0 for the others, which cost nothing."""

    def one_block(params, inputs):
        sums, scalars = inputs
        first = first_layer.complete(params["critic"], sums, scalars, network.product)
        return network.value_after_first(params, first)

    def values(params, observation, typical, expert, wanted):
        kernel = first_layer.kernel_of(params["critic"])
        sums = first_layer.column_sums(kernel, observation.columns, typical, expert, wanted, network.layout)
        blocks = experts.sort_into_blocks(expert, wanted, num_experts, acting_block_size())
        rest = first_layer.without_columns(params, network.layout)
        return experts.apply(one_block, rest, (sums, observation.scalars), blocks)

    return values


def make_judge(judge: tasks.Judge):
    """The skills' code: a step's verdict, the progress to go on with, and who acts next."""

    def judge_step(before, after, game_over, progress, plan):
        verdict, progress = judge(before, after, game_over, progress, plan)
        progress = tasks.restart(progress, verdict.ended)
        return verdict, progress, plan.expert[progress.task]

    return judge_step
