"""Many random histories of the scheduler: ``python benchmarks/campaign.py [--histories 20000]``.

Resumes where it was stopped: each block of histories writes a line to the results file, and blocks that are there for
the current code are not run again. Exits with 1 if a history broke an invariant; the results hold the shortest such
history.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import sys
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from flowrl.files import append_line  # noqa: E402
from tests.parallel.simulation.machine import histories  # noqa: E402

BLOCK = 500


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--histories", type=int, default=20_000)
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results" / "histories.jsonl")
    asked = parser.parse_args()
    asked.results.parent.mkdir(parents=True, exist_ok=True)
    code = fingerprint()
    done = {line["block"] for line in earlier(asked.results, code)}
    for block in sorted(set(range(-(-asked.histories // BLOCK))) - done):
        found = run_block(block)
        append_line(asked.results, json.dumps({"code": code, "block": block} | found))
        print(f"block {block}: {found['outcome']}", flush=True)
    return report(earlier(asked.results, code))


def fingerprint() -> str:
    """A digest of everything that decides how a history goes: all modules of this project that are loaded for it."""
    loaded = {Path(module.__file__).resolve() for module in [*sys.modules.values()] if getattr(module, "__file__", None)}
    files = sorted(path for path in loaded if path.is_relative_to(ROOT) and ".venv" not in path.parts)
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]


def earlier(results: Path, code: str) -> list[dict]:
    if not results.exists():
        return []
    lines = (json.loads(line) for line in results.read_text().splitlines() if line.endswith("}"))
    return [line for line in lines if line["code"] == code]


def run_block(block: int) -> dict:
    begun = time.monotonic()
    try:
        lengths, outcome = histories(BLOCK, number=block), "held"
    except Exception as error:  # recorded; the other blocks still run
        lengths, outcome = [], "".join(traceback.format_exception(error))
    return {"outcome": outcome, "lengths": lengths, "seconds": round(time.monotonic() - begun, 1)}


def report(lines: list[dict]) -> int:
    lengths = [length for line in lines for length in line["lengths"]]
    broken = [line["block"] for line in lines if line["outcome"] != "held"]
    seconds = sum(line["seconds"] for line in lines)
    median = statistics.median(lengths) if lengths else 0
    print(f"{len(lengths)} histories, {sum(lengths)} events (median {median:g} a history), {seconds:.0f} s")
    print(f"blocks that broke an invariant: {broken or 'none'}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
