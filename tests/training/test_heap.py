"""How a training's process gets its memory, seen from the processes themselves."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flowrl.training import heap

ROOT = Path(__file__).resolve().parents[2]
LARGE_PAGES_SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")
ON_GLIBC = sys.platform == "linux" and "glibc" in (os.confstr("CS_GNU_LIBC_VERSION") or "")

BEGIN = """
import os, sys
from flowrl.training import heap
heap.begin_with_large_pages()
print(os.getpid(), sys.argv[1:], os.environ.get("GLIBC_TUNABLES"))
"""

RESIDENT = """
import os, resource
from flowrl.training import heap
import numpy as np

def touched_mb(of, mb):
    return [np.ones(mb * 2**17) for _ in range(of)]

def resident_mb():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
"""


def said(code, *arguments, tunables=None):
    """The number of the process that ran some code, and what it printed."""
    environment = {name: value for name, value in os.environ.items() if name != heap.TUNABLES}
    environment |= {"PYTHONPATH": str(ROOT)} | ({heap.TUNABLES: tunables} if tunables else {})
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
    assert printed == f"{pid} ['one', 'two words'] {after if ON_GLIBC else before}"


def test_where_the_c_library_is_another_one_nothing_is_begun_again(monkeypatch):
    monkeypatch.delenv(heap.TUNABLES, raising=False)
    monkeypatch.setattr(os, "confstr", lambda name: None)
    monkeypatch.setattr(os, "execve", lambda *_: pytest.fail("began again"))
    heap.begin_with_large_pages()


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
    process.communicate(b"", timeout=60)  # neither is told what to do, so both end
    last = starts.read_text().splitlines()[-1]
    assert last == f"{process.pid} {'glibc.malloc.hugetlb=1' if ON_GLIBC else None}"


@pytest.mark.skipif(not ON_GLIBC, reason="other C libraries are left alone")
def test_small_pieces_are_kept_and_large_ones_go_back():
    code = f"""{RESIDENT}
heap.settle()
before = faults()
for _ in range(100):
    touched_mb(of=3, mb=16)
print(faults() - before < 20_000)  # anew from the machine each time it would be 1,200,000
before = resident_mb()
large = touched_mb(of=2, mb=64)
most = resident_mb()
del large
print(most - before > 120, resident_mb() - before < 20)
"""
    assert said(code)[1] == "True\nTrue True"


@pytest.mark.skipif(not ON_GLIBC, reason="other C libraries are left alone")
def test_what_lies_free_is_given_back_when_asked_for():
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


@pytest.mark.skipif(
    not ON_GLIBC or not LARGE_PAGES_SETTING.exists() or "[never]" in LARGE_PAGES_SETTING.read_text(),
    reason="this machine has no large pages to give",
)
def test_large_pieces_come_in_large_pages():
    code = f"""{RESIDENT}
heap.begin_with_large_pages()
heap.settle()
touched_mb(of=1, mb=1)
before = faults()
touched_mb(of=1, mb=256)
print(faults() - before < 6000)  # in pages of 4 KiB it would be 65,000
"""
    assert said(code)[1] == "True"
