"""``flowrl watch GRAPH_PATH SKILL``: a film of what a skill's experts do."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flowrl.config import WatchArguments, parse
from flowrl.envs.registry import game
from flowrl.errors import ALL_COMPLETED, INTERRUPTED, BadInput, FlowrlError
from flowrl.experiment import stored_library
from flowrl.paths import ExperimentPaths
from flowrl.records.run_record import Slot
from flowrl.report.terminal import console
from flowrl.suggestions import suggestion
from flowrl.training.host import process

if TYPE_CHECKING:
    from flowrl.evaluation.bench import Bench
    from flowrl.evaluation.library import Library, LibrarySkill

ALL = "all"
"""In place of a skill: every one that has no film of what it can do now."""
_ENVS = 32
"""Episodes to choose from."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code."""
    try:
        given = parse(WatchArguments, sys.argv[1:] if arguments is None else arguments, "flowrl watch")
        _film(given)
    except FlowrlError as error:
        print(f"flowrl: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    return ALL_COMPLETED


def _film(given: WatchArguments) -> None:
    paths, stored = stored_library.find(given.graph_path)
    entry = game(stored.settings.env_name)
    process.take_slot(Slot())  # before jax is imported
    from flowrl.envs.registry import make_adapter
    from flowrl.evaluation import bench
    from flowrl.films import film_files

    library = stored_library.load(paths, entry)
    skills = _chosen(library, given.skill, paths)
    if given.out and not given.in_terminal:
        film_files.check_suffix(given.out)
    if not skills:
        return console().print(f"Every skill of {paths.root} has its film", markup=False, soft_wrap=True)
    set_up = bench.set_up(library, make_adapter(entry.env_name), max(_ENVS, given.episodes))
    for skill in skills:
        _film_of(set_up, skill, given, given.out or _usual_file(paths, skill.name))


def _chosen(library: Library, name: str, paths: ExperimentPaths) -> list[LibrarySkill]:
    """The skill of this name, or with `ALL` those whose film is missing, or older than what the skill's expert has learned.

    Raises:
        BadInput: there is no such skill.
    """
    if name == ALL:
        return [skill for skill in library.skills if not _is_filmed(skill, paths)]
    skills = [skill for skill in library.skills if skill.name == name]
    if not skills:
        known = [skill.name for skill in library.skills]
        raise BadInput(f"{paths.root} has no completed skill {name!r}; {suggestion(name, [*known, ALL])}")
    return skills


def _is_filmed(skill: LibrarySkill, paths: ExperimentPaths) -> bool:
    film, expert = _usual_file(paths, skill.name), paths.expert_params(skill.index, skill.name)
    return film.exists() and film.stat().st_mtime >= expert.stat().st_mtime


def _usual_file(paths: ExperimentPaths, name: str) -> Path:
    from flowrl.films import film_files

    return paths.report / "films" / f"{name}{film_files.usual_suffix()}"


def _film_of(set_up: Bench, skill: LibrarySkill, given: WatchArguments, target: Path) -> None:
    from flowrl.films import film_files, in_terminal, picture
    from flowrl.films.footage import shoot

    episodes = shoot(set_up, skill, given.seed, given.episodes, given.tile, given.outcome)
    frames = [frame for episode in episodes for frame in picture.frames(episode, skill.plan, hold=given.fps)]
    if given.in_terminal:
        return in_terminal.play(frames, given.fps, console())
    try:
        film_files.write(target, frames, given.fps)
    except OSError as error:
        raise FlowrlError(f"{target} cannot be written ({error.strerror or error}); choose another --out") from None
    done = sum(episode.is_success for episode in episodes)
    console().print(
        f"Written: {target} ({len(frames)} frames; {done} of {len(episodes)} episodes succeeded)", markup=False, soft_wrap=True
    )
