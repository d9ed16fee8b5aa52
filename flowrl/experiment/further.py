"""Which skills ``--continue_skill`` trains further, where it names none, and how far they are."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowrl.config import Settings
from flowrl.errors import BadInput
from flowrl.evaluation import library
from flowrl.evaluation.library import LibrarySkill, frames_trained
from flowrl.experiment.most_useful import PIECES, Allowance, Figures, MostUseful, Scheduler
from flowrl.experiment.prospects import Prospects
from flowrl.files import read_json
from flowrl.parallel.skill_budget import given_up_frames
from flowrl.paths import MERGE, ExperimentPaths, RunPaths
from flowrl.records import result as run_result
from flowrl.records.learned import is_done_by_chance
from flowrl.records.result import RunResult
from flowrl.report.summary import Skill
from flowrl.skills.facts import GameFacts


def below_goal(paths: ExperimentPaths, skills: Sequence[Skill], goal: float) -> list[str]:
    """The completed skills that succeed less often than ``goal``, in the order of their experts.

    What counts is ``evaluation.json``, if it is about the library as it is now; else what the skills' trainings measured.
    """
    measured = {name: skill["success_rate"]["value"] for name, skill in _evaluated(paths).items() if skill.get("success_rate")}
    rates = {skill["skill_name"]: measured.get(skill["skill_name"], skill["success_rate"]) for skill in skills}
    return [
        skill["skill_name"]
        for skill in sorted(skills, key=lambda skill: -1 if skill["expert_idx"] is None else skill["expert_idx"])
        if skill["status"] == "completed" and not skill["never_done"] and not is_done_by_chance(skill["random_success_rate"])
        if (rates[skill["skill_name"]] or 0.0) < goal
    ]


def most_useful(
    scheduler: Scheduler, paths: ExperimentPaths, facts: GameFacts, settings: Settings, say: Callable[[str], None]
) -> MostUseful:
    """Hands out ``--extra_timesteps`` frames to the most useful skills of the library.

    Raises:
        BadInput: the library cannot be read.
    """
    skills = library.recorded(paths)
    names = {skill.name for skill in skills}
    if left_out := [name for _, name in library.completed(paths) if name not in names]:
        say(f"{', '.join(left_out)}: no record of a training here, so left out; name a skill to train it further")
    pieces = settings.extra_timesteps // PIECES
    return MostUseful(
        scheduler,
        Prospects.of(skills, facts),
        own_rates(paths, skills),
        Allowance(settings.extra_timesteps, pieces, settings.frames_per_update, settings.success_rate),
        LibraryBooks(paths, {skill.name: skill.index for skill in skills}),
        say,
    )


def own_rates(paths: ExperimentPaths, skills: Sequence[LibrarySkill]) -> dict[str, float]:
    """How often a try at a skill's own task succeeds, of each skill of a library that can be done; 0 where it was not measured.

    As in `below_goal`, an evaluation of the library as it is counts more than trainings.
    """
    measured = _evaluated(paths)
    rates = {}
    for skill in skills:
        if not skill.spec.never_done:
            own = measured.get(skill.name, {}).get("own_success_rate")
            rates[skill.name] = (_own_rate(skill.result) or 0.0) if own is None else float(own)
    return rates


@dataclass(frozen=True)
class LibraryBooks:
    """The figures that trainings leave in an experiment's folder; see `flowrl.experiment.most_useful.Books`."""

    paths: ExperimentPaths
    indices: Mapping[str, int]
    """Of the skills' experts."""

    def figures(self, name: str) -> Figures:
        folder = self.paths.skill_folder(self.indices[name], name)
        result = run_result.find(folder / run_result.NAME)
        return Figures(None if self._was_kept(folder, name) else _own_rate(result), (result.frames or 0) if result else 0)

    def unmerged_frames(self, name: str) -> int:
        run = RunPaths(self.paths.run_folder(self.indices[name], name))
        return max(given_up_frames(run), run.checkpointed_frames) if run.folder.exists() else 0

    def _was_kept(self, folder: Path, name: str) -> bool:
        """Whether the library kept the expert that it had before the newest merge of its skill."""
        with contextlib.suppress(FileNotFoundError, BadInput, KeyError, TypeError):
            return read_json(folder / MERGE)["expert_updates"][str(self.indices[name])]["action"] == "kept"
        return False


def _own_rate(result: RunResult | None) -> float | None:
    """None where it was not measured; 0 where no fresh episode came to the skill's own task."""
    return result.tasks[-1].success_rate or 0.0 if result and result.tasks else None


def _evaluated(paths: ExperimentPaths) -> Mapping[str, Mapping[str, Any]]:
    """Each skill's figures by the newest evaluation; none if the library has been trained since."""
    try:
        found = read_json(paths.evaluation)
        if found["frames"] != frames_trained(paths):
            return {}
        return {skill["skill_name"]: skill for skill in found["skills"]}
    except (FileNotFoundError, KeyError, TypeError, ValueError):
        return {}  # without an evaluation, or with one that was written by hand
