"""Files that another process reads appear whole, or not at all."""

import errno
import json
import os
import stat
import threading

import pytest

from flowrl.errors import BadInput
from flowrl.files import append_line, read_json, write_json, write_json_unsynced, write_whole


def test_text_and_bytes_are_written_as_given_and_folders_are_made(tmp_path):
    path = tmp_path / "a" / "b" / "file"
    write_whole(path, "grüße\n")
    assert path.read_bytes() == "grüße\n".encode()
    write_whole(path, b"\x00\x01")
    assert path.read_bytes() == b"\x00\x01"


def test_a_write_that_fails_leaves_the_old_content_and_no_other_file(tmp_path, monkeypatch):
    path = tmp_path / "state.json"
    write_whole(path, "old")

    def fail(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, "new")
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["state.json"]


def test_what_is_only_for_those_who_look_now_is_whole_too_but_makes_no_folder(tmp_path, monkeypatch):
    path = tmp_path / "pane.json"
    write_json_unsynced(path, {"frames": 1})
    with pytest.raises(ValueError):
        write_json_unsynced(path, {"frames": float("nan")})
    assert read_json(path) == {"frames": 1} and [file.name for file in tmp_path.iterdir()] == ["pane.json"]
    with pytest.raises(OSError):
        write_json_unsynced(tmp_path / "merged" / "pane.json", {})
    assert not (tmp_path / "merged").exists()
    monkeypatch.setattr(os, "fsync", lambda descriptor: pytest.fail("it is written too often to be forced to disk"))
    write_json_unsynced(path, {"frames": 2})


def fail_for_folders(monkeypatch, call, code):
    """Has ``os.open`` or ``os.fsync`` fail for folders, and for nothing else."""
    real = getattr(os, call)

    def fails(what, *arguments):
        mode = os.fstat(what).st_mode if isinstance(what, int) else os.stat(what).st_mode
        if stat.S_ISDIR(mode):
            raise OSError(code, os.strerror(code))
        return real(what, *arguments)

    monkeypatch.setattr(os, call, fails)


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF, errno.EACCES])
def test_a_file_system_that_cannot_force_a_folder_to_disk_is_no_error(tmp_path, monkeypatch, code):
    fail_for_folders(monkeypatch, "fsync", code)
    write_whole(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "new"


def test_a_folder_that_may_be_written_and_not_read_is_no_error(tmp_path, monkeypatch):
    fail_for_folders(monkeypatch, "open", errno.EACCES)
    write_whole(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "new"


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_a_disk_that_fails_at_the_folder_is_an_error(tmp_path, monkeypatch, code):
    fail_for_folders(monkeypatch, "fsync", code)
    with pytest.raises(OSError) as caught:
        write_whole(tmp_path / "file", "new")
    assert caught.value.errno == code


def test_a_reader_never_sees_half_a_file(tmp_path):
    path = tmp_path / "state.json"
    contents = {json.dumps([letter] * 50_000) for letter in "ab"}
    write_whole(path, min(contents))
    done = threading.Event()

    def write_in_turn():
        for _ in range(40):
            for content in sorted(contents):
                write_whole(path, content)
        done.set()

    thread = threading.Thread(target=write_in_turn, daemon=True)
    thread.start()
    seen = set()
    while not done.is_set():
        seen.add(path.read_text())
    thread.join()
    assert seen <= contents


def test_files_have_the_permissions_of_ordinary_files(tmp_path):
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "file", "text")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def test_json_comes_back_as_it_was(tmp_path):
    value = {"a": [1, 2.5, None, "é"], "b": {"c": True}}
    write_json(tmp_path / "x.json", value)
    assert read_json(tmp_path / "x.json") == value


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_jq_cannot_read_are_refused(tmp_path, number):
    with pytest.raises(ValueError):
        write_json(tmp_path / "x.json", {"rate": number})
    assert not (tmp_path / "x.json").exists()


def test_what_is_not_json_is_bad_input_that_names_the_file(tmp_path):
    (tmp_path / "x.json").write_text('{"half": ')
    with pytest.raises(BadInput, match="x.json is not valid JSON"):
        read_json(tmp_path / "x.json")


def test_a_missing_file_is_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "x.json")


def test_lines_are_appended_one_by_one(tmp_path):
    for text in ("one", "two\n"):
        append_line(tmp_path / "log", text)
    assert (tmp_path / "log").read_text() == "one\ntwo\n"
