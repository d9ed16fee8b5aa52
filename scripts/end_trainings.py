"""Kills the trainings of an experiment that is to be deleted: `python scripts/end_trainings.py FOLDER`.

They are not asked to stop first: what they would save is not wanted. A folder that is missing or has no trainings is no error.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from flowrl.parallel.processes import kill_runs_below

PATIENCE_S = 10.0


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("expected: python scripts/end_trainings.py FOLDER", file=sys.stderr)
        return 2
    folder = Path(arguments[0])
    if not kill_runs_below(folder, PATIENCE_S):
        print(
            f"trainings of {folder} did not end within {PATIENCE_S:g} s, so it is kept; end them, then try again",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
