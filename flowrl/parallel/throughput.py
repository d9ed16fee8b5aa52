"""Measures how many frames per second several trainings make together, each in its slot as a real run would be.

The processes are ``flowrl.training.calibration``. They are killed at the end of the measurement; if this process is
killed first, they end by themselves when their input ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from flowrl.errors import FlowrlError
from flowrl.parallel import environment
from flowrl.parallel.slots import driver_environment
from flowrl.records.run_record import Slot

COMMAND = (sys.executable, "-m", "flowrl.training.calibration")

LEAST_UPDATES = 3
LEAST_S = 6.0
"""Each process makes at least this many updates, for at least this long; once ``LONG_S`` have passed, one is enough."""
LONG_S = 60.0
SILENT_S = 3600.0
"""Seconds without any answer after which a measurement is given up: compiling may take long."""

_DEATH_S = 5.0


class DoesNotWork(FlowrlError):
    """This machine cannot run that many trainings at a time; the message says what happened to one of them."""


class Throughput(NamedTuple):
    """What a measurement found."""

    frames_per_s: float
    """The total of all trainings."""
    peak_mb: float
    """The highest memory use of any one of them."""


def measure(slots: Sequence[Slot], env_name: str, settings: Mapping[str, Any], command: Sequence[str] = COMMAND) -> Throughput:
    """Trains in all slots at once; each compiles first, then all make updates over the same stretch of time.

    Args:
        settings: as in ``run.json``.
        command: what is started for each slot.

    Raises:
        DoesNotWork: one of them died, or none answered for ``SILENT_S``.
    """
    news: queue.SimpleQueue = queue.SimpleQueue()
    frames = settings["num_envs"] * settings["num_steps"]
    with contextlib.ExitStack() as stack:
        trainees = []
        for slot in slots:
            trainees.append(stack.enter_context(_Trainee(slot, env_name, settings, command, news)))
        while not all(trainee.is_ready for trainee in trainees):
            _hear(news)
        for trainee in trainees:
            trainee.go()
        begun_s = time.monotonic()
        while not _is_enough(trainees, time.monotonic() - begun_s):
            _hear(news)
        return Throughput(
            sum(frames / statistics.median(trainee.seconds) for trainee in trainees),
            max(trainee.peak_mb for trainee in trainees),
        )


def _is_enough(trainees: Sequence[_Trainee], passed_s: float) -> bool:
    least = 1 if passed_s > LONG_S else LEAST_UPDATES
    return passed_s > LEAST_S and all(len(trainee.seconds) >= least for trainee in trainees)


def _hear(news: queue.SimpleQueue) -> None:
    try:
        trainee, line = news.get(timeout=SILENT_S)
    except queue.Empty:
        raise DoesNotWork(f"none of them has answered for {SILENT_S:.0f} s") from None
    trainee.take(line)


class _Trainee:
    """One of the processes. Its lines are put into ``news`` as (trainee, line), and its death as (trainee, None)."""

    def __init__(self, slot: Slot, env_name: str, settings: Mapping[str, Any], command: Sequence[str], news: queue.SimpleQueue):
        self.is_ready = False
        self.seconds: list[float] = []
        """For each update in which nothing was compiled."""
        self.peak_mb = 0.0
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, env=_environment(slot), text=True,
            start_new_session=True,
        )  # fmt: skip
        self._tell(json.dumps({"env_name": env_name, "settings": dict(settings), "slot": asdict(slot)}))
        threading.Thread(target=self._listen, args=(news,), daemon=True).start()

    def go(self) -> None:
        """Tells it to make updates."""
        self._tell("go")

    def take(self, line: str | None) -> None:
        """Handles a line that it wrote."""
        if line is None:
            raise DoesNotWork(self._death())
        answer = json.loads(line)
        self.is_ready = True
        self.peak_mb = max(self.peak_mb, answer["peak_mb"])
        # While an update compiles, the machine is not training.
        if "seconds" in answer and not answer["compiled"]:
            self.seconds.append(answer["seconds"])

    def __enter__(self) -> _Trainee:
        return self

    def __exit__(self, *_) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._said.close()

    def _tell(self, line: str) -> None:
        with contextlib.suppress(OSError):  # it is dead, and ``news`` will say so
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def _listen(self, news: queue.SimpleQueue) -> None:
        with self._process.stdout as answers:
            for line in answers:
                news.put((self, line))
        news.put((self, None))

    def _death(self) -> str:
        try:
            code = self._process.wait(_DEATH_S)
        except subprocess.TimeoutExpired:
            return "one of them stopped answering"
        if code == -signal.SIGKILL:
            return "one of them was killed from outside, as the kernel does when memory runs out"
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        last = f": {lines[-1][:300]}" if lines else ""
        return f"one of them ended with exit code {code}{last}"


def _environment(slot: Slot) -> dict[str, str]:
    """The environment of a real run (see ``environment.py``), without keys, which nothing here needs."""
    values = environment.to_start() | environment.for_training() | driver_environment(slot)
    return {name: value for name, value in values.items() if not environment.is_private(name)}
