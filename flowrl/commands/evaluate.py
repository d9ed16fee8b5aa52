"""``flowrl evaluate GRAPH_PATH``: what each skill and the whole library can do, measured on fresh worlds."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.progress import Progress

from flowrl.config import EvaluationArguments, Settings, parse
from flowrl.envs.registry import game
from flowrl.errors import BadInput, FlowrlError
from flowrl.experiment import plain_agents, stored_settings
from flowrl.paths import ExperimentPaths, given_path
from flowrl.report.terminal import console


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code."""
    try:
        given = parse(EvaluationArguments, sys.argv[1:] if arguments is None else arguments, "flowrl evaluate")
        _evaluate(given, console())
    except FlowrlError as error:
        print(f"flowrl: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("flowrl: stopped; nothing was written", file=sys.stderr)
        return 130
    return 0


def _evaluate(given: EvaluationArguments, out: Console) -> None:
    paths = ExperimentPaths(given_path(given.graph_path, "GRAPH_PATH"))
    stored = stored_settings.read(paths)
    if stored is None:
        raise BadInput(f"{paths.root} holds no experiment: there is no {paths.config}; name the folder of one")
    entry = game(stored.settings.env_name)
    from flowrl.evaluation import library
    from flowrl.evaluation.evaluation import evaluate  # brings jax

    flat = {}
    if given.flat:
        frames = library.load(paths, entry.facts).total_frames
        flat = {variant: _plain(paths, variant, stored.settings, frames, out) for variant in plain_agents.VARIANTS}
    evaluate(paths, entry, given, out, flat)


def _plain(paths: ExperimentPaths, variant: str, settings: Settings, frames: int, out: Console) -> ExperimentPaths:
    with Progress(console=out, transient=True) as bar:
        task = bar.add_task(f"training a plain agent, {variant}", total=frames)
        entry = game(settings.env_name)
        return plain_agents.train(
            paths, entry, variant, settings.training(), frames, lambda done: bar.update(task, completed=done)
        )
