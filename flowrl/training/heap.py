"""How a training gets its memory from the machine.

A step of the games works in a piece of up to some hundred MB, which XLA asks for and frees at every step. As the C library
does it, such a piece comes fresh from the machine each time, and the machine hands it out in pages of 4 KiB, each
blanked when it is first touched: 7.5 processor seconds in a rollout of 10.5 s (Craftax, 1024 x 64, two cores). So pages are to be large, where the
machine can (`begin_with_large_pages`), and what is small enough to be kept without waste is kept (`settle`). Nothing here
changes what is computed, and all of it is left undone where the C library is another one than glibc.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys

LARGE_PAGES = "glibc.malloc.hugetlb"
"""The tunable of glibc, from 2.35 on, that asks the machine for large pages; 1 for transparent ones."""

TUNABLES = "GLIBC_TUNABLES"

KEPT_PIECE = 32 * 2**20
"""Bytes: what is freed in pieces as large as this goes back to the machine, piece by piece."""

KEPT_TOP = 64 * 2**20
"""Bytes that may be free at an end of the heap before they go back. Where only `KEPT_PIECE` is set, all above 128 KiB does, and
every product of an update would ask for its working memory anew."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)


def begin_with_large_pages() -> None:
    """Starts this very process again, under the same number, if that gives it large pages: they are decided upon as it starts.

    Who has set the tunable already, to whatever, is left alone. To be called before anything else is done.
    """
    set_already = os.environ.get(TUNABLES, "")
    if LARGE_PAGES in set_already or not _is_glibc():
        return
    environment = {**os.environ, TUNABLES: ":".join(filter(None, (set_already, f"{LARGE_PAGES}=1")))}
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


def _is_glibc() -> bool:
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (AttributeError, ValueError, OSError):
        return False
