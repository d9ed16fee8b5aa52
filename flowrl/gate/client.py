"""The gate: a skill's code must pass the static checks and the probe before it is trained.

The probe (`flowrl.gate.probe`) is a separate process, kept warm between skills. It inherits neither keys nor the rest of
our environment, has its own session, and ends when this process does.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flowrl
from flowrl.envs.registry import game
from flowrl.errors import FlowrlError
from flowrl.paths import CACHE, cache_folder
from flowrl.skills.checks import CodeRefused, check_skill_code
from flowrl.skills.spec import SkillSpec

RECORDING_S = 1200.0
"""Time limit for a probe to start: the first one on a machine plays the game first."""
PROBE_S = 180.0
"""Time limit for one report; the probe's own limits are far lower."""


class GateError(FlowrlError):
    """The gate could not judge; this says nothing about the code."""


class Gate:
    """Judges the skills of one game. Thread-safe: judges one skill at a time.

    Args:
        env_name: the game.
        say: called with a line that the user should see, such as a protection that the kernel lacks.
        folder: where the recorded states are.
    """

    def __init__(self, env_name: str, say: Callable[[str], None] = lambda line: None, folder: Path | None = None):
        self.env_name = env_name
        self._facts = game(env_name).facts
        self._say = say
        self._folder = folder or cache_folder()
        self._process: _WarmProcess | None = None
        self._lock = threading.Lock()
        self._said_notes: set[str] = set()

    def __call__(self, spec: SkillSpec) -> dict[str, Any]:
        """Returns the report of a skill that passes.

        Raises:
            CodeRefused: its code does not pass; one line, with the kind of fault in ``reason``.
            GateError: the probe does not run.
        """
        report = self.report(spec)
        if not report["passed"]:
            raise CodeRefused(report["message"], report["reason"])
        return report

    def report(self, spec: SkillSpec) -> dict[str, Any]:
        """The gate's report on a skill; see `flowrl.gate.probe`. Code that fails the static checks never reaches the probe.

        Raises:
            GateError: the probe does not run.
        """
        try:
            check_skill_code(spec, self._facts)
        except CodeRefused as refused:
            return {"passed": False, "reason": refused.reason, "message": str(refused), "sha256": None, "probe": None}
        with self._lock:
            report = self._asked({"skill_data": spec.to_data()})
        self._say_notes(report.get("sandbox"))
        if report["passed"] and report.get("message"):
            self._say(f"note: {report['message']}")
        return report

    def warm_up(self) -> None:
        """Starts the probe without waiting for it."""
        with self._lock:
            self._warm()

    def close(self) -> None:
        """Ends the probe."""
        process, self._process = self._process, None
        if process is not None:
            process.end()

    def __enter__(self) -> Gate:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _warm(self) -> _WarmProcess:
        if self._process is None or not self._process.is_alive:
            self._process = _WarmProcess(self.env_name, self._folder)
        return self._process

    def _asked(self, question: dict[str, Any]) -> dict[str, Any]:
        """Asks the probe, and asks a new one if it died: it may have been killed because memory ran out."""
        try:
            return self._warm().ask(question)
        except GateError:
            self.close()
        try:
            return self._warm().ask(question)
        except GateError:
            self.close()
            raise

    def _say_notes(self, sandbox: dict[str, Any] | None) -> None:
        for note in (sandbox or {}).get("notes", ()):
            if note not in self._said_notes:
                self._said_notes.add(note)
                self._say(f"note: the probe of generated code has {note}")


class _WarmProcess:
    """``python -m flowrl.gate.probe`` and its pipes."""

    def __init__(self, env_name: str, folder: Path):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise GateError(
                f"the folder for recorded states, {folder}, cannot be created ({error.strerror}); set {CACHE} to a writable "
                "folder, or use --proposer curriculum"
            ) from None
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the process
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "flowrl.gate.probe", env_name, str(folder.resolve())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=_scrubbed_environment(folder),
            cwd="/",
            start_new_session=True,
        )
        self._buffer = b""
        self._is_ready = False

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        if not self._is_ready:
            self._is_ready = bool(self._line(RECORDING_S))
        try:
            self._process.stdin.write(json.dumps(question).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise self._broken("it has ended") from None
        return json.loads(self._line(PROBE_S))

    def end(self) -> None:
        """Closes its input, which ends it; kills its process group if that does not work."""
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process.stdout.close()
        self._log.close()

    def _line(self, timeout_s: float) -> bytes:
        until_s = time.monotonic() + timeout_s
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                if not selector.select(max(0.0, until_s - time.monotonic())):
                    raise self._broken(f"it did not answer within {timeout_s:g} s")
                part = os.read(self._process.stdout.fileno(), 65536)
                if not part:
                    raise self._broken("it has ended")
                self._buffer += part
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _broken(self, what: str) -> GateError:
        self._log.seek(0)
        said = self._log.read().decode(errors="replace").strip().splitlines()
        last = f"; its last line: {said[-1][:300]}" if said else ""
        return GateError(
            f"the probe of generated code does not run: {what}{last}; try `{sys.executable} -m flowrl.gate.recorded_states` "
            "(see docs/gate.md), or use --proposer curriculum"
        )


def _scrubbed_environment(folder: Path) -> dict[str, str]:
    """The only environment variables that the probe gets; no keys."""
    package = Path(flowrl.__file__).resolve().parent.parent
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "LANG": os.environ.get("LANG", "C.UTF-8"),
        "PYTHONPATH": str(package),
        "PYTHONWARNINGS": "ignore",
        "FLOWRL_CACHE_DIR": str(folder.resolve()),
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(folder.resolve() / "jax"),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }
