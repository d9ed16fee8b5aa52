"""A hash that identifies a skill's code: of the trees of its two functions, as they are compiled.

Layout, comments, docstrings, the Python version, and everything that is rewritten before the checks
(:mod:`flowrl.skills.rewriting`) make no difference; every compiled name, number and operator does.
"""

from __future__ import annotations

import ast
import hashlib

from flowrl.skills.checks import parse_function
from flowrl.skills.language import FUNCTION_NAMES


def fingerprint(task_is_done: str, task_reward: str) -> str:
    """SHA-256 of two functions, given as source.

    Raises:
        CodeRefused: a source is not a function of the expected name.
    """
    digest = hashlib.sha256()
    for name, source in zip(FUNCTION_NAMES, (task_is_done, task_reward)):
        digest.update(f"{_described(parse_function(source, name))}\n".encode())
    return digest.hexdigest()


def _described(node: object) -> str:
    """A tree as text. Python's own ``ast.dump`` writes the same tree differently from version to version."""
    if isinstance(node, ast.AST):
        parts = (f"{name}={_described(value)}" for name, value in ast.iter_fields(node) if value not in (None, []))
        return f"{type(node).__name__}({','.join(parts)})"
    if isinstance(node, list):
        return f"[{','.join(map(_described, node))}]"
    return repr(node)
