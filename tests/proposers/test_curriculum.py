from dataclasses import replace

import pytest

from flowrl.bottomup_parallel import main
from flowrl.envs.registry import GAMES, game
from flowrl.errors import BadInput
from flowrl.proposers.base import LibraryView
from flowrl.proposers.curricula import craftax_classic
from flowrl.proposers.curriculum import CurriculumProposer, curriculum_names, load_curriculum
from flowrl.skills.menu import Recipe, once

CLASSIC = game("Craftax-Classic-Symbolic-v1").facts
CRAFTAX = game("Craftax-Symbolic-v1").facts


def proposer():
    return CurriculumProposer("craftax_classic", CLASSIC)


def spec_of(offer):
    """Examines nothing."""
    return offer.spec


def named(*names):
    skills = {spec.name: spec for spec in load_curriculum("craftax_classic", CLASSIC)}
    return {name: skills[name] for name in names}


@pytest.mark.parametrize("entry", GAMES.values(), ids=GAMES)
def test_a_whole_curriculum_is_proposed_in_its_order_and_then_no_more(entry):
    proposes, library = CurriculumProposer(entry.curriculum, entry.facts), {}
    while spec := proposes.propose(LibraryView(entry.facts, completed=library), spec_of):
        library[spec.name] = spec
    assert list(library) == [spec.name for spec in load_curriculum(entry.curriculum, entry.facts)]


def test_the_first_skills_of_classic_are_those_of_the_demo():
    names = [spec.name for spec in load_curriculum("craftax_classic", CLASSIC)]
    assert names[:6] == [
        *("Collect_Wood", "Collect_Drink", "Place_Table", "Make_Wood_Pickaxe", "Make_Wood_Sword", "Collect_Stone")
    ]


def test_classic_has_a_skill_for_each_of_its_achievements():
    gained = {name for spec in load_curriculum("craftax_classic", CLASSIC) for name in spec.gains}
    assert {f"achievement:{name}" for name in CLASSIC.members("achievement")} <= gained
    assert len(load_curriculum("craftax_classic", CLASSIC)) == 24


@pytest.mark.parametrize("entry", GAMES.values(), ids=GAMES)
def test_what_is_rare_is_not_punished_for_wounds_and_has_time(entry):
    skills = {spec.name: spec for spec in load_curriculum(entry.curriculum, entry.facts)}
    for name in ("Eat_Cow", "Defeat_Zombie", "Defeat_Skeleton", "Collect_Coal", "Collect_Iron", "Collect_Diamond"):
        assert "health_penalty" not in skills[name].task_reward and skills[name].max_task_steps == 200, name
    wood = skills["Collect_Wood"]
    assert "health_penalty" in wood.task_reward and wood.max_task_steps is None


def test_craftax_leads_from_the_overworld_to_the_gnomish_mines():
    skills = load_curriculum("craftax", CRAFTAX)
    assert len(skills) >= 30
    gained = {name for spec in skills for name in spec.gains}
    assert {"level:DUNGEON", "level:GNOMISH_MINES", "cleared:DUNGEON"} <= gained


def test_a_skill_in_training_may_be_built_upon():
    view = LibraryView(CLASSIC, completed={}, training=named("Collect_Wood", "Collect_Drink"))
    assert proposer().propose(view, spec_of).name == "Place_Table"


def test_a_skill_out_of_reach_is_passed_over():
    view = LibraryView(CLASSIC, {}, named("Collect_Drink"), unavailable=frozenset({"Collect_Wood"}))
    assert proposer().propose(view, spec_of).name == "Collect_Sapling"


def test_a_failed_skill_is_not_proposed_again():
    view = LibraryView(CLASSIC, named("Collect_Wood"), unavailable=frozenset({"Collect_Drink", "Place_Table"}))
    assert proposer().propose(view, spec_of).name == "Collect_Sapling"


def test_the_skills_that_are_left_are_those_that_the_experiment_does_not_have():
    assert proposer().num_left(LibraryView(CLASSIC, {})) == 24
    view = LibraryView(CLASSIC, named("Collect_Wood"), named("Place_Table"), frozenset({"Collect_Drink", "Of_My_Own"}))
    assert proposer().num_left(view) == 21


def test_skills_that_can_never_be_reached_again_are_not_left():
    view = LibraryView(CLASSIC, named("Collect_Drink"), unavailable=frozenset({"Collect_Wood"}))
    left, known = set(), view
    while found := proposer().propose(known, spec_of):
        left.add(found.name)
        known = LibraryView(CLASSIC, {**known.completed, found.name: found}, unavailable=view.unavailable)
    assert "Place_Table" not in left and proposer().num_left(view) == len(left) > 0


def test_a_skill_that_does_not_pass_ends_a_fixed_list():
    def examine(offer):
        raise BadInput(f"not {offer.name}")

    with pytest.raises(BadInput, match="not Collect_Wood"):
        proposer().propose(LibraryView(CLASSIC, {}), examine)


def test_the_curriculum_says_what_it_is_and_costs_nothing():
    assert proposer().describe() == "the built-in curriculum craftax_classic (24 skills, no network, no cost)"
    assert proposer().state == {"kind": "curriculum", "cost_usd": 0.0, "last_error": None}


def test_an_unknown_curriculum_is_refused_with_the_choices():
    assert curriculum_names() == ["craftax", "craftax_classic"]
    with pytest.raises(BadInput, match="unknown curriculum 'chess'; choose one of craftax, craftax_classic"):
        load_curriculum("chess", CLASSIC)


GOLD, GEM = (Recipe(name, "", {f"achievement:{what}": once(1)}) for name, what in (("Gold", "EAT_COW"), ("Gem", "WAKE_UP")))


@pytest.mark.parametrize(
    ("recipes", "words"),
    [
        ([GOLD, GEM, GOLD], "two skills called Gold"),
        ([replace(GOLD, requires={"diamond": once(1)})], "Gold .* needs diamond, which no other skill there gains; add"),
        (
            [replace(GOLD, requires=GEM.gains), replace(GEM, requires=GOLD.gains)],
            "Gold .* needs achievement:WAKE_UP, but the skills that gain it need Gold or each other first, in a circle",
        ),
    ],
)
def test_a_curriculum_with_a_skill_that_can_never_be_trained_is_refused(monkeypatch, recipes, words):
    """Before anything is launched, and through the front door too."""
    monkeypatch.setattr(craftax_classic, "SKILLS", recipes)
    with pytest.raises(BadInput, match=words):
        load_curriculum("craftax_classic", CLASSIC)


def test_a_curriculum_that_cannot_be_trained_ends_the_command_and_leaves_nothing(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(craftax_classic, "SKILLS", [replace(GOLD, requires={"diamond": once(1)})])
    monkeypatch.chdir(tmp_path)
    assert main(["--env_name", "Craftax-Classic-Symbolic-v1", "--proposer", "curriculum", "--graph_path", "exp/test"]) == 2
    output = capsys.readouterr()
    assert output.err.startswith("flowrl: Gold of the curriculum craftax_classic needs diamond") and output.err.count("\n") == 1
    assert list(tmp_path.rglob("*")) == []


def test_a_curriculum_for_another_game_is_refused():
    with pytest.raises(BadInput, match="Craftax-Classic-Symbolic-v1 has no resource"):
        load_curriculum("craftax", CLASSIC)
