"""The language of skill code: the names that it may use, its limits, and the error for code outside of it.

:mod:`flowrl.skills.rewriting` translates code into this language, and :mod:`flowrl.skills.checks` accepts nothing else.
"""

from __future__ import annotations

import ast
from typing import NoReturn

from flowrl.errors import BadInput

FUNCTION_NAMES = ("task_is_done", "task_reward")

MAX_SOURCE_CHARACTERS = 8_000
MAX_NODES = 1_500
MAX_DEPTH = 60
MAX_NUMBER = 1e6
MAX_EXPONENT = 4

JNP_NAMES = frozenset(
    """abs absolute add all any arange argmax argmin array asarray bool_ ceil clip concatenate count_nonzero cos
    divide dot e equal exp exp2 expand_dims expm1 float32 floor floor_divide full full_like greater greater_equal hypot
    inf int32 isclose isfinite isinf isnan less less_equal linalg.norm log log1p log2 logical_and logical_not logical_or
    logical_xor max maximum mean median min minimum mod multiply nan_to_num negative not_equal ones ones_like pi
    power prod ravel reciprocal reshape round select sign sin sqrt square squeeze stack std subtract sum take tan tanh
    true_divide uint8 var where zeros zeros_like""".split()
)
JAX_NAMES = frozenset("nn.relu nn.sigmoid nn.softplus nn.tanh nn.elu nn.gelu lax.select lax.stop_gradient".split())
ARRAY_METHODS = frozenset(
    "all any argmax argmin astype clip flatten max mean min prod ravel reshape round squeeze std sum var".split()
)
ARRAY_FIELDS = frozenset("T at dtype ndim shape size".split())
AT_METHODS = frozenset("add get max min multiply set".split())
DTYPES = frozenset("bool float int".split())
BUILTINS = frozenset("abs bool float int len max min sum".split())
INVENTORIES = ("inventory", "inventory_diff")


class CodeRefused(BadInput):
    """A skill's code does something that is not allowed, or not what its skill declares.

    Attributes:
        reason: the kind of fault, one word; docs/gate.md lists them all. ``not_allowed``: it fails the static checks.
    """

    def __init__(self, message: str, reason: str = "not_allowed"):
        super().__init__(message)
        self.reason = reason


def refuse_at(function: ast.FunctionDef, node: ast.AST, reason: str) -> NoReturn:
    """Refuses a node of a function.

    Raises:
        CodeRefused: names the function and the line in it.
    """
    line = getattr(node, "lineno", function.lineno) - function.lineno + 1
    raise CodeRefused(f"{function.name}, line {line}: {reason}")


def check_size(function: ast.FunctionDef) -> None:
    """Checks that a function is within the size limits. Does not recurse, since the tree may be too deep for that.

    Raises:
        CodeRefused: its body has too many nodes, or it is nested too deeply.
    """
    body = [statement for statement in function.body if not is_text(statement)]
    if sum(1 for statement in body for _ in ast.walk(statement)) > MAX_NODES:
        refuse_at(function, function, f"is larger than {MAX_NODES} terms; shorten it")
    depth, level = 0, [function]
    while level:
        depth += 1
        level = [child for node in level for child in ast.iter_child_nodes(node)]
    if depth > MAX_DEPTH:
        refuse_at(function, function, f"is nested more than {MAX_DEPTH} levels deep; assign parts of it to local names")


def is_text(statement: ast.stmt) -> bool:
    """Whether a statement is a bare string, such as a docstring."""
    return isinstance(statement, ast.Expr) and isinstance(getattr(statement.value, "value", None), str)


def dotted(node: ast.AST) -> list[str] | None:
    """The parts of ``a.b.c``; None if the root is not a plain name."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return [node.id, *reversed(parts)] if isinstance(node, ast.Name) else None
