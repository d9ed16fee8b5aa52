"""Unrolls ``for`` over a literal: the body once for each element, with the element in place of the loop variable."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable

from flowrl.skills.copying import Copier
from flowrl.skills.language import MAX_NUMBER, refuse_at

MAX_ROUNDS = 32
_NOT_IN_A_LOOP = (ast.Break, ast.Continue, ast.Return, ast.FunctionDef)
_REMEDY = f"loop over a tuple, a list or a range of up to {MAX_ROUNDS} constants, or use jnp functions on whole arrays"


def unroll_loops(function: ast.FunctionDef, copier: Copier) -> None:
    """Unrolls every ``for`` of a function.

    Raises:
        CodeRefused: a loop is not over constants, has too many elements, or its variable is used outside of it.
    """
    loops = _Loops(function, copier)
    loops.visit(function)
    used = {node.arg: node for node in ast.walk(function) if isinstance(node, ast.arg)}
    used |= {node.id: node for node in ast.walk(function) if isinstance(node, ast.Name)}
    for name in sorted(loops.variables & used.keys()):
        refuse_at(function, used[name], f"uses the loop variable {name!r} outside of the loop; choose another name")


class _Loops(ast.NodeTransformer):
    def __init__(self, function: ast.FunctionDef, copier: Copier):
        self.function = function
        self.copier = copier
        self.variables: set[str] = set()
        self._assigned = Counter(_assigned_in(function))
        self._literals: dict[str, ast.expr] = {}

    def visit_FunctionDef(self, function: ast.FunctionDef) -> ast.AST:
        of_outer = self._literals
        parameters = {argument.arg for argument in function.args.args}
        self._literals = {name: value for name, value in of_outer.items() if not parameters & {name, *_names_in(value)}}
        body: list[ast.stmt] = []
        for statement in function.body:
            written = self.visit(statement)
            body += written if isinstance(written, list) else [written]
            self._note_literal(statement)
        function.body = body or [ast.copy_location(ast.Pass(), function)]
        self._literals = of_outer
        return function

    def _note_literal(self, statement: ast.stmt) -> None:
        """Remembers a name that is assigned once, to a tuple, a list or a range: later loops may use it.

        A zip or an enumerate is not remembered, because Python's can be looped over only once. So a name never stands for
        other names, which could double the length of the loop with each line.
        """
        target = statement.targets[0] if isinstance(statement, ast.Assign) else None
        if isinstance(target, ast.Name) and self._assigned[target.id] == 1 and _is_sequence(statement.value):
            self._literals[target.id] = statement.value

    def visit_For(self, loop: ast.For) -> list[ast.stmt]:
        if loop.orelse or any(isinstance(node, _NOT_IN_A_LOOP) for node in ast.walk(loop)):
            self._refuse(loop, "leaves a loop early, or defines a function in it; run every round, and use jnp.where")
        elements = self._elements(loop.iter)
        if not all(map(self._is_fixed, elements)):
            self._refuse(loop.iter, f"loops over names that it also assigns to; {_REMEDY}")
        rounds = [self._values(loop.target, element) for element in elements]
        names = {node.id for node in ast.walk(loop.target) if isinstance(node, ast.Name)}
        if names & {name for statement in loop.body for name in _assigned_in(statement)}:
            self._refuse(loop, "assigns to a loop variable inside the loop; choose another name")
        self.variables |= names
        self.generic_visit(loop)
        return [self.copier.replaced(statement, values) for values in rounds for statement in loop.body]

    def _elements(self, node: ast.expr) -> list[ast.expr]:
        """The elements that a loop runs over."""
        node = self._literals.get(getattr(node, "id", None), node)
        called = _called_name(node)
        if isinstance(node, (ast.Tuple, ast.List)):
            elements = node.elts
        elif called == "range" and not node.keywords:
            elements = self._range(node)
        elif called == "zip" and node.args and not node.keywords:
            elements = _side_by_side([self._elements(argument) for argument in node.args])
        elif called == "enumerate" and len(node.args) == 1 and not node.keywords:
            column = self._elements(node.args[0])
            elements = _side_by_side([list(map(_number, range(len(column)))), column])
        else:
            self._refuse(node, f"loops over something that is not a literal; {_REMEDY}")
        if len(elements) > MAX_ROUNDS:
            self._refuse(node, f"loops {len(elements)} times; {_REMEDY}")
        return elements

    def _range(self, call: ast.Call) -> list[ast.expr]:
        numbers = [_whole_number(argument) for argument in call.args]
        if None in numbers or not 1 <= len(numbers) <= 3 or numbers[2:] == [0]:
            self._refuse(call, f"loops over a range whose arguments are not whole numbers, or whose step is 0; {_REMEDY}")
        rounds = range(*numbers)
        if len(rounds) > MAX_ROUNDS:
            self._refuse(call, f"loops {len(rounds)} times; {_REMEDY}")
        return [ast.copy_location(_number(number), call) for number in rounds]

    def _values(self, target: ast.expr, element: ast.expr) -> dict[str, ast.expr]:
        """The values of the loop's variables in one round."""
        if isinstance(target, ast.Name):
            return {target.id: element}
        parts = getattr(element, "elts", None)
        if not isinstance(target, (ast.Tuple, ast.List)) or parts is None or len(parts) != len(target.elts):
            self._refuse(target, "unpacks elements that are not tuples of the same length; write them out")
        values: dict[str, ast.expr] = {}
        for name, part in zip(target.elts, parts):
            values |= self._values(name, part)
        return values

    def _is_fixed(self, element: ast.expr) -> bool:
        """Whether an element means the same in every round, so that it can replace the variable."""
        has_star = any(isinstance(node, ast.Starred) for node in ast.walk(element))
        return not has_star and not any(self._assigned[name] for name in _names_in(element))

    def _refuse(self, node: ast.AST, reason: str) -> None:
        refuse_at(self.function, node, reason)


def _assigned_in(tree: ast.AST) -> Iterable[str]:
    return (node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))


def _names_in(tree: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def _called_name(node: ast.expr) -> str | None:
    return node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else None


def _is_sequence(node: ast.expr) -> bool:
    return isinstance(node, (ast.Tuple, ast.List)) or _called_name(node) == "range"


def _side_by_side(columns: list[list[ast.expr]]) -> list[ast.expr]:
    return [ast.Tuple(list(parts), ast.Load()) for parts in zip(*columns)]


def _number(value: int) -> ast.expr:
    """A number as Python parses it: the sign is not part of the constant."""
    return ast.Constant(value) if value >= 0 else ast.UnaryOp(ast.USub(), ast.Constant(-value))


def _whole_number(node: ast.expr) -> int | None:
    sign = 1
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        node, sign = node.operand, -1
    is_whole = isinstance(node, ast.Constant) and type(node.value) is int and node.value <= MAX_NUMBER
    return sign * node.value if is_whole else None
