"""How a training gets its memory from the machine.

A step of the games works in a piece of up to some hundred MB, which XLA asks for and frees at every step. As the C library
does it, such a piece comes fresh from the machine each time, and the machine hands it out in pages of 4 KiB, each blanked
when it is first touched: 7.5 processor seconds in a rollout of 10.5 s (Craftax, 1024 x 64, two cores). So pages are to be
large, where the machine can (`begin_with_large_pages`), and what is small enough to be kept without waste is kept
(`settle`). Nothing here changes what is computed, and all of it is left undone where the C library is another one than
glibc.
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
"""The version from which on there is the tunable."""

TUNABLES = "GLIBC_TUNABLES"

MACHINE_SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")
"""Who gets large pages of the machine: nobody (``never``), who asks (``madvise``), or everybody (``always``)."""

_BEGUN_AGAIN = "FLOWRL_BEGUN_AGAIN"

KEPT_PIECE = 32 * 2**20
"""Bytes: what is freed in pieces as large as this goes back to the machine, piece by piece."""

KEPT_TOP = 64 * 2**20
"""Bytes that may be free at an end of the heap before they go back. Where only `KEPT_PIECE` is set, all above 128 KiB does, and
every product of an update would ask for its working memory anew."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)


def begin_with_large_pages() -> None:
    """Starts this very process again, under the same number, if that gives it large pages: they are decided upon as it starts.

    Who has set the tunable already, to whatever, is left alone. To be called before anything is done that counts.
    """
    set_already = os.environ.get(TUNABLES, "")
    # Once: there are programs between us and the next start that take the tunable away, a setuid Python among them.
    if os.environ.pop(_BEGUN_AGAIN, None) or LARGE_PAGES in set_already or not _can_be_asked_for():
        return
    tunables = ":".join(filter(None, (set_already, f"{LARGE_PAGES}=1")))
    environment = {**os.environ, TUNABLES: tunables, _BEGUN_AGAIN: "1"}
    with contextlib.suppress(OSError):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def settle() -> None:
    """Has the C library keep what is freed in small pieces, and hand large ones back to the machine."""
    with contextlib.suppress(OSError, AttributeError):  # another C library than glibc
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_THRESHOLD, KEPT_PIECE)
        library.mallopt(_M_TRIM_THRESHOLD, KEPT_TOP)


def give_back() -> None:
    """Hands back what lies free, for when more was needed for a while than will be needed again soon."""
    with contextlib.suppress(OSError, AttributeError):  # another C library than glibc
        ctypes.CDLL(None).malloc_trim(0)


def _can_be_asked_for() -> bool:
    """Whether this machine gives large pages to who asks, and to nobody else, and the C library asks where it is told to."""
    with contextlib.suppress(AttributeError, ValueError, OSError):
        name, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").split()
        first, second, *_ = map(int, version.split("."))
        return name == "glibc" and (first, second) >= FIRST_GLIBC and "[madvise]" in MACHINE_SETTING.read_text()
    return False
