"""``flowrl watch GRAPH_PATH SKILL``: a film of what a skill's experts do, or of a whole episode."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flowrl.config import WatchArguments, parse
from flowrl.envs.registry import GameEntry, game
from flowrl.errors import ALL_COMPLETED, INTERRUPTED, BadInput, FlowrlError
from flowrl.evaluation.library import completed
from flowrl.experiment import stored_library, unfinished_run
from flowrl.paths import WHOLE_FILM, ExperimentPaths, RunPaths
from flowrl.records import moments
from flowrl.records.moments import Moment
from flowrl.records.run_record import Slot
from flowrl.report.figures import frames_text
from flowrl.report.terminal import console
from flowrl.suggestions import suggestion
from flowrl.tracking import trackers
from flowrl.training.host import process

if TYPE_CHECKING:
    import numpy as np

    from flowrl.evaluation.bench import Bench
    from flowrl.evaluation.library import Library, LibrarySkill
    from flowrl.films.whole_episodes import WholeEpisode

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

    if given.out and not given.in_terminal:
        film_files.check_suffix(given.out)
    if given.skill == WHOLE_FILM:
        return _film_whole(given, paths, entry)
    library, is_unfinished = _library_with(given, paths, entry)
    skills = _chosen(library, given, paths)
    if not skills:
        return _say(f"Every skill of {paths.root} has its film")
    earlier = {skill.name: _earlier(skill, paths, is_unfinished) for skill in skills} if given.progress else {}
    set_up = bench.set_up(library, make_adapter(entry.env_name), max(_ENVS, given.episodes))
    for skill in skills:
        frames, how = _scenes(set_up, skill, given, earlier.get(skill.name))
        film = _show(frames, f"{how}{_of_checkpoint(skill) if is_unfinished else ''}", given, paths, skill.name)
        if film and not is_unfinished:  # a training reports for itself
            trackers.add_film(paths.skill_folder(skill.index, skill.name), film, "progress" if given.progress else "film", _say)


def _film_whole(given: WatchArguments, paths: ExperimentPaths, entry: GameEntry) -> None:
    """A film of whole episodes, played by the planner."""
    from flowrl.envs.readings import goal_names
    from flowrl.envs.registry import make_adapter
    from flowrl.evaluation import bench, worth
    from flowrl.evaluation.planner import PlannerSettings
    from flowrl.films import picture, whole_episodes

    library, adapter = stored_library.load(paths, entry), make_adapter(entry.env_name)
    if not goal_names(adapter):
        raise BadInput(
            f"{entry.env_name} declares no goals, so there is nothing to plan for; name a skill (docs/add_a_game.md)"
        )
    planned = worth.planned_by(library, adapter.facts, worth.stored(paths, library), PlannerSettings())
    set_up = bench.set_up(library, adapter, max(_ENVS, given.episodes))
    played = whole_episodes.shoot(set_up, planned, given.seed, given.episodes, given.tile, given.max_steps)
    frames = [frame for episode in played for frame in picture.whole_frames(episode, given.fps)]
    _show(frames, "; ".join(map(_in_words, played)), given, paths, WHOLE_FILM)


def _in_words(episode: WholeEpisode) -> str:
    last = episode.shots[-1]
    return f"{last.num_unlocked} of {episode.num_goals} achievements in {last.step:,} steps, {episode.ending}"


def _say(line: str) -> None:
    console().print(line, markup=False, soft_wrap=True)


def _library_with(given: WatchArguments, paths: ExperimentPaths, entry: GameEntry) -> tuple[Library, bool]:
    """The library that has the skill, and whether that is a training under way."""
    name = given.skill
    is_completed = name == ALL or any(found == name for _, found in completed(paths))
    is_unfinished = given.training or (not is_completed and name in unfinished_run.names(paths))
    library = unfinished_run.load(paths, name, entry) if is_unfinished else stored_library.load(paths, entry)
    return library, is_unfinished


def _chosen(library: Library, given: WatchArguments, paths: ExperimentPaths) -> list[LibrarySkill]:
    """The skill that is asked for, or with `ALL` those whose film is missing, or older than what the skill's expert has
    learned; for films of progress, those whose progress is known.

    Raises:
        BadInput: there is no such skill.
    """
    name = given.skill
    if name == ALL:
        skills = [skill for skill in library.skills if not paths.has_film(skill.index, skill.name, given.progress)]
        return [skill for skill in skills if not given.progress or paths.moments(skill.index, skill.name).exists()]
    skills = [skill for skill in library.skills if skill.name == name]
    if not skills:
        known = [*(skill.name for skill in library.skills), *unfinished_run.names(paths)]
        raise BadInput(
            f"{paths.root} has no completed skill {name!r}, and no training of it with a checkpoint; "
            f"{suggestion(name, [*known, ALL, WHOLE_FILM])}"
        )
    return skills


def _usual_file(given: WatchArguments, paths: ExperimentPaths, name: str) -> Path:
    from flowrl.films import film_files

    return paths.film(name, film_files.usual_suffix(), given.progress)


def _earlier(skill: LibrarySkill, paths: ExperimentPaths, is_unfinished: bool) -> list[Moment]:
    """Three moments of the skill's last training, of those that were kept.

    Raises:
        BadInput: none were.
    """
    run = RunPaths(paths.run_folder(skill.index, skill.name))
    kept = moments.read(run.moments if is_unfinished else paths.moments(skill.index, skill.name))
    if not kept:
        raise BadInput(
            f"no earlier moments of {skill.name}'s expert are stored: an older flowrl trained it; train it further "
            f"(flowrl grow --continue_skill {skill.name} --extra_timesteps ...), or leave --progress out"
        )
    return moments.evenly(kept, 3, _frames(skill))


def _frames(skill: LibrarySkill) -> int | None:
    """Frames of the training that made the skill's expert; None where that was not kept."""
    return skill.result.frames if skill.result else skill.total_frames


def _of_checkpoint(skill: LibrarySkill) -> str:
    return f"; of a checkpoint after {skill.total_frames:,} frames"


def _scenes(
    set_up: Bench, skill: LibrarySkill, given: WatchArguments, earlier: Sequence[Moment] | None
) -> tuple[list[np.ndarray], str]:
    """The film's frames, and a few words on what they show."""
    from flowrl.films import footage, picture

    if earlier is None:
        episodes = footage.shoot(set_up, skill, given.seed, given.episodes, given.tile, given.outcome)
        frames = [frame for episode in episodes for frame in picture.frames(episode, skill.plan, hold=given.fps)]
        return frames, f"{sum(episode.is_success for episode in episodes)} of {len(episodes)} episodes succeeded"
    own = [{**skill.params, "actor": moment.actor} for moment in earlier]
    episodes = footage.shoot_progress(set_up, skill, own, given.seed, given.tile, given.outcome)
    films = [picture.frames(episode, skill.plan, hold=given.fps) for episode in episodes]
    labels = [f"after {frames_text(moment.frames)} frames" for moment in earlier]
    now = _frames(skill)
    labels.append(f"now, after {frames_text(now)} frames" if now else "now")
    how = ", ".join(f"{label}: {'done' if episode.is_success else 'not done'}" for label, episode in zip(labels, episodes))
    return picture.side_by_side(films, labels), how


def _show(frames: Sequence[np.ndarray], how: str, given: WatchArguments, paths: ExperimentPaths, name: str) -> Path | None:
    """Plays the film, or writes it; returns its file."""
    from flowrl.films import film_files, in_terminal

    if given.in_terminal:
        in_terminal.play(frames, given.fps, console())
        return None
    target = given.out or _usual_file(given, paths, name)
    try:
        film_files.write(target, frames, given.fps)
    except OSError as error:
        raise FlowrlError(f"{target} cannot be written ({error.strerror or error}); choose another --out") from None
    _say(f"Written: {target} ({len(frames)} frames; {how})")
    return target
