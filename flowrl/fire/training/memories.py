"""The best breaks that are known for each area, kept in ``memories.npz`` of the output folder."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence

import numpy as np

from flowrl.files import write_whole
from flowrl.fire.agent.demonstrations import Placement, best_known
from flowrl.fire.breaks.areas import FireArea
from flowrl.fire.heuristics.problem import Problem
from flowrl.paths import FuelBreakPaths


def load(paths: FuelBreakPaths, areas: Sequence[FireArea], problems: Sequence[Problem]) -> list[Placement] | None:
    """The kept placements; None if there are none, they belong to other areas or fires, or the file is damaged."""
    try:
        with np.load(paths.memories, allow_pickle=False) as kept:
            if str(kept["fingerprint"]) != _fingerprint(areas, problems):
                return None
            return [Placement(*pair) for pair in zip(kept["breaks"], kept["burned_shares"].tolist(), strict=True)]
    except (OSError, ValueError, KeyError, EOFError):
        return None


def make(problems: Sequence[Problem], done: Callable[[int], None]) -> list[Placement]:
    """The best that the heuristics find for each problem; ``done`` is called after each with their number."""
    found = []
    for problem in problems:
        found.append(best_known(problem))
        done(len(found))
    return found


def save(
    paths: FuelBreakPaths, placements: Sequence[Placement], areas: Sequence[FireArea], problems: Sequence[Problem]
) -> None:
    """Keeps placements, whole."""
    content = io.BytesIO()
    np.savez_compressed(
        content,
        breaks=np.stack([placement.breaks for placement in placements]),
        burned_shares=np.array([placement.burned_share for placement in placements]),
        fingerprint=_fingerprint(areas, problems),
    )
    write_whole(paths.memories, content.getvalue())


def _fingerprint(areas: Sequence[FireArea], problems: Sequence[Problem]) -> str:
    """Of everything that placements depend on."""
    digest = hashlib.sha256()
    for area, problem in zip(areas, problems, strict=True):
        for values in (*area.landscape, problem.passages.opened, problem.passages.starts):
            digest.update(np.ascontiguousarray(values).tobytes())
        digest.update(repr((problem.num_steps, problem.budget, problem.passages.num_fires)).encode())
    return digest.hexdigest()
