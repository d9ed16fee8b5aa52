"""The real games, in states with exactly what a skill declares, played by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flowrl.envs.craftax.facts import MONSTERS_TO_CLEAR
from flowrl.envs.features import Features, task_inputs
from flowrl.envs.registry import game, make_adapter
from flowrl.skills.module import TaskSource, compile_module, render_module
from flowrl.skills.spec import SkillSpec

FRONT, LEFT, RIGHT, BEHIND = (-1, 0), (0, -1), (0, 1), (1, 0)
FACING_UP = 3
ELSEWHERE = "SEWERS"
"""A floor that no skill of the curriculum has to do with: where the player stands when a floor is taken away."""


@dataclass(frozen=True)
class Scene:
    """What a skill's world contains besides what the skill declares, and what to do there."""

    actions: tuple[str, ...]
    front: str | None = None
    """The block in front of the player; put back after each step, so that it can be used again."""
    mob: tuple[str, int] | None = None
    """A mob in front, walled in: which of the game's kinds, and its type there."""
    setup: Callable[[Any, Stage], dict[str, Any]] | None = None
    """Further fields of the game's state."""
    loot: bool = False
    """Chests give more than what is asked of them: stocks may rise undeclared."""


@dataclass
class Played:
    """The result of playing a scene."""

    done_at_start: bool
    done: bool
    rewards: float
    before: dict[str, int]
    after: dict[str, int]
    achievements: set[str] = field(default_factory=set)


class Stage:
    """One game, with an empty sandy world in which no mob appears by itself.

    It is played by the same programs as in `tests.envs.played`, which take minutes to compile: the file of tests that comes
    second finds them in JAX's cache.
    """

    def __init__(self, env_name: str):
        self.facts = game(env_name).facts
        self.floors = self.facts.members("level")
        self.adapter = make_adapter(env_name)
        self._reset, self._step, self._features = map(jax.jit, (self.adapter.reset, self.adapter.step, self.adapter.features))
        fresh = self.new_world(0)
        self.fresh = jax.tree.map(np.asarray, fresh.replace(state_rng=np.zeros(2, np.uint32)))
        self.rng = fresh.state_rng

    def play(self, spec: SkillSpec, scene: Scene, n: int = 1, without: str | None = None) -> Played:
        """Plays a skill from a state with exactly what it declares, minus one unit of the resource ``without``."""
        functions = self.functions(spec)
        state = self.prepared(spec, scene, n, without)
        look = self._look(state, n)
        result = Played(bool(_call(functions.is_done, functions.is_done_params, look)), False, 0.0, self.held(look), {})
        for position, action in enumerate(scene.actions):
            state, look, is_over = self._play_step(
                jax.random.key(position), state, self.adapter.scope["Action"][action].value, n
            )
            result.rewards += float(_call(functions.reward, functions.reward_params, look))
            result.done = bool(_call(functions.is_done, functions.is_done_params, look)) and not is_over
            if result.done or is_over:
                break
            state = self.restocked(state, spec, scene)
        result.after = self.held(look)
        names = {member.value: member.name for member in self.adapter.scope["Achievement"]}
        result.achievements = {names[index] for index in np.flatnonzero(look.achievements)}
        return result

    def new_world(self, seed: int) -> Any:
        """A world as the game generates it."""
        return self._reset(jax.random.key(seed))[1]

    def steps_to_eat(self, spec: SkillSpec, scene: Scene, at_most: int) -> int | None:
        """Steps for a player kept healthy to wait next to a new sapling and eat the ripe plant; None if more than
        ``at_most``."""
        functions = self.functions(spec)
        state = self.with_young_plant(self.prepared(spec, scene, 1, None), age=0)
        well = {name: getattr(state, name) for name in ("player_health", "player_food", "player_drink", "player_energy")}
        actions = self.adapter.scope["Action"]
        for step in range(1, at_most + 1):
            is_ripe = self.front_block(state) == self.block("RIPE_PLANT")
            action = actions.DO if is_ripe else actions.NOOP
            state, look, _ = self._play_step(jax.random.key(step), state.replace(**well), action.value, 1)
            if is_ripe and _call(functions.is_done, functions.is_done_params, look):
                return step
        return None

    def functions(self, spec: SkillSpec):
        task = TaskSource(spec.name, 1, 0, spec.task_is_done, spec.task_reward)
        return compile_module(render_module(spec.name, 0, {0: 0}, [task]), self.adapter.scope, self.facts.feature_names)[0]

    def held(self, look: Any) -> dict[str, int]:
        names = self.facts.inventory_fields
        return {name: int(np.sum(getattr(look.inventory, name))) for name in names}

    def prepared(self, spec: SkillSpec, scene: Scene, n: int, without: str | None) -> Any:
        levels = {name: amount.at(n) - (name == without) for name, amount in spec.requires.items()}
        state = self.empty_world()
        state = self.edit(state, inventory=self.inventory(state, levels))
        state = self.on_floor(state, levels)
        places = [name.removeprefix("near:") for name, level in levels.items() if name.startswith("near:") and level]
        blocks = dict(zip((FRONT, LEFT, RIGHT), places))
        if scene.front:
            blocks[FRONT] = scene.front
        if scene.mob:
            blocks |= dict.fromkeys(((-2, 0), (-1, -1), (-1, 1)), "STONE")
        state = self.with_blocks(state, spec, blocks)
        if scene.mob:
            state = self.with_mob(state, spec, *scene.mob)
        if scene.setup:
            state = self.edit(state, **scene.setup(state, self))
        if levels.get("near:PLANT"):
            state = self.with_young_plant(state)
        if levels.get("in:SHELTER"):
            state = self.with_blocks(state, spec, dict.fromkeys((FRONT, LEFT, RIGHT, BEHIND), "STONE"))
        return state.replace(state_rng=self.rng)

    def inventory(self, state: Any, levels: dict[str, int]) -> Any:
        held = {}
        for name in self.facts.inventory_fields:
            empty = np.zeros_like(getattr(state.inventory, name))
            level = levels.get(name, 0)
            held[name] = empty + level if empty.ndim == 0 else np.eye(len(empty), dtype=empty.dtype)[0] * level
        return state.inventory.replace(**held)

    def edit(self, state: Any, **fields: Any) -> Any:
        """The state with some fields replaced; each keeps its type, so that nothing is recompiled."""

        def same_type(old, new):
            return jnp.asarray(new, old.dtype)

        typed = {name: jax.tree.map(same_type, getattr(state, name), value) for name, value in fields.items()}
        return state.replace(**typed)

    def restocked(self, state: Any, spec: SkillSpec, scene: Scene) -> Any:
        return self.with_blocks(state, spec, {FRONT: scene.front}) if scene.front else state

    def _look(self, state: Any, n: int) -> Any:
        found: Features = self._features(state)
        return task_inputs(found, found, n)

    def _play_step(self, key: jax.Array, state: Any, action: int, n: int) -> tuple[Any, Any, bool]:
        before: Features = self._features(state)
        _, state, is_over = self._step(key, state, jnp.int32(action))
        return state, task_inputs(before, self._features(state), n), bool(is_over)

    def block(self, name: str) -> int:
        return self.adapter.scope["BlockType"][name].value

    @property
    def middle(self) -> np.ndarray:
        return np.array(self.fresh.map.shape[-2:]) // 2

    def cleared(self, mobs: Any) -> Any:
        return mobs.replace(mask=np.zeros_like(mobs.mask))


class ClassicStage(Stage):
    """Craftax-Classic."""

    kinds = {"cow": "cows", "zombie": "zombies", "skeleton": "skeletons"}

    def empty_world(self) -> Any:
        state = self.fresh
        return self.edit(
            state,
            map=np.full_like(state.map, self.block("SAND")),
            mob_map=np.zeros_like(state.mob_map),
            achievements=np.zeros_like(state.achievements),
            player_position=self.middle,
            player_direction=FACING_UP,
            **{name: self.cleared(getattr(state, name)) for name in (*self.kinds.values(), "arrows")},
        )

    def on_floor(self, state: Any, levels: dict[str, int]) -> Any:
        return state

    def with_blocks(self, state: Any, spec: SkillSpec, blocks: dict[tuple[int, int], str]) -> Any:
        world = np.array(state.map)
        for offset, name in blocks.items():
            world[tuple(self.middle + offset)] = self.block(name)
        return self.edit(state, map=world)

    def with_mob(self, state: Any, spec: SkillSpec, kind: str, type_id: int) -> Any:
        mobs, position = getattr(state, self.kinds[kind]), self.middle + FRONT
        places, mask, health = np.array(mobs.position), np.array(mobs.mask), np.array(mobs.health)
        places[0], mask[0], health[0] = position, True, 3
        mob_map = np.array(state.mob_map)
        mob_map[tuple(position)] = True
        mobs = mobs.replace(position=places, mask=mask, health=health)
        return self.edit(state, mob_map=mob_map, **{self.kinds[kind]: mobs})

    def front_block(self, state: Any) -> int:
        return int(np.asarray(state.map)[tuple(self.middle + FRONT)])

    def with_young_plant(self, state: Any, age: int = 590) -> Any:
        places, ages, mask = (np.array(getattr(state, f"growing_plants_{name}")) for name in ("positions", "age", "mask"))
        places[0], ages[0], mask[0] = self.middle + FRONT, age, True
        return self.edit(state, growing_plants_positions=places, growing_plants_age=ages, growing_plants_mask=mask)


class CraftaxStage(ClassicStage):
    """Craftax. What a skill's scene shows is built on the floor that the skill requires, and on no other."""

    kinds = {"passive": "passive_mobs", "melee": "melee_mobs", "ranged": "ranged_mobs"}

    def empty_world(self) -> Any:
        state = self.fresh
        return self.edit(
            state,
            map=np.full_like(state.map, self.block("SAND")),
            item_map=np.zeros_like(state.item_map),
            mob_map=np.zeros_like(state.mob_map),
            light_map=np.ones_like(state.light_map),
            achievements=np.zeros_like(state.achievements),
            player_position=self.middle,
            player_direction=FACING_UP,
            **{
                name: self.cleared(getattr(state, name))
                for name in (*self.kinds.values(), "mob_projectiles", "player_projectiles")
            },
        )

    def floor(self, spec: SkillSpec) -> int:
        names = [name.removeprefix("level:") for name in spec.requires if name.startswith("level:")]
        return self.floors.index(names[0]) if names else 0

    def on_floor(self, state: Any, levels: dict[str, int]) -> Any:
        kills = np.array(state.monsters_killed)
        floor = 0
        for name, level in levels.items():
            family, _, member = name.partition(":")
            if family == "level":
                floor = self.floors.index(member if level else ELSEWHERE)
            if family == "cleared":
                kills[self.floors.index(member)] = MONSTERS_TO_CLEAR - 1 + level
        return self.edit(state, player_level=floor, monsters_killed=kills)

    def with_blocks(self, state: Any, spec: SkillSpec, blocks: dict[tuple[int, int], str]) -> Any:
        world = np.array(state.map)
        for offset, name in blocks.items():
            world[(self.floor(spec), *(self.middle + offset))] = self.block(name)
        return self.edit(state, map=world)

    def front_block(self, state: Any) -> int:
        return int(np.asarray(state.map)[(int(state.player_level), *(self.middle + FRONT))])

    def amount(self, world: Any, name: str) -> np.ndarray:
        """How many cells of each floor, ``[num_floors]``, hold a block or an item."""
        items = self.adapter.scope["ItemType"].__members__
        cells = world.item_map == items[name].value if name in items else world.map == self.block(name)
        return np.asarray(cells).sum(axis=(1, 2))

    def with_mob(self, state: Any, spec: SkillSpec, kind: str, type_id: int) -> Any:
        mobs, position, floor = getattr(state, self.kinds[kind]), self.middle + FRONT, self.floor(spec)
        arrays = {name: np.array(getattr(mobs, name)) for name in ("position", "mask", "health", "type_id")}
        for name, value in (("position", position), ("mask", True), ("health", 3), ("type_id", type_id)):
            arrays[name][floor, 0] = value
        mob_map = np.array(state.mob_map)
        mob_map[(floor, *position)] = True
        return self.edit(state, mob_map=mob_map, **{self.kinds[kind]: mobs.replace(**arrays)})


def ladder_down(state: Any, stage: Stage) -> dict[str, Any]:
    """A ladder down under the player, on every floor except the one that stands for elsewhere."""
    items = np.array(state.item_map)
    items[(slice(None), *stage.middle)] = stage.adapter.scope["ItemType"].LADDER_DOWN.value
    items[stage.floors.index(ELSEWHERE)] = 0
    return {"item_map": items}


def seven_killed(state: Any, stage: Stage) -> dict[str, Any]:
    """One monster fewer than clears the dungeon."""
    kills = np.array(state.monsters_killed)
    kills[stage.floors.index("DUNGEON")] = MONSTERS_TO_CLEAR - 1
    return {"monsters_killed": kills}


def tired(state: Any, stage: Stage) -> dict[str, Any]:
    """One point of energy missing: a fully rested player does not fall asleep."""
    return {"player_energy": 8}


def hollow(state: Any, stage: Stage) -> dict[str, Any]:
    """Solid stone, but for the player's cell, the one to its right, and three tunnels that lead there."""
    world = np.full_like(state.map, stage.block("STONE"))
    row, column = stage.middle
    world[row, column - 2 : column + 4] = world[row - 2 : row, column] = stage.block("SAND")
    return {"map": world}


def hunted_at_dawn(state: Any, stage: Stage) -> dict[str, Any]:
    """Some steps before it is light, with little health and a zombie two cells away, which sees the player."""
    zombies, position = state.zombies, stage.middle + np.array((-2, 0))
    places, mask, health = np.array(zombies.position), np.array(zombies.mask), np.array(zombies.health)
    places[0], mask[0], health[0] = position, True, 5
    mob_map = np.array(state.mob_map)
    mob_map[tuple(position)] = True
    zombies = zombies.replace(position=places, mask=mask, health=health)
    return {"timestep": 245, "light_level": 0.2, "player_health": 2, "mob_map": mob_map, "zombies": zombies}


def _call(function: Callable[..., Any], names: Sequence[str], look: Any) -> Any:
    return function(*(getattr(look, name) for name in names))
