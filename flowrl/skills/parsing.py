"""Parses Python source, one thread at a time.

CPython (3.11 among others) stores the depth of the tree under construction in one place for all threads: if two threads
parse at once, and garbage collection switches between them, one gets a ``SystemError`` ("AST constructor recursion depth
mismatch"). Both the scheduler's thread and the proposer's parse skills.
"""

from __future__ import annotations

import ast
import threading

_one_at_a_time = threading.Lock()


def parse(source: str) -> ast.Module:
    """As :func:`ast.parse`."""
    with _one_at_a_time:
        return ast.parse(source)
