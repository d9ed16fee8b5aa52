"""``flowrl watch GRAPH_PATH SKILL``: a film of what a skill's experts do."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from flowrl.config import WatchArguments, parse
from flowrl.envs.registry import game
from flowrl.errors import ALL_COMPLETED, INTERRUPTED, BadInput, FlowrlError
from flowrl.experiment import stored_library
from flowrl.records.run_record import Slot
from flowrl.report.terminal import console
from flowrl.suggestions import suggestion
from flowrl.training.host import process

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
    from flowrl.films import film_files, in_terminal, picture
    from flowrl.films.footage import shoot

    library = stored_library.load(paths, entry)
    skill = next((skill for skill in library.skills if skill.name == given.skill), None)
    if skill is None:
        known = [skill.name for skill in library.skills]
        raise BadInput(f"{paths.root} has no completed skill {given.skill!r}; {suggestion(given.skill, known)}")
    target = given.out or paths.report / "films" / f"{skill.name}{film_files.usual_suffix()}"
    if not given.in_terminal:
        film_files.check_suffix(target)
    set_up = bench.set_up(library, make_adapter(entry.env_name), max(_ENVS, given.episodes))
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
