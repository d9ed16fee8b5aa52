"""Compiled programs that outlive their process.

JAX's own persistent cache saves compiling, but only after a program was traced and lowered to the text that is its
cache key: for a run's programs, most of the remaining startup time. Here a whole executable is stored under a key that
is known without tracing: what the program is made from (`identity`), the source code that makes it, the versions of the
libraries it uses, the machine, and the shapes of its arguments. A program that is not stored, or cannot be loaded, is
compiled and stored. If several processes need the same one at the same time, one compiles it. A program that cannot be
stored is left to JAX's cache.

The files hold machine code, as those of JAX's cache do, so they are read only from a folder that belongs to the user alone.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import jax

from flowrl.training.compiled.origin import hindrance, shape_of, signature, surroundings
from flowrl.training.compiled.preload import Preloader, list_programs, listed
from flowrl.training.compiled.program_files import cannot_be_stored, load, only_one, store
from flowrl.training.host import heap

READIED = "/flowrl/program_readied"
"""The JAX monitoring event for each program that was loaded or compiled, with its seconds."""

Program = Callable[..., Any]
"""A function that is compiled, now or when it is first called."""


class Compile(Protocol):
    """Compiles a function, as `ProgramStore.program` does, or leaves it plain, as `as_it_is` does."""

    def __call__(
        self, name: str, function: Callable, made_from: Any = None, donate_argnums: tuple[int, ...] = ()
    ) -> Program: ...


def as_it_is(name: str, function: Callable, made_from: Any = None, donate_argnums: tuple[int, ...] = ()) -> Program:
    """Returns the plain function, to be part of a larger program: nothing is compiled or stored, and no argument is
    donated."""
    return function


class ProgramStore:
    """A folder of programs that are all made from the same things.

    Args:
        folder: shared by all runs on a machine; None stores nothing.
        identity: everything that the programs depend on besides the source code, the machine and their arguments; any
            object whose ``repr`` is complete. None if that is unknown: then nothing is stored.
        kind: distinguishes runs that call different programs, by its ``repr``; see `remember`.
        announce: called before a program that was called for the first time is loaded or compiled.
    """

    def __init__(self, folder: Path | None, identity: Any, kind: Any = None, announce: Callable[[], None] = lambda: None):
        self.hindrance = hindrance(folder) if identity is not None and folder is not None else None
        """Why nothing is stored, if something is wrong."""
        usable = identity is not None and folder is not None and self.hindrance is None
        self._folder = folder if usable else None
        self._identity, self._kind = identity, kind
        self._called: dict[str, list[Path]] = {}
        self.preloader = Preloader(load)
        self.announce = announce

    def program(
        self, name: str, function: Callable, made_from: Any = None, donate_argnums: tuple[int, ...] = (), group: str = ""
    ) -> StoredProgram:
        """``function``, jitted.

        Args:
            name: unique in this store.
            made_from: what it depends on besides the store's identity and the shapes of its arguments, by its ``repr``.
            group: programs of one group are called by the same runs.
        """
        return StoredProgram(self, name, function, made_from, donate_argnums, group)

    @property
    def stores(self) -> bool:
        """Whether there is a folder to store programs in."""
        return self._folder is not None

    def path(self, name: str, made_from: Any, shapes: str) -> Path:
        """The path of a program for arguments of this `signature`, whether it is stored or not."""
        return self._folder / f"{name.replace(' ', '_')}-{self._digest(made_from, name, shapes)}"

    def note_call(self, group: str, path: Path) -> None:
        """Records that a stored program was called for the first time."""
        self._called.setdefault(group, []).append(path)

    def remember(self) -> None:
        """Lists the programs called so far, for later runs of this kind to `preload`; drops those loaded but not called."""
        self.preloader.forget()
        for group, programs in self._called.items():
            list_programs(self._list(group), programs)

    def preload(self, *groups: str) -> None:
        """Starts loading the programs of these groups that an earlier run of this kind called."""
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
        """The arguments of its first call, as shapes and types instead of arrays; None before that."""

    def __call__(self, *arguments: Any) -> Any:
        if not self._store.stores:
            if self.shapes is None:
                self._store.announce()
                self.shapes = jax.tree.map(shape_of, arguments)
            return self._jitted(*arguments)
        if self._latest is not None:
            # Arguments of other shapes are refused before they are used.
            with contextlib.suppress(TypeError):
                return self._latest(*arguments)
        self.shapes = self.shapes or jax.tree.map(shape_of, arguments)
        self._latest = self._ready(arguments)
        return self._latest(*arguments)

    def is_missing(self, *arguments: Any) -> bool:
        """Whether the program still has to be stored: it is not stored, nor marked as not storable."""
        if not self._store.stores:
            return False
        path = self._path(signature(arguments))
        return not path.exists() and not cannot_be_stored(path)

    def store_ahead(self, *arguments: Any) -> bool:
        """Compiles and stores the program for a later run.

        Does nothing if it is stored already, cannot be stored, or is being compiled by another process.

        Args:
            arguments: arrays, or abstract ones (``jax.ShapeDtypeStruct``).

        Returns:
            whether it was stored now.
        """
        if not self.is_missing(*arguments):
            return False
        path = self._path(signature(arguments))
        with only_one(path, wait_s=0) as alone, contextlib.suppress(OSError):
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
        with only_one(path):
            if (found := load(path)) is not None:
                return found
            if cannot_be_stored(path):
                return self._jitted.lower(*arguments).compile()
            compiled = self._compile(arguments)
            with contextlib.suppress(OSError):  # no room: it is compiled again next time
                store(path, compiled)
            return compiled

    def _compile(self, arguments: tuple) -> Any:
        def function(*arguments):
            return self.function(*arguments)

        # A program that JAX loads from its own cache cannot be stored completely; with a unique name it is never in there.
        function.__name__ = f"{self.name.replace(' ', '_')}_{secrets.token_hex(8)}"
        compiled = jax.jit(function, donate_argnums=self._donate_argnums).lower(*arguments).compile()
        if cache := jax.config.jax_compilation_cache_dir:
            for path in Path(cache).glob(f"jit_{function.__name__}*"):  # nobody will look it up under this name
                path.unlink(missing_ok=True)
        gc.collect()  # frees the traced program, which has reference cycles
        return compiled
