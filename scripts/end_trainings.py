"""Ends the trainings of an experiment that is to be deleted: `python scripts/end_trainings.py FOLDER`.

Without a word to them: what they would still save is not wanted. A folder without trainings, or no folder, is all right.
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
        print(f"trainings of {folder} did not end; it is left as it is", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
