"""How a training's process gets its memory, seen from the processes themselves."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flowrl.paths import RunPaths
from flowrl.training.host import heap
from tests.records.builders import write_record

ROOT = Path(__file__).resolve().parents[2]
ON_GLIBC = sys.platform == "linux" and "glibc" in (os.confstr("CS_GNU_LIBC_VERSION") or "")
GIVES_TO_WHO_ASKS = heap._can_be_asked_for()

BEGIN = """
import os, sys
from flowrl.training.host import heap
heap.begin_with_large_pages()
print(os.getpid(), sys.argv[1:], os.environ.get("GLIBC_TUNABLES"))
"""

RESIDENT = """
import os, resource
from flowrl.training.host import heap
import numpy as np

def touched_mb(of, mb):
    return [np.ones(mb * 2**17) for _ in range(of)]

def resident_mb():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
"""


def said(code, *arguments, tunables=None):
    """The pid of the process that ran some code, and its output."""
    environment = {name: value for name, value in os.environ.items() if name != heap.TUNABLES}
    # Numpy asks for large pages by itself, for each of its own large arrays.
    environment |= {"PYTHONPATH": str(ROOT), "NUMPY_MADVISE_HUGEPAGE": "0"} | ({heap.TUNABLES: tunables} if tunables else {})
    process = subprocess.Popen([sys.executable, "-c", code, *arguments], env=environment, stdout=subprocess.PIPE, text=True)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return process.pid, printed.strip()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, "glibc.malloc.hugetlb=1"),
        ("glibc.malloc.perturb=0", "glibc.malloc.perturb=0:glibc.malloc.hugetlb=1"),
        ("glibc.malloc.hugetlb=0", "glibc.malloc.hugetlb=0"),
    ],
)
def test_a_process_begins_again_with_large_pages_unless_its_user_has_decided(before, after):
    pid, printed = said(BEGIN, "one", "two words", tunables=before)
    assert printed == f"{pid} ['one', 'two words'] {after if GIVES_TO_WHO_ASKS else before}"


@pytest.mark.parametrize(
    ("c_library", "setting", "again"),
    [
        ("glibc 2.36", "always [madvise] never", True),
        ("glibc 2.35", "always [madvise] never", True),
        ("glibc 2.34", "always [madvise] never", False),
        ("glibc 2.36", "[always] madvise never", False),
        ("glibc 2.36", "always madvise [never]", False),
        ("glibc 2.36", None, False),
        ("another 9.9", "always [madvise] never", False),
        (None, "always [madvise] never", False),
    ],
)
def test_a_process_restarts_only_if_that_gives_it_large_pages(monkeypatch, tmp_path, c_library, setting, again):
    begun = []
    monkeypatch.delenv(heap.TUNABLES, raising=False)
    monkeypatch.setattr(os, "confstr", lambda name: c_library)
    monkeypatch.setattr(os, "execve", lambda *how: begun.append(how))
    monkeypatch.setattr(heap, "MACHINE_SETTING", tmp_path / "enabled")
    if setting:
        (tmp_path / "enabled").write_text(setting)
    heap.begin_with_large_pages()
    assert bool(begun) == again


def test_a_process_begins_again_once_even_if_the_tunable_is_taken_away(tmp_path):
    starts = tmp_path / "starts"
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\necho >> "{starts}"\nunset {heap.TUNABLES}\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    _, printed = said(f"import sys\nsys.executable = {str(python)!r}\n{BEGIN}")
    assert printed.endswith("[] None")
    assert len(starts.read_text().splitlines() if starts.exists() else "") == GIVES_TO_WHO_ASKS


@pytest.mark.parametrize("module", ["flowrl.training", "flowrl.training.calibration"])
def test_trainings_and_measurements_begin_so(module, tmp_path):
    # Python imports this before anything else, each time that it starts.
    (tmp_path / "sitecustomize.py").write_text(
        "import os\nwith open(os.environ['STARTS'], 'a') as f:\n"
        "    print(os.getpid(), os.environ.get('GLIBC_TUNABLES'), file=f)\n"
    )
    starts = tmp_path / "starts"
    environment = {name: value for name, value in os.environ.items() if name != heap.TUNABLES}
    environment |= {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "STARTS": str(starts)}
    process = subprocess.Popen(
        [sys.executable, "-m", module], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.communicate(b"", timeout=60)  # neither gets an order, so both end
    last = starts.read_text().splitlines()[-1]
    assert last == f"{process.pid} {'glibc.malloc.hugetlb=1' if GIVES_TO_WHO_ASKS else None}"


@pytest.mark.skipif(not ON_GLIBC, reason="other C libraries are left alone")
def test_small_pieces_are_kept_and_large_ones_go_back():
    code = f"""{RESIDENT}
heap.settle()
before = faults()
for _ in range(100):
    touched_mb(of=3, mb=16)
print(faults() - before < 20_000)  # fresh from the kernel each time it would be 1,200,000
before = resident_mb()
large = touched_mb(of=2, mb=64)
most = resident_mb()
del large
print(most - before > 120, resident_mb() - before < 20)
"""
    assert said(code)[1] == "True\nTrue True"


@pytest.mark.skipif(not ON_GLIBC, reason="other C libraries are left alone")
def test_free_memory_is_returned_on_request():
    code = f"""{RESIDENT}
heap.settle()
before = resident_mb()
pieces = touched_mb(of=50, mb=1)
del pieces
print(resident_mb() - before > 40)
heap.give_back()
print(resident_mb() - before < 10)
"""
    assert said(code)[1] == "True\nTrue"


@pytest.mark.skipif(not GIVES_TO_WHO_ASKS, reason="this machine gives no large pages to who asks for them")
@pytest.mark.parametrize(("tunables", "few", "many"), [(None, 0, 6_000), ("glibc.malloc.hugetlb=0", 50_000, 80_000)])
def test_large_pieces_come_in_large_pages_unless_they_are_switched_off(tunables, few, many):
    code = f"""{RESIDENT}
heap.begin_with_large_pages()
heap.settle()
touched_mb(of=1, mb=1)
before = faults()
touched_mb(of=1, mb=256)  # 128 pages, or 65,536
print(faults() - before)
"""
    assert few <= int(said(code, tunables=tunables)[1]) < many


SETTLED = """
import io, json, sys
from pathlib import Path
from flowrl.training.calibration import __main__ as calibration
from flowrl.training.host import heap, process
from flowrl.training.run.specification import RunPaths
done = []
heap.settle = lambda: done.append("settled")
"""


def test_a_training_settles_its_memory(tmp_path):
    folder = tmp_path / "skill_0_Collect_Wood"
    folder.mkdir()
    write_record(RunPaths(folder))
    assert said(f"{SETTLED}\nprocess.prepare(RunPaths(Path({str(folder)!r})))\nprint(done)")[1] == "['settled']"


def test_a_measurement_settles_its_memory_before_it_trains():
    said(f"""{SETTLED}
sys.stdin = io.StringIO(json.dumps({{"env_name": "", "settings": {{}}, "slot": {{}}}}))
calibration._listen = lambda _: None
calibration._updates = lambda *_: sys.exit(0 if done == ["settled"] else 1)
calibration.main()
""")
