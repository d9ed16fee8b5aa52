"""Static checks on a skill's two functions: what is not on the list does not run.

The code is judged as a tree, never as text, and what was judged is what is compiled. Allowed are assignments to
local names, arithmetic, comparisons, indexing, the game's constants, the functions of ``jnp`` listed here and a few
methods of arrays. There is no import, no loop, no ``if`` (JAX traces both branches: ``jnp.where``), no nested
function, no attribute that begins with ``_``, and no text.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Collection, Mapping

from flowrl.errors import BadInput
from flowrl.skills.facts import GameFacts
from flowrl.skills.spec import SkillSpec
from flowrl.skills.trees import parse

FUNCTION_NAMES = ("task_is_done", "task_reward")

MAX_SOURCE_CHARACTERS = 8_000
MAX_NODES = 1_500
MAX_DEPTH = 60
MAX_NUMBER = 1e6
MAX_EXPONENT = 4

JNP_NAMES = frozenset(
    """abs absolute add all any arange argmax argmin array asarray bool_ ceil clip concatenate count_nonzero cos
    divide dot e equal exp exp2 expand_dims expm1 float32 floor floor_divide full full_like greater greater_equal hypot
    inf int32 isclose isfinite isinf isnan less less_equal log log1p log2 logical_and logical_not logical_or
    logical_xor max maximum mean median min minimum mod multiply nan_to_num negative not_equal ones ones_like pi
    power prod ravel reciprocal reshape round sign sin sqrt square squeeze stack std subtract sum take tan tanh
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

_REMEDIES = {
    ast.If: "use jnp.where instead of if",
    ast.IfExp: "use jnp.where instead of if ... else",
    ast.BoolOp: "use jnp.logical_and or jnp.logical_or instead of and, or",
    ast.Not: "use jnp.logical_not instead of not",
    ast.For: "loops are not allowed; use jnp functions over whole arrays",
    ast.While: "loops are not allowed; use jnp functions over whole arrays",
    ast.Import: "nothing can be imported; jax, jnp and the game's constants are in scope",
    ast.ImportFrom: "nothing can be imported; jax, jnp and the game's constants are in scope",
    ast.Lambda: "write the expression out",
    ast.FunctionDef: "only the two functions themselves can be defined",
    ast.JoinedStr: "text has no place here",
}
_ALLOWED = (
    *(ast.Return, ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Pass),
    *(ast.BinOp, ast.UnaryOp, ast.Compare, ast.Call, ast.keyword, ast.Subscript, ast.Slice, ast.Tuple, ast.List),
    *(ast.Name, ast.Attribute, ast.Constant, ast.Load, ast.Store),
    *(ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.BitAnd, ast.BitOr, ast.BitXor),
    *(ast.UAdd, ast.USub, ast.Invert),
    *(ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE),
)


class CodeRefused(BadInput):
    """A skill's code does something that is not on the list, or not what its skill declares.

    Attributes:
        reason: the kind of fault, one word; docs/gate.md has them all. ``not_allowed``: it is not on the list.
    """

    def __init__(self, message: str, reason: str = "not_allowed"):
        super().__init__(message)
        self.reason = reason


def check_skill_code(spec: SkillSpec, facts: GameFacts) -> None:
    """Accepts a skill whose two functions use only what the game offers.

    Raises:
        CodeRefused: names the skill, the function, the line and what to write instead.
    """
    members = {"BlockType": facts.blocks, "Achievement": facts.achievements}
    fields = (*facts.stocks, *facts.possessions)
    for name in FUNCTION_NAMES:
        try:
            function = parse_function(getattr(spec, name), name)
            check_function(function, facts.features, ("jax", "jnp", *facts.constants), members, fields)
        except CodeRefused as error:
            raise CodeRefused(f"skill {spec.name}: {error}") from error


def parse_function(source: str, name: str) -> ast.FunctionDef:
    """The tree of the one function called ``name`` that ``source`` holds.

    Raises:
        CodeRefused: the source is too long, is not Python, or is not exactly that function.
    """
    if len(source) > MAX_SOURCE_CHARACTERS:
        raise CodeRefused(
            f"{name} has {len(source)} characters, more than {MAX_SOURCE_CHARACTERS}; shorten it to a few lines"
        )
    try:
        body = parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = f"line {error.lineno}: " if isinstance(error, SyntaxError) else ""
        reason = getattr(error, "msg", None) or type(error).__name__
        raise CodeRefused(f"{name} is not Python: {line}{reason}; give one complete function") from error
    if len(body) != 1 or not isinstance(body[0], ast.FunctionDef) or body[0].name != name:
        found = ", ".join(getattr(node, "name", type(node).__name__) for node in body) or "nothing"
        raise CodeRefused(f"expected one function `def {name}(...):` and nothing else, found {found}")
    return body[0]


def check_function(
    function: ast.FunctionDef,
    features: Collection[str],
    names: Collection[str],
    members: Mapping[str, Collection[str]] | None = None,
    inventory_fields: Collection[str] = (),
) -> None:
    """Accepts a function built only from what is listed.

    Args:
        function: its tree.
        features: the parameter names it may ask for.
        names: what is in scope beside its parameters (``jnp``, ``BlockType``, ...).
        members: for those of ``names`` whose members are known, the members.
        inventory_fields: the inventory's fields; empty where they are not known.

    Raises:
        CodeRefused: one line: the function, the line, what was found, what to do.
    """
    _Judge(function, features, names, members or {}, inventory_fields).judge()


class _Judge:
    """Walks one function; every method either accepts a node or refuses the function."""

    def __init__(self, function, features, names, members, inventory_fields):
        self.function = function
        self.features = features
        self.names = set(names)
        self.members = members
        self.inventory_fields = inventory_fields
        self.parameters = [argument.arg for argument in function.args.args]
        self.locals: set[str] = set()
        self.line = function.lineno

    def judge(self) -> None:
        self.signature()
        body = self.function.body
        if is_docstring(body[0]):
            body = body[1:]
        if not body or not isinstance(body[-1], ast.Return) or body[-1].value is None:
            self.refuse(self.function, "does not end with `return <value>`; return one scalar")
        if sum(1 for statement in body for _ in ast.walk(statement)) > MAX_NODES:
            self.refuse(self.function, f"is larger than {MAX_NODES} terms; write it shorter")
        if _depth(self.function) > MAX_DEPTH:
            self.refuse(self.function, f"is nested more than {MAX_DEPTH} deep; give parts of it names")
        for statement in body:
            self.statement(statement)

    def signature(self) -> None:
        arguments = self.function.args
        if arguments.vararg or arguments.kwarg or arguments.posonlyargs or arguments.kwonlyargs:
            self.refuse(self.function, "has parameters with * or /; ask for features by plain names")
        if arguments.defaults or self.function.decorator_list:
            self.refuse(self.function, "has a default or a decorator; ask for features by plain names")
        if self.function.returns or any(argument.annotation for argument in arguments.args):
            self.refuse(self.function, "has annotations; leave them out")
        if getattr(self.function, "type_params", None):
            self.refuse(self.function, "has type parameters; leave them out")
        if not self.parameters:
            self.refuse(self.function, f"asks for no feature; choose among {', '.join(self.features)}")
        for name in self.parameters:
            if name not in self.features:
                self.refuse(self.function, f"asks for {name!r}; {_choices(name, self.features)}")

    def statement(self, statement: ast.stmt) -> None:
        if isinstance(statement, (ast.Assign, ast.AugAssign, ast.AnnAssign)):
            self.assignment(statement)
        elif isinstance(statement, ast.Return) and statement.value is not None:
            self.expression(statement.value)
        else:
            self.not_allowed(statement)

    def assignment(self, statement: ast.Assign | ast.AugAssign | ast.AnnAssign) -> None:
        if isinstance(statement, ast.AnnAssign):
            self.refuse(statement, "annotates a name; assign without the annotation")
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
        self.line = getattr(node, "lineno", self.line)  # an operator has no line of its own
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
                self.refuse(right, f"raises to a power that is not a number up to {MAX_EXPONENT}; use jnp.power")

    def name(self, node: ast.Name) -> None:
        if node.id in self.parameters or node.id in self.locals or node.id in ("True", "False"):
            return
        if node.id in self.names:
            self.refuse(node, f"uses {node.id} by itself; use a member of it, as in {node.id}.NAME")
        known = [*self.parameters, *sorted(self.locals), *sorted(self.names), *sorted(BUILTINS)]
        self.refuse(node, f"uses {node.id!r}, which is not in scope; {_choices(node.id, known, self.features)}")

    def constant(self, node: ast.Constant) -> None:
        if not isinstance(node.value, (bool, int, float)) and node.value not in (None, ...):
            self.refuse(node, f"holds a {type(node.value).__name__}; only numbers, True, False and None are allowed")
        if isinstance(node.value, (int, float)) and not abs(node.value) <= MAX_NUMBER:
            self.refuse(node, f"holds a number beyond {MAX_NUMBER:g}; rewards are of order 1")

    def call(self, node: ast.Call) -> None:
        called = node.func
        if isinstance(called, ast.Name):
            if called.id not in BUILTINS:
                self.refuse(called, f"calls {called.id!r}; {_choices(called.id, BUILTINS)}")
        elif isinstance(called, ast.Attribute):
            self.attribute(called, is_called=True)
        else:
            self.refuse(node, "calls the result of an expression; call a jnp function")
        for argument in node.args:
            self.argument(argument)
        for keyword in node.keywords:
            if keyword.arg is None:
                self.refuse(node, "unpacks arguments with **; name them")
            if keyword.arg.startswith("_"):
                self.refuse(node, f"names an argument {keyword.arg}; names that begin with _ are not allowed")
            self.argument(keyword.value)

    def argument(self, node: ast.expr) -> None:
        # A type as an argument, as in .astype(float), is a dtype. Nothing else can be done with it.
        if not (isinstance(node, ast.Name) and node.id in DTYPES):
            self.expression(node)

    def attribute(self, node: ast.Attribute, is_called: bool = False) -> None:
        path = _dotted(node)
        if path is None or path[0] in self.parameters and path[0] not in INVENTORIES or path[0] in self.locals:
            return self.array_attribute(node, is_called)
        root, *members = path
        if any(member.startswith("_") for member in members):
            self.refuse(node, f"uses {'.'.join(path)}; names that begin with _ are not allowed")
        if root in INVENTORIES and root in self.parameters:
            self.inventory(node, members, is_called)
        elif root in ("jnp", "jax") and root in self.names:
            known = JNP_NAMES if root == "jnp" else JAX_NAMES
            if ".".join(members) not in known:
                self.refuse(node, f"uses {'.'.join(path)}; {_choices('.'.join(members), known)}")
        elif root in self.names:
            self.game_constant(node, root, members, is_called)
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
            self.refuse(node, f"calls inventory.{field}; its fields are numbers")
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
        if isinstance(node, ast.Constant) or isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            remedy = "text has no place here"
        remedy = remedy or "write it with assignments, arithmetic, comparisons and jnp functions"
        self.refuse(node, f"uses {type(node).__name__}, which is not allowed; {remedy}")

    def refuse(self, node: ast.AST, reason: str) -> None:
        line = getattr(node, "lineno", self.line) - self.function.lineno + 1
        raise CodeRefused(f"{self.function.name}, line {line}: {reason}")


def is_docstring(statement: ast.stmt) -> bool:
    """Whether a statement is a text that stands by itself."""
    return isinstance(statement, ast.Expr) and isinstance(getattr(statement.value, "value", None), str)


def _depth(tree: ast.AST) -> int:
    """How many nodes lie above the deepest one; not by recursion, which too deep a tree would end."""
    deepest, level = 0, [tree]
    while level:
        deepest += 1
        level = [child for node in level for child in ast.iter_child_nodes(node)]
    return deepest


def _dotted(node: ast.expr) -> list[str] | None:
    """``a.b.c`` as its parts, or None where the root is not a plain name."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return [node.id, *reversed(parts)] if isinstance(node, ast.Name) else None


def _choices(word: str, known: Collection[str], features: Collection[str] = ()) -> str:
    if word in features:
        return "add it to the parameters"
    matches = difflib.get_close_matches(word, sorted(known), n=3, cutoff=0.6)
    if matches:
        return "did you mean " + ", ".join(matches) + "?"
    shown = sorted(known)
    return "use one of " + ", ".join(shown[:24]) + (", ..." if len(shown) > 24 else "")
