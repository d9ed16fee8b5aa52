"""What the scheduler needs from an engine that runs trainings: sessions on this machine today, a cluster's queue later.

A launcher keeps no state of its own. All it needs to find a run again is in the handle, and handles can be found
again from the experiment's folder. Every launcher passes the tests in ``tests/parallel/launcher_contract.py``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from flowrl.errors import FlowrlError
from flowrl.records.process_id import ProcessId
from flowrl.records.run_record import Slot

EXPERIMENT = "FLOWRL_EXPERIMENT"


class Phase(StrEnum):
    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    EXITED = "exited"
    LOST = "lost"  # the engine answers, but does not know the run
    UNKNOWN = "unknown"  # the engine does not answer


class Fault(StrEnum):
    """Why a run has ended that the engine ended, as far as the engine says so."""

    ENGINE = "engine"  # the engine needed its place, or lost it: its time is over, it gave way to another, its node failed
    MEMORY = "memory"  # it used more memory than it was given
    HOPELESS = "hopeless"  # it could never start


@dataclass(frozen=True)
class EngineStatus:
    """An engine's status of a run. ``code``, ``signal`` and ``fault`` are set only with EXITED, if the engine knows them.

    ``reason``: in words, why it waits, or how it ended; empty if there is nothing to say.
    """

    phase: Phase
    code: int | None = None
    signal: int | None = None
    fault: Fault | None = None
    reason: str = ""


NOT_ASKED = EngineStatus(Phase.UNKNOWN)
UNDER_WAY = (Phase.QUEUED, Phase.STARTING, Phase.RUNNING)


@dataclass(frozen=True)
class LaunchSpec:
    """One attempt at a run. ``environment`` holds nothing secret: an engine may show it to anyone.

    ``experiment`` and ``run_folder`` are absolute.
    """

    experiment: Path
    run_folder: Path
    skill_name: str
    expert_idx: int | None
    attempt: int
    argv: tuple[str, ...]
    working_folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def cookie(self) -> str:
        """What all processes of the attempt carry in their environment."""
        return cookie(self.run_folder, self.attempt)

    @property
    def session_name(self) -> str:
        """The name that people look for; characters that mean something to an engine become ``_``."""
        expert = "" if self.expert_idx is None else f"e{self.expert_idx}_"
        return re.sub(r"[^A-Za-z0-9_-]", "_", f"flowrl_{expert}{self.skill_name}")


@dataclass(frozen=True)
class Handle:
    """A launched attempt. ``engine_id`` is the engine's own (empty: the engine has lost the run, which may still be
    alive), ``name`` is for people, ``process`` is set if there is one."""

    engine_id: str
    name: str
    run_folder: Path
    attempt: int
    process: ProcessId | None = None

    @property
    def cookie(self) -> str:
        return cookie(self.run_folder, self.attempt)


class NotLaunched(FlowrlError):
    """The engine did not start the run. The scheduler tries again later."""


class EngineUnreachable(FlowrlError):
    """The engine did not answer in time; nothing is known about any run."""


class Launcher(Protocol):
    """Starts runs in an engine, and reports their status.

    ``poll_every_s``: how often the engine may be asked at little cost; None: every ``--scheduler_poll_interval``.
    """

    poll_every_s: float | None

    def check(self) -> None:
        """Raises BadInput, with the remedy, if the engine cannot work on this machine. Starts and writes nothing."""

    def slots(self, max_parallel: int, *, gpu_ids: object = None, skills_per_gpu: int = 1) -> list[Slot]:
        """The slots of this machine, one for each run at a time: 1 to ``max_parallel`` of them.

        An engine that places its runs itself returns ``Slot()``: no cores, no GPU.

        Raises:
            BadInput: a number is below one, or a GPU is asked for that is not there.
        """

    def launch(self, spec: LaunchSpec) -> Handle:
        """Starts an attempt, or finds the one already started: at most one for each run folder and attempt.

        Raises:
            NotLaunched: it was not started.
        """

    def find(self, experiment: Path) -> list[Handle]:
        """All attempts of this experiment that the engine still knows. Raises EngineUnreachable."""

    def poll(self, handles: Sequence[Handle]) -> dict[str, EngineStatus]:
        """The engine's status of each handle, by ``engine_id``, in one call. Never raises: UNKNOWN is an answer."""

    def is_alive(self, handle: Handle) -> bool | None:
        """Whether the process that the engine started for this attempt is alive; if the handle names none, whether any
        process of the attempt is. None: cannot be seen from here, as it may run on another host; then only ``poll`` can
        tell.
        """

    def output(self, handle: Handle) -> str:
        """The last lines that the run showed, as far as the engine still has them."""

    def cancel(self, handle: Handle, grace_s: float, show_s: float = 0.0) -> bool:
        """Ends the whole process tree, then forgets the run; safe to repeat. Returns whether nothing is left.

        Args:
            grace_s: seconds between asking the processes to end and killing them.
            show_s: seconds for which people can go on looking at what the run showed last, as far as it is still there.
        """

    def attach_command(self, handle: Handle) -> list[str]:
        """The command that a user types to look at the run; its ``name`` is enough for it."""


def cookie(run_folder: Path, attempt: int) -> str:
    """Marks the processes of one attempt."""
    return f"{run_folder}#{attempt}"
