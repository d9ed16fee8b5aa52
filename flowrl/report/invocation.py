"""How to start flowrl again, from where and as it was started."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path


def to_go_on(graph_path: Path) -> str:
    """The command for an experiment, with this very interpreter where ``python`` would be another one."""
    return f"{_interpreter()} -m flowrl.bottomup_parallel --graph_path {shlex.quote(str(graph_path))}"


def _interpreter() -> str:
    found = shutil.which("python")
    # Not resolved: in a virtual environment the interpreter is a link to one that knows none of its packages.
    if found and os.path.abspath(found) == os.path.abspath(sys.executable):
        return "python"
    path = Path(sys.executable)
    return shlex.quote(str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path))
