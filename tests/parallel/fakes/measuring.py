"""Stands for ``flowrl.evaluation.compare_versions``: gives the answers that it was given, without playing.

    python measuring.py HOW FOLDER

``library`` and ``run``: that version succeeds always, the other never. ``equal``: both always. ``fails``: ends with a reason.
``no_answer``: ends without one. ``killed``: dies by SIGKILL. ``sleeps``: plays until its standard input ends. Each call adds a
line to ``measured.log`` in the folder of the experiment, with its pid.
"""

import os
import signal
import sys
from pathlib import Path

from flowrl.records import version_comparison
from flowrl.records.version_comparison import Answer, Comparison, Difference, MeasuringPaths

SUCCESSES = {"library": (1.0, 0.0), "run": (0.0, 1.0), "equal": (1.0, 1.0)}


def main(how: str, folder: Path) -> int:
    paths = MeasuringPaths(folder)
    request = version_comparison.read_request(paths.request)
    experiment = folder.parents[2]
    with open(experiment / "measured.log", "a") as log:
        log.write(f"{os.getpid()}\n")
    if how == "fails":
        print("Traceback of no interest\nmemory ran out", flush=True)
        return 1
    if how == "no_answer":
        return 0
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "sleeps":
        while os.read(0, 1):
            pass
        return 1
    rates = SUCCESSES[how]
    successes = [round(rate * request.episodes) for rate in rates]
    value = rates[1] - rates[0]
    difference = Difference(value, value - 0.01, value + 0.01)
    comparisons = tuple(Comparison(pair, request.episodes, *successes, difference) for pair in request.pairs)
    version_comparison.write(paths.answer, Answer(comparisons))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
