"""The environment that a run gets. The only module of this room that reads ``os.environ``.

An engine may start a run with the environment of whoever started the engine, perhaps weeks ago. So a run gets its own:
the launcher sets what Python needs to start; everything else (keys included) comes in a file that only the user can
read and that the training process removes as it starts.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path

import flowrl
from flowrl.errors import BadInput

# What Python, and the C library below it, need before they can read a file.
_TO_START = ("PATH", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR",
             "GLIBC_TUNABLES")  # fmt: skip
# What a training reads: its libraries, its GPUs, its reports, its proxies.
_FOR_TRAINING = ("CUDA_", "FLOWRL_", "GLIBC_", "JAX_", "LIBTPU_", "MKL_", "NCCL_", "NUMEXPR_", "NVIDIA_", "OMP_", "OPENBLAS_",
             "PYTHON", "ROCM_", "TF_", "WANDB_", "XDG_", "XLA_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY",
             "SSL_CERT_", "http_proxy", "https_proxy", "no_proxy")  # fmt: skip
# What Slurm's commands need, and what a job's script sets itself. A time is asked for as seconds since the epoch.
_FOR_SLURM = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "SHELL", "LD_LIBRARY_PATH", "SLURM_CONF", "SLURM_CLUSTERS",
              "SLURM_CONF_SERVER")  # fmt: skip
_OURS_IN_A_JOB = {f"SBATCH_{name}" for name in ("ARRAY_INX", "COMMENT", "EXPORT", "JOB_NAME", "NO_REQUEUE", "OPEN_MODE",
                                                "OUTPUT", "REQUEUE", "SIGNAL", "WAIT", "ERROR")}  # fmt: skip
_SBATCH_CLUSTERS = "SBATCH_CLUSTERS"
# What only the proposer needs; never passed to a training.
_PROPOSER = ("OPENAI_",)
_LONGEST_BYTES = 128 * 1024
"""The longest variable with which Linux starts a program, including its name and the final zero byte."""
_SECRET_WORDS = ("KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL")


def to_start() -> dict[str, str]:
    """What the command itself needs; none of it is secret."""
    return {name: os.environ[name] for name in _TO_START if name in os.environ} | _where_flowrl_is()


def for_training() -> dict[str, str]:
    """What the training process puts into its own environment as it starts; may hold keys."""
    return {name: value for name, value in os.environ.items() if _is_for_training(name) and name not in _TO_START}


def check_lengths() -> None:
    """Raises BadInput if a variable is too long to start any program with.

    Our own were short enough when we started, but may have changed since, and a run's ``PYTHONPATH`` has one more entry.
    """
    for name, value in {**os.environ, **to_start()}.items():
        length = len(os.fsencode(f"{name}={value}")) + 1
        if length > _LONGEST_BYTES:
            raise BadInput(
                f"the environment variable {name} has {length:,} bytes, and no program can be started with more than "
                f"{_LONGEST_BYTES:,}; shorten it"
            )


def variable(name: str) -> str | None:
    """One variable of our own environment."""
    return os.environ.get(name)


def without_secrets() -> dict[str, str]:
    """Our environment without keys, for a program that outlives us, such as a session server that our call happens to
    start."""
    return {name: value for name, value in os.environ.items() if not is_private(name)}


def for_slurm(without: Collection[str] = ()) -> dict[str, str]:
    """What Slurm's commands get, and pass on to each job: no key, and no option that would override a job's own.

    Args:
        without: further variables that are left out: those that stand for an option of the job's script. For sbatch, a
            variable counts more than the script.
    """
    options = {name for name in os.environ if name.startswith("SBATCH_")} - _OURS_IN_A_JOB - {*without, _SBATCH_CLUSTERS}
    found = {name: os.environ[name] for name in (*_FOR_SLURM, *options) if name in os.environ}
    if _SBATCH_CLUSTERS in os.environ:  # sbatch alone heeds it, and squeue would ask another cluster
        found.setdefault("SLURM_CLUSTERS", os.environ[_SBATCH_CLUSTERS])
    return found | {"SLURM_TIME_FORMAT": "%s"}


def user_id() -> str:
    """The number of the user who runs this process."""
    return str(os.getuid())


def is_private(name: str) -> bool:
    """Whether a variable holds a key, or belongs to the proposer."""
    return name.startswith(_PROPOSER) or any(word in name.upper().split("_") for word in _SECRET_WORDS)


def is_misleading(name: str) -> bool:
    """Whether a variable left over from whoever started the engine would change a training, or leak into it."""
    return is_private(name) or _is_for_training(name)


def write_run_environment(path: Path, values: Mapping[str, str]) -> None:
    """Writes ``run.env``, whole, readable by its owner alone."""
    write_private(path, json.dumps(dict(values), indent=2) + "\n")


def write_private(path: Path, text: str) -> None:
    """Writes a file, whole, readable by its owner alone. Makes its folder if it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)  # mode 0600
    with os.fdopen(handle, "wb") as file:
        file.write(os.fsencode(text))
    os.replace(temporary, path)


def _where_flowrl_is() -> dict[str, str]:
    """Lets the run find a checkout that is not installed, as we did."""
    root = Path(flowrl.__file__).resolve().parents[1]
    if "site-packages" in root.parts:
        return {}
    others = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path and path != str(root)]
    return {"PYTHONPATH": os.pathsep.join([str(root), *others])}


def _is_for_training(name: str) -> bool:
    return name.startswith(_FOR_TRAINING) and not name.startswith(_PROPOSER)
