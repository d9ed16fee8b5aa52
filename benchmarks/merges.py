"""Real merges with ``--merge_guard``, with ``--guard_changes`` as well, and without: how many experts are worse after a merge.

    python benchmarks/merges.py exp/merges --merges 100 --json merges.json
    python benchmarks/merges.py --help

Grows experiments by the published command, one a seed, each once in every mode: the built-in curriculum in short trainings,
several side by side. Each merge leaves what the library was before it and what it made of its experts; every expert that it
changed is then played on its skill's plan as it was and as it is, in the same fresh worlds, all others as they were. The guard
has not played in these worlds. Everything is kept in the first argument's folder; the same command continues it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from flowrl import pickles
from flowrl.bottomup_parallel import get_skill_dependencies
from flowrl.config import Settings, whole_number
from flowrl.errors import SOMETHING_FAILED
from flowrl.experiment.start import Start
from flowrl.files import read_json, write_json
from flowrl.parallel.library.experts import are_same, fingerprint
from flowrl.parallel.merge_guard import COMMAND, MergeGuard, link_skill
from flowrl.parallel.training_processor import process_completed_training
from flowrl.paths import MERGE, ExperimentPaths
from flowrl.records import run_record, version_comparison
from flowrl.records.run_record import Slot
from flowrl.records.version_comparison import Comparison, MeasuringPaths, Pair, Request

MODES = {
    "guard": {"merge_guard": True},
    "changes": {"merge_guard": True, "guard_changes": True},
    "frames": {"merge_guard": False},
}
WORLDS = 1
"""Others than those of the guard, which would find again what it has decided by."""
TRAINING = {"num_envs": 64, "num_steps": 32, "layer_size": 64, "lr": 1e-3, "gamma": 0.995}


def main(arguments: Sequence[str] | None = None) -> int:
    options = parsed(arguments)
    found = {}
    for mode in options.modes:
        merges = []
        for seed, max_nodes in enumerate(sizes(options.merges, options.max_nodes)):
            paths = ExperimentPaths(options.folder / mode / f"seed_{seed}")
            grow(paths, options, seed, max_nodes, MODES[mode])
            merges += [figures_of(folder, options.episodes) for folder in sorted(merges_of(paths).glob("*"))]
        found[mode] = summary(merges)
        print(table(found), flush=True)
    if options.json:
        write_json(options.json, found)
    return 0


def sizes(num_merges: int, max_nodes: int) -> list[int]:
    """The number of skills of each experiment: one merge a skill."""
    return [min(max_nodes, num_merges - begun) for begun in range(0, num_merges, max_nodes)]


def merges_of(paths: ExperimentPaths) -> Path:
    """What the merges of an experiment leave: a folder each, with what is played before and after."""
    return paths.root / "merges"


def grow(paths: ExperimentPaths, options: argparse.Namespace, seed: int, max_nodes: int, guard: Mapping[str, bool]) -> None:
    """Trains and merges the skills of one experiment. That some of them fail is part of the result."""
    settings = Settings(
        env_name=options.env_name,
        graph_path=paths.root,
        proposer="curriculum",
        max_nodes=max_nodes,
        max_parallel_skills=options.parallel,
        total_timesteps=options.frames,
        no_progress_frames=0,
        seed=seed,
        **guard,
        **TRAINING,
    )
    start = Start(settings, get_skill_dependencies)
    process = partial(
        merge_and_keep, guard=MergeGuard() if settings.merge_guard else None, guard_changes=settings.guard_changes
    )
    start.scheduler.set_callbacks(process_completed_training=process)
    if (code := start.run()) > SOMETHING_FAILED:
        raise SystemExit(code)


def merge_and_keep(run_folder: Path, skill_name: str, global_expert_idx: int, base_dir: Path, **how: Any) -> dict[str, Any]:
    """Merges, and keeps the library as it was before and what became of its experts, for `figures_of`."""
    paths = ExperimentPaths(base_dir)
    kept = MeasuringPaths(merges_of(paths) / f"{global_expert_idx}_{skill_name}")
    if not kept.folder.exists():
        unfinished = MeasuringPaths(kept.folder.with_name(f".{kept.folder.name}"))
        unfinished.library.skills.mkdir(parents=True, exist_ok=True)
        for index, name in paths.library().items():
            link_skill(paths, unfinished.library, index, name)
        unfinished.folder.rename(kept.folder)
    merged = process_completed_training(run_folder, skill_name, global_expert_idx, base_dir, **how)
    pairs = [
        pair_of(kept, paths, index, name)
        for index, name in sorted(kept.library.library().items())
        if index in merged["expert_updates"] and index != global_expert_idx
    ]
    record = run_record.read(paths.skill_folder(global_expert_idx, skill_name) / run_record.NAME)
    changed = tuple(pair for pair in pairs if pair)
    write_json(kept.folder / MERGE, read_json(paths.skill_folder(global_expert_idx, skill_name) / MERGE))
    version_comparison.write(kept.request, Request(record.env_name, Slot(record.slot.cores), changed))
    return merged


def pair_of(kept: MeasuringPaths, paths: ExperimentPaths, index: int, name: str) -> Pair | None:
    """An expert as it was and as it is; None if the merge left it as it was."""
    before, after = (pickles.load(library.expert_params(index, name))["params"] for library in (kept.library, paths))
    if are_same(before, after):
        return None
    pickles.dump(kept.version(index), {"params": after})
    return Pair(name, index, fingerprint(before), fingerprint(after))


def figures_of(folder: Path, episodes: int) -> dict[str, Any]:
    """What one merge did: its record, and every expert that it changed, before and after."""
    return {
        "skill_name": folder.name,
        "updates": read_json(folder / MERGE)["expert_updates"],
        "changed": [_figures(comparison) for comparison in measured(MeasuringPaths(folder), episodes)],
    }


def measured(kept: MeasuringPaths, episodes: int) -> Sequence[Comparison]:
    """Plays what a merge changed, unless that was done before. ``library`` is before the merge, ``run`` after it."""
    request = version_comparison.read_request(kept.request)
    if not request.pairs:
        return ()
    if not kept.answer.exists() or (request.episodes, request.worlds) != (episodes, WORLDS):
        request = Request(request.env_name, Slot(), request.pairs, episodes, WORLDS)
        kept.answer.unlink(missing_ok=True)
        version_comparison.write(kept.request, request)
        print(f"measuring {', '.join(pair.skill_name for pair in request.pairs)}, changed by {kept.folder.name}", flush=True)
        with subprocess.Popen([*COMMAND, str(kept.folder.resolve())], stdin=subprocess.PIPE) as playing:
            if code := playing.wait():
                raise SystemExit(code)
    return version_comparison.read_answer(kept.answer).comparisons


def _figures(comparison: Comparison) -> dict[str, Any]:
    return {
        "expert": comparison.pair.global_expert_idx,
        "before": comparison.library_successes / comparison.episodes,
        "after": comparison.run_successes / comparison.episodes,
        "is_worse": comparison.is_library_better,
        "is_better": comparison.is_run_better,
    }


def summary(merges: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """All merges of one mode together."""
    competitions = {
        (number, int(index)): update["competition"]
        for number, merge in enumerate(merges)
        for index, update in merge["updates"].items()
        if "competition" in update
    }
    # One that was written before this was recorded had a competitor.
    contests = {place: found for place, found in competitions.items() if found.get("had_competitor", True)}
    changed = {(number, row["expert"]): row for number, merge in enumerate(merges) for row in merge["changed"]}
    competed = [row for place, row in changed.items() if place in contests]
    return {
        "merges": len(merges),
        "competing_experts": len(contests),
        "measured_without_one": len(competitions) - len(contests),
        "decided_by_measuring": sum(found["decided_by"] == "measured" for found in competitions.values()),
        "not_measured": sum(found["not_measured"] is not None for found in competitions.values()),
        "changed_experts": len(changed),
        "worse_experts": sum(row["is_worse"] for row in changed.values()),
        "better_experts": sum(row["is_better"] for row in changed.values()),
        "worse_of_competing": sum(row["is_worse"] for row in competed),
        "lost_acted_frames": sum(found["lost_acted_frames"] for found in competitions.values()),
        "runs": list(merges),
    }


def table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """The modes beside each other, a figure a line."""
    figures = [name for name in next(iter(found.values())) if name != "runs"]
    lines = [f"{'':22}" + "".join(f"{mode:>12}" for mode in found)]
    return "\n".join([*lines, *(f"{name:22}" + "".join(f"{row[name]:12,}" for row in found.values()) for name in figures)])


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="the experiments of all seeds")
    parser.add_argument("--merges", type=int, default=100, help="in each mode")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--max_nodes", type=int, default=22, help="skills of an experiment")
    parser.add_argument("--parallel", type=int, default=3, help="trainings side by side")
    parser.add_argument("--frames", type=whole_number, default=200_000, help="of a training")
    parser.add_argument("--episodes", type=int, default=256, help="before a merge, and after it, for each changed expert")
    parser.add_argument("--env_name", default="Craftax-Classic-Symbolic-v1")
    parser.add_argument("--json", type=Path)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
