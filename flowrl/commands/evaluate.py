"""``flowrl evaluate GRAPH_PATH``: what each skill and the whole library can do, measured on fresh worlds."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.progress import Progress

from flowrl.config import EvaluationArguments, Settings, parse
from flowrl.envs.registry import game
from flowrl.errors import BadInput, FlowrlError
from flowrl.experiment import plain_agents, stored_library
from flowrl.paths import ExperimentPaths
from flowrl.records.run_record import Slot
from flowrl.report.terminal import console
from flowrl.training.host import process


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code."""
    try:
        given = parse(EvaluationArguments, sys.argv[1:] if arguments is None else arguments, "flowrl evaluate")
        _evaluate(given, console())
    except FlowrlError as error:
        print(f"flowrl: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("flowrl: stopped before a measurement was complete; plain agents continue from a checkpoint", file=sys.stderr)
        return 130
    return 0


def _evaluate(given: EvaluationArguments, out: Console) -> None:
    paths, stored = stored_library.find(given.graph_path)
    entry = game(stored.settings.env_name)
    if given.flat and not (entry.facts.goals and entry.facts.own_reward):
        raise BadInput(
            f"--flat needs a game that declares goals and its own reward, and {entry.env_name} does not; leave it out"
        )
    process.take_slot(Slot())  # before jax is imported
    from flowrl.envs.registry import make_adapter
    from flowrl.evaluation.evaluation import evaluate

    found = stored_library.load(paths, entry)
    flat = {}
    for variant in plain_agents.variants_beside(stored.settings.training()) if given.flat else ():
        flat[variant] = stored_library.load(_trained(paths, variant, stored.settings, found.total_frames, out), entry)
    evaluate(paths, found, make_adapter(entry.env_name), given, out, flat)
    _refresh_report(paths, out)


def _refresh_report(paths: ExperimentPaths, out: Console) -> None:
    """Writes the report's page again, if there is one: the evaluation is part of it."""
    from flowrl.report.page import writing

    page = paths.report / writing.NAME
    if not page.exists():
        return
    try:
        writing.write(paths)
        out.print(f"Brought up to date: {page}", soft_wrap=True, markup=False)
    except (BadInput, OSError) as error:  # what was measured is written all the same
        out.print(f"{page} is as it was: {error}", soft_wrap=True, markup=False)


def _trained(paths: ExperimentPaths, variant: str, settings: Settings, frames: int, out: Console) -> ExperimentPaths:
    with Progress(console=out, transient=True) as bar:
        task = bar.add_task(f"training a plain agent, {variant}", total=frames)
        entry = game(settings.env_name)
        return plain_agents.train(
            paths, entry, variant, settings.training(), frames, lambda done: bar.update(task, completed=done)
        )
