"""Films of whole episodes: the planner chooses each task, the library's experts act, until the player dies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from flowrl.envs.adapter import State
from flowrl.envs.features import Features
from flowrl.envs.readings import ending_names
from flowrl.evaluation import bench as benches
from flowrl.evaluation.bench import Bench
from flowrl.evaluation.catalogue import Names
from flowrl.evaluation.composition import Judgement, begin, play_step
from flowrl.evaluation.planner import Choice, Planned
from flowrl.films.drawing import Drawer, Moment
from flowrl.training.playing.evaluation import STEPS_BETWEEN_LOOKS


class WholeShot(NamedTuple):
    """One moment of a whole episode."""

    picture: np.ndarray
    """uint8 ``[height, width, 3]``: what the game draws."""
    held: dict[str, int]
    """What the player holds, as far as it is not nothing."""
    step: int
    """Steps so far; 0 at the start."""
    task: str
    """The skill that acts."""
    serves: str
    """The skill that the task is done for; empty if it is for itself, or keeps the player alive."""
    restores: str
    """The vital that the task is to restore; empty if it restores none."""
    num_unlocked: int
    """Achievements so far."""
    newest: str
    """The achievement that this step unlocked; several with commas; empty without one."""


class WholeEpisode(NamedTuple):
    """A whole episode."""

    shots: list[WholeShot]
    num_goals: int
    """Achievements that the game has."""
    death: str
    """Why the player died; empty if the episode was ended at its longest length."""

    @property
    def ending(self) -> str:
        """How it ended, in words."""
        return f"killed: {self.death}" if self.death else "still alive"


class _Step(NamedTuple):
    """What is kept of a step of every environment."""

    choice: Choice
    judgement: Judgement


def shoot(bench: Bench, planned: Planned, seed: int, episodes: int, tile: int, max_steps: int) -> list[WholeEpisode]:
    """Films of whole episodes, each in a world of its own.

    Args:
        planned: what the planner goes by.
        episodes: how many; at most as many as the bench has environments.
        tile: pixels on a side of one cell of the game.
        max_steps: after which an episode is ended.

    Raises:
        BadInput: the game draws no pictures.
    """
    drawer, rows = Drawer(bench.adapter, tile), np.arange(episodes)
    composition, names = benches.composed(bench, max_steps)
    world_key, act_key, step_key = jax.random.split(jax.random.key(seed), 3)
    games = begin(composition, world_key, bench.num_envs, planned)
    moments, look = [], drawer.looker(rows)

    def keep(state: State, features: Features) -> None:
        moments.append(look(state, features))

    keep(games.scene.state, games.scene.features)
    steps: list[_Step] = []
    has_ended = np.zeros(episodes, bool)
    while not has_ended.all():
        latest = []
        for _ in range(STEPS_BETWEEN_LOOKS):
            choice, number = games.course.choice, len(steps) + len(latest)
            games, step = play_step(composition, bench.params, games, planned, act_key, step_key, number, keep)
            latest.append(_Step(choice, step.judgement))
        steps += jax.device_get(latest)
        has_ended |= np.any([step.judgement.ended[rows] for step in steps[-len(latest) :]], axis=0)
    return [_episode(bench, names, drawer, moments, steps, place) for place in rows]


def _episode(
    bench: Bench, names: Names, drawer: Drawer, moments: Sequence[Moment], steps: Sequence[_Step], place: int
) -> WholeEpisode:
    length = 1 + next(number for number, step in enumerate(steps) if step.judgement.ended[place])
    own = steps[:length]
    last = own[-1].judgement
    goals = np.array([np.zeros_like(last.goals[place]), *(step.judgement.goals[place] for step in own)])
    chosen = [*(step.choice for step in own), own[-1].choice]
    vitals = [vital.name for vital in bench.adapter.facts.vitals]
    shots = [
        WholeShot(
            *drawn,
            number,
            *_of_task(names, vitals, choice, place),
            int(goals[number].sum()),
            ", ".join(name for name, is_new in zip(names.goals, goals[number] > goals[max(number - 1, 0)]) if is_new),
        )
        for number, (drawn, choice) in enumerate(zip(drawer.draw(moments[: length + 1], place), chosen, strict=True))
    ]
    death = ending_names(bench.adapter)[int(last.ending[place])] if last.died[place] else ""
    return WholeEpisode(shots, len(names.goals), death)


def _of_task(names: Names, vitals: Sequence[str], choice: Choice, place: int) -> tuple[str, str, str]:
    """A task's skill, the skill that it is done for, and the vital that it restores."""
    skill, goal, until = (int(part[place]) for part in (choice.skill, choice.goal, choice.until))
    restores = vitals[until] if 0 <= until < len(vitals) else ""
    serves = names.skills[goal] if goal >= 0 and goal != skill and not restores else ""
    return names.skills[skill], serves, restores
