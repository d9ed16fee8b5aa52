"""Static checks on a skill's two functions: an allow-list, so what is not listed does not run.

The checks work on the syntax tree, never on text, and the checked tree is what is compiled. Allowed are assignments to
local names, arithmetic, comparisons, indexing, the game's constants, the functions of ``jnp`` that
:mod:`flowrl.skills.language` lists and a few array methods. Imports, loops, ``if`` (JAX traces both branches: use
``jnp.where``), nested functions, attributes that begin with ``_`` and strings are not allowed. Source as people write it
is rewritten first (:mod:`flowrl.skills.rewriting`); the checks themselves make no exceptions for it.
"""

from __future__ import annotations

import ast
import difflib
import re
import textwrap
from collections.abc import Collection, Mapping

from flowrl.skills.facts import GameFacts
from flowrl.skills.language import (
    ARRAY_FIELDS,
    ARRAY_METHODS,
    AT_METHODS,
    BUILTINS,
    DTYPES,
    FUNCTION_NAMES,
    INVENTORIES,
    JAX_NAMES,
    JNP_NAMES,
    MAX_EXPONENT,
    MAX_NUMBER,
    MAX_SOURCE_CHARACTERS,
    CodeRefused,
    check_size,
    dotted,
    is_text,
    refuse_at,
)
from flowrl.skills.parsing import parse
from flowrl.skills.rewriting import rewritten
from flowrl.skills.spec import SkillSpec
from flowrl.suggestions import suggestion

_IN_SCOPE = "nothing can be imported; jax, jnp and the game's constants are already in scope, so leave the line out"
_WRITE_OUT = "write the elements out, or use jnp functions on whole arrays"
_COMPARE = "compare with == and combine with jnp.logical_or"
_REMEDIES = {
    ast.If: "use jnp.where instead of if",
    ast.IfExp: "use jnp.where instead of if ... else",
    ast.Match: "use jnp.where instead of match",
    ast.BoolOp: "use jnp.logical_and or jnp.logical_or instead of and, or",
    ast.Not: "use jnp.logical_not instead of not",
    ast.For: "use jnp functions on whole arrays instead of a loop",
    ast.While: "use jnp functions on whole arrays instead of a loop",
    ast.Import: _IN_SCOPE,
    ast.ImportFrom: _IN_SCOPE,
    ast.Lambda: "write the expression out",
    ast.FunctionDef: "define only the two functions",
    ast.JoinedStr: "leave the string out",
    **dict.fromkeys((ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.Starred), _WRITE_OUT),
    **dict.fromkeys((ast.In, ast.NotIn, ast.Is, ast.IsNot), _COMPARE),
    **dict.fromkeys((ast.Dict, ast.Set), "give each value its own local name"),
    **dict.fromkeys((ast.Assert, ast.Raise, ast.Try, ast.Global, ast.Nonlocal, ast.Delete), "leave it out"),
    ast.NamedExpr: "assign it on a separate line",
    ast.MatMult: "use jnp.dot instead of @",
    **dict.fromkeys((ast.LShift, ast.RShift), "multiply or divide by a number instead"),
    ast.Expr: "an expression on its own has no effect; assign it to a name, or leave it out",
}
_OTHER_NAMES = {"np": "jnp", "numpy": "jnp", "math": "jnp", "lax": "jax.lax", "nn": "jax.nn"}
"""Names that models use, and the names in scope that they mean."""
_FENCED = re.compile(r"^[ \t]*```[^\n`]*\n(.*?)(?:^[ \t]*```|\Z)", re.MULTILINE | re.DOTALL)
_ALLOWED = (
    *(ast.Return, ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Pass),
    *(ast.BinOp, ast.UnaryOp, ast.Compare, ast.Call, ast.keyword, ast.Subscript, ast.Slice, ast.Tuple, ast.List),
    *(ast.Name, ast.Attribute, ast.Constant, ast.Load, ast.Store),
    *(ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.BitAnd, ast.BitOr, ast.BitXor),
    *(ast.UAdd, ast.USub, ast.Invert),
    *(ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE),
)


def check_skill_code(spec: SkillSpec, facts: GameFacts) -> None:
    """Checks that a skill's two functions use only what is allowed in its game.

    Raises:
        CodeRefused: names the skill, the function, the line and what to write instead.
    """
    members = {name: members for name, members in facts.constants.items() if members}
    for name in FUNCTION_NAMES:
        try:
            function = parse_function(getattr(spec, name), name)
            check_function(function, facts.feature_names, ("jax", "jnp", *facts.constants), members, facts.inventory_fields)
        except CodeRefused as error:
            raise CodeRefused(f"skill {spec.name}: {error}") from error


def parse_function(source: str, name: str) -> ast.FunctionDef:
    """The tree of the function ``name`` in ``source``, rewritten into the language of the checks.

    A code fence around the source is dropped. The tree has no docstring. The same source always gives the same tree, and
    the tree unparsed to source gives itself again.

    Raises:
        CodeRefused: the source is too long, is not Python, is not that function, or cannot be rewritten.
    """
    if len(source) > MAX_SOURCE_CHARACTERS:
        raise CodeRefused(f"{name} has {len(source)} characters, more than {MAX_SOURCE_CHARACTERS}; shorten it to a few lines")
    try:
        return rewritten(_parsed(source, name), name)
    except RecursionError:
        raise CodeRefused(f"{name} is nested too deeply; assign parts of it to local names") from None


def _parsed(source: str, name: str) -> ast.Module:
    try:
        return parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        fenced = _FENCED.search(source)
        inner = textwrap.dedent(fenced[1] if fenced else source)
        if inner != source:
            return _parsed(inner, name)
        line = f"line {error.lineno}: " if isinstance(error, SyntaxError) else ""
        reason = getattr(error, "msg", None) or type(error).__name__
        raise CodeRefused(f"{name} is not Python: {line}{reason}; give one complete function") from error


def check_function(
    function: ast.FunctionDef,
    features: Collection[str],
    names: Collection[str],
    members: Mapping[str, Collection[str]] | None = None,
    inventory_fields: Collection[str] = (),
) -> None:
    """Checks that a function uses only what is listed.

    Args:
        function: its tree.
        features: the parameter names that it may have.
        names: what is in scope besides its parameters: ``jnp``, the game's constants.
        members: the members of those ``names`` whose members are known.
        inventory_fields: the inventory's fields; empty if they are not known.

    Raises:
        CodeRefused: one line with the function, the line in it, what was found and what to do.
    """
    _Judge(function, features, names, members or {}, inventory_fields).judge()


class _Judge:
    """Walks one function; each method accepts a node or refuses the function."""

    def __init__(self, function, features, names, members, inventory_fields):
        self.function = function
        self.features = features
        self.names = set(names)
        self.members = members
        self.inventory_fields = inventory_fields
        self.parameters = [argument.arg for argument in function.args.args]
        self.locals: set[str] = set()
        self.nearest: ast.AST = function

    def judge(self) -> None:
        self.signature()
        body = self.function.body
        if is_text(body[0]):
            body = body[1:]
        if not body or not isinstance(body[-1], ast.Return) or body[-1].value is None:
            self.refuse(self.function, "does not end with `return <value>`; return one scalar")
        check_size(self.function)
        for statement in body:
            self.statement(statement)

    def signature(self) -> None:
        arguments = self.function.args
        if arguments.vararg or arguments.kwarg or arguments.posonlyargs or arguments.kwonlyargs:
            self.refuse(self.function, "has parameters with * or /; name features as plain parameters")
        if arguments.defaults or self.function.decorator_list:
            self.refuse(self.function, "has a default or a decorator; name features as plain parameters")
        if self.function.returns or any(argument.annotation for argument in arguments.args):
            self.refuse(self.function, "has annotations; leave them out")
        if getattr(self.function, "type_params", None):
            self.refuse(self.function, "has type parameters; leave them out")
        if not self.parameters:
            self.refuse(self.function, f"has no parameters; take at least one of the features {', '.join(self.features)}")
        for name in self.parameters:
            if name not in self.features:
                self.refuse(self.function, f"has a parameter {name!r}, which is not a feature; {_choices(name, self.features)}")

    def statement(self, statement: ast.stmt) -> None:
        if isinstance(statement, (ast.Assign, ast.AugAssign, ast.AnnAssign)):
            self.assignment(statement)
        elif isinstance(statement, ast.Return) and statement.value is not None:
            self.expression(statement.value)
        else:
            self.not_allowed(statement)

    def assignment(self, statement: ast.Assign | ast.AugAssign | ast.AnnAssign) -> None:
        if isinstance(statement, ast.AnnAssign):
            self.refuse(statement, "annotates a name; leave the annotation out")
        if isinstance(statement, ast.AugAssign):
            self.operator(statement.op, statement.value)
            self.expression(ast.copy_location(ast.Name(getattr(statement.target, "id", ""), ast.Load()), statement))
        self.expression(statement.value)
        for target in statement.targets if isinstance(statement, ast.Assign) else [statement.target]:
            for name in target.elts if isinstance(target, ast.Tuple) else [target]:
                self.bind(name)

    def bind(self, target: ast.expr) -> None:
        if not isinstance(target, ast.Name):
            self.refuse(target, "assigns to something other than a local name; for arrays use x.at[i].set(value)")
        if target.id.startswith("__") or target.id in self.names | BUILTINS or target.id in FUNCTION_NAMES:
            self.refuse(target, f"assigns to {target.id!r}; choose another name")
        self.locals.add(target.id)

    def expression(self, node: ast.AST) -> None:
        if hasattr(node, "lineno"):
            self.nearest = node  # an operator has no line of its own
        if not isinstance(node, _ALLOWED):
            self.not_allowed(node)
        if isinstance(node, ast.Attribute):
            return self.attribute(node)
        if isinstance(node, ast.Call):
            return self.call(node)
        if isinstance(node, ast.Name):
            return self.name(node)
        if isinstance(node, ast.Constant):
            return self.constant(node)
        if isinstance(node, ast.BinOp):
            self.operator(node.op, node.right)
        if isinstance(node, ast.Compare) and len(node.ops) > 1:
            self.refuse(node, "chains comparisons; combine two with jnp.logical_and")
        for child in ast.iter_child_nodes(node):
            self.expression(child)

    def operator(self, operator: ast.operator, right: ast.expr) -> None:
        if not isinstance(operator, _ALLOWED):
            self.not_allowed(operator)
        if isinstance(operator, ast.Pow):
            exponent = right.value if isinstance(right, ast.Constant) else None
            if type(exponent) not in (int, float) or exponent > MAX_EXPONENT:
                self.refuse(right, f"has an exponent that is not a constant up to {MAX_EXPONENT}; use jnp.power")

    def name(self, node: ast.Name) -> None:
        if node.id in self.parameters or node.id in self.locals or node.id in ("True", "False"):
            return
        if node.id in self.names:
            self.refuse(node, f"uses {node.id} on its own; use one of its members, as in {node.id}.NAME")
        known = [*self.parameters, *sorted(self.locals), *sorted(self.names), *sorted(BUILTINS)]
        self.refuse(node, f"uses {node.id!r}, which is not in scope; {_choices(node.id, known, self.features)}")

    def constant(self, node: ast.Constant) -> None:
        if not isinstance(node.value, (bool, int, float)) and node.value not in (None, ...):
            self.refuse(node, f"contains a {type(node.value).__name__}; only numbers, True, False and None are allowed")
        if isinstance(node.value, (int, float)) and not abs(node.value) <= MAX_NUMBER:
            self.refuse(node, f"contains a number beyond {MAX_NUMBER:g}; rewards should be of order 1")

    def call(self, node: ast.Call) -> None:
        called = node.func
        if isinstance(called, ast.Name):
            if called.id not in BUILTINS:
                known = _library_choices(["jnp", called.id]) if called.id in JNP_NAMES else _choices(called.id, BUILTINS)
                self.refuse(called, f"calls {called.id!r}; {known}")
        elif isinstance(called, ast.Attribute):
            self.attribute(called, is_called=True)
        else:
            self.refuse(node, "calls the result of an expression; call a jnp function")
        for argument in node.args:
            self.argument(argument)
        for keyword in node.keywords:
            if keyword.arg is None:
                self.refuse(node, "unpacks arguments with **; pass them by name")
            if keyword.arg.startswith("_"):
                self.refuse(node, f"passes an argument {keyword.arg}; names that begin with _ are not allowed")
            self.argument(keyword.value)

    def argument(self, node: ast.expr) -> None:
        # A type as an argument, as in .astype(float), is a dtype, and can be nothing else.
        if not (isinstance(node, ast.Name) and node.id in DTYPES):
            self.expression(node)

    def attribute(self, node: ast.Attribute, is_called: bool = False) -> None:
        path = dotted(node)
        if path is None or (path[0] in self.parameters and path[0] not in INVENTORIES) or path[0] in self.locals:
            return self.array_attribute(node, is_called)
        root, *members = path
        if any(member.startswith("_") for member in members):
            self.refuse(node, f"uses {'.'.join(path)}; names that begin with _ are not allowed")
        if root in INVENTORIES and root in self.parameters:
            self.inventory(node, members, is_called)
        elif root in ("jnp", "jax") and root in self.names:
            if ".".join(members) not in (JNP_NAMES if root == "jnp" else JAX_NAMES):
                self.refuse(node, f"uses {'.'.join(path)}; {_library_choices(path)}")
        elif root in self.names:
            self.game_constant(node, root, members, is_called)
        elif root in _OTHER_NAMES:
            self.refuse(node, f"uses {'.'.join(path)}; {root} is not in scope, {_library_choices(path)}")
        else:
            self.name(ast.copy_location(ast.Name(root, ast.Load()), node))

    def array_attribute(self, node: ast.Attribute, is_called: bool) -> None:
        if isinstance(node.value, ast.Subscript) and getattr(node.value.value, "attr", None) == "at":
            known = AT_METHODS
        else:
            known = ARRAY_METHODS if is_called else ARRAY_FIELDS
        if node.attr not in known:
            self.refuse(node, f"uses .{node.attr} of an array; {_choices(node.attr, known)}")
        self.expression(node.value)

    def inventory(self, node: ast.Attribute, members: list[str], is_called: bool) -> None:
        field, *rest = members
        if self.inventory_fields and field not in self.inventory_fields:
            self.refuse(node, f"uses inventory.{field}; {_choices(field, self.inventory_fields)}")
        if not rest and is_called:
            self.refuse(node, f"calls inventory.{field}; its fields are numbers, so leave the call out")
        if rest:
            self.array_attribute(node, is_called)

    def game_constant(self, node: ast.Attribute, root: str, members: list[str], is_called: bool) -> None:
        known = self.members.get(root)
        if known is not None and members[0] not in known:
            self.refuse(node, f"uses {root}.{members[0]}; {_choices(members[0], known)}")
        if is_called or members[1:] not in ([], ["value"]):
            self.refuse(node, f"uses {'.'.join([root, *members])}; write {root}.{members[0]}.value")

    def not_allowed(self, node: ast.AST) -> None:
        remedy = _REMEDIES.get(type(node))
        if isinstance(node, ast.Constant) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            remedy = "leave it out"
        remedy = remedy or "write it with assignments, arithmetic, comparisons and jnp functions"
        self.refuse(node, f"uses {type(node).__name__}, which is not allowed; {remedy}")

    def refuse(self, node: ast.AST, reason: str) -> None:
        refuse_at(self.function, node if hasattr(node, "lineno") else self.nearest, reason)


def _library_choices(path: list[str]) -> str:
    """What to write instead of a function that does not exist or is not allowed; ``path`` includes its module."""
    listed = [*(f"jnp.{name}" for name in sorted(JNP_NAMES)), *(f"jax.{name}" for name in sorted(JAX_NAMES))]
    known = {name.rpartition(".")[2]: name for name in reversed(listed)}
    meant = ".".join([_OTHER_NAMES.get(path[0], path[0]), *path[1:]])
    if meant in listed or path[-1] in known:
        return f"write {meant if meant in listed else known[path[-1]]}"
    matches = difflib.get_close_matches(path[-1], list(known), n=3, cutoff=0.6)
    if matches:
        return f"did you mean {', '.join(known[match] for match in matches)}?"
    return f"use one of {', '.join(listed)}"


def _choices(word: str, known: Collection[str], features: Collection[str] = ()) -> str:
    if word in features:
        return "add it as a parameter"
    return suggestion(word, sorted(known), otherwise="use one of")
