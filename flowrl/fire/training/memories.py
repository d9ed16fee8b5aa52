"""The best breaks that are known for each area, kept in ``memories.npz`` of the output folder."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Sequence

import numpy as np

from flowrl.files import write_whole
from flowrl.fire.agent.demonstrations import Placement
from flowrl.fire.breaks.areas import FireArea
from flowrl.fire.heuristics.problem import Problem
from flowrl.paths import FuelBreakPaths


class Memories:
    """The placements of some areas under their planning fires, the first areas first: all of them, or as many as were made."""

    def __init__(self, paths: FuelBreakPaths, areas: Sequence[FireArea], problems: Sequence[Problem]):
        self._path, self._fingerprint = paths.memories, _fingerprint(areas, problems)

    def load(self) -> list[Placement]:
        """The kept placements; none if the file is missing or damaged, or belongs to other areas or fires."""
        try:
            with np.load(self._path, allow_pickle=False) as kept:
                if str(kept["fingerprint"]) != self._fingerprint:
                    return []
                return [Placement(*pair) for pair in zip(kept["breaks"], kept["burned_shares"].tolist(), strict=True)]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return []

    def save(self, placements: Sequence[Placement]) -> None:
        """Keeps placements, whole."""
        content = io.BytesIO()
        np.savez_compressed(
            content,
            breaks=np.stack([placement.breaks for placement in placements]),
            burned_shares=np.array([placement.burned_share for placement in placements]),
            fingerprint=self._fingerprint,
        )
        write_whole(self._path, content.getvalue())


def _fingerprint(areas: Sequence[FireArea], problems: Sequence[Problem]) -> str:
    """Of everything that placements depend on."""
    digest = hashlib.sha256()
    for area, problem in zip(areas, problems, strict=True):
        for values in (*area.landscape, problem.passages.opened, problem.passages.starts):
            digest.update(np.ascontiguousarray(values).tobytes())
        digest.update(repr((problem.num_steps, problem.budget, problem.passages.num_fires)).encode())
    return digest.hexdigest()
