"""Rehearsal of a library: what the planner unlocks before it, while it lasts, and after it on fresh worlds.

    python benchmarks/rehearsal.py exp/classic --frames 2e6                 # goes on with the library's experts
    python benchmarks/rehearsal.py exp/classic --base exp/classic/flat/small_batches --frames 2e6
    python benchmarks/rehearsal.py --help

One process, nothing is merged or written but ``--out``: a folder with the experts as they are afterwards, and the curve. Frames
of skills that were trained before are not counted; the library's are printed.
"""

from __future__ import annotations

import argparse
import dataclasses
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
from flowrl.envs.registry import game, make_adapter
from flowrl.evaluation import bench as benches
from flowrl.evaluation import findings, library, rehearsal
from flowrl.evaluation.bench import Bench
from flowrl.evaluation.composition import begin
from flowrl.evaluation.planner import Planned, PlannerSettings
from flowrl.experiment import stored_settings
from flowrl.paths import ExperimentPaths
from flowrl.records.run_record import Slot
from flowrl.training.host import process
from flowrl.training.learning import experts
from flowrl.training.learning.ppo import Hyperparameters
from flowrl.training.playing.learning import Updater
from flowrl.training.playing.programs import Source, compile_programs
from flowrl.training.run.updates import bank_size, turnover

SKILL_EPISODES = 512
RECENT_EPISODES = 800
UPDATES_A_LINE = 25


def main(arguments: list[str] | None = None) -> int:
    options = parsed(arguments)
    process.take_slot(Slot())
    bench = opened(options)
    settings = PlannerSettings(low=options.low, min_success=0.0)  # none is shut out: it is to learn
    tests = {skill.name: benches.measured(bench, skill, options.seed) for skill in bench.library.skills}
    planned = benches.planned_by(bench, tests, settings)
    print(f"{len(tests)} skills, {bench.library.total_frames:,} frames")
    shown(bench, planned, options, "before")
    bench, planned, curve = rehearsed(bench, planned, options)
    found = shown(bench, planned, options, "after")
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        for skill, params in zip(bench.library.skills, experts.unstack(bench.params, len(tests))):
            pickles.dump(options.out / f"{skill.index}_{skill.name}.pkl", {"params": params})
        (options.out / "curve.json").write_text(json.dumps({"curve": curve, "after": found}))
    return 0


def opened(options: argparse.Namespace) -> Bench:
    """The library, or its skills with every expert as the plain agent is."""
    paths = ExperimentPaths(options.library)
    facts = game(stored_settings.read(paths).settings.env_name).facts
    found = library.load(paths, facts)
    if options.base:
        (plain,) = library.load(ExperimentPaths(options.base), facts).skills
        skills = tuple(dataclasses.replace(skill, params=plain.params) for skill in found.skills)
        found = dataclasses.replace(found, skills=skills)
    return benches.set_up(found, make_adapter(found.env_name), SKILL_EPISODES)


def rehearsed(bench: Bench, planned: Planned, options: argparse.Namespace) -> tuple[Bench, Planned, list[dict]]:
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
            curve.append({"frames": frames, "achievements": statistics.mean(recent)})
            rate = frames / (time.monotonic() - begun_s)
            print(f"  {frames:>12,} frames: {curve[-1]['achievements']:.2f} achievements, {rate:,.0f} frames/s", flush=True)
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
    parser.add_argument("library", type=Path, help="folder of an experiment")
    parser.add_argument(
        "--base", type=Path, help="folder of a plain agent (flat/NAME of an experiment) as which all experts begin"
    )
    parser.add_argument("--frames", type=float, default=2e6)
    parser.add_argument("--num_envs", type=int, default=256)
    parser.add_argument("--num_steps", type=int, default=32)
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--gamma", type=float, default=0.99)
    parser.add_argument("--gae_lambda", type=float, default=0.9)
    parser.add_argument("--own", type=float, default=0.5, help="weight of the skills' own rewards")
    parser.add_argument("--game", type=float, default=1.0, help="weight of the game's reward")
    parser.add_argument("--low", type=float, default=PlannerSettings().low, help="vitals below this are recovered first")
    parser.add_argument("--episodes", type=int, default=1024)
    parser.add_argument("--max_steps", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--test_seed", type=int, default=777)
    parser.add_argument("--out", type=Path)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
