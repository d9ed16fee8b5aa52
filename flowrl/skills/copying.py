"""Copies parts of a skill's code, with a limit: expanding loops and helpers must not turn a small source into a huge tree."""

from __future__ import annotations

import ast
from collections.abc import Mapping

from flowrl.skills.language import MAX_NODES, refuse_at

MAX_COPIED = 4 * MAX_NODES
"""Limit on nodes copied while one source is rewritten; the limit on the result is ``MAX_NODES``."""


class Copier:
    """Copies trees for one function, and refuses the function when there are too many copies.

    Args:
        function: named in the refusal.
    """

    def __init__(self, function: ast.FunctionDef):
        self._function = function
        self._left = MAX_COPIED

    def of(self, node: ast.AST) -> ast.AST:
        """A copy of a tree."""
        return self.replaced(node, {})

    def replaced(self, node: ast.AST, values: Mapping[str, ast.expr]) -> ast.AST:
        """A copy of a tree in which some names stand for other expressions.

        Args:
            values: by name; the expressions are copied too. The value of a name that is assigned to must be a name.

        Raises:
            CodeRefused: too much has been copied for this function.
        """
        if isinstance(node, ast.Name) and node.id in values:
            value = values[node.id]
            if isinstance(value, ast.Name):
                return ast.copy_location(ast.Name(value.id, node.ctx), node)
            return self.replaced(value, {})
        self._left -= 1
        if self._left < 0:
            reason = f"is larger than {MAX_NODES} terms once its loops and helpers are expanded; shorten it"
            refuse_at(self._function, node, reason)
        fields = {}
        for name, value in ast.iter_fields(node):
            fields[name] = self._copied(value, values)
        return ast.copy_location(type(node)(**fields), node)

    def _copied(self, value: object, values: Mapping[str, ast.expr]) -> object:
        if isinstance(value, list):
            return [self._copied(entry, values) for entry in value]
        return self.replaced(value, values) if isinstance(value, ast.AST) else value
