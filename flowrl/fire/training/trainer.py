"""The training of an agent that places fuel breaks, from demonstrations to the last comparison."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from flowrl.errors import BadInput
from flowrl.files import read_json, write_json
from flowrl.fire.agent.agent import AgentSettings, DQNAgent
from flowrl.fire.agent.collector import ParallelExperienceCollector
from flowrl.fire.agent.demonstrations import OWN_PATHS, Placement, as_experiences, best_known, in_own_states, most_experiences
from flowrl.fire.agent.learning import Losses, Params
from flowrl.fire.agent.memory import joined
from flowrl.fire.agent.planner import greedy_breaks, greedy_paths
from flowrl.fire.breaks.vectorized import VectorizedFireEnv
from flowrl.fire.heuristics.swap_search import burned_shares, improved, moved_at_random
from flowrl.fire.training import checkpoints, results
from flowrl.fire.training.checkpoints import Progress, Saved
from flowrl.fire.training.display import TrainingDisplay
from flowrl.fire.training.memories import Memories
from flowrl.fire.training.metrics import BEFORE_ALL, Metrics
from flowrl.fire.training.settings import PROBLEM, FuelBreakSettings
from flowrl.fire.training.surroundings import ENVIRONMENT_SEEDS, Surroundings, rules_of, surroundings_of
from flowrl.own_folder import Terminated, own_folder
from flowrl.paths import FuelBreakPaths

OWN_STATES_EVERY = 100
"""Updates of the pretraining between two looks at the agent's own paths."""
MOVED_AT_RANDOM = 4
"""Cells of the best known breaks that stand elsewhere where a new search begins."""


class FuelBreakTrainer:
    """Trains, or goes on where an earlier start ended.

    Args:
        config: settings, or a mapping with some of them, such as a JSON file holds.

    Raises:
        BadInput: a key is unknown or a value impossible.
    """

    def __init__(self, config: FuelBreakSettings | Mapping[str, Any]):
        self.settings = FuelBreakSettings.of(config)

    def train(self) -> dict[str, Any]:
        """Trains to the end of the settings.

        Returns:
            what ``result.json`` of the output folder holds.

        Raises:
            BadInput: settings, layers and checkpoint do not fit each other.
            FolderInUse: another process trains in this folder.
            NoRoom: the disk is full.
            KeyboardInterrupt, Terminated: what was learned is saved.
        """
        paths = FuelBreakPaths(self.settings.output_dir)
        with own_folder(paths.folder, paths.lock, self.settings.FOLDER_FLAG), TrainingDisplay(self.settings) as display:
            around = surroundings_of(self.settings)
            with _environments(self.settings, around) as env:
                return _Training(self.settings, paths, display, around, env).run()


class ParallelFuelBreakTrainer(FuelBreakTrainer):
    """Many environments at once, as ``num_parallel_envs`` and ``parallel_method`` say."""


class IterativeFuelBreakTrainer(FuelBreakTrainer):
    """One environment, one step after the other, whatever the settings say: to compare with, and to look for faults."""

    def __init__(self, config: FuelBreakSettings | Mapping[str, Any]):
        given = config.to_json() if isinstance(config, FuelBreakSettings) else dict(config)
        super().__init__(given | {"num_parallel_envs": 1, "parallel_method": "sequential"})


def _environments(settings: FuelBreakSettings, around: Surroundings) -> VectorizedFireEnv:
    return VectorizedFireEnv(
        around.areas,
        settings.num_parallel_envs,
        settings.parallel_method,
        settings.max_workers,
        rules=rules_of(settings),
    )


def new_agent(
    settings: FuelBreakSettings, shape: tuple[int, int, int], cells_per_step: int, num_demonstrations: int | None = None
) -> DQNAgent:
    """An agent that has learned nothing yet; the last two as in `DQNAgent`."""
    agent = DQNAgent(
        shape,
        AgentSettings(
            learning_rate=settings.learning_rate,
            gamma=settings.gamma,
            batch_size=settings.batch_size,
            buffer_size=settings.buffer_size,
            width=settings.network_width,
            margin=settings.margin,
            demonstration_share=settings.demonstration_share,
            symmetric=settings.turned_areas,
        ),
        cells_per_step=cells_per_step,
        num_demonstrations=num_demonstrations,
        seed=settings.seed,
    )
    agent.epsilon = settings.initial_epsilon
    return agent


def _check_same_problem(paths: FuelBreakPaths, settings: FuelBreakSettings) -> None:
    """
    Raises:
        BadInput: the folder's checkpoint is of other areas, breaks or fires. The network takes them all, so nothing else would
            notice.
    """
    try:
        stored = read_json(paths.settings)
    except (FileNotFoundError, BadInput):
        return  # the checkpoint alone says little; it goes on with what is asked for
    asked = settings.to_json()
    for name in PROBLEM:
        if stored.get(name) != (value := asked[name]):
            raise BadInput(
                f"{paths.folder} holds a training with --{name} {stored.get(name)}, not {value}; give another --output_dir, "
                "or the settings of that training"
            )


class _Training:
    """The parts of one training, and the loop over its rounds."""

    def __init__(
        self,
        settings: FuelBreakSettings,
        paths: FuelBreakPaths,
        display: TrainingDisplay,
        around: Surroundings,
        env: VectorizedFireEnv,
    ):
        self._settings, self._paths, self._display, self._around = settings, paths, display, around
        self._rules = rules_of(settings)
        num_demonstrations = most_experiences(around.problems)
        self._agent = new_agent(settings, env.observation_shape, env.cells_per_step, num_demonstrations)
        self._memories = Memories(paths, around.areas, around.problems)
        self._best: Params = self._agent.learner.params
        self._progress = Progress(epsilon=settings.initial_epsilon)
        if found := checkpoints.newest(paths, self._agent.learner, display.say):
            _check_same_problem(paths, settings)
            self._take_up(found)
            display.say(f"Continuing after {found.progress.rounds} rounds, {found.progress.updates} updates")
        write_json(paths.settings, settings.to_json())
        self._metrics = Metrics(paths, self._progress.rounds if found else BEFORE_ALL)
        self._collector = ParallelExperienceCollector(
            env,
            self._agent,
            settings.collection_batch_size,
            settings.experience_buffer_size,
            n_step=settings.n_step,
            gamma=settings.gamma,
            seed=ENVIRONMENT_SEEDS + settings.seed + self._progress.rounds * settings.num_parallel_envs,
        )
        self._rng = np.random.default_rng(settings.seed)
        self._placements: list[Placement] = []
        self._own_paths = [deque(maxlen=OWN_PATHS) for _ in around.areas]
        self._next_to_see = 0
        self._seconds_before, self._began_s = self._progress.seconds, time.monotonic()

    def run(self) -> dict[str, Any]:
        """Trains to the end, and compares; saves what was learned, however it ends."""
        try:
            if self._settings.pretrain_steps:
                self._demonstrate()
                if not self._progress.rounds and self._agent.updates < self._settings.pretrain_steps:
                    self._pretrain()
            while not self._is_over():
                self._round()
            if self._progress.best_share is None:
                self._compare()
            self._save()
        except (KeyboardInterrupt, Terminated):
            self._save()
            self._display.say(
                f"Stopped after {self._progress.rounds} rounds, which are saved in {self._paths.folder}; "
                "the same command continues"
            )
            raise
        return self._finish()

    def _demonstrate(self) -> None:
        """Fills the memory of demonstrations."""
        problems = self._around.problems
        self._placements = [] if self._settings.regenerate_memories else self._memories.load()
        num_kept = len(self._placements)
        self._display.stage("demonstrations", len(problems), num_kept)
        for problem in problems[num_kept:]:
            self._placements.append(best_known(problem))
            self._memories.save(self._placements)
            self._display.progress(len(self._placements))
        for number in range(len(problems)):
            self._teach(number)
        share = np.mean([placement.burned_share for placement in self._placements])
        source = "made by moving cells of sequential DPV and the row"
        if num_kept:
            source = f"{'' if num_kept == len(problems) else f'{num_kept} of them '}kept in {self._paths.memories}"
        self._display.say(f"Demonstrations for {len(problems)} areas, {source}: planning fires burn {share:.4f}")

    def _teach(self, number: int) -> None:
        """The best breaks of an area as its demonstrations, in place of earlier ones."""
        area, problem, breaks = self._around.areas[number], self._around.problems[number], self._placements[number].breaks
        how = self._rules, self._settings.gamma, self._rng
        own = [in_own_states(area, problem, path, breaks, *how) for path in self._own_paths[number]]
        found = joined([as_experiences(area, problem, breaks, *how), *own])
        self._agent.demonstrations.forget_area(found.observations[0])
        self._agent.remember(found)

    def _pretrain(self) -> None:
        self._display.stage("pretraining", self._settings.pretrain_steps)
        losses: list[Losses] = []
        for number in range(self._agent.updates, self._settings.pretrain_steps):
            if (found := self._agent.replay()) is not None:
                losses.append(found)
            self._display.progress(number + 1)
            if self._time_is_up():
                break
            if (number + 1) % OWN_STATES_EVERY == 0:
                self._see_own_states()
        self._agent.update_target()
        share = self._compare()
        self._metrics.add(self._now(), {"stage": "pretrained", "burned": share, "td_loss": _mean_td(losses)})
        self._display.say(f"Pretrained with {self._agent.updates} updates: planning fires burn {share:.4f}")
        self._save()

    def _see_own_states(self) -> None:
        """Teaches what is right in the states to which the agent comes by itself, in some areas."""
        for number, path in self._own_paths_in_turn():
            self._own_paths[number].append(path)
            self._teach(number)

    def _round(self) -> None:
        settings, rounds = self._settings, self._progress.rounds + 1
        self._display.stage("training", settings.num_episodes, rounds - 1)
        collected = self._collector.collect_experiences(settings.steps_per_episode, settings.train_frequency)
        if rounds % settings.target_update_frequency == 0:
            self._agent.update_target()
        self._agent.epsilon = max(settings.epsilon_min, self._agent.epsilon * settings.epsilon_decay)
        self._progress = self._progress._replace(rounds=rounds)
        values = {**collected, **self._collector.get_performance_stats(), "epsilon": round(self._agent.epsilon, 4)}
        if settings.improve_frequency and rounds % settings.improve_frequency == 0 and self._placements:
            values["improved_areas"] = self._improve()
        if rounds % settings.evaluate_frequency == 0 or self._is_over():
            values["burned"] = self._compare()
        self._metrics.add(self._now(), values)
        self._display.round_ended(self._now(), values)
        if rounds % settings.checkpoint_frequency == 0:
            self._save()

    def _improve(self) -> int:
        """Moves cells of the agent's own breaks in some areas; what is better than anything known is taught.

        Where they are the best known ones already, some cells begin elsewhere (iterated local search: Lourenço, Martin and
        Stützle 2003, Handbook of Metaheuristics, chapter 11).

        Returns:
            in how many areas something better than anything known was found.
        """
        around, count = self._around, 0
        for number, path in self._own_paths_in_turn():
            if self._time_is_up():
                break
            problem, known = around.problems[number], self._placements[number].breaks
            start = path[-1]
            if (start == known).all():
                start = moved_at_random(start, problem.landscape.burnable, MOVED_AT_RANDOM, self._rng)
            found = Placement(*improved(problem, start))
            if found.burned_share < self._placements[number].burned_share:
                self._placements[number] = found
                count += 1
            self._own_paths[number].append(path)
            self._teach(number)
        if count:
            self._memories.save(self._placements)
        return count

    def _own_paths_in_turn(self) -> list[tuple[int, np.ndarray]]:
        """The agent's own paths in some areas, by the area's number.

        Areas take turns: to improve the breaks of many takes longer than to learn from them.
        """
        areas, first = self._around.areas, self._next_to_see
        count = min(len(areas), self._settings.improve_areas)
        numbers = [(first + number) % len(areas) for number in range(count)]
        self._next_to_see = (first + count) % len(areas)
        paths = greedy_paths(self._agent, [areas[number] for number in numbers], self._rules)
        return list(zip(numbers, paths, strict=True))

    def _compare(self) -> float:
        """What the planning fires burn with the agent's breaks, on average over the areas; keeps the best agent."""
        breaks = greedy_breaks(self._agent, self._around.areas, self._rules)
        shares = [burned_shares(problem, one[None])[0] for problem, one in zip(self._around.problems, breaks, strict=True)]
        share = float(np.mean(shares))
        if self._progress.best_share is None or share < self._progress.best_share:
            self._best = self._agent.learner.params
            self._progress = self._progress._replace(best_share=share)
        return share

    def _is_over(self) -> bool:
        return self._progress.rounds >= self._settings.num_episodes or self._time_is_up()

    def _time_is_up(self) -> bool:
        return self._settings.max_minutes is not None and self._seconds() >= 60 * self._settings.max_minutes

    def _seconds(self) -> float:
        return self._seconds_before + time.monotonic() - self._began_s

    def _now(self) -> Progress:
        return self._progress._replace(
            updates=self._agent.updates, epsilon=self._agent.epsilon, seconds=round(self._seconds(), 3)
        )

    def _save(self) -> None:
        checkpoints.save(self._paths, Saved(self._agent.learner, self._best, self._now()))

    def _take_up(self, found: Saved) -> None:
        self._agent.learner, self._best, self._progress = found
        self._agent.updates, self._agent.epsilon = found.progress.updates, found.progress.epsilon

    def _finish(self) -> dict[str, Any]:
        self._display.stage("comparing", 2)
        self._agent.learner = self._agent.learner._replace(params=self._best)
        found = results.compare_with_heuristics(self._settings, self._around, self._agent, self._display)
        progress = self._now()._asdict() | self._collector.get_performance_stats()
        write_json(self._paths.result, found.to_json() | {"progress": progress})
        results.draw(self._settings, self._paths, self._around, found, self._display.say)
        return read_json(self._paths.result)


def _mean_td(losses: list[Losses]) -> float | None:
    return float(np.mean(jax.device_get([one.td for one in losses]))) if losses else None
