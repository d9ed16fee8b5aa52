"""``python -m flowrl.training.calibration``: one of several trainings that are measured at the same time.

Standard input is a line of JSON with ``env_name``, the run's ``settings`` and its ``slot``, as in ``run.json``. Once
everything is compiled, the process prints ``{"ready": true, "peak_mb": ...}``, waits for another line, and then makes
updates until it is ended. It prints a line for each: ``seconds``, ``compiled`` (whether a program had to be compiled in
it) and ``peak_mb``. It ends when its input does, so it never outlives its caller.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from typing import Any, TextIO

from flowrl.records.run_record import Slot
from flowrl.training.host import heap, process

WARM_UP_UPDATES = 5
WARM_UP_S = 60.0
"""Warm-up ends with the first update that compiles nothing, after this many updates or seconds at the latest."""

_COMPILED = "/jax/core/compile/backend_compile_duration"


def main() -> int:
    """Measures until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # other prints must not mix with the answers
    task = json.loads(sys.stdin.readline())
    asked_to_go = threading.Event()
    threading.Thread(target=_listen, args=(asked_to_go,), daemon=True).start()
    process.take_slot(Slot(**task["slot"]))
    heap.settle()
    # JAX is imported from here on, in the surroundings that were just prepared.
    update, test_mb = _updates(task["env_name"], task["settings"])
    _warm_up(update)
    _say(answers, {"ready": True, "peak_mb": _peak_mb() + test_mb})
    asked_to_go.wait()
    while True:
        _say(answers, update() | {"peak_mb": _peak_mb() + test_mb})


def _listen(asked_to_go: threading.Event) -> None:
    for _ in sys.stdin:
        asked_to_go.set()
    os._exit(0)  # nobody waits for the figures any more, so nothing is lost


def _updates(env_name: str, settings: dict[str, Any]):
    """A function that makes an update and returns its seconds and whether anything was compiled; and the MB that a test
    for the goal would need on top of this process's memory."""
    import jax

    from flowrl.records.training_settings import RunSettings
    from flowrl.training.calibration.workload import Workload
    from flowrl.training.compiled.stored_programs import READIED
    from flowrl.training.learning.ppo import Hyperparameters

    compiled: list[float] = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **_: compiled.append(seconds) if event in (_COMPILED, READIED) else None
    )
    run = RunSettings.of(settings)
    sizes = run.num_envs, run.num_steps, run.layer_size, Hyperparameters.of(run)
    workload = Workload(env_name, *sizes, mixed_precision=run.mixed_precision)

    def update() -> dict[str, Any]:
        compiled.clear()
        return {"seconds": workload.update()["total"], "compiled": bool(compiled)}

    return update, workload.test_bytes / 2**20 if jax.default_backend() == "cpu" else 0.0


def _warm_up(update) -> None:
    begun_s = time.monotonic()
    for _ in range(WARM_UP_UPDATES):
        if not update()["compiled"] or time.monotonic() - begun_s > WARM_UP_S:
            return


def _say(answers: TextIO, answer: dict[str, Any]) -> None:
    print(json.dumps(answer), file=answers, flush=True)


def _peak_mb() -> float:
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


if __name__ == "__main__":
    heap.begin_with_large_pages()
    sys.exit(main())
