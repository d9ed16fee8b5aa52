"""Compiled programs on disk: the same results in another process, nothing traced; and everything that may be wrong with
them."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowrl.training.compiled import origin, stored_programs
from flowrl.training.compiled.program_files import make_room, only_one
from flowrl.training.compiled.stored_programs import ProgramStore
from tests.parallel.fakes.experiments import PATIENCE_S


class Pair(NamedTuple):
    numbers: jax.Array
    key: jax.Array


class Traced:
    """A function that counts how often it is traced."""

    def __init__(self, factor=2.0):
        self.factor, self.times = factor, 0

    def __call__(self, pair, step):
        self.times += 1
        drawn = jax.random.normal(jax.random.fold_in(pair.key, step), pair.numbers.shape)
        return Pair(pair.numbers * self.factor + drawn, pair.key), {"sum": pair.numbers.sum()}


def pair(size=3):
    return Pair(jnp.arange(size, dtype=jnp.float32), jax.random.key(7))


def numbers(result):
    return [np.asarray(result[0].numbers).tolist(), float(result[1]["sum"])]


def stored_files(folder):
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def called(folder, function, arguments=None, identity="game", name="walk", made_from=None):
    program = ProgramStore(folder, identity).program(name, function, made_from, donate_argnums=(0,))
    return numbers(program(*(arguments or (pair(), 5))))


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "programs"


def test_a_stored_program_is_found_without_tracing(folder):
    first, second = Traced(), Traced()
    expected = numbers(jax.jit(Traced())(pair(), 5))
    assert called(folder, first) == expected and first.times == 1
    assert called(folder, second) == expected and second.times == 0
    assert len(stored_files(folder)) == 1


OTHER_PROCESS = """
    import sys
    from pathlib import Path
    from flowrl.training.compiled import stored_programs
    from tests.training.test_stored_programs import Traced, called
    function = Traced()
    if sys.argv[2:] == ["say when it waits"]:
        plain = stored_programs.only_one
        stored_programs.only_one = lambda path: print("waits", flush=True) or plain(path)
    print(called(Path(sys.argv[1]), function), function.times)
"""


def in_another_process(folder, *how):
    command = [sys.executable, "-c", textwrap.dedent(OTHER_PROCESS), str(folder), *how]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def test_another_process_gets_the_same_numbers_and_of_two_one_compiles(folder):
    both = [in_another_process(folder) for _ in range(2)]
    said = [process.communicate(timeout=PATIENCE_S)[0].strip() for process in both]
    expected = numbers(jax.jit(Traced())(pair(), 5))
    assert sorted(said) == [f"{expected} 0", f"{expected} 1"]
    later = Traced()
    assert called(folder, later) == expected and later.times == 0


def test_a_process_waits_for_another_that_compiles_the_same_program(folder, tmp_path):
    called(tmp_path / "other", Traced())
    (path,) = stored_files(tmp_path / "other")
    with only_one(folder / path.name):
        waiting = in_another_process(folder, "say when it waits")
        assert waiting.stdout.readline() == "waits\n"
        (folder / path.name).write_bytes(path.read_bytes())
    assert waiting.communicate(timeout=PATIENCE_S)[0].strip() == f"{numbers(jax.jit(Traced())(pair(), 5))} 0"


@pytest.mark.parametrize(
    "other",
    [{"identity": "another game"}, {"name": "run"}, {"made_from": 3}, {"size": 4}, {"step": jnp.int32}],
    ids=["identity", "name", "made from", "shape", "type"],
)
def test_a_difference_makes_another_program(folder, other):
    called(folder, Traced())
    function = Traced()
    arguments = pair(other.pop("size", 3)), other.pop("step", int)(5)
    called(folder, function, arguments, **other)
    assert function.times == 1 and len(stored_files(folder)) == 2


def test_nothing_is_read_from_a_folder_that_others_may_write(folder):
    called(folder, Traced())
    folder.chmod(0o777)
    again = Traced()
    assert called(folder, again) == numbers(jax.jit(Traced())(pair(), 5)) and again.times == 1
    assert "chmod 700" in ProgramStore(folder, "game").hindrance


def test_nothing_is_stored_once_the_source_has_changed_under_a_process(folder, monkeypatch):
    monkeypatch.setattr(origin, "changed_since_start", lambda: True)
    called(folder, Traced())
    assert not folder.exists()
    assert ".py is newer than this process" in ProgramStore(folder, "game").hindrance
    assert ProgramStore(folder, None).hindrance is None  # a game that says nothing about itself is served by JAX's cache


@pytest.mark.parametrize("setting", ["jax_default_matmul_precision", "jax_enable_x64", "jax_optimization_level"])
def test_a_program_depends_on_settings_of_jax(setting):
    assert any(part.startswith(f"{setting}=") for part in origin.surroundings())
    assert not any("cache_dir" in part for part in origin.surroundings())


@pytest.mark.parametrize("what", ["source_code", "machine.processor"])
def test_other_source_code_or_another_machine_is_another_program(folder, monkeypatch, what):
    called(folder, Traced())
    origin.surroundings.cache_clear()
    monkeypatch.setattr(f"{origin.__name__}.{what}", lambda: "other")
    changed = Traced(3.0)
    assert called(folder, changed) == numbers(jax.jit(Traced(3.0))(pair(), 5)) and changed.times == 1
    origin.surroundings.cache_clear()


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: data[:-9] + b"x" * 9])
def test_a_damaged_program_is_compiled_and_stored_again(folder, damage):
    expected = called(folder, Traced())
    (path,) = stored_files(folder)
    path.write_bytes(damage(path.read_bytes()))
    again, later = Traced(), Traced()
    assert called(folder, again) == expected and again.times == 1
    assert called(folder, later) == expected and later.times == 0


def test_shapes_may_alternate(folder):
    function = Traced()
    program = ProgramStore(folder, "game").program("walk", function)
    for size in (3, 4, 3, 4):
        np.testing.assert_array_equal(program(pair(size), 5)[0].numbers, jax.jit(Traced())(pair(size), 5)[0].numbers)
    assert function.times == 2


def test_a_program_that_calls_other_libraries_is_left_to_the_cache_of_jax(folder):
    for _ in range(2):
        program = ProgramStore(folder, "game").program("factors", jnp.linalg.qr)
        np.testing.assert_allclose(program(jnp.eye(3))[1], jnp.linalg.qr(jnp.eye(3))[1])
        (mark,) = stored_files(folder)
        assert mark.name.endswith(".not_storable") and not mark.read_bytes()


def test_a_type_that_cannot_be_packed_costs_no_run(folder):
    class Local(NamedTuple):
        value: jax.Array

    for _ in range(2):
        program = ProgramStore(folder, "game").program("double", lambda pair: Local(pair.value * 2))
        assert program(Local(jnp.float32(2))).value == 4


def test_without_an_identity_nothing_is_stored(folder):
    assert called(folder, Traced(), identity=None) == called(folder, Traced(), identity=None)
    assert not folder.exists()


def test_a_folder_that_cannot_be_written_costs_nothing_but_time(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    function = Traced()
    assert called(blocked / "programs", function) == numbers(jax.jit(Traced())(pair(), 5))
    assert function.times == 1


def test_a_program_is_stored_ahead_for_shapes_alone(folder):
    used = ProgramStore(folder, "game").program("walk", Traced())
    used(pair(), 5)
    wider = jax.tree.map(lambda leaf: leaf, used.shapes[0])._replace(numbers=jax.ShapeDtypeStruct((9,), jnp.float32))
    ProgramStore(folder, "game").program("walk", Traced()).store_ahead(wider, used.shapes[1])
    later, again = Traced(), Traced()
    program = ProgramStore(folder, "game").program("walk", later)
    np.testing.assert_array_equal(program(pair(9), 5)[0].numbers, jax.jit(Traced())(pair(9), 5)[0].numbers)
    assert later.times == 0
    ProgramStore(folder, "game").program("walk", again).store_ahead(wider, used.shapes[1])
    assert again.times == 0


@pytest.mark.parametrize("disk", ["free", "full"])
def test_memory_that_compiling_needed_is_returned(folder, monkeypatch, disk):
    given_back = []
    monkeypatch.setattr(stored_programs.heap, "give_back", lambda: given_back.append(1))
    program = ProgramStore(folder, "game").program("walk", Traced())
    program(pair(), 5)
    program(pair(), 6)
    assert len(given_back) == 1  # once the program is ready, and not at each call
    if disk == "full":

        def store(path, compiled):
            raise OSError("no space left")

        monkeypatch.setattr(stored_programs, "store", store)
    assert program.store_ahead(pair(9), 5) == (disk == "free")
    assert len(given_back) == 2


def test_programs_that_were_not_used_for_longest_make_room(tmp_path):
    for age, name in enumerate(["new", "old", "older", "oldest"]):
        (tmp_path / name).write_bytes(b"x" * 100)
        os.utime(tmp_path / name, (10_000 - age, 10_000 - age))
    make_room(tmp_path, 250)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "old"]
    make_room(tmp_path, 0)
    assert list(tmp_path.iterdir()) == []
