"""Programs that are loaded before they are called: taken when they are there, and never in the way."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import jax
import pytest

from flowrl.training.compiled.preload import Preloader, list_programs, listed
from flowrl.training.compiled.stored_programs import ProgramStore
from tests.training.test_stored_programs import Traced, numbers, pair


def wait_for_preload():
    for thread in threading.enumerate():
        if thread.name == "preload":
            thread.join()


def walk(folder, function=None, kind=None, group="", preloaded=("",)):
    """Calls one program of a new store, after the remembered ones were loaded; returns how often it was traced, and the
    store."""
    function = function or Traced()
    store = ProgramStore(folder, "game", kind)
    store.preload(*preloaded)
    wait_for_preload()
    program = store.program("walk", function, donate_argnums=(0,), group=group)
    assert numbers(program(pair(), 5)) == numbers(jax.jit(Traced())(pair(), 5))
    return function.times, store


def test_programs_that_one_run_called_are_loaded_in_a_thread_for_the_next(tmp_path, loads):
    traced, store = walk(tmp_path)
    store.remember()
    assert (traced, loads) == (1, [])
    assert walk(tmp_path)[0] == 0 and loads == [("walk", True)]


@pytest.mark.parametrize("other", [{"kind": 2}, {"group": "2 experts"}, {"preloaded": ("2 experts",)}], ids=str)
def test_runs_of_another_kind_load_programs_on_their_first_call(tmp_path, loads, other):
    walk(tmp_path, **({"group": other["group"]} if "group" in other else {}))[1].remember()
    assert walk(tmp_path, **other)[0] == 0 and loads == [("walk", False)]


@pytest.mark.parametrize("text", ["", "{}", "[1]", '["walk-0", "/etc/passwd", "..", ""]', None])
def test_a_list_that_is_none_or_out_of_date_is_as_good_as_no_list(tmp_path, loads, text):
    walk(tmp_path)[1].remember()
    (path,) = tmp_path.glob(".called-*")
    path.unlink() if text is None else path.write_text(text)
    assert walk(tmp_path)[0] == 0 and loads == [("walk", False)]


def test_a_damaged_program_is_compiled_though_it_was_to_be_loaded(tmp_path, loads):
    walk(tmp_path)[1].remember()
    (path,) = (path for path in tmp_path.iterdir() if path.name.startswith("walk"))
    path.write_bytes(path.read_bytes()[:-1])
    assert walk(tmp_path)[0] == 1 and loads == []


def test_names_in_a_list_never_lead_out_of_its_folder(tmp_path):
    path = tmp_path / "list.json"
    path.write_text(json.dumps(["a", "../b", "/c/d"]))
    assert listed(path) == [tmp_path / name for name in "abd"]


def test_a_list_is_written_only_if_it_changes_and_an_unwritable_folder_is_no_error(tmp_path):
    path = tmp_path / "list.json"
    list_programs(path, [tmp_path / "a", tmp_path / "b"])
    before = path.stat()
    list_programs(path, [tmp_path / "a", tmp_path / "b"])
    assert path.stat() == before and json.loads(path.read_text()) == ["a", "b"]
    (tmp_path / "file").touch()
    list_programs(tmp_path / "file" / "list.json", [tmp_path / "a"])


def test_programs_that_nobody_has_taken_are_dropped():
    preloader = Preloader(lambda path: path.name)
    preloader.begin([Path("first"), Path("second")])
    wait_for_preload()
    assert preloader.take(Path("first")) == "first"
    preloader.forget()
    assert preloader.take(Path("second")) is None
    preloader.begin([Path("second")])
    wait_for_preload()
    assert preloader.take(Path("second")) == "second"


def test_nobody_waits_for_a_program_whose_turn_has_not_come():
    begun, go_on, loaded = threading.Event(), threading.Event(), []

    def load(path):
        begun.set()
        assert go_on.wait(60)
        loaded.append(path)
        return path.name

    preloader = Preloader(load)
    preloader.begin([Path("first"), Path("second"), Path("third")])
    assert begun.wait(60)
    assert preloader.take(Path("second")) is None and preloader.take(Path("stranger")) is None
    go_on.set()
    assert preloader.take(Path("first")) == "first"
    wait_for_preload()
    assert preloader.take(Path("third")) == "third" and preloader.take(Path("third")) is None
    assert loaded == [Path("first"), Path("third")]
