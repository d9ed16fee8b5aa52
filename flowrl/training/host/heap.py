"""How a training gets its memory from the machine.

A step of the games needs a block of up to a few hundred MB, which XLA allocates and frees at every step. The C library
gets such a block from the kernel each time, in pages of 4 KiB, each zeroed when it is first touched: 7.5 processor
seconds in a rollout of 10.5 s (Craftax, 1024 x 64, two cores). So pages are made large where the machine allows it
(`begin_with_large_pages`), and blocks small enough to keep without waste are kept (`settle`). Nothing here changes what
is computed, and nothing is done if the C library is not glibc.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from pathlib import Path

LARGE_PAGES = "glibc.malloc.hugetlb"
"""The tunable of glibc that asks the machine for large pages; 1 for transparent ones."""

FIRST_GLIBC = (2, 35)
"""The first version with the tunable."""

TUNABLES = "GLIBC_TUNABLES"

MACHINE_SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")
"""Who gets large pages: nobody (``never``), those who ask (``madvise``), or everybody (``always``)."""

_BEGUN_AGAIN = "FLOWRL_BEGUN_AGAIN"

KEPT_PIECE = 32 * 2**20
"""Bytes: freed blocks of at least this size go back to the machine one by one."""

KEPT_TOP = 64 * 2**20
"""Bytes that may be free at the end of the heap before they go back. With `KEPT_PIECE` alone, everything
above 128 KiB would, and every product of an update would allocate its working memory again."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)


def begin_with_large_pages() -> None:
    """Starts this process again, with the same pid, if that gives it large pages: they are decided at its start.

    Does nothing if the tunable is set already. Call it before any real work.
    """
    set_already = os.environ.get(TUNABLES, "")
    # Only once: something between us and the next start, such as a setuid Python, may remove the tunable.
    if os.environ.pop(_BEGUN_AGAIN, None) or LARGE_PAGES in set_already or not _can_be_asked_for():
        return
    tunables = ":".join(filter(None, (set_already, f"{LARGE_PAGES}=1")))
    environment = {**os.environ, TUNABLES: tunables, _BEGUN_AGAIN: "1"}
    with contextlib.suppress(OSError):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def settle() -> None:
    """Makes the C library keep small freed blocks, and return large ones to the machine."""
    with contextlib.suppress(OSError, AttributeError):  # another C library than glibc
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_THRESHOLD, KEPT_PIECE)
        library.mallopt(_M_TRIM_THRESHOLD, KEPT_TOP)


def give_back() -> None:
    """Returns free memory to the machine, after a peak that will not come again soon."""
    with contextlib.suppress(OSError, AttributeError):  # another C library than glibc
        ctypes.CDLL(None).malloc_trim(0)


def _can_be_asked_for() -> bool:
    """Whether this machine gives large pages only to those who ask, and the C library can be told to ask."""
    with contextlib.suppress(AttributeError, ValueError, OSError):
        name, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").split()
        first, second, *_ = map(int, version.split("."))
        return name == "glibc" and (first, second) >= FIRST_GLIBC and "[madvise]" in MACHINE_SETTING.read_text()
    return False
