"""Rehearsal: what a planner unlocks with experts that go on learning while they are used, beside a plain agent.

    python benchmarks/rehearsal.py exp/rehearsal --plain_frames 5e6 --frames 5e6        # Craftax-Classic
    python benchmarks/rehearsal.py exp/rehearsal --library exp/classic --frames 2e6     # with a library's own experts
    python benchmarks/rehearsal.py --help

Without a library, the skills are those of the built-in curriculum, and all of their experts begin as one plain agent, which is
trained first, with small batches and a constant learning rate. The frames that are printed are all that were trained for the
result. The first argument is a folder: the plain agent is kept there, and goes on from its last checkpoint; the experts as they
are in the end, and the curve, are written to it.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import os
import statistics
import time
from collections import deque
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import jax
import numpy as np

from flowrl import pickles
from flowrl.envs.registry import GAMES, GameEntry, game, make_adapter
from flowrl.evaluation import bench as benches
from flowrl.evaluation import findings, library, rehearsal
from flowrl.evaluation.bench import Bench
from flowrl.evaluation.composition import begin
from flowrl.evaluation.library import Library, LibrarySkill
from flowrl.evaluation.planner import Planned, PlannerSettings
from flowrl.evaluation.skill_tests import SkillTest
from flowrl.experiment import plain_agents, stored_settings
from flowrl.paths import ExperimentPaths
from flowrl.proposers.curriculum import load_curriculum
from flowrl.records.run_record import PlannedTask, Slot
from flowrl.records.training_settings import TrainingSettings
from flowrl.skills.module import TaskSource, render_module
from flowrl.skills.plan import build_plan
from flowrl.skills.spec import SkillSpec
from flowrl.training.host import process
from flowrl.training.learning import experts
from flowrl.training.learning.ppo import Hyperparameters
from flowrl.training.playing.learning import Updater
from flowrl.training.playing.programs import Source, compile_programs
from flowrl.training.run.updates import bank_size, turnover

SKILL_EPISODES = 512
GUESSED_STEPS = 60.0
RECENT_EPISODES = 800
UPDATES_A_LINE = 25


def main(arguments: list[str] | None = None) -> int:
    options = parsed(arguments)
    bench, frames = opened(options)
    settings = PlannerSettings(min_success=0.0, low=options.low)  # no skill is shut out: it is to learn
    planned = benches.planned_by(bench, tests_of(bench, options), settings) if options.library else guessed(bench, settings)
    print(f"{len(bench.library.skills)} skills, {frames:,} frames so far")
    before = shown(bench, planned, options, "before")
    bench, planned, curve = rehearsed(bench, planned, options, frames)
    after = shown(bench, planned, options, "after")
    for skill, params in zip(bench.library.skills, experts.unstack(bench.params, len(bench.library.skills))):
        pickles.dump(options.folder / f"{skill.index}_{skill.name}.pkl", {"params": params})
    (options.folder / "curve.json").write_text(json.dumps({"curve": curve, "before": before, "after": after}))
    return 0


def opened(options: argparse.Namespace) -> tuple[Bench, int]:
    """What is rehearsed, and the frames that were trained for it."""
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.library:
        paths = ExperimentPaths(options.library)
        facts = game(stored_settings.read(paths).settings.env_name).facts
        found = library.load(paths, facts)
        process.take_slot(Slot())
        return benches.set_up(found, make_adapter(found.env_name), SKILL_EPISODES), found.total_frames
    entry = game(options.env_name)
    settings = {"layer_size": options.layer_size, "anneal_lr": False, "seed": options.seed}
    say = functools.partial(print, "  plain agent:", end="\r", flush=True)
    paths = plain_agents.train(
        ExperimentPaths(options.folder), entry, "small batches", settings, int(options.plain_frames), say
    )
    agent = library.load(paths, entry.facts)
    process.take_slot(Slot())
    found = curriculum_of(entry, agent)
    return benches.set_up(found, make_adapter(entry.env_name), SKILL_EPISODES), agent.total_frames


def curriculum_of(entry: GameEntry, agent: Library) -> Library:
    """The skills of the built-in curriculum; every expert is as the plain agent is."""
    specs = {spec.name: spec for spec in load_curriculum(entry.curriculum, entry.facts)}
    places = {name: place for place, name in enumerate(specs)}
    skills = []
    for name, spec in specs.items():
        tasks = [
            TaskSource(task["skill_name"], task["n"], places[task["skill_name"]], *code_of(specs[task["skill_name"]]))
            for task in build_plan(spec, specs, entry.facts)
        ]
        text = render_module(name, places[name], {place: place for place in places.values()}, tasks)
        plan = tuple(PlannedTask(task.skill_name, task.n, task.local_expert_idx, task.local_expert_idx) for task in tasks)
        limits = tuple(specs[task.skill_name].max_task_steps or TrainingSettings.max_task_steps for task in tasks)
        skills.append(LibrarySkill(places[name], name, spec, text, plan, limits, None, agent.skills[0].params))
    return dataclasses.replace(agent, skills=tuple(skills))


def code_of(spec: SkillSpec) -> tuple[str, str]:
    return spec.task_is_done, spec.task_reward


def tests_of(bench: Bench, options: argparse.Namespace) -> dict[str, SkillTest]:
    return {skill.name: benches.measured(bench, skill, options.seed) for skill in bench.library.skills}


def guessed(bench: Bench, settings: PlannerSettings) -> Planned:
    """All skills are taken for equally good at first; what is seen of them while they are rehearsed corrects that."""
    planned = benches.equally_good(bench, settings)
    steps = jax.device_put(np.full(len(bench.library.skills), GUESSED_STEPS, np.float32))
    return planned._replace(weights=planned.weights._replace(steps=steps))


def rehearsed(bench: Bench, planned: Planned, options: argparse.Namespace, before: int) -> tuple[Bench, Planned, list[dict]]:
    """The bench with what its experts have learned, what is known of them by now, and the curve."""
    num_skills, num_envs, num_steps = len(bench.library.skills), options.num_envs, options.num_steps
    hyper = Hyperparameters(gamma=options.gamma, gae_lambda=options.gae_lambda)
    source = Source(bench.adapter, bench.programs.source.network, hyper, num_envs)
    programs = compile_programs(source, num_skills, num_steps)
    composition, _ = benches.composed(dataclasses.replace(bench, programs=programs), options.max_steps)
    learner = programs.learning.fresh_learner(experts.unstack(bench.params, num_skills))
    keys = programs.keys.of_run(options.seed, 0)
    games = begin(composition, keys.worlds, bank_size(num_envs), planned)
    worlds, updater = turnover(num_envs, num_steps), Updater(programs.learning)
    known = rehearsal.Experience(np.asarray(planned.weights.success), np.asarray(planned.weights.steps))
    pay, recent = rehearsal.Pay(options.own, options.game), deque(maxlen=RECENT_EPISODES)
    curve, begun_s, frames = [], time.monotonic(), 0
    for update in range(int(options.frames) // (num_envs * num_steps)):
        act_key, learn_key, world_key = programs.keys.of_update(keys.updates, update)
        games, rollout, steps = rehearsal.collect(composition, learner.params, games, planned, act_key, num_steps, pay)
        values = rehearsal.last_values(composition, learner.params, games)
        lr = options.lr * (1 - frames / options.frames)
        learner, _ = updater.update(learner, rollout, values, learn_key, lr)
        ended = [int(goals) for step in steps for goals in step.num_goals[step.ended]]
        recent.extend(ended)
        games = games._replace(bank=programs.world.refreshed(games.bank, world_key, worlds.due(len(ended))))
        known.add(steps)
        planned = planned._replace(weights=planned.weights._replace(success=known.success, steps=known.steps))
        frames += num_envs * num_steps
        if update % UPDATES_A_LINE == UPDATES_A_LINE - 1 and recent:
            curve.append({"frames": before + frames, "achievements": statistics.mean(recent)})
            rate = frames / (time.monotonic() - begun_s)
            print(
                f"  {before + frames:>12,} frames: {curve[-1]['achievements']:.2f} achievements, {rate:,.0f} frames/s",
                flush=True,
            )
    return dataclasses.replace(bench, params=jax.device_get(learner.params)), planned, curve


def shown(bench: Bench, planned: Planned, options: argparse.Namespace, when: str) -> dict:
    """Plays fresh worlds, prints the figures, and returns them."""
    episodes = benches.play_whole(bench, planned, options.episodes, options.max_steps, options.test_seed)
    found = findings.of_episodes(episodes, bench.library, bench.adapter)
    mean, steps = found["achievements"], found["episode_steps"]["value"]
    interval = f"{mean['value']:.2f} ({mean['low']:.2f} to {mean['high']:.2f})"
    print(f"{when}: {interval} achievements, score {found['score']:.1f}, {steps:.0f} steps")
    print("  " + ", ".join(f"{goal} {rate['value']:.2f}" for goal, rate in found["rates"].items()), flush=True)
    return found


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the plain agent and the results are kept")
    parser.add_argument("--library", type=Path, help="folder of an experiment whose skills and experts are rehearsed")
    parser.add_argument("--env_name", default="Craftax-Classic-Symbolic-v1", choices=GAMES)
    parser.add_argument("--layer_size", type=int, default=128)
    parser.add_argument("--plain_frames", type=float, default=5e6)
    parser.add_argument("--frames", type=float, default=2e6)
    parser.add_argument("--num_envs", type=int, default=128)
    parser.add_argument("--num_steps", type=int, default=64)
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--gamma", type=float, default=0.99)
    parser.add_argument("--gae_lambda", type=float, default=0.8)
    parser.add_argument("--own", type=float, default=0.5, help="weight of the skills' own rewards")
    parser.add_argument("--game", type=float, default=1.0, help="weight of the game's reward")
    parser.add_argument("--low", type=float, default=0.0, help="vitals below this are recovered first")
    parser.add_argument("--episodes", type=int, default=1024)
    parser.add_argument("--max_steps", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--test_seed", type=int, default=777)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
