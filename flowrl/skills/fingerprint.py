"""What identifies a skill's code: a hash of its two functions' trees, as they are compiled.

Layout, comments, docstrings and the version of Python that wrote the text make no difference; every name, number and
operator does.
"""

from __future__ import annotations

import ast
import hashlib

from flowrl.skills.checks import FUNCTION_NAMES, is_docstring, parse_function


def fingerprint(task_is_done: str, task_reward: str) -> str:
    """SHA-256 of two functions, given as source.

    Raises:
        CodeRefused: a source is not the one function of its name.
    """
    digest = hashlib.sha256()
    for name, source in zip(FUNCTION_NAMES, (task_is_done, task_reward)):
        function = parse_function(source, name)
        if is_docstring(function.body[0]) and len(function.body) > 1:
            del function.body[0]
        digest.update(f"{_described(function)}\n".encode())
    return digest.hexdigest()


def _described(node: object) -> str:
    """A tree as text. Python's own ``ast.dump`` writes the same tree differently from version to version."""
    if isinstance(node, ast.AST):
        parts = (f"{name}={_described(value)}" for name, value in ast.iter_fields(node) if value not in (None, []))
        return f"{type(node).__name__}({','.join(parts)})"
    if isinstance(node, list):
        return f"[{','.join(map(_described, node))}]"
    return repr(node)
