"""The recorded states cover enough of the games to try code on, and edits do what they should."""

import pickle

import numpy as np
import pytest

from flowrl.envs.craftax.facts import NOT_IN_VIEW
from flowrl.envs.craftax.steps import creature_of
from flowrl.envs.registry import game, make_steps
from flowrl.errors import BadInput
from flowrl.gate import edited_states, recorded_states
from flowrl.gate.edited_states import Editor
from flowrl.paths import cache_folder
from flowrl.skills.facts import Feature, Kind
from tests.gate.corpus import CLASSIC, CRAFTAX


@pytest.fixture(scope="module", params=[CLASSIC, CRAFTAX])
def recorded(request, gates):
    gates[request.param].report(_any_skill(request.param))  # makes the recording if there is none
    return recorded_states.load(request.param, cache_folder())


def _any_skill(env_name):
    from tests.gate.corpus import GOOD

    return next(case for case in GOOD if case.env_name == env_name).spec


def held(rows, name):
    values = rows["inventory"][name]
    return values.reshape(len(values), -1).sum(axis=1)


def test_it_holds_thousands_of_steps_of_the_real_game(recorded):
    facts = game(recorded.env_name).facts
    assert edited_states.count(recorded.before) > 2_500
    assert recorded.before["closest_blocks"].shape[1:] == (len(facts.members("near")), 2, 1)
    assert set(recorded.enums) >= {"BlockType", "CreatureType", "Achievement", "Action"}
    assert tuple(recorded.enums["CreatureType"]) == facts.constants["CreatureType"]
    assert set(recorded.enums["Achievement"]) == set(facts.members("achievement"))


def test_play_gains_loses_makes_and_places_many_things(recorded):
    facts = game(recorded.env_name).facts
    change = {name: held(recorded.after, name) - held(recorded.before, name) for name in facts.inventory_fields}
    gained = {name for name, diff in change.items() if (diff > 0).any()}
    lost = {name for name, diff in change.items() if (diff < 0).any()}
    assert gained >= {"wood", "stone", "sapling"} and lost >= {"wood", "stone"}
    unlocked = (recorded.after["achievements"] & ~recorded.before["achievements"]).any(axis=0)
    assert unlocked.sum() >= 12
    health = recorded.after["player_intrinsics"][:, 0] - recorded.before["player_intrinsics"][:, 0]
    assert (health < 0).any() and (health > 0).any()


def test_creatures_are_met_and_the_night_is_slept_through_or_not(recorded):
    met = (recorded.before["closest_creatures"][:, :, 0, 0] != NOT_IN_VIEW).any(axis=0)
    names = {name for name, value in recorded.enums["CreatureType"].items() if met[value]}
    assert {"COW", "ZOMBIE"} <= names
    assert len(names) >= (2 if recorded.env_name == CLASSIC else 8)
    assert recorded.before["is_sleeping"].any() and not recorded.before["is_sleeping"].all()
    assert len(np.unique(recorded.before["facing"])) >= 8 and np.ptp(recorded.before["light"]) > 0.1


def test_craftax_is_played_on_several_floors(gates):
    floors = np.unique(recorded_states.load(CRAFTAX, cache_folder()).before["player_level"])
    assert len(floors) >= 5


def test_fresh_worlds_hold_nothing_yet(recorded):
    facts = game(recorded.env_name).facts
    assert not recorded.fresh["achievements"].any()
    assert not sum(held(recorded.fresh, name).sum() for name in ("wood", "stone", "diamond"))
    assert facts.start_place is None or not recorded.fresh["player_level"].any()


def test_every_resource_can_be_edited_in_and_out(recorded):
    facts = game(recorded.env_name).facts
    editor = Editor(make_steps(facts.env_name))
    rows = edited_states.taken(recorded.before, np.arange(5))
    original = edited_states.copied(rows)
    for resource in facts.resources():
        level = facts.highest(resource)
        before, full, without = editor.gained(rows, rows, {resource: level})
        assert (read(facts, recorded, full, resource) == level).all(), resource
        for short in (before, without):
            assert (read(facts, recorded, short, resource) < level).all(), resource
    for name in ("achievements", "closest_blocks", "player_level"):
        np.testing.assert_array_equal(rows[name], original[name], err_msg="the recording itself was changed")


def read(facts, recorded, rows, resource):
    """The amount of a resource, read as the docs describe it."""
    family, _, member = resource.partition(":")
    if family == "near":
        return (np.abs(rows["closest_blocks"][:, recorded.enums["BlockType"][member]]).max(axis=(1, 2)) <= 1).astype(int)
    if family == "achievement":
        return rows["achievements"][:, recorded.enums["Achievement"][member]].astype(int)
    if family == "level":
        return (rows["player_level"] == facts.members("level").index(member)).astype(int)
    if family == "cleared":
        return (rows["monsters_killed"][:, facts.members("level").index(member)] >= 8).astype(int)
    if family == "in":
        return (rows["ways_in"] <= 1).astype(int)
    if family == "through":
        return ((rows["ways_in"] <= 1) & (rows["light"] > 0.45)).astype(int)
    assert facts.kind(resource) in (Kind.STOCK, Kind.POSSESSION)
    return held(rows, resource)


@pytest.mark.parametrize(
    ("env_name", "achievement", "expected"),
    [
        (CLASSIC, "COLLECT_WOOD", ("wood", 1)),
        (CLASSIC, "MAKE_IRON_SWORD", ("iron_sword", 1)),
        (CLASSIC, "PLACE_TABLE", ("near:CRAFTING_TABLE", 1)),
        (CLASSIC, "EAT_COW", None),
        (CRAFTAX, "MAKE_IRON_PICKAXE", ("pickaxe", 3)),
        (CRAFTAX, "MAKE_DIAMOND_ARMOUR", ("armour", 4)),
        (CRAFTAX, "MAKE_TORCH", ("torches", 1)),
        (CRAFTAX, "FIND_BOW", ("bow", 1)),
        (CRAFTAX, "ENTER_DUNGEON", ("level:DUNGEON", 1)),
        (CRAFTAX, "PLACE_TORCH", None),
    ],
)
def test_an_achievement_goes_with_what_the_game_gives_with_it(env_name, achievement, expected):
    assert make_steps(env_name).together.get(f"achievement:{achievement}") == expected


def test_eating_a_cow_also_restores_food(gates):
    recorded = recorded_states.load(CLASSIC, cache_folder())
    editor = Editor(make_steps(CLASSIC))
    before, full, without = editor.gained(recorded.before, recorded.after, {"achievement:EAT_COW": 1})
    assert (full["player_intrinsics"][:, 1] >= before["player_intrinsics"][:, 1]).all()
    assert (full["player_intrinsics"][:, 1] > without["player_intrinsics"][:, 1]).any()


@pytest.mark.parametrize(
    ("env_name", "achievement", "creature"),
    [
        (CLASSIC, "EAT_COW", "COW"), (CLASSIC, "DEFEAT_SKELETON", "SKELETON"), (CRAFTAX, "DEFEAT_ORC_SOLIDER", "ORC_SOLDIER"),
        (CRAFTAX, "EAT_SNAIL", "SNAIL"), (CRAFTAX, "DEFEAT_ZOMBIE", "ZOMBIE"),
    ],
)  # fmt: skip
def test_a_creature_that_is_eaten_or_beaten_is_gone_and_the_others_stay(gates, env_name, achievement, creature):
    recorded = recorded_states.load(env_name, cache_folder())
    index = recorded.enums["CreatureType"][creature]
    _, full, without = Editor(make_steps(env_name)).gained(recorded.before, recorded.after, {f"achievement:{achievement}": 1})
    assert (full["closest_creatures"][:, index] == NOT_IN_VIEW).all()
    np.testing.assert_array_equal(without["closest_creatures"], recorded.after["closest_creatures"])
    np.testing.assert_array_equal(*(np.delete(rows["closest_creatures"], index, axis=1) for rows in (full, without)))


def test_every_achievement_for_eating_or_beating_is_for_a_creature_but_two():
    for env_name, others in ((CLASSIC, {"PLANT"}), (CRAFTAX, {"PLANT", "NECROMANCER"})):
        achievements, creatures = game(env_name).facts.members("achievement"), game(env_name).facts.constants["CreatureType"]
        assert {creature_of(name) for name in achievements} - set(creatures) == others | {None}


def test_whoever_wakes_up_is_awake(gates):
    recorded = recorded_states.load(CLASSIC, cache_folder())
    _, full, without = Editor(make_steps(CLASSIC)).gained(recorded.before, recorded.after, {"achievement:WAKE_UP": 1})
    assert without["is_sleeping"].any() and not full["is_sleeping"].any()


def test_another_version_needs_its_own_recording_and_a_foreign_file_is_refused(tmp_path, monkeypatch):
    path = recorded_states.path_of(CLASSIC, tmp_path)
    monkeypatch.setattr(recorded_states, "VERSION", recorded_states.VERSION + 1)
    assert recorded_states.path_of(CLASSIC, tmp_path) != path
    with pytest.raises(FileNotFoundError):
        recorded_states.load(CLASSIC, tmp_path)
    recorded_states.path_of(CLASSIC, tmp_path).parent.mkdir()
    recorded_states.pickles.dump(recorded_states.path_of(CLASSIC, tmp_path), {"format": "another"})
    with pytest.raises(BadInput, match="contains no recorded states; delete it"):
        recorded_states.load(CLASSIC, tmp_path)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([CLASSIC, "/dev/null/cache"], ["/dev/null/cache/recorded_states", "set FLOWRL_CACHE_DIR"]),
        ([CLASSIC, ""], ["FOLDER is empty"]),
        (["Chess", "x"], ["ENV_NAME", CLASSIC]),
        ([], ["ENV_NAME FOLDER"]),
    ],
)
def test_an_error_of_the_command_is_one_line_and_exit_code_2(arguments, words, capsys):
    assert recorded_states.main(arguments) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and all(word in said for word in words)


def test_the_command_expands_a_tilde(monkeypatch, tmp_path):
    path = recorded_states.path_of(CLASSIC, tmp_path / "kept")
    path.parent.mkdir(parents=True)
    before = pickle.dumps(_recorded_before())
    path.write_bytes(before)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert recorded_states.main([CLASSIC, "~/kept"]) == 0
    assert path.read_bytes() == before


@pytest.mark.parametrize("missing", ["closest_blocks", "closest_creatures", "is_sleeping"])
def test_states_are_recorded_again_if_a_feature_is_missing(tmp_path, missing):
    path = recorded_states.path_of(CLASSIC, tmp_path)
    path.parent.mkdir()
    path.write_bytes(pickle.dumps(_recorded_before()))
    assert set(recorded_states.load(CLASSIC, tmp_path).before) == set(_features())
    path.write_bytes(pickle.dumps(_recorded_before(without=missing)))
    with pytest.raises(FileNotFoundError, match=f"lacks {missing}"):
        recorded_states.load(CLASSIC, tmp_path)


def _features():
    return [feature.name for feature in game(CLASSIC).facts.features if isinstance(feature, Feature)]


def _recorded_before(without=None):
    """A recording of an earlier version, which also stored features that the game does not declare."""
    rows = {name: np.zeros(1) for name in (*_features(), "monsters_killed") if name != without}
    return {"format": recorded_states.FORMAT, "env_name": CLASSIC, "enums": {}, "before": rows, "after": rows, "fresh": rows}
