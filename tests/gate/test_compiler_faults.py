"""What the compiler cannot do is no fault of a skill's code."""

import pytest

from tests.gate.corpus import CLASSIC, CRAFTAX, Case, reward

SUMS = {
    "the distance to a block": (
        "v = closest_blocks[BlockType.TREE.value, :, 0].astype(jnp.float32)",
        "return 1.0 * inventory_diff.wood - 0.01 * jnp.sum(jnp.abs(v))",
    ),
    "how much nearer a block is": (
        "now = closest_blocks[BlockType.TREE.value, :, 0].astype(jnp.float32)",
        "before = closest_blocks_prev[BlockType.TREE.value, :, 0].astype(jnp.float32)",
        "return 1.0 * inventory_diff.wood + 0.01 * (jnp.sum(jnp.abs(before)) - jnp.sum(jnp.abs(now)))",
    ),
    "how far all blocks are": (
        "return 1.0 * inventory_diff.wood - 1e-4 * closest_blocks.astype(jnp.float32).sum()",
    ),
    "a matrix product": (
        "v = closest_blocks[:, :, 0].astype(jnp.float32)",
        "return 1.0 * inventory_diff.wood + 1e-6 * jnp.dot(v.T, v).sum()",
    ),
}  # fmt: skip


@pytest.mark.parametrize("env_name", [CLASSIC, CRAFTAX])
@pytest.mark.parametrize("lines", SUMS.values(), ids=SUMS)
def test_sums_over_numbers_pass(lines, env_name, gates):
    case = Case("", reward=reward("inventory_diff, closest_blocks, closest_blocks_prev", *lines), env_name=env_name)
    report = gates[env_name].report(case.spec)
    assert report["passed"], report["message"]
