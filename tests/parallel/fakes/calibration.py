"""A fake of ``python -m flowrl.training.calibration``: answers as the test says, at once.

The first argument is JSON: by the number of cores in the slot (``"2"``), or by its share of a GPU's memory (``"0.45"``),
what its processes do: ``updates`` (a list of [seconds, compiled]), ``peak_mb``, ``exits`` (a code, after a line on standard
error), ``killed``, ``deaf`` (goes on when its input ends, and never gets ready). A second one names a file that gets a line
from each process.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

COMMAND = (sys.executable, str(Path(__file__)))


def main(arguments: list[str]) -> None:
    task = json.loads(sys.stdin.readline())
    slot = task["slot"]
    wish = json.loads(arguments[0])[str(slot["memory_fraction"] or len(slot["cores"]))]
    if arguments[1:]:
        with open(arguments[1], "a") as file:
            print(json.dumps({"pid": os.getpid(), "task": task, "environment": dict(os.environ)}), file=file)
    if "exits" in wish:
        print("Traceback\nRESOURCE_EXHAUSTED: planted", file=sys.stderr)
        sys.exit(wish["exits"])
    if wish.get("killed"):
        os.kill(os.getpid(), signal.SIGKILL)
    while wish.get("deaf"):
        signal.pause()
    peak_mb = wish.get("peak_mb", 100)
    print(json.dumps({"ready": True, "peak_mb": peak_mb}), flush=True)
    sys.stdin.readline()
    for seconds, compiled in wish["updates"]:
        print(json.dumps({"seconds": seconds, "compiled": compiled, "peak_mb": peak_mb}), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1:])
