"""The script of a job: it claims its attempt, then starts the run's keeper.

All that the job needs is in it, but for keys, which come in the run's private file.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, unquote

from flowrl.parallel.launchers.base import EXPERIMENT, LaunchSpec
from flowrl.parallel.launchers.slurm_options import STOP_LEAD_S, SlurmOptions
from flowrl.parallel.processes import COOKIE

UNSEEN = "working folder unseen"
"""What the first job says of a node that does not have the folder in which jobs start."""
_MARK = "flowrl"
_OF_THIS_HOST = ("HOME", "TMPDIR")
"""What a job has from its own host."""


def comment_of(run_folder: Path, attempt: int) -> str:
    """What a job carries as its comment: it is found again by it."""
    return f"{_MARK}:{attempt}:{quote(str(run_folder), safe='/')}"


def attempt_of(comment: str) -> tuple[Path, int] | None:
    """The run folder and the attempt of a job, by its comment; None for a job that is not ours."""
    mark, _, rest = comment.partition(":")
    attempt, _, folder = rest.partition(":")
    return (Path(unquote(folder)), int(attempt)) if mark == _MARK and attempt.isdigit() and folder else None


def claim_of(run_folder: Path, attempt: int) -> Path:
    """The file by which one job, and only one, makes an attempt its own."""
    return run_folder / f"claim_{attempt}"


def output_of(run_folder: Path) -> Path:
    """What the jobs of a run print."""
    return run_folder / "job.out"


def batch_script(spec: LaunchSpec, options: SlurmOptions, name: str) -> str:
    """The script of one attempt.

    Args:
        name: of the job, and of the session that shows it.
    """
    run, claim = shlex.quote(str(spec.run_folder)), shlex.quote(str(claim_of(spec.run_folder, spec.attempt)))
    return "\n".join([
        *_head(options, [f"--job-name={name}", f"--comment={comment_of(spec.run_folder, spec.attempt)}"]),
        f"exec >>{shlex.quote(str(output_of(spec.run_folder)))} 2>&1 </dev/null || exit",
        f"cd {shlex.quote(str(spec.working_folder))} || exit",
        *_exports({**spec.environment, EXPERIMENT: str(spec.experiment), COOKIE: spec.cookie}),
        *_setup(options),
        "# An attempt is trained once, even if the job was submitted twice or started again.",
        f"if (set -o noclobber; : >{claim}) 2>/dev/null; then",
        f'    echo "$SLURM_JOB_ID on $(hostname)" >{claim}',
        f"elif [ -e {claim} ]; then",
        f'    echo "job $SLURM_JOB_ID ends: job $(cat {claim}) has attempt {spec.attempt} at {run}"; exit 0',
        "fi",
        "# TERM comes when the job's time is nearly over: the training is asked to write a checkpoint and to end.",
        "asked=; trap 'asked=1; kill -USR1 \"$keeper\"' TERM; trap : INT; trap '' USR1",
        f"{shlex.join(spec.argv)} &",
        "keeper=$!",
        'while wait "$keeper"; code=$?; kill -0 "$keeper" 2>/dev/null; do :; done',
        '[ "$asked" ] && [ "$code" -ge 128 ] && code=0',
        'exit "$code"',
        "",
    ])  # fmt: skip


def first_job(
    folder: Path, token: Path, working_folder: Path, python: str, environment: Mapping[str, str], options: SlurmOptions
) -> str:
    """The script of the tiny job that finds out whether nodes see two folders, and Python.

    Args:
        token: a file in ``folder``; the job leaves an answer beside it.
        working_folder: where jobs start; the answer is `UNSEEN` if the node has no such folder.
    """
    answer = shlex.quote(f"{token}.answer")
    leave = shlex.quote(f"echo code $?; command -p mv {answer}.part {answer}")  # even if what is set up ends the shell
    return "\n".join([
        *_head(options, ["--job-name=flowrl_first_job", f"--comment={comment_of(folder, 0)}", "--time=5"]),
        *_exports(environment),
        f"cd {shlex.quote(str(folder))} && [ -e {shlex.quote(str(token))} ] || exit",
        f"exec 2>{answer}.part 1>&2 || exit",
        f"trap {leave} EXIT",
        f"cd {shlex.quote(str(working_folder))} 2>/dev/null || {{ echo {UNSEEN} >&2; exit 1; }}",
        *_setup(options),
        f"{shlex.quote(python)} -c 'import flowrl'",
        "",
    ])  # fmt: skip


def _head(options: SlurmOptions, own: list[str]) -> list[str]:
    """The first lines. A login shell, where something has to be set up: ``module`` is a function of such a shell."""
    fixed = [*own, "--no-requeue", f"--signal=B:TERM@{STOP_LEAD_S}", "--output=/dev/null", "--chdir=/", "--open-mode=append"]
    shell = "#!/bin/bash -l" if options.setup else "#!/bin/bash"
    return [shell, *(f"#SBATCH {directive}" for directive in (*options.directives(), *fixed))]


def _exports(variables: Mapping[str, str]) -> list[str]:
    return [f"export {name}={shlex.quote(value)}" for name, value in variables.items() if name not in _OF_THIS_HOST]


def _setup(options: SlurmOptions) -> list[str]:
    """What the user wants done first; a line that fails is seen in the job's output, and the training says what it lacks."""
    return [f"{options.setup}"] if options.setup else []
