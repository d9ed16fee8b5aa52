"""Compiled programs that outlive their process.

JAX's own persistent cache saves compiling, but only after a program was traced and lowered to the text by which it is
looked up: for the programs of a run, most of what is left of a start. Here a whole executable is kept under a name
that can be told without tracing: what the program is made from (`identity`), the source code that makes it, the
versions of the libraries below it, the machine, and the shapes of its arguments. A program that is not stored, or
cannot be loaded, is compiled as usual, and stored. Of processes that need the same one at the same time, one compiles.

The files hold machine code, as those of JAX's cache do, so the folder belongs to the user alone.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import io
import os
import pickle
import platform
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
from filelock import FileLock, Timeout
from jax.experimental import serialize_executable

from flowrl import paths
from flowrl.files import write_whole

LIMIT_BYTES = 2 * 2**30
"""What all stored programs may take; those that were not used for longest go first."""

WAIT_S = 600.0
"""Seconds to wait for another process that compiles the same program."""

_LIBRARIES = ("jax", "jaxlib", "flax", "optax", "numpy", "craftax")
_ROOMS = ("skills", "envs", "training")
_SETTINGS = ("jax_enable_x64", "jax_default_matmul_precision", "jax_default_prng_impl", "jax_threefry_partitionable")


class ProgramStore:
    """A folder of programs that are all made from the same things.

    Args:
        folder: shared by all runs on a machine; None stores nothing.
        identity: all that the programs depend on, beside the source code, the machine and their arguments; anything
            with a ``repr`` that says it all. None where that cannot be told: then nothing is stored.
    """

    def __init__(self, folder: Path | None, identity: Any):
        self._folder = folder if identity is not None else None
        self._identity = identity

    def program(
        self, name: str, function: Callable, made_from: Any = None, donate_argnums: tuple[int, ...] = ()
    ) -> StoredProgram:
        """``function``, jitted.

        Args:
            name: no other program of this store has it.
            made_from: what it depends on beside the store's identity and the shapes of its arguments, as a ``repr``.
        """
        key = None if self._folder is None else (name, repr((self._identity, made_from)), *surroundings())
        return StoredProgram(name, function, donate_argnums, self._folder, key)


class StoredProgram:
    """A jitted function, compiled at most once on a machine for each shape of its arguments."""

    def __init__(
        self, name: str, function: Callable, donate_argnums: tuple[int, ...], folder: Path | None, key: tuple | None
    ):
        self.name = name
        self._function, self._donate_argnums, self._folder, self._key = function, donate_argnums, folder, key
        self._jitted = jax.jit(function, donate_argnums=donate_argnums)
        self._latest: Any = None
        self._compiled: dict[str, Any] = {}
        self.shapes: tuple | None = None
        """What it was first called with: shapes and types in place of arrays; None before that."""

    def __call__(self, *arguments: Any) -> Any:
        if self._key is None:
            return self._jitted(*arguments)
        if self._latest is not None:
            # Arguments of other shapes are refused before anything is done with them.
            with contextlib.suppress(TypeError):
                return self._latest(*arguments)
        self.shapes = self.shapes or jax.tree.map(shape_of, arguments)
        self._latest = self._ready(arguments)
        return self._latest(*arguments)

    def put_by(self, *arguments: Any) -> None:
        """Sees to it that a later run will find the program stored.

        Does nothing where it is stored, or just being compiled by another process.

        Args:
            arguments: arrays, or what stands for them (``jax.ShapeDtypeStruct``).
        """
        if self._key is None or (path := self._path(signature(arguments))).exists():
            return
        with _only_one(path, wait_s=0) as alone, contextlib.suppress(OSError):
            if alone:
                store(path, self._compile(arguments))

    def _ready(self, arguments: tuple) -> Any:
        shapes = signature(arguments)
        if shapes not in self._compiled:
            self._compiled[shapes] = self._load_or_compile(arguments, self._path(shapes))
        return self._compiled[shapes]

    def _path(self, shapes: str) -> Path:
        name, *rest = self._key
        digest = hashlib.sha256("\n".join([*map(str, rest), name, shapes]).encode()).hexdigest()
        return self._folder / f"{name.replace(' ', '_')}-{digest[:32]}"

    def _load_or_compile(self, arguments: tuple, path: Path) -> Any:
        if (found := load(path)) is not None:
            return found
        with _only_one(path):
            if (found := load(path)) is not None:
                return found
            compiled = self._compile(arguments)
            with contextlib.suppress(OSError):  # no room, or no right to write: compiled anew the next time
                store(path, compiled)
            return compiled

    def _compile(self, arguments: tuple) -> Any:
        def function(*arguments):
            return self._function(*arguments)

        # What JAX takes from its own cache cannot be stored whole; under a name like this there is nothing in it.
        function.__name__ = f"{self._key[0].replace(' ', '_')}_{secrets.token_hex(8)}"
        return jax.jit(function, donate_argnums=self._donate_argnums).lower(*arguments).compile()


def load(path: Path) -> Any:
    """A stored program; None if there is none, or it is not whole, or this machine cannot take it."""
    try:
        sealed = path.read_bytes()
        seal, data = sealed[:32], sealed[32:]
        if hashlib.sha256(data).digest() != seal:
            return None
        executable, inputs, outputs = pickle.load(io.BytesIO(data))
        with contextlib.suppress(OSError):
            os.utime(path)
        return serialize_executable.deserialize_and_load(
            executable, jax.tree.structure(inputs), jax.tree.structure(outputs)
        )
    except Exception:  # whatever is wrong with a stored program, compiling it is the remedy
        return None


def store(path: Path, compiled: Any) -> None:
    """Stores a compiled program; does nothing where it cannot be given away whole. Raises OSError."""
    if "custom-call" in (compiled.as_text() or ""):
        return  # it calls functions of this process (LAPACK's, for one) that another process may not have loaded
    try:
        executable, inputs, outputs = serialize_executable.serialize(compiled)
    except (ValueError, NotImplementedError, jax.errors.JaxRuntimeError):
        return
    # A tree is stored as an example: its own types are pickled by their names.
    examples = [jax.tree.unflatten(tree, range(tree.num_leaves)) for tree in (inputs, outputs)]
    data = pickle.dumps((executable, *examples))
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_whole(path, hashlib.sha256(data).digest() + data)
    make_room(path.parent, LIMIT_BYTES)


def make_room(folder: Path, limit_bytes: int) -> None:
    """Removes the programs that were not used for longest, until the others take at most so many bytes."""
    entries = []
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            entries.append((path.stat().st_mtime, path.stat().st_size, path))
    total = sum(size for _, size, _ in entries)
    for _, size, path in sorted(entries):
        if total <= limit_bytes:
            return
        path.unlink(missing_ok=True)
        total -= size


@contextlib.contextmanager
def _only_one(path: Path, wait_s: float = WAIT_S) -> Iterator[bool]:
    """Held by the process that compiles a program: gives whether that is this one, or no lock can be had at all."""
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    alone = True
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock.acquire(timeout=wait_s)
    except Timeout:
        alone = False
    except OSError:
        pass
    try:
        yield alone
    finally:
        lock.release()


def shape_of(value: Any) -> jax.ShapeDtypeStruct:
    """The shape and the type of an array or of a number."""
    kind = jax.typeof(value)
    return jax.ShapeDtypeStruct(kind.shape, kind.dtype, weak_type=kind.weak_type)


def signature(arguments: Any) -> str:
    """The tree, the shapes and the types of arguments, or of what stands for them."""
    leaves, tree = jax.tree.flatten(arguments)
    kinds = [leaf if isinstance(leaf, jax.ShapeDtypeStruct) else shape_of(leaf) for leaf in leaves]
    return f"{tree} {[(kind.shape, str(kind.dtype), bool(kind.weak_type)) for kind in kinds]}"


@functools.cache
def surroundings() -> tuple[str, ...]:
    """What a program depends on, beside what it is made from: source code, libraries, machine, settings."""
    device = jax.devices()[0]
    settings = [str(getattr(jax.config, name)) for name in _SETTINGS]
    return (
        source_code(),
        *(f"{name} {importlib.metadata.version(name)}" for name in _LIBRARIES),
        f"{device.platform} {device.device_kind} {device.client.platform_version}",
        processor(),
        # Loops are cut into pieces for as many cores as there are when a program is compiled.
        f"{paths.usable_cores()} cores",
        os.environ.get("XLA_FLAGS", ""),
        *settings,
    )


@functools.cache
def source_code() -> str:
    """A digest of the rooms from which programs are made."""
    package = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(path for room in _ROOMS for path in (package / room).rglob("*.py")):
        digest.update(f"{path.relative_to(package)}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def processor() -> str:
    """The kind of processor, with the instructions that it knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    return " ".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))

