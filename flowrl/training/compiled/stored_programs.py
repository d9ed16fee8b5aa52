"""Compiled programs that outlive their process.

JAX's own persistent cache saves compiling, but only after a program was traced and lowered to the text by which it is
looked up: for the programs of a run, most of what is left of a start. Here a whole executable is kept under a name
that can be told without tracing: what the program is made from (`identity`), the source code that makes it, the
versions of the libraries below it, the machine, and the shapes of its arguments. A program that is not stored, or
cannot be loaded, is compiled and stored. Of processes that need the same one at the same time, one compiles. A program
that cannot be stored is left to JAX's cache.

The files hold machine code, as those of JAX's cache do, so they are read only from a folder that is the user's alone.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import hashlib
import importlib.metadata
import importlib.util
import io
import os
import pickle
import platform
import re
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import psutil
from filelock import FileLock, Timeout
from jax.experimental import serialize_executable

from flowrl import machine
from flowrl.files import TEMPORARY, write_whole
from flowrl.training.compiled.preload import Preloader, list_programs, listed
from flowrl.training.host import heap

LIMIT_BYTES = 2 * 2**30
"""What all stored programs may take; those that were not used for longest go first."""

WAIT_S = 120.0
"""Seconds to wait for another process that compiles the same program: well below those after which a run counts as hung."""

READIED = "/flowrl/program_readied"
"""The event that JAX's monitoring is told of whenever a program was loaded or compiled, with the seconds that took."""

ABANDONED_S = 3600.0
"""Seconds after which an unfinished file is nobody's any more."""

_LIBRARIES = ("jax", "jaxlib", "flax", "optax", "numpy", "craftax")
_ROOMS = ("skills", "envs", "training")
_VARIABLES = ("XLA_FLAGS", "LIBTPU_INIT_ARGS", "NPROC", "PJRT_NPROC")
_WITHOUT_EFFECT = ("cache", "log", "debug", "dump", "traceback", "profil", "check")
"""Settings of JAX with such a word in their name do not change what a program does."""


class ProgramStore:
    """A folder of programs that are all made from the same things.

    Args:
        folder: shared by all runs on a machine; None stores nothing.
        identity: all that the programs depend on, beside the source code, the machine and their arguments; anything
            with a ``repr`` that says it all. None where that cannot be told: then nothing is stored.
        kind: what tells runs that call other programs apart, as a ``repr``; see `remember`.
    """

    def __init__(self, folder: Path | None, identity: Any, kind: Any = None):
        self.hindrance = hindrance(folder) if identity is not None and folder is not None else None
        """Why nothing is stored, where that is not as it should be."""
        usable = identity is not None and folder is not None and self.hindrance is None
        self._folder = folder if usable else None
        self._identity, self._kind = identity, kind
        self._called: dict[str, list[Path]] = {}
        self.preloader = Preloader(load)
        self.announce: Callable[[], None] = lambda: None
        """Called before a program that was called for the first time is loaded or compiled."""

    def program(
        self, name: str, function: Callable, made_from: Any = None, donate_argnums: tuple[int, ...] = (), group: str = ""
    ) -> StoredProgram:
        """``function``, jitted.

        Args:
            name: no other program of this store has it.
            made_from: what it depends on beside the store's identity and the shapes of its arguments, as a ``repr``.
            group: those of a group are called by the same runs.
        """
        return StoredProgram(self, name, function, made_from, donate_argnums, group)

    @property
    def stores(self) -> bool:
        """Whether there is a folder to store programs in."""
        return self._folder is not None

    def path(self, name: str, made_from: Any, shapes: str) -> Path:
        """Where a program lies for arguments of this `signature`, whether it is stored or not."""
        return self._folder / f"{name.replace(' ', '_')}-{self._digest(made_from, name, shapes)}"

    def note_call(self, group: str, path: Path) -> None:
        """Takes note of a stored program that was called for the first time."""
        self._called.setdefault(group, []).append(path)

    def remember(self) -> None:
        """Has later runs of this kind `preload` what was called until now; what this one has loaded in vain is let go."""
        self.preloader.forget()
        for group, programs in self._called.items():
            list_programs(self._list(group), programs)

    def preload(self, *groups: str) -> None:
        """Starts loading what an earlier run of this kind has called of these groups."""
        if self.stores:
            self.preloader.begin([path for group in groups for path in listed(self._list(group))])

    def _list(self, group: str) -> Path:
        return self._folder / f".called-{self._digest(self._kind, group)}.json"

    def _digest(self, made_from: Any, *others: str) -> str:
        key = repr((self._identity, made_from)), *surroundings(), *others
        return hashlib.sha256("\n".join(key).encode()).hexdigest()[:32]


class StoredProgram:
    """A jitted function, compiled at most once on a machine for each shape of its arguments."""

    def __init__(
        self,
        store: ProgramStore,
        name: str,
        function: Callable,
        made_from: Any,
        donate_argnums: tuple[int, ...],
        group: str,
    ):
        self.name, self.function = name, function
        self._store, self._made_from, self._donate_argnums, self._group = store, made_from, donate_argnums, group
        self._jitted = jax.jit(function, donate_argnums=donate_argnums)
        self._latest: Any = None
        self._compiled: dict[str, Any] = {}
        self.shapes: tuple | None = None
        """What it was first called with: shapes and types in place of arrays; None before that."""

    def __call__(self, *arguments: Any) -> Any:
        if not self._store.stores:
            if self.shapes is None:
                self._store.announce()
                self.shapes = jax.tree.map(shape_of, arguments)
            return self._jitted(*arguments)
        if self._latest is not None:
            # Arguments of other shapes are refused before anything is done with them.
            with contextlib.suppress(TypeError):
                return self._latest(*arguments)
        self.shapes = self.shapes or jax.tree.map(shape_of, arguments)
        self._latest = self._ready(arguments)
        return self._latest(*arguments)

    def is_to_be_put_by(self, *arguments: Any) -> bool:
        """Whether the program is neither stored nor one that cannot be."""
        if not self._store.stores:
            return False
        path = self._path(signature(arguments))
        return not path.exists() and not cannot_be_stored(path)

    def put_by(self, *arguments: Any) -> bool:
        """Sees to it that a later run will find the program stored.

        Does nothing where it is stored, or cannot be, or is just being compiled by another process.

        Args:
            arguments: arrays, or what stands for them (``jax.ShapeDtypeStruct``).

        Returns:
            whether it was stored now.
        """
        if not self.is_to_be_put_by(*arguments):
            return False
        path = self._path(signature(arguments))
        with _only_one(path, wait_s=0) as alone, contextlib.suppress(OSError):
            if alone:
                try:
                    store(path, self._compile(arguments))
                finally:
                    heap.give_back()  # hundreds of MB, before the next program takes as much
                return True
        return False

    def _ready(self, arguments: tuple) -> Any:
        shapes = signature(arguments)
        if shapes not in self._compiled:
            self._store.announce()
            begun_s = time.perf_counter()
            path = self._path(shapes)
            self._compiled[shapes] = self._store.preloader.take(path) or self._load_or_compile(arguments, path)
            self._store.note_call(self._group, path)
            heap.give_back()
            jax.monitoring.record_event_duration_secs(READIED, time.perf_counter() - begun_s)
        return self._compiled[shapes]

    def _path(self, shapes: str) -> Path:
        return self._store.path(self.name, self._made_from, shapes)

    def _load_or_compile(self, arguments: tuple, path: Path) -> Any:
        if (found := load(path)) is not None:
            return found
        with _only_one(path):
            if (found := load(path)) is not None:
                return found
            if cannot_be_stored(path):
                return self._jitted.lower(*arguments).compile()
            compiled = self._compile(arguments)
            with contextlib.suppress(OSError):  # no room: compiled anew the next time
                store(path, compiled)
            return compiled

    def _compile(self, arguments: tuple) -> Any:
        def function(*arguments):
            return self.function(*arguments)

        # What JAX takes from its own cache cannot be stored whole; under a name like this there is nothing in it.
        function.__name__ = f"{self.name.replace(' ', '_')}_{secrets.token_hex(8)}"
        compiled = jax.jit(function, donate_argnums=self._donate_argnums).lower(*arguments).compile()
        if cache := jax.config.jax_compilation_cache_dir:
            for path in Path(cache).glob(f"jit_{function.__name__}*"):  # nor will anything be looked up under it
                path.unlink(missing_ok=True)
        gc.collect()  # the traced program, in circles
        return compiled


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
            executable, jax.tree.structure(inputs), jax.tree.structure(outputs), execution_devices=jax.devices()[:1]
        )
    except Exception:  # whatever is wrong with a stored program, compiling it is the remedy
        return None


def store(path: Path, compiled: Any) -> None:
    """Stores a compiled program, or else a mark that it cannot be stored. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    data = packed(compiled)
    if data is None:
        _mark_of(path).touch()
    else:
        write_whole(path, hashlib.sha256(data).digest() + data)
    make_room(path.parent, LIMIT_BYTES)


def cannot_be_stored(path: Path) -> bool:
    """Whether the program was found to be none that can be stored, or its folder is one that cannot be written."""
    return _mark_of(path).exists() or not os.access(path.parent, os.W_OK)


def packed(compiled: Any) -> bytes | None:
    """What is stored of a program; None if it cannot be given away whole."""
    try:
        # Functions outside of XLA (LAPACK's, for one), which another process may not have loaded, do not come along.
        if any(not name.startswith("__") for name in _CALLED.findall(compiled.as_text())):
            return None
        executable, inputs, outputs = serialize_executable.serialize(compiled)
        # A tree is stored as an example: its own types are pickled by their names.
        examples = [jax.tree.unflatten(tree, range(tree.num_leaves)) for tree in (inputs, outputs)]
        return pickle.dumps((executable, *examples))
    except Exception:  # not every platform, nor every type in a tree, can do this
        return None


_CALLED = re.compile(r'custom_call_target="([^"]*)"')


def _mark_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.not_storable")


def make_room(folder: Path, limit_bytes: int) -> None:
    """Removes the programs that were not used for longest, until the others take at most so many bytes."""
    entries = []
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            if path.name.endswith(TEMPORARY) and time.time() - path.stat().st_mtime > ABANDONED_S:
                path.unlink()
            elif not path.name.startswith("."):
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
    settings = [
        f"{name}={value!r}"
        for name, value in sorted(jax.config.values.items())
        if not any(word in name for word in _WITHOUT_EFFECT)
    ]
    return (
        source_code(),
        *(f"{name} {importlib.metadata.version(name)}" for name in _LIBRARIES),
        f"{device.platform} {device.device_kind} {device.client.platform_version}",
        processor(),
        # Loops are cut into pieces for as many cores as there are when a program is compiled.
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
    """Whether a source file is younger than this process, which may then run what stood there before."""
    return max(path.stat().st_mtime for path in _sources()) > psutil.Process().create_time()


def _sources() -> list[Path]:
    package = Path(__file__).parents[2]
    folders = [package / room for room in _ROOMS]
    if game := importlib.util.find_spec("craftax"):
        folders += map(Path, game.submodule_search_locations or ())
    return sorted(path for folder in folders for path in folder.rglob("*.py"))


def hindrance(folder: Path) -> str | None:
    """Why programs can neither be stored in this folder nor taken from it, and what to do; None where they can."""
    if not is_private(folder):
        return f"{folder} can be written by others, or not be looked at; make it yours alone (chmod 700)"
    if changed_since_start():
        newest = max(_sources(), key=lambda path: path.stat().st_mtime)
        return f"{newest} is newer than this process; if it is dated in the future, touch it"
    return None


def is_private(folder: Path) -> bool:
    """Whether nobody else can have put anything into a folder; also where it does not exist yet."""
    try:
        found = folder.stat()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return found.st_uid == os.getuid() and not found.st_mode & 0o022


def processor() -> str:
    """The kind of processor, with the instructions that it knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    return " ".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))

