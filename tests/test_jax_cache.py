"""Compiled programs have a size limit, whoever stored them, and a cache that cannot be written ends no run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zlib

import pytest

from flowrl.jax_cache import LIMIT_BYTES, can_be_limited, is_torn
from flowrl.paths import RunPaths
from flowrl.records.run_record import Slot
from tests.full_disk import on_a_small_disk
from tests.parallel.fakes.experiments import PATIENCE_S
from tests.records.builders import write_record

COMPILE = """
import sys
from pathlib import Path
from flowrl.paths import RunPaths
from flowrl.training.host import process
process.prepare(RunPaths(Path(sys.argv[1])))
import jax, jax.numpy as jnp
hits = []
jax.monitoring.register_event_listener(lambda name, **_: hits.append(name) if name.endswith("/cache_hits") else None)
for number in map(int, sys.argv[2:]):
    found = jax.jit(lambda x: jnp.sin(x) * number)(jnp.ones(3))
    assert abs(float(found[0]) - 0.841471 * number) < 1e-3 * number
print(len(hits), jax.config.jax_compilation_cache_max_size)
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run = RunPaths(tmp_path_factory.mktemp("run") / "skill_3_Collect_Wood")
    write_record(run, slot=Slot())
    return run


@pytest.fixture(scope="module")
def unlimited(run, tmp_path_factory):
    """A cache folder with the programs 1 to 4, stored without a limit."""
    folder = tmp_path_factory.mktemp("unlimited")
    assert ended(compiling(run, folder, 1, 2, 3, 4, limit=-1)) == "0 -1"
    assert len(programs(folder)) >= 4 and not list((folder / "jax").rglob("*-atime"))
    return folder


def compiling(run, folder, *numbers, limit=None, environ=None):
    """A training process that compiles these programs, with its cache in ``folder``."""
    cache = {"FLOWRL_CACHE_DIR": str(folder), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PLATFORMS": "cpu"}
    cache |= ({} if limit is None else {"JAX_COMPILATION_CACHE_MAX_SIZE": str(limit)}) | (environ or {})
    command = [sys.executable, "-c", COMPILE, str(run.folder), *map(str, numbers)]
    return subprocess.Popen(command, env=os.environ | cache, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process, complaint=""):
    said, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, errors
    assert complaint in errors if complaint else "Error" not in errors
    return said.strip()


def programs(folder):
    return {path.name: path.stat().st_size for path in (folder / "jax").rglob("*-cache")}


def test_the_programs_unused_for_longest_give_way_also_to_two_runs_at_once(run, unlimited, tmp_path):
    folder = tmp_path / "cache"
    shutil.copytree(unlimited, folder)
    old = programs(folder)
    limit = int(1.6 * sum(old.values()))
    both = [compiling(run, folder, *range(first, first + 6), limit=limit) for first in (10, 20)]
    assert [ended(process).split()[1] for process in both] == [str(limit)] * 2
    kept = programs(folder)
    assert sum(old.values()) < sum(kept.values()) <= limit
    assert len(old.keys() - kept.keys()) >= 2 and kept.keys() - old.keys()
    assert {path.name.removesuffix("-atime") for path in (folder / "jax").rglob("*-atime")} == {
        name.removesuffix("-cache") for name in kept
    }


@on_a_small_disk
def test_a_cache_that_can_only_be_read_still_serves_a_run(run, disk):
    ended(compiling(run, disk.root, 1, 2))
    disk.make_read_only()
    hits, limit = ended(compiling(run, disk.root, 1, 2, 3), "Error writing persistent compilation cache entry").split()
    assert int(hits) >= 2 and limit == "-1"


def test_a_run_without_a_place_for_its_cache_compiles_and_goes_on(run, tmp_path):
    (tmp_path / "file").write_text("no folder")
    hits, limit = ended(compiling(run, tmp_path / "file", 1), "persistent compilation cache").split()
    assert (hits, limit) == ("0", "-1")


def test_the_default_limit_is_set_if_none_is_given(run, monkeypatch, tmp_path):
    from flowrl.training.host import process

    monkeypatch.setattr(os, "environ", {"FLOWRL_CACHE_DIR": str(tmp_path)})
    process.prepare(run)
    assert os.environ["JAX_COMPILATION_CACHE_MAX_SIZE"] == str(LIMIT_BYTES)


def test_a_program_that_a_killed_process_left_half_stored_is_dropped_and_the_others_stay(unlimited, tmp_path):
    folder = tmp_path / "cache"
    shutil.copytree(unlimited, folder)
    first, *others = sorted((folder / "jax").rglob("*-cache"))
    first.write_bytes(first.read_bytes()[:100])
    assert can_be_limited(first.parent)
    assert sorted(programs(folder)) == [path.name for path in others]
    stored = int.from_bytes(others[0].with_name(others[0].name.replace("-cache", "-atime")).read_bytes(), "little")
    assert stored == others[0].stat().st_mtime_ns


KEY = f"jit_update-{'0123456789abcdef' * 4}"
ZSTD = bytes.fromhex(
    "28b52ffda060cc0500dc0000986120636f6d70696c65642070726f6772616d200100d5ff2d9f"
    "614c000008200100fcff3910024d0000082001005ccc391002"
)
"""380,000 bytes as ``zstandard.ZstdCompressor().compress``, and so JAX, packs them: a frame of three blocks."""
ZSTD_WITH_CHECKSUM = bytes.fromhex(
    "28b52ffd0448dc0000986120636f6d70696c65642070726f6772616d200100d5ff2d9f614c00"
    "0008200100fcff3910024d0000082001005ccc391002b58bec3e"
)
"""The same bytes with a checksum, and without their number in the header."""


PACKED = {"zstd": ZSTD, "zstd with checksum": ZSTD_WITH_CHECKSUM, "zlib": zlib.compress(b"a compiled program " * 200)}
OTHERS = {
    "text": b"notes of mine",
    "gzip": b"\x1f\x8b\x08 gzip",
    "damaged zstd": ZSTD[:6] + b"\xff" * 40,
    "damaged zlib": b"\x78\x9c" + b"\xff" * 40,
}


@pytest.mark.parametrize("packed", PACKED.values(), ids=PACKED)
def test_every_prefix_of_a_program_is_torn_and_the_whole_is_not(packed):
    assert all(is_torn(packed[:length]) for length in range(len(packed)))
    assert not is_torn(packed)


@pytest.mark.parametrize("content", OTHERS.values(), ids=OTHERS)
def test_a_file_that_is_not_a_prefix_of_a_program_is_not_torn(content):
    assert not is_torn(content)


def test_packed_with_zstandard_a_program_stays_and_its_torn_copy_goes(tmp_path):
    whole, torn = tmp_path / f"{KEY}-cache", tmp_path / f"{KEY[:-1]}0-cache"
    whole.write_bytes(ZSTD)
    torn.write_bytes(ZSTD[:40])
    assert can_be_limited(tmp_path)
    assert whole.read_bytes() == ZSTD and (tmp_path / f"{KEY}-atime").exists()
    assert not torn.exists() and not (tmp_path / f"{KEY[:-1]}0-atime").exists()


def test_files_of_others_are_never_touched_and_the_limit_that_would_delete_them_is_left_out(run, tmp_path):
    folder = tmp_path / "of_the_user"
    (folder / "folder-cache").mkdir(parents=True)
    others = {"pip-cache": b"", "jit_update-cache": ZSTD[:40], f"{KEY}-cache.bak": ZSTD[:40], "x-0123-cache": b"\x78\x9c"}
    for name, content in others.items():
        (folder / name).write_bytes(content)
    assert not can_be_limited(folder)
    cache = {"JAX_COMPILATION_CACHE_DIR": str(folder)}
    assert ended(compiling(run, tmp_path, 1, environ=cache)).split()[1] == "-1"
    assert int(ended(compiling(run, tmp_path, 1, environ=cache)).split()[0]) >= 1  # the programs of runs are kept all the same
    assert {name: (folder / name).read_bytes() for name in others} == others
    assert (folder / "folder-cache").is_dir()
    # With a time of last use they would be JAX's to delete.
    assert not any((folder / f"{key}-atime").exists() for key in ("folder", "pip", "jit_update", "x-0123"))


def test_a_program_that_is_damaged_but_not_torn_is_kept(tmp_path):
    (tmp_path / f"{KEY}-cache").write_bytes(b"packed in a way that a later JAX may have")
    assert can_be_limited(tmp_path)
    assert (tmp_path / f"{KEY}-cache").exists()
