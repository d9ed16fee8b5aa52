"""Inlines a skill's helper functions, so that the compiled code defines none.

A helper consists of assignments and one ``return`` at its end. If it is defined next to the skill's function, it sees only
its own parameters; if it is defined inside, it also sees the names of the function.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import NamedTuple

from flowrl.skills.copying import Copier
from flowrl.skills.language import check_size, dotted, refuse_at


def inline_helpers(function: ast.FunctionDef, beside: Sequence[ast.FunctionDef], copier: Copier) -> None:
    """Replaces every call of a helper by what it returns, and drops the helpers.

    Raises:
        CodeRefused: a helper has another form, calls itself, is never called, or uses names that it cannot see.
    """
    inside = [statement for statement in function.body if isinstance(statement, ast.FunctionDef)]
    function.body = [statement for statement in function.body if not isinstance(statement, ast.FunctionDef)]
    if not function.body:
        function.body = [ast.copy_location(ast.Pass(), function)]
    helpers = _Helpers(function, [*beside, *inside], {helper.name for helper in inside}, copier)
    helpers.inline_calls(function)
    helpers.check_all_called()


class _Helpers:
    """The helpers of one function.

    Args:
        inside: the names of the helpers that are defined inside the function.
    """

    def __init__(self, function: ast.FunctionDef, helpers: list[ast.FunctionDef], inside: set[str], copier: Copier):
        self.function = function
        self.copier = copier
        self.inside = inside
        self.by_name = {helper.name: helper for helper in helpers}
        self._taken = {name for tree in (function, *helpers) for name in _names_in(tree)}
        self._open: list[str] = []
        self._written: set[str] = set()
        self._free: dict[str, set[str]] = {}
        for helper in helpers:
            self._check_shape(helper)
        if len(self.by_name) < len(helpers):
            refuse_at(function, function, "defines two helpers with the same name; choose another name")
        for name in sorted(self.by_name.keys() & {name for tree in (function, *helpers) for name in _bound_in(tree)}):
            refuse_at(function, function, f"uses {name!r} for both a helper and a value; choose another name")

    def inline_calls(self, function: ast.FunctionDef) -> None:
        """Replaces the calls in one function (the skill's or a helper) by what they return."""
        body: list[ast.stmt] = []
        caller = _Caller(function, _bound_in(function))
        for statement in function.body:
            calls = _Calls(self, caller)
            written = calls.visit(statement)
            body += [*calls.before, written]
        function.body = body
        check_size(function)

    def called(self, call: ast.Call, caller: _Caller) -> tuple[list[ast.stmt], ast.expr]:
        """A helper's assignments, with fresh names, and the expression that it returns."""
        helper = self._ready(call.func.id, call)
        self._check_scope(helper, caller, call)
        assigned = _assigned_in(helper)
        values: dict[str, ast.expr] = {}
        statements: list[ast.stmt] = []
        for parameter, argument in self._arguments(helper, call).items():
            if _is_simple(argument) and parameter not in assigned:
                values[parameter] = argument
                continue
            values[parameter] = self._fresh(helper, parameter)
            statements.append(ast.Assign([ast.Name(values[parameter].id, ast.Store())], argument))
        values |= {name: self._fresh(helper, name) for name in sorted(assigned - values.keys())}
        *assignments, returned = [self.copier.replaced(statement, values) for statement in helper.body]
        for node in (node for statement in (*statements, *assignments, returned) for node in ast.walk(statement)):
            ast.copy_location(node, call)
        return [*statements, *assignments], returned.value

    def check_all_called(self) -> None:
        for name in sorted(self.by_name.keys() - self._written):
            node = self.by_name[name] if name in self.inside else self.function
            refuse_at(self.function, node, f"defines {name} and never calls it; leave it out")

    def _ready(self, name: str, call: ast.Call) -> ast.FunctionDef:
        """A helper in which calls of other helpers are inlined."""
        helper = self.by_name[name]
        if name in self._open:
            reason = f"has a helper {name} that calls itself; use jnp functions on whole arrays instead"
            refuse_at(self.function, call, reason)
        if name not in self._written:
            self._open.append(name)
            self.inline_calls(helper)
            self._open.pop()
            self._written.add(name)
            self._free[name] = _names_in(helper) - _bound_in(helper)
        return helper

    def _check_shape(self, helper: ast.FunctionDef) -> None:
        arguments = helper.args
        if arguments.vararg or arguments.kwarg or arguments.posonlyargs or arguments.kwonlyargs or helper.decorator_list:
            refuse_at(helper, helper, "has a decorator, or parameters with * or /; use plain parameters")
        if not all(isinstance(default, ast.Constant) for default in arguments.defaults):
            refuse_at(helper, helper, "has a default that is not a constant; pass it as an argument")
        *assignments, last = helper.body
        for statement in assignments:
            if not isinstance(statement, (ast.Assign, ast.AugAssign)):
                remedy = "a helper may have assignments and one return at its end; use jnp.where for if"
                refuse_at(helper, statement, f"uses {type(statement).__name__}; {remedy}")
        if not isinstance(last, ast.Return) or last.value is None:
            refuse_at(helper, last, "does not end with `return <value>`; return one value")

    def _check_scope(self, helper: ast.FunctionDef, caller: _Caller, call: ast.Call) -> None:
        """A helper must not use the caller's local names, unless it is defined inside the caller."""
        if caller.function is self.function and helper.name in self.inside:
            return
        for name in sorted(self._free[helper.name] & caller.bound):
            refuse_at(self.function, call, f"has a helper {helper.name} that uses {name!r} without a parameter for it; add one")

    def _arguments(self, helper: ast.FunctionDef, call: ast.Call) -> dict[str, ast.expr]:
        """A value for each parameter of a helper."""
        names = [argument.arg for argument in helper.args.args]
        defaults = helper.args.defaults
        given = dict(zip(names, call.args))
        by_keyword = {keyword.arg: keyword.value for keyword in call.keywords}
        all_given = dict(zip(names[len(names) - len(defaults) :], defaults)) | given | by_keyword
        has_star = any(isinstance(argument, ast.Starred) for argument in call.args)
        is_twice = len(given) < len(call.args) or len(by_keyword) < len(call.keywords) or given.keys() & by_keyword.keys()
        if has_star or is_twice or all_given.keys() != set(names):
            reason = f"calls its helper {helper.name} with wrong arguments; pass each of ({', '.join(names)}) once"
            refuse_at(self.function, call, reason)
        return {name: all_given[name] for name in names}

    def _fresh(self, helper: ast.FunctionDef, name: str) -> ast.Name:
        number = 1
        while (fresh := f"{helper.name}_{name}_{number}") in self._taken:
            number += 1
        self._taken.add(fresh)
        return ast.Name(fresh, ast.Load())


class _Caller(NamedTuple):
    """A function in which calls are inlined, and the names that it binds."""

    function: ast.FunctionDef
    bound: set[str]


class _Calls(ast.NodeTransformer):
    """Inlines the calls of helpers in one statement; ``before`` are the assignments to put before it."""

    def __init__(self, helpers: _Helpers, caller: _Caller):
        self.helpers = helpers
        self.caller = caller
        self.before: list[ast.stmt] = []

    def visit_Call(self, call: ast.Call) -> ast.AST:
        self.generic_visit(call)
        if not isinstance(call.func, ast.Name) or call.func.id not in self.helpers.by_name:
            return call
        statements, value = self.helpers.called(call, self.caller)
        self.before += statements
        return value


def _is_simple(argument: ast.expr) -> bool:
    """Whether an argument can replace its parameter everywhere: it is a name or a constant."""
    return isinstance(argument, ast.Constant) or dotted(argument) is not None


def _assigned_in(function: ast.FunctionDef) -> set[str]:
    return {node.id for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


def _bound_in(function: ast.FunctionDef) -> set[str]:
    return _assigned_in(function) | {argument.arg for argument in function.args.args}


def _names_in(function: ast.FunctionDef) -> set[str]:
    return _bound_in(function) | {node.id for node in ast.walk(function) if isinstance(node, ast.Name)}
