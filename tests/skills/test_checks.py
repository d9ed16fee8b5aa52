import pytest

from flowrl.envs.registry import GAMES, game
from flowrl.proposers.curriculum import load_curriculum
from flowrl.skills.checks import CodeRefused, check_skill_code
from flowrl.skills.spec import SkillSpec
from tests.skills.builders import REWARD

CLASSIC = game("Craftax-Classic-Symbolic-v1").facts
CRAFTAX = game("Craftax-Symbolic-v1").facts


def check_body(body, facts=CLASSIC, parameters="inventory, closest_blocks, achievements, n"):
    check(f"def task_is_done({parameters}):\n" + "".join(f"    {line}\n" for line in body.splitlines()), facts)


def check(source, facts=CLASSIC):
    check_skill_code(SkillSpec(name="Trial", task_is_done=source, task_reward=REWARD), facts)


@pytest.mark.parametrize("entry", GAMES.values(), ids=GAMES)
def test_the_code_of_every_built_in_skill_is_accepted(entry):
    for spec in load_curriculum(entry.curriculum, entry.facts):
        check_skill_code(spec, entry.facts)


@pytest.mark.parametrize(
    "body",
    [
        "return inventory.wood >= n",
        '"""Enough wood."""\nreturn inventory.wood >= 2 * n + 1',
        "return achievements[Achievement.EAT_COW.value]",
        "distance = jnp.abs(closest_blocks[BlockType.TREE.value]).sum()\nreturn distance <= 1",
        "row, column = closest_blocks[BlockType.TREE.value, 0, 0], closest_blocks[5, 1, 0]\nreturn row + column < 3",
        "total = inventory.wood\ntotal += inventory.stone\nreturn total > n",
        "return (inventory.wood >= n) & ~(inventory.stone > 3) | (inventory.coal == 1)",
        "return jnp.where(inventory.wood > 3, 1.0, -0.5) > 0",
        "return jnp.clip(inventory.wood / jnp.maximum(n, 1), 0.0, 1.0) ** 2 >= 0.99",
        "weights = jnp.array([1.0, 2.0])\nreturn jnp.dot(weights, weights) > n",
        "return closest_blocks[:, 0].min(axis=0).astype(jnp.float32).max() < -2.5",
        "return jax.nn.sigmoid(inventory.wood - n) > 0.5",
        "return closest_blocks.at[0].set(0).sum() > n",
        "return abs(inventory.wood - n) < 1",
        "return max(3, len(closest_blocks)) > min(n, 2)",
        "return achievements.shape[0] > n",
        "n = n + 1\nreturn inventory.wood > n",
    ],
)
def test_plain_jax_code_is_accepted(body):
    check_body(body)


def test_arrays_in_an_inventory_are_accepted_if_the_game_has_them():
    check_body("return inventory.potions.sum() + inventory.armour[0] >= n", CRAFTAX)
    check_body("return monsters_killed[1] >= 8", CRAFTAX, parameters="monsters_killed")
    check_body("return jnp.sum(inventory.armour > 0) * ItemType.TORCH.value > 3", CRAFTAX)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("import os\nreturn n", "line 2: uses Import.*nothing can be imported"),
        ("from os import path\nreturn n", "uses ImportFrom"),
        ("return __import__('os')", "calls '__import__'"),
        ("return open('x')", "calls 'open'"),
        ("return eval('1')", "calls 'eval'"),
        ("return n.__class__", "uses .__class__ of an array"),
        ("return ().__class__.__bases__[0]", "uses .__bases__"),
        ("return jnp.__dict__", "names that begin with _ are not allowed"),
        ("return inventory._wood", "names that begin with _ are not allowed"),
        ("return inventory.__class__", "names that begin with _ are not allowed"),
        ("return BlockType.__members__", "names that begin with _ are not allowed"),
        ("return jnp.save", "uses jnp.save"),
        ("return jax.lax.while_loop(n, n, n)", "uses jax.lax.while_loop"),
        ("return jax.debug.callback(n)", "uses jax.debug.callback"),
        ("return jnp.zero(n)", "did you mean jnp.zeros"),
        ("return jax.numpy.zero(n)", "uses jnp.zero; did you mean jnp.zeros"),
        ("return jax.numpy.linalg.nrm(n)", "uses jnp.linalg.nrm; did you mean jnp.linalg.norm"),
        ("return jnp.fft.fftn(n)", "uses jnp.fft.fftn; use one of jnp.abs, .*jnp.where, .*jax.nn.relu"),
        ("return jax.numpy.save(n)", "uses jnp.save; .*jnp."),
        ("return jax.lax.max(n, 1)", "uses jax.lax.max; write jnp.max"),
        ("return np.abs(n)", "np is not in scope, write jnp.abs"),
        ("return math.sqrt(n)", "math is not in scope, write jnp.sqrt"),
        ("return lax.select(n > 1, n, n)", "lax is not in scope, write jax.lax.select"),
        ("return round(n)", "calls 'round'; write jnp.round"),
        (
            "for i in n:\n    pass\nreturn n",
            "line 2: loops over something that is not a literal; loop over a tuple, a list or a range",
        ),
        ("while True:\n    pass\nreturn n", "uses While"),
        ("return [x for x in n]", "uses ListComp"),
        ("return (lambda: n)()", "calls the result of an expression"),
        ("f = lambda: n\nreturn n", "uses Lambda"),
        ("def inner(n):\n    return n\nreturn n", "line 2: defines inner and never calls it; leave it out"),
        ("class A:\n    pass\nreturn n", "uses ClassDef"),
        ("with n:\n    pass\nreturn n", "uses With"),
        ("try:\n    pass\nfinally:\n    pass\nreturn n", "uses Try"),
        ("global x\nreturn n", "uses Global"),
        ("del n\nreturn n", "uses Delete"),
        ("if n > 1:\n    x = 1\nreturn n", "use jnp.where instead of if"),
        ("return n in (1, 2)", "uses In"),
        ("return n is None", "uses Is"),
        ("return (x := n)", "uses NamedExpr"),
        ("return f'{n}'", "uses JoinedStr"),
        ("return 'text'", "contains a str"),
        ("return 10 ** n", "has an exponent"),
        ("return 9 ** 9 ** 9", "has an exponent"),
        ("x = 9\nx **= 99\nreturn x", "line 3: has an exponent"),
        ("return 1 << 40", "uses LShift"),
        ("return n @ n", "uses MatMult"),
        ("return 1e300", "contains a number beyond 1e"),
        ("return n + 2j", "contains a complex"),
        ("return {'a': n}", "uses Dict"),
        ("return jnp.sum(*n)", "uses Starred"),
        ("return jnp.sum(n, **n)", "unpacks arguments"),
        ("return undefined", "'undefined', which is not in scope"),
        ("x = x + 1\nreturn x", "'x', which is not in scope"),
        ("x += 1\nreturn x", "'x', which is not in scope"),
        ("return health_penalty", "add it as a parameter"),
        ("return inventory.woood", "did you mean wood"),
        ("return inventory.replace(wood=9)", "uses inventory.replace"),
        ("return inventory.wood(3)", "its fields are numbers"),
        ("return BlockType.TREEE.value", "did you mean TREE"),
        ("return Achievement.EAT_COWS.value", "did you mean EAT_COW"),
        ("return BlockType.TREE.value.real", "write BlockType.TREE.value"),
        ("return BlockType(5)", "calls 'BlockType'"),
        ("return jnp", "uses jnp on its own"),
        ("jnp = n\nreturn jnp", "assigns to 'jnp'; choose another name"),
        ("abs = n\nreturn n", "assigns to 'abs'"),
        ("closest_blocks[0] = 1\nreturn n", "use x.at\\[i\\].set"),
        ("inventory.wood = 99\nreturn n", "assigns to something other than a local name"),
        ("return task_is_done(n)", "calls 'task_is_done'"),
        ("return closest_blocks.item()", "uses .item of an array"),
        ("return closest_blocks.addressable_shards", "uses .addressable_shards"),
        ("return closest_blocks.at[0].apply(n)", "uses .apply"),
        ("x = yield n\nreturn x", "uses Yield"),
        ("print(n)\nreturn n", "uses Expr"),
        ("x = n", "does not end with `return <value>`"),
        ("return", "does not end with `return <value>`"),
        ("pass", "does not end with `return <value>`"),
        ("return " + " + ".join(["n"] * 900), "is larger than 1500 terms"),
        ("return (" + "n +\n    " * 2000 + "n)", "characters, more than 8000"),
        ("return " + "(" * 300 + "n" + ")" * 300, "is not Python"),
    ],
)
def test_what_is_not_allowed_is_refused_in_one_line_that_says_what_to_do(body, message):
    with pytest.raises(CodeRefused, match=message) as error:
        check_body(body)
    assert str(error.value).startswith("skill Trial: task_is_done") and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = 1", "expected one function `def task_is_done"),
        ("def done(n):\n    return n", "found done"),
        ("def task_is_done(n):\n    return n\nimport os", "found task_is_done, Import"),
        ("async def task_is_done(n):\n    return n", "expected one function"),
        ("def task_is_done(n=1):\n    return n", "default or a decorator"),
        ("@print\ndef task_is_done(n):\n    return n", "default or a decorator"),
        ("def task_is_done(n, /):\n    return n", "parameters with \\* or /"),
        ("def task_is_done(*n):\n    return n", "parameters with \\* or /"),
        ("def task_is_done(*, n):\n    return n", "parameters with \\* or /"),
        ("def task_is_done(n: print(1)):\n    return n", "has an annotation that is not a plain type"),
        ("def task_is_done(n) -> print(1):\n    return n", "has an annotation"),
        ("def task_is_done():\n    return True", "has no parameters; take at least one of the features"),
        (
            "def task_is_done(inventry):\n    return inventry",
            "parameter 'inventry', which is not a feature; did you mean inventory",
        ),
        ("def task_is_done(monsters_killed):\n    return monsters_killed", "has a parameter 'monsters_killed'"),
        ("def task_is_done(n):\n  return (", "is not Python: line 2"),
        ("def task_is_done(n):\n    return n\0", "is not Python"),
    ],
)
def test_anything_but_the_one_function_is_refused(source, message):
    with pytest.raises(CodeRefused, match=message) as error:
        check(source)
    assert "\n" not in str(error.value)
