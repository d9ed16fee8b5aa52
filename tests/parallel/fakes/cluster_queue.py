"""A cluster's queue without a cluster: its jobs are entries of a table, and get on when the test says so."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from flowrl.parallel.launchers.base import EngineUnreachable
from flowrl.parallel.launchers.slurm_queue import Job, Partition, Refused

NOW_S = 1_000_000.0


class FakeQueue:
    """Refuses what it does not know. ``silent``: nothing is answered. ``answers_lost``: so many next submissions are taken,
    but not answered. ``refusal``: why no job is taken."""

    def __init__(self):
        self.table: dict[str, Job] = {}
        self.silent = False
        self.answers_lost = 0
        self.refusal = ""
        self.starts_at_once = True
        self.calls: list[str] = []
        self.books: dict[str, Job] | None = None
        """What sacct knows; None: the cluster keeps no books."""
        self.began_since: dict[str, str] = {}
        """States that jobs have by now, and that no answer has told yet."""

    def check(self) -> None:
        """It always works."""

    def submit(self, script: Path) -> str:
        self._answer("sbatch")
        return self._take(script.read_text())

    def try_submission(self, script: str) -> None:
        self._answer("sbatch --test-only")
        if self.refusal:
            raise Refused(self.refusal)

    def jobs(self) -> list[Job]:
        self._answer("squeue")
        return list(self.table.values())

    def cancel(self, ids: Sequence[str]) -> None:
        self._answer("scancel")
        for id_ in ids:
            if self.table[id_].state in ("PENDING", "RUNNING"):
                self.set(id_, state="CANCELLED by 1000")

    def withdraw(self, ids: Sequence[str]) -> None:
        self._answer("scancel --state=PENDING")
        for id_ in ids:
            if self.began_since.get(id_, self.table[id_].state) == "PENDING":
                self.set(id_, state="CANCELLED by 1000")

    def past(self, ids: Sequence[str]) -> list[Job]:
        self._answer("sacct")
        if self.books is None:
            raise EngineUnreachable("sacct says: Slurm accounting storage is disabled")
        return [self.books[id_] for id_ in ids if id_ in self.books]

    def interrupt(self, id_: str) -> None:
        self._answer("scancel --signal=INT")
        self.calls.append(f"INT {id_}")

    def partitions(self) -> list[Partition]:
        self._answer("sinfo")
        return [
            Partition("debug", True, "infinite", True),
            Partition("short", True, "10:00"),
            Partition("closed", False, "1:00"),
            Partition("brief", True, "30:00", usual="2:00"),
        ]

    def set(self, id_: str, **changes) -> None:
        self.table[id_] = replace(self.table[id_], **changes)

    def of(self, attempt: int) -> list[Job]:
        return [job for job in self.table.values() if job.comment.startswith(f"flowrl:{attempt}:")]

    def forget(self, id_: str) -> None:
        del self.table[id_]

    def count(self, command: str) -> int:
        return self.calls.count(command)

    def _take(self, script: str) -> str:
        if self.refusal:
            raise Refused(self.refusal)
        asked = dict(re.findall(r"^#SBATCH --([\w-]+)=(.*)$", script, re.MULTILINE))
        assert "--no-requeue" in script and asked["signal"] == "B:TERM@90"
        id_ = str(100 + len(self.calls))
        state, node = ("RUNNING", "node1") if self.starts_at_once else ("PENDING", "")
        reason = "" if self.starts_at_once else "Priority"
        self.table[id_] = Job(id_, state, reason, node, NOW_S, name=asked["job-name"], comment=asked["comment"])
        if self.answers_lost:
            self.answers_lost -= 1
            raise EngineUnreachable("sbatch did not answer within 15 s")
        return id_

    def _answer(self, command: str) -> None:
        self.calls.append(command)
        if self.silent:
            raise EngineUnreachable(f"{command} did not answer within 15 s")


class FakeSessions:
    """Sessions as names alone."""

    def __init__(self):
        self.names: dict[tuple[Path, int], str] = {}
        self.shown_s: dict[tuple[Path, int], float] = {}
        """How long those that were closed go on showing what they showed."""

    def check(self) -> None:
        """It always works."""

    def open(self, experiment: Path, run_folder: Path, attempt: int) -> str:
        return self.names.setdefault((run_folder, attempt), f"flowrl_{run_folder.name.replace('skill_', 'e')}")

    def close(self, run_folder: Path, attempt: int | None = None, show_s: float = 0.0) -> None:
        for key in [key for key in self.names if key[0] == run_folder and attempt in (None, key[1])]:
            del self.names[key]
            self.shown_s[key] = show_s

    def attach_command(self, name: str) -> list[str]:
        return ["tmux", "attach", "-t", name]
