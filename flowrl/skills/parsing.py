"""Python source to its tree, one thread at a time.

CPython (3.11 among others) keeps the depth of the tree under construction in one place for all threads: where two
threads parse at once, and the garbage collector lets the other one in, either gets a ``SystemError`` ("AST constructor
recursion depth mismatch"). The scheduler's thread and the proposer's both parse skills.
"""

from __future__ import annotations

import ast
import threading

_one_at_a_time = threading.Lock()


def parse(source: str) -> ast.Module:
    """As :func:`ast.parse`."""
    with _one_at_a_time:
        return ast.parse(source)
