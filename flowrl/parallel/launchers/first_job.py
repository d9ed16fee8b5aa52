"""A small test job finds out whether the nodes of a cluster see the experiment's folder, and can run flowrl.

Without it, the first skill would wait in the queue, fail on its node, and leave no word about why.
"""

from __future__ import annotations

import contextlib
import secrets
import sys
import time
from collections.abc import Callable
from pathlib import Path

from flowrl.errors import BadInput
from flowrl.parallel import environment
from flowrl.parallel.environment import write_private
from flowrl.parallel.launchers.base import EngineUnreachable
from flowrl.parallel.launchers.batch_script import UNSEEN, comment_of, first_job
from flowrl.parallel.launchers.slurm_options import SlurmOptions
from flowrl.parallel.launchers.slurm_queue import Job, Queue, Refused, SlurmQueue

PATIENCE_S = 120.0
"""Seconds that the job may wait in the queue; after that, the experiment begins without its answer."""
FILES_GRACE_S = 30.0
LOOK_S = 1.0
_OVER = (
    *("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "BOOT_FAIL", "OUT_OF_MEMORY", "DEADLINE", "LAUNCH_FAILED"),
    *("PREEMPTED", "REVOKED"),
)
_BY_ITSELF = ("COMPLETED", "FAILED")
"""How a job ends that does not see its folder. Other ends say nothing about that."""


def try_out(
    folder: Path,
    options: SlurmOptions,
    say: Callable[[str], None],
    queue: Queue | None = None,
    patience_s: float = PATIENCE_S,
    files_grace_s: float = FILES_GRACE_S,
) -> None:
    """Sends the job, and waits for its answer. Leaves no file.

    Args:
        folder: of the experiment, which need not exist yet; then the nearest folder above it is tried.
        say: takes a line for the terminal.

    Raises:
        BadInput: the nodes do not see the folder, or the one that the command was given in, or cannot run flowrl; says
            which.
    """
    whole = folder.resolve()  # as the jobs of skills have it: nodes may not have the links of this machine
    nearest = next(path for path in (whole, *whole.parents) if path.is_dir())
    token = nearest / f".flowrl_first_job_{secrets.token_hex(4)}"
    answer, script = Path(f"{token}.answer"), Path(f"{token}.sbatch")
    try:
        token.touch()
        write_private(script, first_job(nearest, token, Path.cwd(), sys.executable, environment.to_start(), options))
        queue = queue or SlurmQueue(options.variables_instead())
        _FirstJob(queue, nearest, answer, say, patience_s, files_grace_s).run(script)
    except EngineUnreachable as error:
        raise BadInput(f"the cluster does not answer: {error}; try again once `squeue` works in this terminal") from error
    except Refused as error:
        raise BadInput(f"the cluster refused a small test job: {error}; correct the --slurm_* flags") from error
    finally:
        for path in (token, answer, script, Path(f"{answer}.part")):
            path.unlink(missing_ok=True)


class _FirstJob:
    def __init__(
        self,
        queue: Queue,
        folder: Path,
        answer: Path,
        say: Callable[[str], None],
        patience_s: float,
        files_grace_s: float,
    ):
        self._queue, self._folder, self._answer, self._say = queue, folder, answer, say
        self._patience_s, self._files_grace_s = patience_s, files_grace_s
        self._comment = comment_of(folder, 0)

    def run(self, script: Path) -> None:
        number = self._queue.submit(script)
        try:
            job = self._awaited(number)
        except BaseException:  # Ctrl-C too
            self._cancel(number)
            raise
        if job is None:
            return
        if not self._answered():
            if job.state.split()[0] not in _BY_ITSELF:
                self._say(f"note: a small test job ended without an answer ({job.state.lower()}), so {self._unknown()}")
                return
            where = f" ({job.node})" if job.node else ""
            raise BadInput(
                f"the nodes of the cluster{where} do not see {self._folder}, or may not write there: a small test "
                f"job ({number}, {job.state.lower()}) left no answer in it; use a --graph_path that the nodes share"
            )
        text = self._answer.read_text(errors="replace")
        if UNSEEN in text.splitlines():
            raise BadInput(
                f"a small test job on {job.node or 'a node'} does not see {Path.cwd()}, where this command was given and jobs "
                "start; give it in a folder that the nodes share"
            )
        if "code 0" not in text.splitlines():
            last = " ".join(line for line in text.splitlines() if line.strip() and not line.startswith("code "))[-300:]
            raise BadInput(
                f"a small test job on {job.node or 'a node'} could not run {sys.executable} with flowrl: "
                f"{last or 'no output'}; install flowrl where the nodes see it, or load it with --slurm_setup"
            )
        self._say(f"a small test job ran on {job.node or 'a node'}: it sees {self._folder} and flowrl")

    def _awaited(self, number: str) -> Job | None:
        """The job once it is over; None if it still waits after all this time, and was taken back."""
        deadline, has_said = time.monotonic() + self._patience_s, False
        while True:
            job = self._job(number)
            if job is not None and job.comment != self._comment:
                raise BadInput(
                    f"the cluster has changed the comment of a small test job ({number}) to {job.comment!r}; flowrl finds its "
                    "jobs by their comments, so it cannot work here; ask the cluster's administrators"
                )
            if job is not None and job.state.split()[0] in _OVER:
                return job
            if self._answer.exists():  # some clusters forget a job as soon as it has ended, others take long to end it
                return job or Job(number, "COMPLETED")
            if time.monotonic() > deadline:
                self._cancel(number)
                why = f" ({job.reason})" if job and job.reason else ""
                self._say(f"note: a small test job still waits{why}, so {self._unknown()}")
                return None
            if not has_said:
                self._say(f"a small test job ({number}) checks whether the nodes see {self._folder}")
                has_said = True
            time.sleep(LOOK_S)

    def _unknown(self) -> str:
        return f"it is unknown whether the nodes see {self._folder}; continuing"

    def _job(self, number: str) -> Job | None:
        try:
            return next((job for job in self._queue.jobs() if job.id == number), None)
        except EngineUnreachable:
            return None

    def _answered(self) -> bool:
        deadline = time.monotonic() + self._files_grace_s
        while not self._answer.exists():
            if time.monotonic() > deadline:
                return False
            time.sleep(LOOK_S / 4)
        return True

    def _cancel(self, number: str) -> None:
        with contextlib.suppress(EngineUnreachable):
            self._queue.cancel([number])
