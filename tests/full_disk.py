"""A small disk that can be filled, and turned read-only: a tmpfs, mounted for one test."""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SIZE_MB = 8
_INSIDE = "FLOWRL_TEST_NAMESPACE"


class SmallDisk:
    """A mounted tmpfs."""

    def __init__(self, root: Path):
        self.root = root
        self._filler = root / "filler"

    def fill(self, leave_bytes: int = 0) -> None:
        """Takes all room but ``leave_bytes``."""
        with contextlib.suppress(OSError), open(self._filler, "wb", buffering=0) as file:
            while file.write(b"x" * 4096):
                pass
        if leave_bytes:
            os.truncate(self._filler, self._filler.stat().st_size - leave_bytes)

    def make_room(self) -> None:
        self._filler.unlink()

    def restore(self) -> None:
        """Undoes both."""
        self.make_writable()
        self._filler.unlink(missing_ok=True)

    def make_read_only(self) -> None:
        _run("mount", "-o", "remount,ro", str(self.root))

    def make_writable(self) -> None:
        _run("mount", "-o", "remount,rw", str(self.root))


def on_a_small_disk(test):
    """Gives ``test`` a ``disk``. If we may not mount, the test runs in its own namespaces (``unshare``), where we may."""

    @functools.wraps(test)
    def wrapper(*args, request, tmp_path, **kwargs):
        root = tmp_path / "disk"
        root.mkdir()
        try:
            _run("mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m", "flowrl-test", str(root))
        except (OSError, subprocess.CalledProcessError) as error:
            return _again_in_namespaces(request.node.nodeid, error)
        try:
            test(*args, disk=SmallDisk(root), **kwargs)
        finally:
            _run("umount", "-l", str(root))

    # pytest asks for what the test names, apart from the disk, and for the two things that we need.
    parameters = [p for p in inspect.signature(test).parameters.values() if p.name not in ("disk", "tmp_path", "request")]
    needed = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in ("request", "tmp_path")]
    wrapper.__signature__ = inspect.Signature([*parameters, *needed])
    return wrapper


def _again_in_namespaces(test: str, refusal: Exception) -> None:
    if os.environ.get(_INSIDE) or sys.platform != "linux" or not shutil.which("unshare"):
        pytest.skip(f"a small disk needs the right to mount one: be root, or allow user namespaces ({refusal})")
    namespaces = ["unshare", "--user", "--map-root-user", "--mount"]
    command = [*namespaces, sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", test]
    done = subprocess.run(command, env=os.environ | {_INSIDE: "1"}, capture_output=True, text=True, check=False)
    if "unshare:" in done.stderr or "1 skipped" in done.stdout:
        pytest.skip(f"a small disk needs the right to mount one: be root, or allow user namespaces ({refusal})")
    assert done.returncode == 0, done.stdout + done.stderr


def _run(*command: str) -> None:
    subprocess.run(command, capture_output=True, text=True, check=True)
