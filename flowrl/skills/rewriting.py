"""Rewrites skill code, as people and language models write it, into the language of the checks.

Each step turns a function's tree into one that means the same and uses less of Python: imports of what is in scope,
annotations and docstrings are dropped; ``and``, ``if ... else`` and the like become functions of ``jnp``; loops over
literals are unrolled; helper functions are inlined. Code that is already in the language stays as it is, so rewriting is
idempotent. Nothing is accepted here: the checks decide on the resulting tree, and that tree is what is hashed, written
into a module and compiled.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence

from flowrl.skills.copying import Copier
from flowrl.skills.inlining import inline_helpers
from flowrl.skills.language import BUILTINS, FUNCTION_NAMES, CodeRefused, check_size, dotted, is_text, refuse_at
from flowrl.skills.unrolling import unroll_loops

_IMPORTS = {("jax", None), ("jax.numpy", None), ("jax.numpy", "jnp")}
_FROM_JAX = ("numpy", "jnp")
_RESERVED = {"jax", "jnp", *BUILTINS, *FUNCTION_NAMES}
_TYPE_TEXT = re.compile(r"(?!.*__)[\w.,|\[\] ]*")
_TYPE_NODES = (ast.Name, ast.Attribute, ast.Subscript, ast.Tuple, ast.List, ast.Constant, ast.BinOp, ast.BitOr, ast.Load)
_ARITHMETIC = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow)


def rewritten(module: ast.Module, name: str) -> ast.FunctionDef:
    """The function ``name`` of a source, in the language of the checks. Modifies the source's tree.

    Raises:
        CodeRefused: there is no such function, there is more than it and its helpers, or a part of it cannot be expressed
            in the language; says what to write instead.
    """
    function, helpers = _functions(module, name)
    for tree in (function, *helpers):
        check_size(tree)
    copier = Copier(function)
    for tree in (function, *helpers):
        _drop_scope_statements(tree)
        _check_bindings(tree)
        _drop_annotations(tree)
        _Branches(tree, copier).visit(tree)
        check_size(tree)
        unroll_loops(tree, copier)
        check_size(tree)
    inline_helpers(function, helpers, copier)
    check_size(function)
    return function


def _functions(module: ast.Module, name: str) -> tuple[ast.FunctionDef, list[ast.FunctionDef]]:
    """The requested function, and the other functions."""
    body = [node for node in module.body if not (is_text(node) or _is_in_scope(node))]
    functions = {node.name: node for node in body if isinstance(node, ast.FunctionDef)}
    others = [node for other, node in functions.items() if other != name]
    if name not in functions or len(functions) != len(body) or any(other.name in _RESERVED for other in others):
        found = ", ".join(getattr(node, "name", type(node).__name__) for node in body) or "nothing"
        raise CodeRefused(
            f"expected one function `def {name}(...):` and otherwise only helpers with other names, found {found}; "
            "move assignments into the function, and drop imports: jax, jnp and the game's constants are in scope"
        )
    return functions[name], others


def _is_in_scope(node: ast.AST) -> bool:
    """Whether a statement only imports or assigns what is already in scope."""
    if isinstance(node, ast.Import):
        return all((alias.name, alias.asname) in _IMPORTS for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        is_jax = node.module == "jax" and not node.level
        return is_jax and all((alias.name, alias.asname) == _FROM_JAX for alias in node.names)
    if isinstance(node, ast.Assign):
        return [dotted(target) for target in node.targets] == [["jnp"]] and dotted(node.value) == ["jax", "numpy"]
    return False


def _drop_scope_statements(function: ast.FunctionDef) -> None:
    """Drops imports of what is in scope, and bare strings; writes ``jnp`` for ``jax.numpy``."""
    _Scope().visit(function)


class _Scope(ast.NodeTransformer):
    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if getattr(node, "body", None) == []:
            node.body = [ast.copy_location(ast.Pass(), node)]
        return node

    def visit_Import(self, node: ast.Import) -> ast.Import | None:
        return None if _is_in_scope(node) else node

    visit_ImportFrom = visit_Import

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        return None if _is_in_scope(node) else self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        return None if is_text(node) else self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        if dotted(node) == ["jax", "numpy"]:
            return ast.copy_location(ast.Name("jnp", node.ctx), node)
        return self.generic_visit(node)


def _check_bindings(function: ast.FunctionDef) -> None:
    """Refuses to rebind names such as ``jnp``, so that the code written by later steps means the same everywhere."""
    for node in ast.walk(function):
        name = _bound(node)
        if (name in _RESERVED and node is not function) or name.startswith("__"):
            refuse_at(function, node, f"assigns to {name!r}; choose another name")


def _bound(node: ast.AST) -> str:
    """The name that a node binds; empty if none."""
    if isinstance(node, ast.Name):
        return node.id if isinstance(node.ctx, ast.Store) else ""
    if isinstance(node, ast.arg):
        return node.arg
    return node.name if isinstance(node, ast.FunctionDef) else ""


def _drop_annotations(function: ast.FunctionDef) -> None:
    """Drops annotations that are types, which have no effect."""
    _Annotations(function).visit(function)


class _Annotations(ast.NodeTransformer):
    def __init__(self, function: ast.FunctionDef):
        self.function = function

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self._check(node.returns)
        node.returns = None
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        self._check(node.annotation)
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        self._check(node.annotation)
        if node.value is None:
            return None
        return self.generic_visit(ast.copy_location(ast.Assign([node.target], node.value), node))

    def _check(self, annotation: ast.expr | None) -> None:
        for node in ast.walk(annotation) if annotation else ():
            name = getattr(node, "id", getattr(node, "attr", ""))
            text = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
            if not isinstance(node, _TYPE_NODES) or name.startswith("_") or not _TYPE_TEXT.fullmatch(text):
                refuse_at(self.function, node, "has an annotation that is not a plain type such as `x: float`; leave it out")


class _Branches(ast.NodeTransformer):
    """Turns ``and``, ``or``, ``not``, ``a < b < c``, ``x if c else y`` and ``jax.lax.cond`` into functions of ``jnp``."""

    def __init__(self, function: ast.FunctionDef, copier: Copier):
        self.function = function
        self.copier = copier

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        self.generic_visit(node)
        for operand in node.values:
            if _is_number(operand):
                refuse_at(self.function, operand, "uses a number with and, or; compare it first, as in x > 0")
        return _combined("logical_and" if isinstance(node.op, ast.And) else "logical_or", node.values, node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        self.generic_visit(node)
        return _jnp("logical_not", [node.operand], node) if isinstance(node.op, ast.Not) else node

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        if len(node.ops) == 1:
            return node
        lefts = [node.left, *map(self.copier.of, node.comparators[:-1])]
        pairs = [ast.Compare(left, [op], [right]) for left, op, right in zip(lefts, node.ops, node.comparators)]
        return _combined("logical_and", [ast.copy_location(pair, node) for pair in pairs], node)

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        self.generic_visit(node)
        return self._chosen(node.test, node.body, node.orelse, node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if dotted(node.func) != ["jax", "lax", "cond"]:
            return node
        has_others = any(keyword.arg != "operand" for keyword in node.keywords)
        if has_others or len(node.args) < 3 or any(isinstance(argument, ast.Starred) for argument in node.args):
            refuse_at(self.function, node, "uses jax.lax.cond in a way that is not allowed; use jnp.where(condition, a, b)")
        test, *branches = node.args[:3]
        operands = [*node.args[3:], *(keyword.value for keyword in node.keywords)]
        when_true, when_false = (self._applied(branch, operands) for branch in branches)
        return self._chosen(test, when_true, when_false, node)

    def _chosen(self, test: ast.expr, when_true: ast.expr, when_false: ast.expr, node: ast.expr) -> ast.expr:
        for value in (when_true, when_false):
            if isinstance(value, (ast.Tuple, ast.List)):
                refuse_at(self.function, value, "chooses between several values at once; use jnp.where for each of them")
        return _jnp("where", [test, when_true, when_false], node)

    def _applied(self, branch: ast.expr, operands: Sequence[ast.expr]) -> ast.expr:
        """What a branch of ``jax.lax.cond`` returns."""
        if isinstance(branch, (ast.Name, ast.Attribute)):
            return ast.copy_location(ast.Call(branch, [self.copier.of(operand) for operand in operands], []), branch)
        if not isinstance(branch, ast.Lambda):
            refuse_at(
                self.function,
                branch,
                "passes jax.lax.cond a branch that is no lambda; use jnp.where(condition, a, b)",
            )
        given = branch.args
        names = [argument.arg for argument in given.args]
        is_odd = given.vararg or given.kwarg or given.posonlyargs or given.kwonlyargs or given.defaults
        if is_odd or len(names) != len(operands) or _binds(branch.body):
            refuse_at(self.function, branch, "passes jax.lax.cond a lambda that does not fit; use jnp.where(condition, a, b)")
        return self.copier.replaced(branch.body, dict(zip(names, operands)))


def _combined(name: str, operands: Sequence[ast.expr], node: ast.expr) -> ast.expr:
    """Combines operands as a balanced tree, so that a long chain is not deep."""
    if len(operands) == 1:
        return operands[0]
    half = len(operands) // 2
    return _jnp(name, [_combined(name, operands[:half], node), _combined(name, operands[half:], node)], node)


def _jnp(name: str, arguments: list[ast.expr], node: ast.expr) -> ast.expr:
    function = ast.Attribute(ast.Name("jnp", ast.Load()), name, ast.Load())
    call = ast.copy_location(ast.Call(function, arguments, []), node)
    return ast.fix_missing_locations(call)


def _is_number(node: ast.expr) -> bool:
    """Whether a value is clearly not a boolean. With numbers, ``and`` and ``or`` return a number and not a boolean."""
    if isinstance(node, ast.Constant):
        return not isinstance(node.value, bool)
    if isinstance(node, ast.BinOp):
        return isinstance(node.op, _ARITHMETIC)
    is_signed = isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd))
    return is_signed or (dotted(node) or [""])[0] in ("n", "inventory", "inventory_diff")


def _binds(node: ast.AST) -> bool:
    return any(isinstance(part, (ast.Lambda, ast.comprehension, ast.NamedExpr)) for part in ast.walk(node))
