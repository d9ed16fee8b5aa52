"""Plays a skill's plan, chooses an episode, and has it drawn."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from flowrl.envs.adapter import State
from flowrl.envs.features import Features
from flowrl.errors import BadInput
from flowrl.evaluation import skill_tests
from flowrl.evaluation.bench import Bench
from flowrl.evaluation.library import LibrarySkill
from flowrl.films.drawing import Drawer, Moment
from flowrl.training.learning import experts
from flowrl.training.learning.networks import Params
from flowrl.training.playing.environments import Stage, begin_test, play_seen_step
from flowrl.training.playing.evaluation import FirstEpisodes
from flowrl.training.playing.rollout import learned_policy

Outcome = Literal["any", "success", "failure"]


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
    """One episode of a plan."""

    shots: list[Shot]
    is_success: bool


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
        self._drawer, self._num_envs = Drawer(bench.adapter, tile), bench.num_envs
        judge = skill_tests.judge_of(bench.adapter, bench.library, skill, bench.num_envs)
        self._stage = Stage(bench.programs.world, bench.programs.acting, judge)
        self._keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), skill.index), 3)

    def endings(self, params: Params) -> _Endings:
        """With experts of these parameters, ``[S padded, ...]``."""
        counted = FirstEpisodes(self._num_envs, self._num_envs)
        found = _Endings(np.zeros(self._num_envs, bool), np.zeros(self._num_envs, int))
        for number, shown in enumerate(self._played(params), 1):
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
        moments, look = [], self._drawer.looker(rows)
        played = self._played(params, lambda state, features: moments.append(look(state, features)))
        steps = [
            (shown.task[rows], shown.verdict.reward[rows]) for shown in itertools.islice(played, int(endings.steps[rows].max()))
        ]
        task, reward = (np.array(column) for column in zip(*jax.device_get(steps)))
        return [
            Episode(self._shots(moments, place, task[:length, place], reward[:length, place]), bool(endings.success[row]))
            for place, (row, length) in enumerate(zip(rows, endings.steps[rows]))
        ]

    def _shots(self, moments: Sequence[Moment], place: int, task: np.ndarray, reward: np.ndarray) -> list[Shot]:
        """From the start of an episode to what its last step led to; ``task`` and ``reward`` are of its steps."""
        paid = np.cumsum([0.0, *reward])
        at_hand = [*task, task[-1]]
        return [
            Shot(drawn.picture, int(at_hand[number]), number, float(paid[number]), drawn.held)
            for number, drawn in enumerate(self._drawer.draw(moments[: len(task) + 1], place))
        ]

    def _played(self, params: Params, look: Callable[[State, Features], None] = lambda state, features: None) -> Iterator[Any]:
        """Plays on and on: what the judge shows after each step. ``look`` gets the environments at the start, and after each
        step, before ended ones get their next worlds."""
        world_key, act_key, step_key = self._keys
        playing, policy = begin_test(self._stage, world_key, self._num_envs), learned_policy(self._stage, params)
        look(playing.scene.state, playing.scene.features)
        for number in itertools.count():
            decision = policy(playing, act_key, number)
            playing, shown, *_ = play_seen_step(self._stage, playing, decision, step_key, number, look)
            yield shown
