"""Plays a skill's plan, chooses an episode, and has it drawn."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from flowrl.envs.adapter import Renderer
from flowrl.errors import BadInput
from flowrl.evaluation import skill_tests
from flowrl.evaluation.bench import Bench
from flowrl.evaluation.library import LibrarySkill
from flowrl.training.learning import experts
from flowrl.training.learning.networks import Params
from flowrl.training.playing.environments import Playing, Stage, begin_test, play_step
from flowrl.training.playing.evaluation import FirstEpisodes
from flowrl.training.playing.rollout import learned_policy

Outcome = Literal["any", "success", "failure"]
_DRAWN_AT_ONCE = 16
"""Pictures that are drawn by one call: few enough for the memory, many enough for the processor."""


class Shot(NamedTuple):
    """One moment of an episode."""

    picture: np.ndarray
    """uint8 ``[height, width, 3]``: what the game draws."""
    task: int
    """Place in the plan."""
    step: int
    """Steps of the episode so far; 0 at its start."""
    reward: float
    """What the tasks have paid so far."""
    held: dict[str, int]
    """What the player holds, as far as it is not nothing."""


class Episode(NamedTuple):
    """One whole episode."""

    shots: list[Shot]
    is_success: bool


class _Moment(NamedTuple):
    """The chosen environments at one moment."""

    states: Any
    held: dict[str, np.ndarray]
    task: np.ndarray
    reward: np.ndarray
    """What the step that follows pays; 0 at the end."""


def shoot(bench: Bench, skill: LibrarySkill, seed: int, episodes: int, tile: int, outcome: Outcome = "any") -> list[Episode]:
    """Films of so many episodes of a skill's plan, each on a world of its own.

    The batch is played twice, with the same keys: once to see how each episode ends, once to draw the chosen ones.

    Args:
        tile: pixels on a side of one cell of the game.
        outcome: which episodes are chosen.

    Raises:
        BadInput: the game draws no pictures, or too few of the episodes ended so.
    """
    camera = _Camera(bench, skill, seed, tile)
    endings = camera.endings(bench.params)
    return camera.film(bench.params, _chosen(endings, skill, outcome, episodes), endings)


def shoot_progress(
    bench: Bench, skill: LibrarySkill, earlier: Sequence[Params], seed: int, tile: int, outcome: Outcome = "any"
) -> list[Episode]:
    """The same world played once with each of the skill's earlier experts, and once with the one it has now; the other experts
    are as they are now.

    Args:
        earlier: parameters of the skill's expert, the earliest first.
        outcome: how the episode ends with the newest one; any: in success, if there is such a one.

    Raises:
        BadInput: as `shoot`.
    """
    camera = _Camera(bench, skill, seed, tile)
    endings = camera.endings(bench.params)
    if outcome == "any" and endings.success.any():
        outcome = "success"
    row = _chosen(endings, skill, outcome, 1)
    films = []
    for own in earlier:
        params = experts.stack([own if other is skill else other.params for other in bench.library.skills])
        films += camera.film(params, row, camera.endings(params))
    return [*films, *camera.film(bench.params, row, endings)]


class _Endings(NamedTuple):
    """How each environment's first episode ended."""

    success: np.ndarray
    """bool ``[B]``"""
    steps: np.ndarray
    """int ``[B]``"""


def _chosen(endings: _Endings, skill: LibrarySkill, outcome: Outcome, episodes: int) -> np.ndarray:
    """The environments whose episode is filmed, int ``[episodes]``."""
    success = endings.success
    wanted = {"any": np.ones_like(success), "success": success, "failure": ~success}[outcome]
    rows = np.flatnonzero(wanted)[:episodes]
    if len(rows) < episodes:
        raise BadInput(
            f"{skill.name}: of {len(success)} episodes {len(rows)} ended in {outcome}, {episodes} were asked for; "
            "choose another --seed or --outcome, or fewer --episodes"
        )
    return rows


class _Camera:
    """Plays a skill's plan, always on the same worlds, and draws what happens."""

    def __init__(self, bench: Bench, skill: LibrarySkill, seed: int, tile: int):
        self._renderer = bench.adapter.renderer()
        if self._renderer is None:
            raise BadInput(
                f"{bench.adapter.env_name} draws no pictures; its adapter's renderer() can add that (docs/add_a_game.md)"
            )
        self._tile, self._num_envs, self._held = tile, bench.num_envs, bench.adapter.facts.inventory_fields
        judge = skill_tests.judge_of(bench.adapter, bench.library, skill, bench.num_envs)
        self._stage = Stage(bench.programs.world, bench.programs.acting, judge)
        self._keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), skill.index), 3)

    def endings(self, params: Params) -> _Endings:
        """With experts of these parameters, ``[S padded, ...]``."""
        counted = FirstEpisodes(self._num_envs, self._num_envs)
        found = _Endings(np.zeros(self._num_envs, bool), np.zeros(self._num_envs, int))
        for number, (_, shown) in enumerate(self._played(params), 1):
            verdict = jax.device_get(shown.verdict)
            ended = counted.counting & verdict.ended
            found.success[ended], found.steps[ended] = verdict.success[ended], number
            if ended.any():
                counted.end(ended)
            if counted.are_over:
                break
        return found

    def film(self, params: Params, rows: np.ndarray, endings: _Endings) -> list[Episode]:
        """The episodes of the chosen environments."""
        moments, last = self._moments(params, rows, endings.steps[rows])
        films = []
        for place, row in enumerate(rows):
            length = int(endings.steps[row])
            shots = _drawn(self._renderer, self._tile, [*moments[:length], last[length]], place)
            films.append(Episode(shots, bool(endings.success[row])))
        return films

    def _played(
        self, params: Params, look: Callable[[Playing, jax.Array, int], Any] = lambda playing, action, number: None
    ) -> Iterator[tuple[Any, Any]]:
        """Plays on and on: what ``look`` found before each step, which donates the states, and what the judge showed after
        it."""
        world_key, act_key, step_key = self._keys
        playing, policy = begin_test(self._stage, world_key, self._num_envs), learned_policy(self._stage, params)
        for number in itertools.count():
            decision = policy(playing, act_key, number)
            found = look(playing, decision.action, number)
            playing, shown, _ = play_step(self._stage, playing, decision, step_key, number)
            yield found, shown

    def _moments(self, params: Params, rows: np.ndarray, lengths: np.ndarray) -> tuple[list[_Moment], dict[int, _Moment]]:
        """The chosen environments before each step of the longest episode, and after the step that ends an episode.

        Args:
            lengths: steps of each chosen episode.

        Returns:
            the moments before each step, and the moments at an end, by its number of steps.
        """
        choose = jax.jit(
            lambda state, features: jax.tree.map(lambda leaf: leaf[rows], (state, getattr(features, "inventory", ())))
        )

        def look(playing, action, number):
            before = choose(playing.scene.state, playing.scene.features)
            return before, choose(*self._led_to(playing, action, number)) if number + 1 in lengths else None

        moments, last = [], {}
        for number, ((before, after), shown) in enumerate(itertools.islice(self._played(params, look), max(lengths)), 1):
            task, reward = (row[rows] for row in jax.device_get((shown.task, shown.verdict.reward)))
            moments.append(self._moment(before, task, reward))
            if after is not None:
                last[number] = self._moment(after, task, np.zeros_like(reward))
        return moments, last

    def _led_to(self, playing: Playing, action: jax.Array, number: int) -> tuple[Any, Any]:
        """The states and features after a step. `play_step` does not show them: an episode that ends gets its next world."""
        state = jax.tree.map(jnp.copy, playing.scene.state)  # the step donates what it gets
        state, _, features, _ = self._stage.world.step(state, action, self._keys[2], number)
        return state, features

    def _moment(self, found: tuple[Any, Any], task: np.ndarray, reward: np.ndarray) -> _Moment:
        states, inventory = found
        return _Moment(states, amounts(jax.device_get(inventory), self._held), task, reward)


def amounts(inventory: Any, things: Sequence[str]) -> dict[str, np.ndarray]:
    """What each environment holds of each thing, tools included, int ``[R]``. A field that is an array counts as its sum.

    Args:
        inventory: the game's own, each field ``[R, ...]``.
        things: the fields that count.
    """
    fields = {name: np.asarray(getattr(inventory, name)) for name in things}
    return {name: field.reshape(len(field), -1).sum(axis=1) for name, field in fields.items()}


def _drawn(renderer: Renderer, tile: int, moments: Sequence[_Moment], place: int) -> list[Shot]:
    """The shots of one of the chosen environments, from its start to its end."""
    drawn = jax.jit(jax.vmap(renderer.draw))
    shots, paid = [], np.cumsum([0.0, *(float(moment.reward[place]) for moment in moments)])
    for start in range(0, len(moments), _DRAWN_AT_ONCE):
        chunk = moments[start : start + _DRAWN_AT_ONCE]
        padded = [*chunk, *[chunk[-1]] * (_DRAWN_AT_ONCE - len(chunk))]  # one shape, so that one program serves all
        states = jax.tree.map(
            lambda *leaves: jnp.stack([leaf[place] for leaf in leaves]), *(moment.states for moment in padded)
        )
        for number, (picture, moment) in enumerate(zip(np.asarray(drawn(states)), chunk), start):
            held = {name: int(amount[place]) for name, amount in moment.held.items() if amount[place]}
            task, reward = int(moment.task[place]), float(paid[number])
            shots.append(Shot(_scaled(picture, tile / renderer.tile), task, number, reward, held))
    return shots


def _scaled(picture: np.ndarray, factor: float) -> np.ndarray:
    if factor == 1:
        return picture
    height, width = (max(1, round(side * factor)) for side in picture.shape[:2])
    how = Image.Resampling.NEAREST if factor > 1 else Image.Resampling.BOX
    return np.asarray(Image.fromarray(picture).resize((width, height), how))
