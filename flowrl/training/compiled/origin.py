"""What a compiled program depends on, found without tracing it: source code, libraries, machine, settings, shapes."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import importlib.util
import os
from pathlib import Path
from typing import Any

import jax
import psutil

from flowrl import machine

_LIBRARIES = ("jax", "jaxlib", "flax", "optax", "numpy", "craftax")
_ROOMS = ("skills", "envs", "training")
_VARIABLES = ("XLA_FLAGS", "LIBTPU_INIT_ARGS", "NPROC", "PJRT_NPROC")
_WITHOUT_EFFECT = ("cache", "log", "debug", "dump", "traceback", "profil", "check")
"""JAX settings with one of these words in their name do not change what a program does."""


def shape_of(value: Any) -> jax.ShapeDtypeStruct:
    """The shape and the type of an array or of a number."""
    kind = jax.typeof(value)
    return jax.ShapeDtypeStruct(kind.shape, kind.dtype, weak_type=kind.weak_type)


def signature(arguments: Any) -> str:
    """The tree, the shapes and the types of arguments, which may be abstract."""
    leaves, tree = jax.tree.flatten(arguments)
    kinds = [leaf if isinstance(leaf, jax.ShapeDtypeStruct) else shape_of(leaf) for leaf in leaves]
    return f"{tree} {[(kind.shape, str(kind.dtype), bool(kind.weak_type)) for kind in kinds]}"


@functools.cache
def surroundings() -> tuple[str, ...]:
    """What a program depends on besides what it is made from: source code, libraries, machine, settings."""
    device = jax.devices()[0]
    settings = [
        f"{name}={value!r}"
        for name, value in sorted(jax.config.values.items())
        if not any(word in name for word in _WITHOUT_EFFECT)
    ]
    return (
        source_code(),
        *(f"{name} {importlib.metadata.version(name)}" for name in _LIBRARIES),
        f"{device.platform} {device.device_kind} {device.client.platform_version}",
        machine.processor(),
        # Loops are split for the number of cores at the time of compiling.
        f"{len(machine.usable_cores())} cores",
        *(f"{name}={os.environ.get(name, '')}" for name in _VARIABLES),
        *settings,
    )


@functools.cache
def source_code() -> str:
    """A digest of what programs are made from: flowrl's rooms, and the games, which are often changed in place."""
    digest = hashlib.sha256()
    for path in _sources():
        digest.update(f"{path}\n".encode() + path.read_bytes())
    return digest.hexdigest()


@functools.cache
def changed_since_start() -> bool:
    """Whether a source file is newer than this process, which may then run the old code."""
    return max(path.stat().st_mtime for path in _sources()) > psutil.Process().create_time()


def _sources() -> list[Path]:
    package = Path(__file__).parents[2]
    folders = [package / room for room in _ROOMS]
    if game := importlib.util.find_spec("craftax"):
        folders += map(Path, game.submodule_search_locations or ())
    return sorted(path for folder in folders for path in folder.rglob("*.py"))


def hindrance(folder: Path) -> str | None:
    """Why programs can neither be stored in this folder nor loaded from it, and the remedy; None if they can."""
    if not is_private(folder):
        return f"{folder} is writable by others, or cannot be checked; make it yours alone (chmod 700)"
    if changed_since_start():
        newest = max(_sources(), key=lambda path: path.stat().st_mtime)
        return f"{newest} is newer than this process; if its date is in the future, touch it"
    return None


def is_private(folder: Path) -> bool:
    """Whether nobody else can have put anything into a folder; true if it does not exist yet."""
    try:
        found = folder.stat()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return found.st_uid == os.getuid() and not found.st_mode & 0o022
