"""A cluster's queue, by its commands. The only module that calls sbatch, squeue, scancel, sinfo and sacct.

Every call has a timeout: a controller that is busy, or is being started again, lets a call wait for a long time (18 s were
seen), and then nothing is known. No answer is never taken for "no such job".
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from flowrl.errors import BadInput, FlowrlError
from flowrl.parallel import environment
from flowrl.parallel.launchers.base import EngineUnreachable

CALL_TIMEOUT_S = 15.0
COMMANDS = ("sbatch", "squeue", "scancel", "sinfo")
_FIELDS = "%i|%T|%r|%N|%V|%e|%S|%Q|%P|%j|%k"
"""Id, state, reason, nodes, when submitted, ended, expected to start, priority, partition, name, comment."""

_PAST_FIELDS = "JobIDRaw,State,NodeList,End"

_TRY_LATER = (
    "unable to contact slurm controller", "socket timed out", "connection refused", "connection reset", "connection timed out",
    "zero bytes", "transport endpoint", "temporarily unable", "temporary failure", "no route to host", "communication failure",
    "communication connection failure", "slurm backup controller in standby", "submitlimit", "submit limit", "submitjobslimit",
    "maxsubmit", "unable to establish controller", "protocol authentication error", "munge", "i/o error writing",
    "requested operation is presently disabled", "resource temporarily unavailable", "unexpected message received",
    "configuration source", "dns srv lookup", "slurmdbd",
)  # fmt: skip
"""Words of a refusal that is not about the job: the controller cannot be reached, or takes no more jobs of this user now."""
_ANY_LIMIT = "job submit limit, user's size and/or time limits"
"""What Slurm says about every limit. The lines before it name the limit, if the cluster names it at all."""

_IN_WORK = ("idle", "mixed", "allocated", "completing", "planned")
"""States of a node that can take jobs, now or soon."""

NO_SUCH_NODES = ("node configuration is not available", "are down, drained or reserved", "nodes are busy")
"""Words of a refusal that may only be true while some nodes are out of work."""


class Refused(FlowrlError):
    """The controller answered, and does not take the job; says why."""


@dataclass(frozen=True)
class Job:
    """One job of ours, as the queue lists it. Times are seconds since the epoch; None where there is none."""

    id: str
    state: str
    reason: str = ""
    node: str = ""
    submitted_s: float | None = None
    ended_s: float | None = None
    expected_s: float | None = None
    """When the queue expects to start it."""
    priority: int = 0
    partition: str = ""
    name: str = ""
    comment: str = ""

    @classmethod
    def parse(cls, line: str) -> Job | None:
        """A job from a line of squeue; None for anything else, such as the second line of someone's comment."""
        parts = line.split("|", _FIELDS.count("|"))
        if len(parts) <= _FIELDS.count("|") or not parts[0].isdigit():
            return None
        id_, state, reason, node, submitted, ended, expected, priority, partition, name, comment = parts
        times = (float(text) if re.fullmatch(r"\d+", text) else None for text in (submitted, ended, expected))
        reason = "" if reason == "None" else reason
        return cls(id_, state, reason, node, *times, int(priority) if priority.isdigit() else 0, partition, name, comment)


@dataclass(frozen=True)
class Partition:
    """A part of the cluster.

    Attributes:
        most: the longest time of a job, as sinfo prints it.
        is_whole: whether none of its nodes is down, drained or reserved.
        usual: the time of a job that asks for none, as sinfo prints it; ``n/a``: the longest.
    """

    name: str
    is_up: bool
    most: str
    is_default: bool = False
    is_whole: bool = True
    usual: str = "n/a"


class Queue(Protocol):
    """What the launcher needs from a cluster. All but `check` raise EngineUnreachable if there is no answer."""

    def check(self) -> None:
        """Raises BadInput, with the remedy, if a cluster cannot be used from here at all."""

    def submit(self, script: Path) -> str:
        """Submits a batch script; returns the job's id. Raises Refused."""

    def try_submission(self, script: str) -> None:
        """Asks whether such a job could ever run, without submitting it. Raises Refused."""

    def jobs(self) -> list[Job]:
        """All jobs of this user that the queue still knows, those that have ended among them."""

    def cancel(self, ids: Sequence[str]) -> None:
        """Ends jobs; one that has ended already is no error."""

    def withdraw(self, ids: Sequence[str]) -> None:
        """Ends jobs that still wait; one that has begun meanwhile goes on."""

    def past(self, ids: Sequence[str]) -> list[Job]:
        """Those of these jobs that the cluster's books know; many a cluster keeps none, and never answers."""

    def partitions(self) -> list[Partition]:
        """The parts of the cluster that this user may see."""


class SlurmQueue:
    """Slurm's own commands.

    Args:
        without: variables of our environment that they do not get, see `environment.for_slurm`.
    """

    def __init__(self, without: Collection[str] = ()):
        self._without = without

    def check(self) -> None:
        if missing := [name for name in COMMANDS if shutil.which(name) is None]:
            raise BadInput(
                f"{', '.join(missing)} not found: --launcher slurm needs Slurm's commands; give this command on a login node "
                "of the cluster (scripts/slurm_here.sh up starts a small one on this machine), or leave --launcher out"
            )

    def submit(self, script: Path) -> str:
        answer = self._call("sbatch", "--parsable", str(script))
        if (found := re.match(r"(\d+)", answer)) is None:
            raise EngineUnreachable(f"sbatch answered without a job's number: {_short(answer)}")
        return found[1]

    def try_submission(self, script: str) -> None:
        self._call("sbatch", "--test-only", script=script)

    def jobs(self) -> list[Job]:
        lines = self._call("squeue", "-h", "-a", "-t", "all", "-u", environment.user_id(), "-o", _FIELDS).splitlines()
        return [job for line in lines if (job := Job.parse(line))]

    def cancel(self, ids: Sequence[str]) -> None:
        self._call("scancel", *ids)

    def interrupt(self, id_: str) -> None:
        """Sends all processes of a running job what Ctrl-C sends."""
        self._call("scancel", "--signal=INT", "--full", id_)

    def withdraw(self, ids: Sequence[str]) -> None:
        self._call("scancel", "--state=PENDING", *ids)

    def past(self, ids: Sequence[str]) -> list[Job]:
        lines = self._call("sacct", "-n", "-P", "-X", "-D", "-j", ",".join(ids), "-o", _PAST_FIELDS).splitlines()
        newest = {job.id: job for line in lines if (job := _past_job(line))}  # a requeued job has a line for each start
        return list(newest.values())

    def partitions(self) -> list[Partition]:
        found: dict[str, Partition] = {}
        for line in self._call("sinfo", "-h", "-a", "-o", "%P|%a|%l|%L|%T").splitlines():  # a line for each state of its nodes
            if line.count("|") != 4:  # with SLURM_CLUSTERS, the name of the cluster comes first
                continue
            name, up, most, usual, state = line.split("|")
            is_whole = state in _IN_WORK and (name not in found or found[name].is_whole)
            found[name] = Partition(name.rstrip("*"), up == "up", most, name.endswith("*"), is_whole, usual)
        return list(found.values())

    def _call(self, *command: str, script: str | None = None) -> str:
        """Runs one command. An error that is not about the job itself is taken for no answer."""
        try:
            done = subprocess.run(
                command, input=script or "", capture_output=True, text=True, errors="replace", timeout=CALL_TIMEOUT_S,
                check=False, env=environment.for_slurm(self._without), cwd="/",
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise EngineUnreachable(f"{command[0]} did not answer within {CALL_TIMEOUT_S:g} s") from None
        except OSError as error:
            raise EngineUnreachable(f"{command[0]} could not be started: {error.strerror}") from error
        if done.returncode == 0:
            return done.stdout
        words = _short(done.stderr or done.stdout) or f"exit code {done.returncode}"
        if command[0] == "sbatch" and not _is_for_later(words, is_try="--test-only" in command):
            raise Refused(words)
        raise EngineUnreachable(f"{command[0]} says: {words}")


def _is_for_later(words: str, is_try: bool) -> bool:
    """Whether sbatch might take the same job later.

    Args:
        is_try: whether it was only asked if it could run. Then a limit that is not named is taken for one of the job's own.
    """
    named = words.lower().replace(_ANY_LIMIT, "")
    if any(sign in named for sign in _TRY_LATER):
        return True
    return _ANY_LIMIT in words.lower() and not is_try and not re.search(r"(?:qos|assoc)\w+", named)


def _past_job(line: str) -> Job | None:
    """A job from a line of sacct; None for anything else."""
    parts = line.split("|")
    if len(parts) != len(_PAST_FIELDS.split(",")) or not parts[0].isdigit():
        return None
    id_, state, node, ended = parts
    ended_s = float(ended) if re.fullmatch(r"\d+", ended) else None
    return Job(id_, state, node="" if node == "None assigned" else node, ended_s=ended_s)


def _short(text: str) -> str:
    """The lines of a message in one."""
    lines = (
        re.sub(r"^s(?:batch|queue|cancel|info|acct): (?:error: |fatal: )?", "", line).strip() for line in text.splitlines()
    )
    return "; ".join(filter(None, lines))[:500]
