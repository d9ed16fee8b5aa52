"""The merge rule: which version of an expert stays in the library, and where it is applied.

Change :func:`merge_action` to change the rule.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from flowrl.parallel.library.experts import (
    Age,
    ExpertVersion,
    LibraryExpert,
    are_same,
    fingerprint,
    library_expert,
    save_expert_to_skills,
)
from flowrl.paths import ExperimentPaths
from flowrl.records.version_comparison import Comparison, Difference, Pair

Action = Literal["new", "updated", "kept"]
Outcome = Comparison | str
"""How a run's version did beside the library's; or why that was not measured."""
CHANGED = "the library's version changed while it was measured"


@dataclass(frozen=True)
class Competition:
    """What ``merge.json`` says of an expert of which the run and the library both had changed the version, or of which both
    versions were to be measured for another reason."""

    decided_by: Literal["measured", "frames"]
    lost_acted_frames: int
    """Those in which the version that was not kept acted, since the two versions were one."""
    episodes: int | None = None
    """That each version played."""
    library_success_rate: float | None = None
    run_success_rate: float | None = None
    difference: Difference | None = None
    not_measured: str | None = None
    """Why nothing was measured, where it should have been."""
    had_competitor: bool = True
    """Whether the library's version is not the one that the run started from."""


def merge_action(version: ExpertVersion, in_library: Age | None, measured: Comparison | None = None) -> Action:
    """What a merge does with a run's version of an expert.

    Where both versions were measured in the same worlds, the one that succeeds more often stays, if it is better by more than
    the interval. Otherwise the version with the most total frames stays; among equals, the one that acted in more of them.
    One that did not act in its run learned nothing there, and never replaces the library's, however many frames the run added
    to its age.

    Args:
        in_library: the age of the library's version; None where it has none, or a damaged one.
        measured: how these two versions did; None if they were not measured.

    Returns:
        ``new`` and ``updated``: the run's version goes into the library; ``kept``: the library's stays.
    """
    if in_library is None:
        return "new"
    if not version.acted:
        return "kept"
    if measured and measured.is_library_better:
        return "kept"
    if measured and measured.is_run_better:
        return "updated"
    return "updated" if Age(version.total_frames, version.acted_frames) > in_library else "kept"


def competing_pair(paths: ExperimentPaths, version: ExpertVersion) -> Pair | None:
    """The run's version and the library's, if they compete; else None.

    They compete if the run's version acted, and the library's is not the one that the run started from: another run was merged
    since. A new expert never competes, nor one whose start was not kept.
    """
    present = _present(paths, version)
    return _pair(version, present) if present and _compete(version, present) else None


def changed_pair(paths: ExperimentPaths, version: ExpertVersion) -> Pair | None:
    """The run's version and the library's, if they compete or the run has changed the library's version; else None."""
    present = _present(paths, version)
    return _pair(version, present) if present and _is_changed(version, present) else None


def planned_update(paths: ExperimentPaths, version: ExpertVersion, outcome: Outcome | None = None) -> dict[str, Any]:
    """The action for this version, the total frames of the one that is in the library afterwards, and, if two versions
    competed or were to be measured, their `Competition`."""
    present = _present(paths, version)
    if present is None:
        return {"action": "new", "frames": version.total_frames}
    version, measured, action, frames = _ruled(version, present, outcome)
    update = {"action": action, "frames": frames}
    competes = _compete(version, present)
    if competes or (outcome is not None and _is_changed(version, present)):
        update["competition"] = dataclasses.asdict(_competition(version, present, action, outcome, measured, competes))
    return update


def merge_expert(paths: ExperimentPaths, version: ExpertVersion, outcome: Outcome | None = None) -> None:
    """Saves the version if the rule says so *now*: since a killed merge decided, another may have saved an older one.

    Of two versions that competed and were measured, the better one takes the larger age of both. Otherwise a version that lost,
    and had more frames, would let the next one that comes from the same start win by frames alone, without being any better.
    What a run started from, and lost against, keeps its age: a later version that comes from it is older anyway.
    """
    present = _present(paths, version)
    if present is None:
        save_expert_to_skills(version, paths.root)
        return
    version, _, action, frames = _ruled(version, present, outcome)
    if action != "kept":
        save_expert_to_skills(dataclasses.replace(version, total_frames=frames), paths.root)
    elif frames > present.age.total_frames:
        kept = dataclasses.replace(
            version, params=present.params, total_frames=frames, acted_frames=present.age.acted_frames, start=None
        )
        save_expert_to_skills(kept, paths.root)


def _ruled(
    version: ExpertVersion, present: LibraryExpert, outcome: Outcome | None
) -> tuple[ExpertVersion, Comparison | None, Action, int]:
    """The version as old as it is by the library's count, what was measured of both, the action, and the age of the version
    that stays."""
    version = _grown_up(version, present)
    measured = _about(outcome, version, present)
    action = merge_action(version, present.age, measured)
    return version, measured, action, _frames_after(version, present, action, measured)


def _frames_after(version: ExpertVersion, present: LibraryExpert, action: Action, measured: Comparison | None) -> int:
    """The age of the version that is in the library afterwards."""
    if action == "kept" and (measured is None or _is_start(version, present)):
        return present.age.total_frames
    return max(version.total_frames, present.age.total_frames)


def _grown_up(version: ExpertVersion, present: LibraryExpert) -> ExpertVersion:
    """The version, as old as it is by the library's count.

    Where the library's version is the one that the run started from, it may have become older since, because it was measured
    and kept beside another with more frames. The run's version continues it, so it is older by the frames of the run. Not if
    it learned nothing: then a merge that is repeated could not tell that it has been made.
    """
    if not _is_start(version, present) or are_same(version.params, version.start.params):
        return version
    trained = version.total_frames - version.start.age.total_frames
    return dataclasses.replace(version, total_frames=present.age.total_frames + trained)


def _compete(version: ExpertVersion, present: LibraryExpert) -> bool:
    return _is_changed(version, present) and not _is_start(version, present)


def _is_changed(version: ExpertVersion, present: LibraryExpert) -> bool:
    """Whether the run has trained the expert, and the library has another version."""
    return version.acted and version.start is not None and not are_same(present.params, version.params)


def _is_start(version: ExpertVersion, present: LibraryExpert) -> bool:
    """Whether the library's version is the one that the run started from. Its total frames may be others by now; the frames
    in which it acted may not."""
    start = version.start
    return start is not None and present.age.acted_frames == start.age.acted_frames and are_same(present.params, start.params)


def _pair(version: ExpertVersion, present: LibraryExpert) -> Pair:
    return Pair(version.skill_name, version.global_expert_idx, fingerprint(present.params), fingerprint(version.params))


def _about(outcome: Outcome | None, version: ExpertVersion, present: LibraryExpert) -> Comparison | None:
    """What was measured, if it is about these two versions."""
    return outcome if isinstance(outcome, Comparison) and outcome.pair == _pair(version, present) else None


def _competition(
    version: ExpertVersion,
    present: LibraryExpert,
    action: Action,
    outcome: Outcome | None,
    measured: Comparison | None,
    competes: bool,
) -> Competition:
    lost = version.acted_frames if action == "kept" else present.age.acted_frames
    lost = max(0, lost - version.start.age.acted_frames)
    if measured is None:
        why = CHANGED if isinstance(outcome, Comparison) else outcome
        return Competition("frames", lost, not_measured=why, had_competitor=competes)
    is_decided = measured.is_run_better or measured.is_library_better
    return Competition(
        decided_by="measured" if is_decided else "frames",
        lost_acted_frames=lost,
        episodes=measured.episodes,
        library_success_rate=measured.library_successes / measured.episodes,
        run_success_rate=measured.run_successes / measured.episodes,
        difference=measured.difference,
        had_competitor=competes,
    )


def _present(paths: ExperimentPaths, version: ExpertVersion) -> LibraryExpert | None:
    return library_expert(paths, version.global_expert_idx, version.skill_name)
