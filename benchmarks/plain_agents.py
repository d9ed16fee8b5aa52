"""Plain PPO agents by themselves, over several seeds: what each unlocks in whole episodes, after so many frames.

    python benchmarks/plain_agents.py exp/plain --seeds 3 --frames 10e6 --json plain.json
    python benchmarks/plain_agents.py --help

`flowrl evaluate --flat` trains such agents beside one library. Here they are alone: the same training, the same worlds.
Everything is kept in the first argument's folder; the same command goes on where it was stopped. On a machine with several
cores, start one process for each seed (``--seeds 1 --first_seed 2``).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from rich.console import Console
from rich.progress import Progress
from vs_flat_ppo import TRAINING, WORLDS, figures_of_plain, over_seeds, table

from flowrl.config import whole_number
from flowrl.envs.registry import game
from flowrl.experiment import plain_agents, stored_library
from flowrl.files import read_json, write_json
from flowrl.paths import ExperimentPaths
from flowrl.records.run_record import Slot
from flowrl.training.host import process


def main(arguments: Sequence[str] | None = None) -> int:
    options = parsed(arguments)
    out = Console()
    process.take_slot(Slot())  # before jax is imported
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    flat = {name: over_seeds([figures_of(options, name, seed, out) for seed in seeds]) for name in options.variants}
    print(table({"flat": flat}))
    if options.json:
        write_json(options.json, {"seeds": len(seeds), "flat": flat})
    return 0


def figures_of(options: argparse.Namespace, variant: str, seed: int, out: Console) -> dict[str, Any]:
    """One plain agent: trained, and its episodes played; what is done already is not done again."""
    paths = ExperimentPaths(options.folder / f"seed_{seed}")
    settings = {**TRAINING, "anneal_lr": False, "layer_size": options.layer_size, "seed": seed}
    with Progress(console=out, transient=True) as bar:
        task = bar.add_task(f"seed {seed}: {variant}", total=options.frames)
        agent = plain_agents.train(
            paths, game(options.env_name), variant, settings, options.frames, lambda done: bar.update(task, completed=done)
        )
    whole = agent.root / "whole.json"
    if not whole.exists() or read_json(whole)["episodes"] != options.episodes:
        write_json(whole, play(options, variant, agent, seed, out))
    return figures_of_plain(paths, variant, read_json(whole))


def play(options: argparse.Namespace, variant: str, agent: ExperimentPaths, seed: int, out: Console) -> dict[str, Any]:
    from flowrl.envs.registry import make_adapter
    from flowrl.evaluation.evaluation import evaluate_plain

    library = stored_library.load(agent, game(options.env_name))
    request = SimpleNamespace(episodes=options.episodes, skill_episodes=512, max_steps=10_000, seed=WORLDS + seed, log=False)
    return evaluate_plain(variant, library, make_adapter(options.env_name), request, out)


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="the agents of all seeds")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first_seed", type=int, default=0)
    parser.add_argument("--frames", type=whole_number, default=10_000_000)
    parser.add_argument("--variants", nargs="+", choices=list(plain_agents.VARIANTS), default=list(plain_agents.SMALL_BATCHES))
    parser.add_argument("--env_name", default="Craftax-Classic-Symbolic-v1")
    parser.add_argument("--layer_size", type=int, default=128)
    parser.add_argument("--episodes", type=int, default=1024)
    parser.add_argument("--json", type=Path)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
