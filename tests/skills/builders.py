"""Small skills for tests, and a game with three floors to plan them in."""

from __future__ import annotations

from flowrl.envs.craftax import facts
from flowrl.skills.facts import GameFacts
from flowrl.skills.spec import SkillSpec

IS_DONE = "def task_is_done(inventory, n):\n    return inventory.wood >= n\n"
REWARD = "def task_reward(inventory_diff):\n    return 1.0 * inventory_diff.wood\n"

BLOCKS = ("TREE", "TABLE", "FURNACE")
FLOORS = ("GROUND", "CELLAR", "CAVE")
FACTS = GameFacts(
    env_name="Test-Game",
    stocks={"wood": 9, "stone": 9, "arrows": 9, "gem": 9},
    possessions={"pickaxe": 2, "bow": 1},
    features=(
        facts.INVENTORY,
        facts.CLOSEST_BLOCKS,
        facts.PLAYER_LEVEL,
        facts.MONSTERS_KILLED,
        facts.PLAYER_INTRINSICS,
        facts.ACHIEVEMENTS,
        facts.HEALTH_PENALTY,
    ),
    families=(facts.near(BLOCKS), facts.unlocked(("SLEEP",)), facts.on_floor(FLOORS), facts.cleared(FLOORS)),
    constants={"BlockType": BLOCKS, "Achievement": ("SLEEP",)},
)


def skill(name, requires=None, consumes=None, gains=None, **code) -> SkillSpec:
    """A skill with amounts in short form: a number is fixed, a string such as ``"2n"`` or ``"2n+1"`` grows with ``n``."""
    amounts = {"requires": requires, "consumes": consumes, "gains": gains}
    return SkillSpec.from_data(
        {
            "skill_name": name,
            **{role: {key: amount(value) for key, value in (given or {}).items()} for role, given in amounts.items()},
            "task_is_done": code.get("task_is_done", IS_DONE),
            "task_reward": code.get("task_reward", REWARD),
        }
    )


def amount(value) -> dict:
    if not isinstance(value, str):
        return {"fixed": value}
    per, _, fixed = value.partition("n")
    return {"per": int(per or 1), "fixed": int(fixed or 0)}


def by_name(*skills: SkillSpec) -> dict[str, SkillSpec]:
    return {spec.name: spec for spec in skills}


def short(plan) -> str:
    """A plan as one line: ``Wood*3 Table*1``."""
    return " ".join(f"{task['skill_name']}*{task['n']}" for task in plan)
