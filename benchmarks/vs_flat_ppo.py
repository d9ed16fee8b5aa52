"""A library beside plain PPO agents: what each unlocks in whole episodes, after as many frames, over several seeds.

    python benchmarks/vs_flat_ppo.py exp/vs_flat --seeds 3 --frames 10e6 --json vs_flat.json
    python benchmarks/vs_flat_ppo.py --help

For each seed an experiment is grown by the published commands: a plain agent first (``--explore_frames``), then the skills of
the built-in curriculum, each from a related expert (``--init_from auto``), then a rehearsal (``flowrl rehearse``). The skills
that it hardly ever comes to are then trained further on their own plans, with their dependencies held, and what is left is a
second rehearsal. ``flowrl evaluate --flat`` trains plain agents for all of these frames and plays fresh worlds with each.
Everything is kept in the first argument's folder; the same command goes on where it was stopped. On a machine with several
cores, start one process for each seed (``--seeds 1 --first_seed 2``), each with ``taskset`` and a ``TMUX_TMPDIR`` of its own.
"""

from __future__ import annotations

import argparse
import math
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scipy import stats

from flowrl.config import whole_number
from flowrl.evaluation.library import frames_trained
from flowrl.experiment import plain_agents
from flowrl.files import read_json, write_json
from flowrl.parallel.library.archive import EARLIER
from flowrl.paths import ExperimentPaths
from flowrl.records import result as run_result
from flowrl.records.learned import RARE_BY_CHANCE

EXPLORE_SHARE, SKILL_SHARE, FIRST_SHARE = 0.8, 0.0, 0.2
"""Of all frames: for the plain agent that the experts start from, at most for each skill by itself, and for the first
rehearsal. Experts that are trained on their own plans before any rehearsal stop looking after themselves."""
MOST_EXPLORE_FRAMES = 8_000_000
"""After as many, a rehearsal brings more than the plain agent goes on to learn."""
FURTHER = {"Collect_Coal": 0.05, "Collect_Iron": 0.08}
"""Of all frames, as far as any are left: for skills that are trained further after the first rehearsal. Whole episodes seldom
come to what is rare, so few frames of a rehearsal are theirs."""
TRAINING = {"num_envs": 64, "num_steps": 64, "lr": 5e-4, "gae_lambda": 0.8}
"""For the plain agent: of those tried, the settings with which such agents unlock most. The learning rate stays as it is."""
REHEARSAL = {"num_envs": 128, "num_minibatches": 2}
"""What a rehearsal does otherwise: its steps are spread over many experts, so that few samples of a minibatch are an expert's
own. The learning rate falls to zero."""
MAX_TASK_STEPS = 60
"""After so many steps (for each unit of ``n``) the planner thinks again. Tasks that succeed mostly do so in fewer than 40."""
A_UPDATE = REHEARSAL["num_envs"] * TRAINING["num_steps"]
FIGURES = ("achievements", "score", "episode_steps")
WORLDS = 1_000
"""Seeds of the worlds that are played in the end begin here: none of them was trained on."""


def main(arguments: Sequence[str] | None = None) -> int:
    options = parsed(arguments)
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    runs = [run_of(options, seed) for seed in seeds]
    found = summary(runs)
    print(table(found))
    library = options.folder / f"seed_{options.first_seed}"
    print(f"\nWatch a whole episode, as a film: flowrl watch {library} whole, or here with --in_terminal")
    print(f"Watch a skill: flowrl watch {library} {skill_to_watch(library)}")
    print(f"All of it on one page: flowrl report {library}")
    print(f"Why each task of an episode was chosen: flowrl evaluate {library} --log")
    print(f'Use it in a program: flowrl.load_agent("{library}")')
    if options.json:
        write_json(options.json, found)
    return 0


def run_of(options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """One seed: grown, rehearsed and evaluated; what is done already is not done again."""
    paths = ExperimentPaths(options.folder / f"seed_{seed}")
    grow(paths, options, seed)

    def left() -> int:
        return options.frames - frames_trained(paths)

    rehearse(paths, options, 1, min(int(options.first_share * options.frames), left()))
    for name, share in options.further.items():
        train_further(paths, options, name, min(int(share * options.frames), left()))
    rehearse(paths, options, 2, left())
    if not is_evaluated(paths, options):
        flat = [] if options.no_flat else ["--flat"]
        episodes = ["--episodes", str(options.episodes), "--skill_episodes", str(options.skill_episodes)]
        flowrl("evaluate", str(paths.root), "--seed", str(WORLDS + seed), *episodes, *flat)
    return figures_of(paths)


def grow(paths: ExperimentPaths, options: argparse.Namespace, seed: int) -> None:
    """Trains the plain agent and the skills. That some skills fail is part of the result."""
    settings = {
        "env_name": options.env_name,
        "graph_path": paths.root,
        "proposer": "curriculum",
        "max_nodes": options.max_nodes,
        "max_parallel_skills": 1,
        "layer_size": options.layer_size,
        "explore_frames": min(int(options.explore_share * options.frames), options.most_explore_frames),
        "init_from": "auto",
        "total_timesteps": int(options.skill_share * options.frames),
        "max_task_steps": MAX_TASK_STEPS,
        "seed": seed,
        **TRAINING,
    }
    flowrl("grow", *flags(settings), "--no-anneal_lr", "--no-use_wandb", *options.grow, allowed=(0, 1))


def rehearse(paths: ExperimentPaths, options: argparse.Namespace, number: int, frames: int) -> None:
    """Makes the experiment's first or second rehearsal, or ends one that was begun; not if there are no frames for it."""
    state = read_json(paths.state)
    completed = sum(entry["status"] == "completed" for entry in state["rehearsals"])
    if completed < number and (frames >= A_UPDATE or len(state["rehearsals"]) == number):
        frames = max(frames, A_UPDATE)
        flowrl(
            "rehearse", str(paths.root), "--frames", str(frames), "--anneal_lr", "True", *flags(REHEARSAL), *options.rehearse
        )


def train_further(paths: ExperimentPaths, options: argparse.Namespace, name: str, frames: int) -> None:
    """Trains a completed skill for so many frames more, unless that has been done, or there is no such skill."""
    entry = next((skill for skill in read_json(paths.state)["skills"] if skill["skill_name"] == name), None)
    is_usable = entry is not None and (entry["status"] == "completed" or entry["extra_timesteps"])
    if not is_usable:
        return
    wanted = ["--graph_path", str(paths.root)]
    if not entry["extra_timesteps"]:  # else it was interrupted, and goes on
        was_trained_further = (paths.skill_folder(entry["expert_idx"], name) / EARLIER).exists()  # its first training's records
        if was_trained_further or frames < A_UPDATE:
            return
        wanted += ["--continue_skill", name, "--extra_timesteps", str(frames), "--hold_dependencies", *flags(REHEARSAL)]
    flowrl("grow", *wanted, "--no-use_wandb", *options.grow, allowed=(0, 1))


def skill_to_watch(library: Path) -> str:
    """Of the skills that the evaluation found learned, the last one: it has the longest plan of them, or nearly so."""
    skills = read_json(ExperimentPaths(library).evaluation)["skills"]
    learned = [skill["skill_name"] for skill in skills if skill["is_learned"]]
    return learned[-1] if learned else "all"


def flags(settings: Mapping[str, Any]) -> list[str]:
    """Settings as they are typed."""
    return [part for name, value in settings.items() for part in (f"--{name}", str(value))]


def flowrl(*arguments: str, allowed: Sequence[int] = (0,)) -> None:
    """Runs a command of flowrl, as a user does."""
    print(f"flowrl {' '.join(arguments)}", flush=True)
    code = subprocess.run([sys.executable, "-m", "flowrl", *arguments], check=False).returncode
    if code not in allowed:
        raise SystemExit(code)


def is_evaluated(paths: ExperimentPaths, options: argparse.Namespace) -> bool:
    """Whether the library was measured as it is now, beside the plain agents if they are wanted."""
    if not paths.evaluation.exists():
        return False
    found = read_json(paths.evaluation)
    has_plain_agents = options.no_flat or found["flat"].keys() >= plain_agents.SMALL_BATCHES.keys()
    is_as_it_is = (found["frames"], found["whole"]["episodes"]) == (frames_trained(paths), options.episodes)
    return has_plain_agents and is_as_it_is


def figures_of(paths: ExperimentPaths) -> dict[str, Any]:
    """The figures of one seed."""
    found = read_json(paths.evaluation)
    state = read_json(paths.state)
    runs = [*state["skills"], *state["rehearsals"]]
    composed = {
        **_figures(found["whole"]),
        "frames": found["frames"],
        "minutes": round(sum(run["minutes"] or 0.0 for run in runs), 1),
        "skills_learned": sum(
            skill["is_learned"] and (skill["random_success_rate"] or 0.0) < RARE_BY_CHANCE for skill in found["skills"]
        ),
    }
    return {"composed": composed, "flat": {name: figures_of_plain(paths, name, whole) for name, whole in found["flat"].items()}}


def figures_of_plain(paths: ExperimentPaths, variant: str, whole: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of one plain agent.

    Args:
        paths: the experiment that it is kept in.
        whole: what its episodes showed.
    """
    return {**_figures(whole), "frames": whole["frames"], "minutes": _minutes(paths, variant)}


def _figures(whole: Mapping[str, Any]) -> dict[str, Any]:
    mean = whole["achievements"]
    return {
        "achievements": mean["value"],
        "interval": [mean["low"], mean["high"]],
        "score": whole["score"],
        "episode_steps": whole["episode_steps"]["value"],
        "rates": {goal: rate["value"] for goal, rate in whole["rates"].items()},
    }


def _minutes(paths: ExperimentPaths, variant: str) -> float | None:
    folder = plain_agents.folder_of(paths, variant).skill_folder(0, plain_agents.EXPLORE)
    result = run_result.find(folder / run_result.NAME)
    return round(result.seconds_training / 60, 1) if result and result.seconds_training else None


def summary(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """All seeds together."""
    flat = {name: over_seeds([run["flat"][name] for run in runs]) for name in runs[0]["flat"]}
    best = max(flat, key=lambda name: flat[name]["achievements"]["value"], default=None)
    return {
        "seeds": len(runs),
        "composed": over_seeds([run["composed"] for run in runs]),
        "flat": flat,
        "best_flat": best and {"name": best, **flat[best]},
        "runs": list(runs),
    }


def over_seeds(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over seeds. The interval of achievements is Student's over seeds; over episodes if there is one seed."""
    values = [run["achievements"] for run in runs]
    mean = statistics.fmean(values)
    low, high = runs[0]["interval"]
    if len(values) > 1:
        half = stats.t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
        low, high = mean - half, mean + half
    found = {"achievements": {"value": round(mean, 3), "low": round(low, 3), "high": round(high, 3)}}
    for name in ("score", "episode_steps", "frames", "minutes", "skills_learned"):
        known = [run[name] for run in runs if run.get(name) is not None]
        if known:
            found[name] = round(statistics.fmean(known), 2)
    goals = runs[0]["rates"]
    return found | {"rates": {goal: round(statistics.fmean(run["rates"][goal] for run in runs), 4) for goal in goals}}


def table(found: Mapping[str, Any]) -> str:
    """The comparison as lines."""
    rows = {"composed": found["composed"]} if "composed" in found else {}
    rows |= {f"plain, {name}": figures for name, figures in found["flat"].items()}
    lines = [f"{'agent':30} {'achievements':>24} {'score':>7} {'steps':>7} {'frames':>12} {'minutes':>8}"]
    for name, row in rows.items():
        mean = row["achievements"]
        interval = f"{mean['value']:.2f} ({mean['low']:.2f} to {mean['high']:.2f})"
        lines.append(
            f"{name:30} {interval:>24} {row['score']:7.1f} {row['episode_steps']:7.0f} {row['frames']:12,.0f} "
            f"{row.get('minutes', math.nan):8.1f}"
        )
    return "\n".join(lines)


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="the experiments of all seeds")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--first_seed", type=int, default=0, help="several processes can train a seed each; one with all seeds then counts them"
    )
    parser.add_argument("--frames", type=whole_number, default=10_000_000, help="all that are trained for a library")
    parser.add_argument("--explore_share", type=float, default=EXPLORE_SHARE)
    parser.add_argument("--most_explore_frames", type=whole_number, default=MOST_EXPLORE_FRAMES)
    parser.add_argument("--skill_share", type=float, default=SKILL_SHARE)
    parser.add_argument("--first_share", type=float, default=FIRST_SHARE)
    parser.add_argument(
        "--further",
        nargs="*",
        metavar="SKILL=SHARE",
        default=[f"{name}={share}" for name, share in FURTHER.items()],
        help="skills that are trained further between the rehearsals",
    )
    parser.add_argument("--env_name", default="Craftax-Classic-Symbolic-v1")
    parser.add_argument("--max_nodes", type=int, default=22)
    parser.add_argument("--layer_size", type=int, default=128)
    parser.add_argument("--episodes", type=int, default=1024)
    parser.add_argument("--skill_episodes", type=int, default=512)
    parser.add_argument("--no_flat", action="store_true", help="leave out the plain agents")
    parser.add_argument("--grow", nargs="*", default=[], help="further arguments of flowrl grow, without their dashes: lr=1e-3")
    parser.add_argument("--rehearse", nargs="*", default=[], help="the same, of flowrl rehearse")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    options.further = {name: float(share) for name, _, share in (given.partition("=") for given in options.further)}
    options.grow, options.rehearse = ([f"--{given}" for given in more] for more in (options.grow, options.rehearse))
    return options


if __name__ == "__main__":
    raise SystemExit(main())
