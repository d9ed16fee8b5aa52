"""Rewriting: code as models write it keeps its meaning in the language of the checks."""

import ast
import types
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from flowrl.envs.registry import GAMES, game
from flowrl.proposers.curriculum import load_curriculum
from flowrl.skills.checks import CodeRefused, check_skill_code, parse_function
from flowrl.skills.fingerprint import fingerprint
from flowrl.skills.module import TaskSource, compile_module, render_module, skill_functions
from flowrl.skills.spec import SkillSpec
from tests.skills.builders import IS_DONE

FACTS = game("Craftax-Classic-Symbolic-v1").facts
HEAD = "def task_reward(inventory, closest_blocks, n):\n"


def source(body, head=HEAD):
    return head + "".join(f"    {line}\n" for line in body.splitlines())


def written(text):
    return ast.unparse(parse_function(text, "task_reward"))


def plain(body):
    """A source that is already in the language, as Python unparses it."""
    return ast.unparse(ast.parse(source(body)))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("return jax.numpy.abs(n)", "return jnp.abs(n)"),
        ("jnp = jax.numpy\nreturn jnp.abs(n)", "return jnp.abs(n)"),
        ("import jax\nimport jax.numpy as jnp\nfrom jax import numpy as jnp\nreturn jnp.abs(n)", "return jnp.abs(n)"),
        ("import jax, jax.numpy as jnp\nreturn n", "return n"),
        ('"""Docs."""\nx = n  # why\n"more"\nreturn x', "x = n\nreturn x"),
        ("x: float = 1.0\ny: jnp.ndarray\nreturn x * n", "x = 1.0\nreturn x * n"),
        ("return n > 1 and n < 3", "return jnp.logical_and(n > 1, n < 3)"),
        ("return n > 1 or n > 2 or n > 3", "return jnp.logical_or(n > 1, jnp.logical_or(n > 2, n > 3))"),
        ("return not n > 1", "return jnp.logical_not(n > 1)"),
        ("return 0 < n <= 3", "return jnp.logical_and(0 < n, n <= 3)"),
        ("return 1.0 if n > 1 else -1.0", "return jnp.where(n > 1, 1.0, -1.0)"),
        ("return jax.lax.cond(n > 1, lambda: 1.0, lambda: 0.0)", "return jnp.where(n > 1, 1.0, 0.0)"),
        ("return jax.lax.cond(n > 1, lambda x: x + n, lambda x: x - 1, 2 * n)",
         "return jnp.where(n > 1, 2 * n + n, 2 * n - 1)"),
        ("return jax.lax.cond(n > 1, lambda _: 1.0, lambda _: 0.0, operand=None)", "return jnp.where(n > 1, 1.0, 0.0)"),
        ("return jax.lax.cond(n > 1, jnp.abs, jnp.sign, n)", "return jnp.where(n > 1, jnp.abs(n), jnp.sign(n))"),
        ("x = 0\nfor i in range(2, -2, -2):\n    x += i * n\nreturn x", "x = 0\nx += 2 * n\nx += 0 * n\nreturn x"),
        ("x = 0\nfor b in (BlockType.TREE, BlockType.STONE):\n    x += b.value\nreturn x",
         "x = 0\nx += BlockType.TREE.value\nx += BlockType.STONE.value\nreturn x"),
        ("x = 0\npairs = [(1, -2.0), (3, 4.0)]\nfor i, w in pairs:\n    x += w * i\nreturn x",
         "x = 0\npairs = [(1, -2.0), (3, 4.0)]\nx += -2.0 * 1\nx += 4.0 * 3\nreturn x"),
        ("x = 0\nfor i, (a, b) in enumerate(zip((1, 2), [3, 4])):\n    x += i * a * b\nreturn x",
         "x = 0\nx += 0 * 1 * 3\nx += 1 * 2 * 4\nreturn x"),
        ("x = 0\nfor i in (1, 2):\n    for j in (3, 4):\n        x += i * j\nreturn x",
         "x = 0\nx += 1 * 3\nx += 1 * 4\nx += 2 * 3\nx += 2 * 4\nreturn x"),
        ("def half(x, by=2.0):\n    return x / by\nreturn half(n) + half(x=n + 1, by=3)",
         "half_x_1 = n + 1\nreturn n / 2.0 + half_x_1 / 3"),
        ("def near(b):\n    d = closest_blocks[b.value]\n    return jnp.abs(d).sum()\nreturn near(BlockType.TREE)",
         "near_d_1 = closest_blocks[BlockType.TREE.value]\nreturn jnp.abs(near_d_1).sum()"),
    ],
)  # fmt: skip
def test_other_spellings_are_rewritten(body, expected):
    assert written(source(body)) == plain(expected)


@pytest.mark.parametrize(
    "text",
    [
        "```python\n{}```", "```\n{}\n```", "Here it is:\n\n```py\n{}```\nIt pays for wood.", "  ```python\n{}",
        "import jax\n{}",
        "import jax.numpy as jnp\nfrom jax import numpy as jnp\njnp = jax.numpy\n'''Why.'''\n{}",
    ],
)  # fmt: skip
def test_what_is_around_the_function_is_dropped(text):
    assert written(text.format(source("return n"))) == plain("return n")


def test_code_that_is_indented_as_a_whole_is_read():
    assert written("    " + source("return n").replace("\n", "\n    ")) == plain("return n")


def test_annotations_of_a_function_are_dropped():
    head = "def task_reward(inventory, closest_blocks: jnp.ndarray, n: 'int | None') -> Optional[jax.Array]:\n"
    assert written(source("return n", head)) == plain("return n")


def test_a_helper_next_to_the_function_is_inlined_and_may_call_others():
    helpers = "def double(x):\n    y = x\n    y += x\n    return y\n\ndef four(n):\n    return double(double(n))\n\n"
    text = helpers + source("return four(n) + 1")
    assert evaluated(written(text), n=3) == 13
    with_locals = text.replace("return four(n) + 1", "y = 5\n    x = double(y)\n    return x + y + four(y)")
    assert evaluated(written(with_locals), n=3) == 35


@pytest.mark.parametrize("entry", GAMES.values(), ids=GAMES)
def test_code_in_the_language_stays_as_it_is(entry):
    for spec in load_curriculum(entry.curriculum, entry.facts):
        for name in ("task_is_done", "task_reward"):
            given_tree = ast.parse(getattr(spec, name)).body[0]
            assert ast.dump(parse_function(getattr(spec, name), name)) == ast.dump(given_tree)


def test_a_module_contains_the_checked_code_and_not_the_original():
    text = "import jax\n" + source("return (1.0 if 0 < inventory.wood <= n else 0.0)")
    spec = SkillSpec(name="Trial", task_is_done=IS_DONE, task_reward=text)
    check_skill_code(spec, FACTS)
    module = render_module("Trial", 0, {0: 0}, [TaskSource("Trial", 1, 0, IS_DONE, text)])
    assert "jnp.where(jnp.logical_and(0 < inventory.wood, inventory.wood <= n), 1.0, 0.0)" in module and "import" not in module
    assert fingerprint(*skill_functions(module)) == fingerprint(IS_DONE, text)
    scope = dict.fromkeys(("jax", "jnp", *FACTS.constants))
    compile_module(module, scope, FACTS.feature_names)
    for code in ("1 if n else 2", "n > 1 and n < 3", "not n", "0 < n < 3"):
        with pytest.raises(CodeRefused, match="use jnp|chains comparisons"):
            compile_module(module.replace("return jnp.where", f"x = {code}\n    return jnp.where"), scope, FACTS.feature_names)


def test_a_helper_cannot_loop_over_a_literal_that_names_one_of_its_parameters():
    text = """def task_reward(inventory, closest_blocks, n):
    both = (n, 1)
    def helper(n):
        total = 0
        for value in both:
            total = total + value
        return total
    return helper(5)
"""
    assert evaluated(text, n=2) == 3
    with pytest.raises(CodeRefused, match="loops over something that is not a literal"):
        parse_function(text, "task_reward")


# What is refused.

REFUSED = [
    ("jnp = n\nreturn jnp", "assigns to 'jnp'; choose another name"),
    ("jnp = jax\nreturn jnp.abs(n)", "assigns to 'jnp'"),
    ("jnp = jax.numpy.linalg\nreturn jnp.norm(n)", "assigns to 'jnp'"),
    ("jax.numpy = n\nreturn n", "assigns to 'jnp'"),
    ("x = jnp = jax.numpy\nreturn n", "assigns to 'jnp'"),
    ("np = jax.numpy\nreturn np.abs(n)", "uses jnp on its own; use one of its members"),
    ("for jnp in (1, 2):\n    n += jnp\nreturn n", "assigns to 'jnp'"),
    ("import jax.numpy as np\nreturn np.abs(n)", "uses Import.*so leave the line out"),
    ("import os as jnp\nreturn jnp.abs(n)", "uses Import"),
    ("import jax, os\nreturn n", "uses Import"),
    ("from jax import numpy as jnp, lax\nreturn n", "uses ImportFrom"),
    ("from jax import numpy\nreturn n", "uses ImportFrom"),
    ("from .jax import numpy as jnp\nreturn n", "uses ImportFrom"),
    ("x: open('x') = n\nreturn x", "has an annotation that is not a plain type"),
    ("x: n.__class__ = n\nreturn x", "has an annotation"),
    ("x: '__import__(\"os\")' = n\nreturn x", "has an annotation"),
    ("x: (y := n) = n\nreturn y", "has an annotation"),
    ("return inventory.wood and n", "uses a number with and, or; compare it first"),
    ("return n > 1 and 2.0", "uses a number with and, or"),
    ("return (n + 1) or n", "uses a number with and, or"),
    ("return -n or n > 1", "uses a number with and, or"),
    ("x, y = (1, 2) if n > 1 else (3, 4)\nreturn x", "chooses between several values"),
    ("return n in (1, 2) and n > 1", "uses In, .*compare with =="),
    ("return jax.lax.cond(n > 1, lambda x: x, lambda x: x)", "a lambda that does not fit; use jnp.where"),
    ("return jax.lax.cond(n > 1, lambda *x: x, lambda *x: x, n)", "does not fit"),
    ("return jax.lax.cond(n > 1, lambda x: lambda: x, lambda x: x, n)", "does not fit"),
    ("return jax.lax.cond(n > 1, lambda: (n, n), lambda: (n, n))", "chooses between several"),
    ("return jax.lax.cond(n > 1, [abs][0], abs, n)", "no lambda; use jnp.where"),
    ("return jax.lax.cond(n > 1, print, print, n)", "calls 'print'"),
    ("return jax.lax.cond(n > 1, *(abs, abs), n)", "in a way that is not allowed"),
    ("return jax.lax.cond(n > 1, lambda: 1, lambda: 2, linear=n)", "in a way that is not allowed"),
    ("return jax.lax.cond()", "in a way that is not allowed"),
    ("return (lambda: n)() and n > 1", "calls the result"),
    ("for i in range(10 ** 9):\n    n += i\nreturn n", "range whose arguments are not whole numbers"),
    ("for i in range(1000000):\n    n += i\nreturn n", "loops 1000000 times; loop over"),
    ("for i in range(1, 2, 0):\n    n += i\nreturn n", "not whole numbers"),
    ("for i in range(True):\n    n += i\nreturn n", "not whole numbers"),
    ("for i in range(n):\n    x = i\nreturn n", "not whole numbers"),
    ("for i in (1, 2):\n    x = i\n    break\nreturn x", "leaves a loop early"),
    ("for i in (1, 2):\n    x = i\nelse:\n    x = 3\nreturn x", "leaves a loop early"),
    ("for i in (1, 2):\n    return n + i\nreturn n", "leaves a loop early"),
    ("for i in (1, 2):\n    x = i\nreturn x + i", "outside of the loop"),
    ("for n in (1, 2):\n    x = n\nreturn x", "outside of the loop"),
    ("for i in (1, 2):\n    i += 1\nreturn n", "assigns to a loop variable"),
    ("x = n\nfor i in (x, 1):\n    x += i\nreturn x", "names that it also assigns to"),
    ("for i in (*range(3), 1):\n    n += i\nreturn n", "names that it also assigns to"),
    ("for i in enumerate(n):\n    x = i\nreturn n", "loops over something that is not a literal"),
    ("xs = zip((1, 2), (3, 4))\nfor i, j in xs:\n    n += i\nreturn n", "loops over something that is not a literal"),
    ("xs = zip(xs)\nfor i in xs:\n    n += i\nreturn n", "loops over something that is not a literal"),
    ("for i, j in ((1, 2), (3, 4, 5)):\n    x = i\nreturn n", "unpacks elements"),
    ("xs = (1, 2)\nxs += (3,)\nfor i in xs:\n    n += i\nreturn n", "loops over something that is not a literal"),
    ("for i in (1, 2):\n    def f(x):\n        return x\nreturn n", "defines a function in it"),
    ("def f(x):\n    return f(x)\nreturn f(n)", "calls itself"),
    ("def f(x):\n    return g(x)\ndef g(x):\n    return f(x)\nreturn f(n)", "calls itself"),
    ("def f(x):\n    return x\ndef f(x):\n    return 2 * x\nreturn f(n)", "two helpers with the same name"),
    ("def f(x):\n    return x\nf = 3\nreturn f(n)", "for both a helper and a value"),
    ("def jnp(x):\n    return x\nreturn jnp(n)", "assigns to 'jnp'"),
    ("def max(x, y):\n    return x\nreturn max(n, 2)", "assigns to 'max'"),
    ("def __f(x):\n    return x\nreturn __f(n)", "assigns to '__f'"),
    ("def f(jnp):\n    return jnp and n > 1\nreturn f(n)", "assigns to 'jnp'"),
    ("def f(x):\n    import os\n    return x\nreturn f(n)", "uses Import; a helper may have assignments"),
    ("def f(x):\n    if x > 1:\n        return 1\n    return x\nreturn f(n)", "f, line 2: uses If; .*jnp.where for if"),
    ("def f(x):\n    x = 1\nreturn f(n)", "does not end with `return"),
    ("def f(x, y=open('x')):\n    return x\nreturn f(n)", "has a default that is not a constant"),
    ("def f(*x):\n    return x\nreturn f(n)", "parameters with \\* or /"),
    ("@print\ndef f(x):\n    return x\nreturn f(n)", "has a decorator"),
    ("def f(x, y):\n    return x\nreturn f(n)", "with wrong arguments; pass each of \\(x, y\\) once"),
    ("def f(x):\n    return x\nreturn f(n, x=n)", "with wrong arguments"),
    ("def f(x):\n    return x\nreturn f(*n)", "with wrong arguments"),
    ("def f(x):\n    return x\nreturn f(**n)", "with wrong arguments"),
    ("def f(x):\n    return x.__class__\nreturn f(n)", "uses .__class__"),
    ("def f(x):\n    return open(x)\nreturn f(n)", "calls 'open'"),
    ("def f(x):\n    y = x\n    return y\nreturn f(n) + y", "'y', which is not in scope"),
    ("def f(x):\n    return x + z\ndef g(z):\n    return f(z)\nreturn g(n)", "uses 'z' without a parameter"),
    ("def f(x):\n    return x\ng = f\nreturn g(n) + f(n)", "'f', which is not in scope"),
    ("def f(x):\n    return x\nreturn n", "never calls it"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "message"), REFUSED)
def test_what_cannot_be_rewritten_is_refused_in_one_line_that_says_what_to_do(body, message):
    with pytest.raises(CodeRefused, match=message) as error:
        check_skill_code(SkillSpec(name="Trial", task_is_done=IS_DONE, task_reward=source(body)), FACTS)
    assert str(error.value).startswith("skill Trial: ") and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import jax.numpy as np\n" + source("return n"), "otherwise only helpers with other names"),
        ("x = 3\n" + source("return n"), "move assignments into the function"),
        ("print(1)\n" + source("return n"), "found Expr, task_reward"),
        (source("return n") + source("return n"), "found task_reward, task_reward"),
        (IS_DONE + source("return n"), "found task_is_done, task_reward"),
        ("def f(x):\n    return x * n\n" + source("return f(n)"), "uses 'n' without a parameter for it"),
        ("def abs(x):\n    return x\n" + source("return abs(n)"), "found abs, task_reward"),
        ("async def f(x):\n    return x\n" + source("return f(n)"), "found f, task_reward"),
        ("```python\n" + source("return n +") + "```", "is not Python"),
    ],
)
def test_anything_else_next_to_the_function_is_refused(text, message):
    with pytest.raises(CodeRefused, match=message):
        parse_function(text, "task_reward")


BOMBS = {
    "loops": "".join("    " * i + f"for a{i} in range(32):\n" for i in range(6)) + "    " * 6 + "n += 1\nreturn n",
    "helpers": "def f0(x):\n    return x + x\n"
    + "".join(f"def f{i}(x):\n    return f{i - 1}(x) + f{i - 1}(x)\n" for i in range(1, 40))
    + "return f39(n)",
    "arguments": "def f(x):\n    return x + x + x + x\nreturn " + "f(" * 40 + "n" + ")" * 40,
    "long_chain": "def f0(x):\n    return x\n"
    + "".join(f"def f{i}(x):\n    return f{i - 1}(x)\n" for i in range(1, 150))
    + "return f149(n)",
    "comparisons": "x = n\n" + "return " + "n < (" * 14 + "n" + ") < n" * 14,
    "zips": "for a in " + "zip(" * 28 + ", ".join(["range(32)"] * 90) + ")" * 28 + ":\n    n += 1\nreturn n",
    "calls": "def f(x, y):\n    return x\n" + "n = f(n, n)\n" * 120 + "return n",
    "conditions": "return " + "jax.lax.cond(n > 1, lambda x: x + x + x, lambda x: x * x * x, " * 12 + "n" + ")" * 12,
}  # fmt: skip


@pytest.mark.parametrize("body", BOMBS.values(), ids=BOMBS)
def test_a_small_source_that_would_grow_huge_is_refused_at_once(body):
    try:
        tree = parse_function(source(body), "task_reward")
    except CodeRefused as refused:
        assert "is larger than" in str(refused) or "nested" in str(refused)
    else:
        assert sum(1 for _ in ast.walk(tree)) < 1600


# Meaning: the source, run by Python itself, computes what the compiled code computes.


def cond(condition, when_true, when_false, *operands):
    return when_true(*operands) if condition else when_false(*operands)


SCOPE = {"jnp": np, "jax": types.SimpleNamespace(numpy=np, lax=types.SimpleNamespace(cond=cond))}


def evaluated(text, **values):
    namespace = dict(SCOPE)
    exec(text, namespace)
    return namespace["task_reward"](values.get("inventory"), values.get("closest_blocks"), values["n"])


NAMES = ("a", "b", "c")
SMALL = st.integers(-3, 3).map(lambda number: f"{number / 2}")


def numbers(depth=3):
    """Sources of numbers, nested at most this deep."""
    if not depth:
        return st.one_of(SMALL, st.sampled_from(NAMES))
    number, truth = numbers(depth - 1), truths(depth - 1)
    return st.one_of(
        number,
        st.builds("({} {} {})".format, number, st.sampled_from("+-*"), number),
        st.builds("({} if {} else {})".format, number, truth, number),
        st.builds("jax.lax.cond({}, lambda x: x + a, lambda x: {}, {})".format, truth, number, number),
        st.builds("helper({}, y={})".format, number, number),
        st.builds("inner({})".format, number),
    )


def truths(depth=3):
    """Sources of booleans."""
    number, operator = numbers(max(depth - 1, 0)), st.sampled_from(["<", "<=", ">", "==", "!="])
    compared = st.builds("({} {} {})".format, number, operator, number)
    chained = st.builds("({} {} {} {} {})".format, number, operator, number, operator, number)
    if not depth:
        return compared
    truth = truths(depth - 1)
    joined = st.builds("({} {} {})".format, truth, st.sampled_from(["and", "or"]), truth)
    return st.one_of(compared, chained, joined, st.builds("(not {})".format, truth))


@st.composite
def programs(draw):
    """A reward with a helper next to it and one inside, annotations, locals and a loop."""
    loop = draw(st.sampled_from(["i in range(-1, 2)", "i in (1, n, 0.5)", "(j, i) in enumerate([n, -2])"]))
    body = f"""import jax.numpy as jnp
def inner(z: float) -> float:
    c = z - b
    return c + a
a: float = n
b = {draw(SMALL)}
c = 1.5
for {loop}:
    c = c + i * {draw(numbers())}
c -= helper(inner(c), y=b)
return {draw(numbers())} + (1.0 if {draw(truths())} else 0.0)"""
    return f"def helper(x, y=2.0):\n    a = {draw(SMALL)}\n    a += x\n    return a * y\n" + source(body)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(programs(), st.integers(-2, 2))
def test_rewritten_code_computes_what_was_written(text, n):
    try:
        tree = parse_function(text, "task_reward")
    except CodeRefused as refused:
        assert "is larger than" in str(refused) or "nested" in str(refused)
        assume(False)
    left = {type(node) for node in ast.walk(tree)}
    assert not left & {ast.BoolOp, ast.Not, ast.IfExp, ast.Lambda, ast.For, ast.AnnAssign, ast.Import}
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.testing.assert_equal(float(evaluated(ast.unparse(tree), n=n)), float(evaluated(text, n=n)))


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(programs())
def test_rewriting_is_idempotent(text):
    try:
        once = written(text)
    except CodeRefused:
        assume(False)
    assert written(once) == once
    assert fingerprint(IS_DONE, once) == fingerprint(IS_DONE, text)
