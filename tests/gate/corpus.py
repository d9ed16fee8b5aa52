"""Functions as language models write them: good ones in many styles, and bad ones of every kind, with their reasons."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from flowrl.envs.registry import game
from flowrl.skills.menu import Gain, Pay, write_reward
from flowrl.skills.spec import SkillSpec

CLASSIC, CRAFTAX = "Craftax-Classic-Symbolic-v1", "Craftax-Symbolic-v1"
WOOD_DONE = "def task_is_done(inventory, n):\n    return inventory.wood >= n\n"
WOOD_REWARD = "def task_reward(inventory_diff):\n    return 1.0 * inventory_diff.wood\n"
WOOD = {"wood": {"per": 1}}


@dataclass(frozen=True)
class Case:
    """One skill, and the verdict that the gate should give."""

    name: str
    reason: str | None = None
    """None: it passes."""
    done: str = WOOD_DONE
    reward: str = WOOD_REWARD
    gains: dict[str, Any] = field(default_factory=lambda: WOOD)
    requires: dict[str, Any] = field(default_factory=dict)
    env_name: str = CLASSIC

    @property
    def spec(self) -> SkillSpec:
        return SkillSpec.from_data(
            {
                "skill_name": "Trial",
                "gains": self.gains,
                "requires": self.requires,
                "task_is_done": self.done,
                "task_reward": self.reward,
            }
        )


def done(parameters: str, *lines: str) -> str:
    return _function("task_is_done", parameters, lines)


def reward(parameters: str, *lines: str) -> str:
    return _function("task_reward", parameters, lines)


def _function(name, parameters, lines):
    return f"def {name}({parameters}):\n" + "".join(f"    {line}\n" for line in lines)


def unlisted(name: str, *lines: str, parameters: str = "inventory_diff, n") -> Case:
    """A reward that uses something that is not allowed."""
    return Case(name, "not_allowed", reward=reward(parameters, *lines))


def _reward_cases(reason: str, parameters: str, **bodies: str) -> list[Case]:
    return [Case(name, reason, reward=reward(parameters, *body.split("\n"))) for name, body in bodies.items()]


def _done_cases(reason: str, parameters: str, **bodies: str) -> list[Case]:
    return [Case(name, reason, done=done(parameters, *body.split("\n"))) for name, body in bodies.items()]


IMPORTS = [
    unlisted("import", "import os", "return 1.0 * os.getpid()"),
    unlisted("import_as", "import os as jnp2", "return n"),
    unlisted("from_import", "from os import system", "return n"),
    unlisted("dunder_import", "return __import__('os').getpid()"),
    unlisted("importlib", "return importlib.import_module('os')"),
    unlisted("builtins_item", "return __builtins__['__import__']"),
    unlisted("eval_import", "return eval('__import__(\"os\")')"),
    unlisted("exec_import", "return exec('import os')"),
    unlisted("through_jax", "return jax.os.getpid()"),
    unlisted("through_numpy", "return jnp.np.os.getpid()"),
    unlisted("getattr", "return getattr(jnp, 'sa' + 've')"),
    unlisted("wide_letters", "return ｏｐｅｎ(n)"),
]
CHAINS = [
    unlisted("class_of_number", "return (1).__class__"),
    unlisted("subclasses", "return ().__class__.__bases__[0].__subclasses__()"),
    unlisted("class_of_feature", "return inventory_diff.__class__.__mro__"),
    unlisted("wide_underscores", "return n.＿＿class＿＿"),
    unlisted("function_globals", "return task_reward.__globals__"),
    unlisted("method_of_local", "x = inventory_diff", "return x._replace(wood=3)"),
    unlisted("private_argument", "return jnp.sum(n, _where=n)"),
    unlisted("format_chain", "return '{0.__class__}'.format(n)"),
]
DISGUISES = [
    Case("default_argument", "not_allowed", reward="def task_reward(n=print(1)):\n    return n\n"),
    Case("keyword_default", "not_allowed", reward="def task_reward(*, n=open('x')):\n    return n\n"),
    Case("decorator", "not_allowed", reward="@print\ndef task_reward(n):\n    return n\n"),
    Case("annotation", "not_allowed", reward="def task_reward(n: open('x')):\n    return n\n"),
    Case("second_function", "not_allowed", reward=WOOD_REWARD + "\nprint(1)\n"),
    Case("asynchronous", "not_allowed", reward="async def task_reward(n):\n    return n\n"),
    Case("other_name", "not_allowed", reward="def reward(n):\n    return n\n"),
    Case("not_python", "not_allowed", reward="def task_reward(n):\n    return n +\n"),
    Case("too_long", "not_allowed", reward=reward("n", *["n = n + 1"] * 900, "return n")),
    Case("too_deep", "not_allowed", reward=reward("n", "return n" + ".T" * 700)),
    unlisted("lambda", "f = lambda: n", "return f()"),
    unlisted("comprehension", "return sum([x for x in (n, n)])"),
    unlisted("walrus", "return (x := n) + x"),
    unlisted("f_string", "return f'{n}'"),
    unlisted("stars", "return jnp.maximum(*(n, n))"),
    unlisted("matrix_product", "return n @ n"),
    unlisted("object_dtype", "return jnp.zeros(3, dtype=object).sum()"),
    unlisted("callback", "return jax.pure_callback(n, n)"),
    unlisted("debug_callback", "jax.debug.print(n)", "return n"),
    unlisted("host_callback", "return jax.experimental.io_callback(n, n)"),
    unlisted("save", "return jnp.save(n, n)"),
    unlisted("replace_inventory", "return inventory_diff.replace(wood=3)"),
    unlisted("apply", "return n.at[()].apply(n)"),
]
ENDLESS = [
    unlisted("while_true", "while True:", "    pass", "return n"),
    unlisted("for_range", "for i in range(10 ** 9):", "    n = n + i", "return n"),
    unlisted("lax_while", "return jax.lax.while_loop(bool, abs, n)"),
    unlisted("lax_fori", "return jax.lax.fori_loop(0, 1000000, max, n)"),
    unlisted("recursion", "return task_reward(n)"),
    unlisted("towers", "return 9 ** 9 ** 9"),
    *_reward_cases("too_slow", "inventory_diff", unrolled="return sum(jnp.zeros(90000)) * inventory_diff.wood"),
]
LARGE = [
    *_reward_cases(
        "too_big",
        "inventory_diff, closest_blocks",
        fifty_gigabytes="return jnp.zeros((100000, 125000)).sum() + inventory_diff.wood",
        large_power="return jnp.full((10 ** 4, 10 ** 4), 1.0).sum() + inventory_diff.wood",
        large_product="return jnp.ones(1000000 * 12500).mean() * inventory_diff.wood",
        large_range="return jnp.arange(1000000).max() * inventory_diff.wood",
        outer_sum="x = jnp.zeros(1000)\nreturn (x[:, None] + x[None, :]).sum() + inventory_diff.wood",
        unrolled_rows="return sum(jnp.zeros(2000)) * inventory_diff.wood",
    )
]
UNKNOWN = [
    unlisted("unknown_feature", "return inventry_diff.wood", parameters="inventry_diff"),
    unlisted("feature_of_another_game", "return monsters_killed.sum()", parameters="monsters_killed"),
    unlisted("unknown_field", "return inventory_diff.gold"),
    unlisted("unknown_creature", "return closest_creatures[CreatureType.BAT.value].sum()", parameters="closest_creatures"),
    unlisted("unknown_block", "return closest_blocks[BlockType.GOLD.value].sum()", parameters="closest_blocks"),
    unlisted("unasked_feature", "return health_penalty"),
]
NOT_RUNNING = [
    *_reward_cases(
        "does_not_run",
        "inventory_diff, closest_blocks, n",
        too_many_indices="return closest_blocks[0, 0, 0, 0] * 1.0",
        shapes_that_do_not_fit="return (jnp.zeros(3) + jnp.zeros(4)).sum() + inventory_diff.wood",
        value_while_traced="return float(n) * inventory_diff.wood",
        truth_while_traced="return max(n, 1) * 1.0",
        name_used_as_block="return 1.0 * closest_blocks[BlockType.TREE]",
    )
]
WRONG_KIND = [
    *_reward_cases(
        "wrong_shape",
        "inventory_diff, closest_blocks",
        whole_row="return 1.0 * closest_blocks[BlockType.TREE.value]",
        one_entry_array="return 1.0 * closest_blocks[BlockType.TREE.value, 0]",
        pair="return 1.0 * inventory_diff.wood, 0.0",
        whole_inventory="return inventory_diff",
        nothing="return None",
    ),
    *_done_cases("wrong_shape", "closest_blocks", mask="return closest_blocks[BlockType.TREE.value] <= 1"),
    *_done_cases(
        "wrong_dtype",
        "inventory, n",
        number_as_truth="return inventory.wood",
        float_as_truth="return 1.0 * (inventory.wood >= n)",
    ),
    *_reward_cases(
        "wrong_dtype",
        "inventory_diff",
        truth_as_number="return inventory_diff.wood > 0",
        unsigned="return inventory_diff.wood.astype(jnp.uint8)",
    ),
]
NOT_FINITE = [
    *_reward_cases(
        "not_finite",
        "inventory_diff, inventory, n",
        nan_when_wood_is_gained="return jnp.sqrt(0.0 - inventory_diff.wood) + 1.0 * inventory_diff.wood",
        log_of_nothing="return jnp.log(1.0 * inventory.wood)",
        divided_by_stone="return inventory_diff.wood / inventory.stone",
        overflow="return inventory_diff.wood * jnp.exp(jnp.exp(1.0 * inventory.wood))",
        masked_nan="return jnp.where(inventory.wood > 3, jnp.log(inventory.wood - 3.0), 0.0) + inventory_diff.wood",
    ),
    *_done_cases(
        "not_finite", "inventory, n", nan_in_a_comparison="return (inventory.wood >= n) & ~(jnp.sqrt(1.0 - inventory.iron) > 5)"
    ),
]
OUT_OF_RANGE = [
    *_reward_cases(
        "out_of_range",
        "closest_blocks, achievements_diff, player_intrinsics_diff, inventory_diff, inventory, n",
        block_99="return 1.0 * closest_blocks[99, 0, 0]",
        below_the_first="return 1.0 * closest_blocks[-40, 0, 0]",
        fifth_intrinsic="return 1.0 * player_intrinsics_diff[4]",
        achievement_by_count="return 1.0 * achievements_diff[inventory.wood + 20] + inventory_diff.wood",
        taken="return 1.0 * jnp.take(player_intrinsics_diff, 2 * n) + inventory_diff.wood",
        written="return 1.0 * closest_blocks.at[30].set(0).sum() + inventory_diff.wood",
    )
]
UNPAID = [
    *_reward_cases(
        "gain_not_paid",
        "inventory_diff, inventory, health_penalty, n",
        sign_flipped="return -1.0 * inventory_diff.wood",
        other_gain="return 1.0 * inventory_diff.stone",
        only_damage="return health_penalty",
        less_with_each="return 0.1 * (n - inventory.wood)",
        paid_for_losing="return jnp.maximum(0.0, -1.0 * inventory_diff.wood)",
    ),
    Case(
        "dearer_to_eat_than_to_keep",
        "gain_not_paid",
        gains={"achievement:EAT_COW": {"fixed": 1}},
        done=done("achievements", "return achievements[Achievement.EAT_COW.value]"),
        reward=reward(
            "achievements_diff, closest_creatures, closest_creatures_prev",
            "now = jnp.abs(closest_creatures[CreatureType.COW.value]).sum()",
            "earlier = jnp.abs(closest_creatures_prev[CreatureType.COW.value]).sum()",
            "return 1.0 * achievements_diff[Achievement.EAT_COW.value] + 0.1 * (earlier - now)",
        ),
    ),
    *_reward_cases("constant_reward", "n, inventory_diff", constant="return -0.01", zero="return 0.0 * inventory_diff.wood"),
    *_reward_cases("too_large", "inventory_diff", a_million="return 1000000.0 * inventory_diff.wood"),
]
MISJUDGED = [
    *_done_cases("done_at_start", "inventory, n", always="return inventory.wood >= 0", true="return n > 0", upside_down="return inventory.wood < n"),
    *_done_cases(
        "never_done",
        "inventory, achievements, n",
        never="return inventory.wood > 99",
        other_resource="return inventory.diamond + inventory.iron >= 5 * n + 90",
        twice_as_much="return inventory.wood >= 2 * n",
        one_too_many="return inventory.wood > n",
    ),
    *_done_cases("not_harder", "inventory, inventory_diff, n", ignores_n="return inventory.wood >= 1", any_gain="return inventory_diff.wood > 0"),
    *_done_cases("done_without_gain", "inventory, n", one_too_few="return (inventory.wood >= n - 1) & (inventory.wood > 0)"),
    Case("easier_with_n", "not_harder", done=done("inventory, n", "return (inventory.wood == n) | (inventory.wood + n == 8)")),
    Case("another_achievement", "never_done", done=done("inventory", "return inventory.iron_sword > 5"), gains={"achievement:EAT_COW": {"fixed": 1}},
         reward=reward("achievements_diff", "return 1.0 * achievements_diff[Achievement.EAT_COW.value]")),
    Case("half_of_a_tool", "done_without_gain", done=done("inventory", "return inventory.pickaxe >= 1"), gains={"pickaxe": {"fixed": 3}},
         reward=reward("inventory_diff", "return 1.0 * inventory_diff.pickaxe"), env_name=CRAFTAX),
]  # fmt: skip

HELPER = "def helper(x):\n    return {}\n\n\ndef task_reward(n):\n    return helper(n)\n"
DEEP_HELPERS = "def f0(x):\n    return x + x\n\n" + "".join(
    f"def f{i}(x):\n    return f{i - 1}(x) * f{i - 1}(x)\n\n" for i in range(1, 60)
)
REWRITTEN = [  # misuses of constructs that are accepted because they are rewritten
    unlisted("other_alias", "import jax.numpy as np", "return np.save(n, n)"),
    unlisted("alias_of_a_module", "import os as jnp", "return jnp.getpid()"),
    unlisted("import_with_another", "import jax, os", "return n"),
    unlisted("from_jax_another", "from jax import numpy as jnp, debug", "return n"),
    unlisted("jnp_is_another", "jnp = jax.experimental", "return jnp.io_callback(n, n)"),
    unlisted("jnp_twice", "x = jnp = jax.numpy", "return n"),
    unlisted("numpy_of_jnp", "return jax.numpy.numpy.save(n, n)"),
    unlisted("private_through_numpy", "return jax.numpy.__dict__"),
    unlisted("linalg_another", "return jnp.linalg.__loader__"),
    unlisted("annotation_of_a_name", "x: open('x') = n", "return x"),
    unlisted("annotation_with_underscores", "x: n.__class__.__mro__ = n", "return x"),
    unlisted("annotation_as_text", "x: \"__import__('os').system('id')\" = n", "return x"),
    Case("annotation_of_the_result", "not_allowed", reward="def task_reward(n) -> exec('import os'):\n    return n\n"),
    unlisted("lambda_in_and", "return (lambda: open('x'))() and n > 1"),
    unlisted("call_in_a_branch", "return open('x') if n > 1 else eval('n')"),
    unlisted("cond_of_a_builtin", "return jax.lax.cond(n > 1, print, open, n)"),
    unlisted("cond_of_a_lambda", "return jax.lax.cond(n > 1, lambda x: open(x), lambda x: x, n)"),
    unlisted("select_by_text", "return jnp.select([n > 1], ['a'], default='b')"),
    unlisted("loop_too_long", "for i in range(1000):", "    n = n + i", "return n"),
    unlisted("loops_in_loops", *("    " * i + f"for i{i} in range(30):" for i in range(6)), "    " * 6 + "n = n + 1", "return n"),
    unlisted(
        "zips_of_zips",  # each line doubles the length of the loop
        "a0 = (1, 2)", *(f"a{i} = zip(a{i - 1}, a{i - 1})" for i in range(1, 60)), "for a in a59:", "    n = n + 1", "return n",
    ),
    unlisted("zip_of_itself", "a = zip(a)", "for b in a:", "    n = n + 1", "return n"),
    unlisted("loop_over_jnp", "for jnp in (jax.debug, jax.experimental):", "    jnp.print(n)", "return n"),
    unlisted("loop_over_modules", "for m in (jax.debug, jax.experimental):", "    n = m.callback(n)", "return n"),
    unlisted("loop_over_attributes", "for m in (jnp.__loader__,):", "    n = m", "return n"),
    Case("helper_opens", "not_allowed", reward=HELPER.format("open(x)")),
    Case("helper_climbs", "not_allowed", reward=HELPER.format("x.__class__.__mro__")),
    Case("helper_recurses", "not_allowed", reward=HELPER.format("helper(x)")),
    Case("helper_calls_the_function", "not_allowed", reward=HELPER.format("task_reward(x)")),
    Case("helper_of_helpers", "not_allowed", reward=DEEP_HELPERS + "def task_reward(n):\n    return f59(n)\n"),
    Case("helper_called_jnp", "not_allowed", reward=HELPER.format("x").replace("helper", "jnp")),
    Case("helper_called_max", "not_allowed", reward=HELPER.format("x").replace("helper", "max")),
    Case("helper_with_a_default", "not_allowed", reward=HELPER.format("x").replace("helper(x)", "helper(x, y=open('x'))")),
    Case("helper_with_a_decorator", "not_allowed", reward="@exec\n" + HELPER.format("x")),
    Case("helper_that_is_a_class", "not_allowed", reward="class helper:\n    x = open('x')\n\n\n" + WOOD_REWARD),
    Case("code_before_a_fence", "not_allowed", reward="print(1)\n" + WOOD_REWARD + "```python\nimport os\n```\n"),
    Case("code_in_a_fence", "not_allowed", reward="```python\nimport os\n" + WOOD_REWARD + "```\n"),
    *_reward_cases("not_finite", "inventory, inventory_diff", nan_in_the_other_branch="x = 1.0 * inventory.wood\nreturn jnp.sqrt(x - 1.0) + inventory_diff.wood if x > 0 else 0.0"),
    *_reward_cases("out_of_range", "closest_blocks, inventory_diff", loop_out_of_range="x = 1.0 * inventory_diff.wood\nfor i in range(30):\n    x += closest_blocks[i, 0, 0]\nreturn x"),
    *_reward_cases("gain_not_paid", "inventory_diff", branch_upside_down="return -1.0 if inventory_diff.wood > 0 else 0.0"),
    *_reward_cases("wrong_dtype", "inventory_diff", and_as_a_number="return inventory_diff.wood > 0 and True"),
    *_done_cases("done_at_start", "inventory, n", not_enough="return not inventory.wood >= n"),
]  # fmt: skip
BAD = [
    *(*IMPORTS, *CHAINS, *DISGUISES, *REWRITTEN, *ENDLESS, *LARGE, *UNKNOWN, *NOT_RUNNING, *WRONG_KIND),
    *(*NOT_FINITE, *OUT_OF_RANGE, *UNPAID, *MISJUDGED),
]

GOOD = [
    Case("plain"),
    Case("docstring", reward=reward("inventory_diff", '"""Pays for wood."""', "# one each", "return inventory_diff.wood * 1.0")),
    Case("integer_reward", reward=reward("inventory_diff", "return inventory_diff.wood")),
    Case("with_approach", reward=reward(
        "inventory_diff, closest_blocks, closest_blocks_prev",
        "now = jnp.abs(closest_blocks[BlockType.TREE.value]).sum()",
        "earlier = jnp.abs(closest_blocks_prev[BlockType.TREE.value]).sum()",
        "return 2.0 * inventory_diff.wood + 0.01 * jnp.clip(earlier - now, -1, 1)")),
    Case("potential", reward=reward(
        "inventory, inventory_diff, n",
        "held = jnp.minimum(inventory.wood, n) / jnp.maximum(n, 1)",
        "before = jnp.minimum(inventory.wood - inventory_diff.wood, n) / jnp.maximum(n, 1)",
        "return held - before")),
    Case("where", reward=reward("inventory_diff, health_penalty", "return jnp.where(inventory_diff.wood > 0, 1.0, -0.01) + health_penalty")),
    Case("squashed", reward=reward("inventory_diff", "return jnp.tanh(3.0 * inventory_diff.wood) + 0.1 * jax.nn.relu(inventory_diff.wood - 1.0)")),
    Case("dtypes_by_name", reward=reward("inventory_diff, n", "gain = inventory_diff.wood.astype(float)", "return gain / jnp.asarray(n, dtype=float)")),
    Case("logarithm_kept_in_range", reward=reward("inventory, inventory_diff", "return jnp.log(jnp.maximum(inventory.wood, 1)) + 1.0 * inventory_diff.wood")),
    Case("only_beside_trees", reward=reward(
        "inventory_diff, closest_blocks, health_penalty",
        "row, column = closest_blocks[BlockType.TREE.value, 0, 0], closest_blocks[BlockType.TREE.value, 1, 0]",
        "is_near = jnp.logical_or(jnp.abs(row) + jnp.abs(column) <= 6, inventory_diff.wood > 1)",
        "return inventory_diff.wood * jnp.where(is_near, 1.0, 0.0) + health_penalty")),
    Case("done_with_operators", done=done("inventory, n", "return (inventory.wood >= n) & ~(inventory.wood < n)")),
    Case("done_as_array_logic", done=done("inventory, n", "checks = jnp.array([inventory.wood >= n, n > 0])", "return jnp.all(checks)")),
    Case("eat_cow", gains={"achievement:EAT_COW": {"fixed": 1}},
         done=done("achievements", "return achievements[Achievement.EAT_COW.value]"),
         reward=reward("player_intrinsics_diff, health_penalty", "return 0.5 * jnp.maximum(player_intrinsics_diff[1], 0) + health_penalty")),
    Case("hunt_cow", gains={"achievement:EAT_COW": {"fixed": 1}},
         done=done("achievements", "return achievements[Achievement.EAT_COW.value]"),
         reward=reward("achievements_diff, closest_creatures, closest_creatures_prev",
                       "now = jnp.abs(closest_creatures[CreatureType.COW.value]).sum()",
                       "earlier = jnp.abs(closest_creatures_prev[CreatureType.COW.value]).sum()",
                       "return 1.0 * achievements_diff[Achievement.EAT_COW.value] + 0.02 * jnp.clip(earlier - now, -1, 1)")),
    Case("sleep_through_the_night", gains={"achievement:WAKE_UP": {"fixed": 1}},
         done=done("achievements", "return achievements[Achievement.WAKE_UP.value]"),
         reward=reward("achievements_diff, is_sleeping, light",
                       "return 1.0 * achievements_diff[Achievement.WAKE_UP.value] + 0.01 * is_sleeping * (1.0 - light)")),
    Case("strike_at_trees", reward=reward(
        "inventory_diff, facing", "return inventory_diff.wood + 0.01 * (facing == BlockType.TREE.value)")),
    Case("drink_by_level", gains={"achievement:COLLECT_DRINK": {"fixed": 1}},
         done=done("achievements", "return achievements[Achievement.COLLECT_DRINK.value] > 0"),
         reward=reward("achievements_diff, player_intrinsics_diff",
                       "return 5.0 * achievements_diff[Achievement.COLLECT_DRINK.value] + 0.1 * player_intrinsics_diff[2]")),
    Case("table", gains={"near:CRAFTING_TABLE": {"fixed": 1}}, requires={"wood": {"fixed": 2}},
         done=done("closest_blocks", "return jnp.max(jnp.abs(closest_blocks[BlockType.CRAFTING_TABLE.value])) <= 1"),
         reward=reward("achievements_diff", "return 1.0 * achievements_diff[Achievement.PLACE_TABLE.value]")),
    Case("wood_pickaxe", gains={"wood_pickaxe": {"fixed": 1}}, requires={"wood": {"fixed": 1}, "near:CRAFTING_TABLE": {"fixed": 1}},
         done=done("inventory", "return inventory.wood_pickaxe > 0"),
         reward=reward("achievements_diff, inventory_diff",
                       "return 1.0 * achievements_diff[Achievement.MAKE_WOOD_PICKAXE.value] + 1.0 * inventory_diff.wood_pickaxe")),
    Case("diamonds", gains={"diamond": {"per": 1}}, requires={"iron_pickaxe": {"fixed": 1}},
         done=done("inventory, n", "enough = inventory.diamond >= n", "return enough"),
         reward=reward("inventory_diff, closest_blocks",
                       "distance = jnp.abs(closest_blocks[BlockType.DIAMOND.value]).sum()",
                       "reward = 10.0 * inventory_diff.diamond", "reward -= 0.001 * jnp.minimum(distance, 20)", "return reward")),
    Case("stone_sword_and_achievement", gains={"stone_sword": {"fixed": 1}, "achievement:MAKE_STONE_SWORD": {"fixed": 1}},
         done=done("achievements, inventory", "return jnp.logical_and(achievements[Achievement.MAKE_STONE_SWORD.value], inventory.stone_sword == 1)"),
         reward=reward("inventory_diff", "return 1.0 * (inventory_diff.stone_sword > 0)")),
    Case("two_gains", gains={"wood": {"per": 2}, "stone": {"per": 1, "fixed": 1}},
         done=done("inventory, n", "return jnp.logical_and(inventory.wood >= 2 * n, inventory.stone >= n + 1)"),
         reward=reward("inventory_diff", "return 0.5 * inventory_diff.wood + 0.5 * inventory_diff.stone")),
    Case("place_stone", gains={"achievement:PLACE_STONE": {"fixed": 1}}, requires={"stone": {"fixed": 1}},
         done=done("achievements", "return achievements[Achievement.PLACE_STONE.value]"),
         reward=reward("inventory_diff", "return -1.0 * inventory_diff.stone")),
    Case("descend", gains={"level:DUNGEON": {"fixed": 1}}, env_name=CRAFTAX,
         done=done("player_level", "return player_level == 1"),
         reward=reward("player_level_diff, monsters_killed_diff, health_penalty",
                       "return 1.0 * player_level_diff + 0.1 * monsters_killed_diff[0] + health_penalty")),
    Case("clear_the_dungeon", gains={"cleared:DUNGEON": {"fixed": 1}}, requires={"level:DUNGEON": {"fixed": 1}}, env_name=CRAFTAX,
         done=done("monsters_killed", "return monsters_killed[1] >= 8"),
         reward=reward("monsters_killed_diff", "return monsters_killed_diff.sum() * 0.25")),
    Case("iron_armour", gains={"armour": {"fixed": 1}}, env_name=CRAFTAX,
         done=done("inventory", "return jnp.any(inventory.armour > 0)"),
         reward=reward("inventory_diff", "return 1.0 * jnp.sum(inventory_diff.armour)")),
    Case("torches", gains={"torches": {"per": 4}}, env_name=CRAFTAX,
         done=done("inventory, n", "return inventory.torches >= 4 * n"),
         reward=reward("inventory_diff, achievements_diff",
                       "return 0.25 * inventory_diff.torches + 1.0 * achievements_diff[Achievement.MAKE_TORCH.value]")),
    Case("orc", gains={"achievement:DEFEAT_ORC_SOLIDER": {"fixed": 1}}, requires={"level:DUNGEON": {"fixed": 1}}, env_name=CRAFTAX,
         done=done("achievements", "return achievements[Achievement.DEFEAT_ORC_SOLIDER.value]"),
         reward=reward("monsters_killed_diff, player_level", "return 1.0 * monsters_killed_diff[player_level]")),
    Case("snail_by_menu", gains={"achievement:EAT_SNAIL": {"fixed": 1}}, env_name=CRAFTAX,
         done=done("achievements", "return achievements[Achievement.EAT_SNAIL.value]"),
         reward=write_reward([Gain("achievement:EAT_SNAIL"), Pay("approach", "SNAIL"), Pay("avoid_damage")], game(CRAFTAX).facts)),
    Case("back_up", gains={"level:OVERWORLD": {"fixed": 1}}, requires={"level:DUNGEON": {"fixed": 1}}, env_name=CRAFTAX,
         done=done("player_level", "return player_level < 1"),
         reward=reward("player_level_diff", "return -1.0 * player_level_diff")),
]  # fmt: skip
