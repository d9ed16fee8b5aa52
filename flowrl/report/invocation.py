"""The command that starts flowrl again, as it was started and from the same folder."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path


def to_go_on(graph_path: Path) -> str:
    """The command that resumes an experiment, with the path of this interpreter if ``python`` is another one."""
    return f"{_interpreter()} -m flowrl.bottomup_parallel --graph_path {shlex.quote(str(graph_path))}"


def retry_command(graph_path: Path) -> list[str]:
    """The command, as a program starts it, that resumes an experiment and tries again what failed."""
    return [sys.executable, "-m", "flowrl.bottomup_parallel", "--graph_path", str(graph_path), "--retry_failed"]


def to_rehearse(graph_path: Path) -> str:
    """The command that goes on with a rehearsal."""
    return f"{_interpreter()} -m flowrl rehearse {shlex.quote(str(graph_path))}"


def to_evaluate(graph_path: Path) -> str:
    """The command that measures what an experiment's library can do."""
    return f"{_interpreter()} -m flowrl evaluate {shlex.quote(str(graph_path))}"


def _interpreter() -> str:
    found = shutil.which("python")
    # Links are not followed: a virtual environment's interpreter is a link to one that lacks its packages.
    if found and os.path.abspath(found) == os.path.abspath(sys.executable):
        return "python"
    path = Path(sys.executable)
    return shlex.quote(str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path))
