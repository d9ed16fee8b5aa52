"""``flowrl report GRAPH_PATH``: an experiment as one page."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from flowrl.config import ReportArguments, parse
from flowrl.errors import ALL_COMPLETED, BadInput, FlowrlError, NoRoom
from flowrl.experiment.background_films import start_watch
from flowrl.files import why_no_room
from flowrl.paths import ExperimentPaths
from flowrl.report.terminal import console


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code."""
    try:
        given = parse(ReportArguments, sys.argv[1:] if arguments is None else arguments, "flowrl report")
        return _report(given)
    except FlowrlError as error:
        print(f"flowrl: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        pass  # the way to end --serve
    return ALL_COMPLETED


def _report(given: ReportArguments) -> int:
    """The exit code: of bad input if a part of the experiment cannot be read. The rest of the page is written."""
    from flowrl.report.page import facts, serving, writing  # bokeh takes a while to import

    def say(line: str) -> None:
        console().print(line, markup=False, soft_wrap=True)

    paths = ExperimentPaths(given.graph_path)
    if given.films:
        _film(paths)
    if given.serve:
        serving.serve(paths, given.port, say)
        return ALL_COMPLETED
    found = facts.gather(paths)
    try:
        say(f"Written: {writing.write_facts(paths, found)}")
    except OSError as error:
        raise NoRoom(
            f"{paths.report} cannot be written ({why_no_room(error) or error.strerror}); make room or make it writable"
        ) from None
    for remark in found.remarks:
        print(f"flowrl: {remark}", file=sys.stderr)
    return BadInput.exit_code if found.remarks else ALL_COMPLETED


def _film(paths: ExperimentPaths) -> None:
    """Films all skills in another process, which imports JAX, at the lowest priority. The page is written without them too."""
    if start_watch(paths, "all").wait():
        console().print("The films above are missing; the page is written without them", markup=False, soft_wrap=True)
