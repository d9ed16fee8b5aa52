"""What the planner takes over from the newest rehearsal."""

from __future__ import annotations

import pytest

from flowrl.errors import BadInput
from flowrl.evaluation import rehearsed, worth
from flowrl.evaluation.library import Library, LibrarySkill
from flowrl.evaluation.rehearsed import Seen
from flowrl.evaluation.worth import NEVER, Worth
from flowrl.files import write_json, write_whole
from flowrl.paths import ExperimentPaths
from tests.evaluation.libraries import classic_specs

AGES = {"Collect_Wood": 700, "Eat_Cow": 500, "Wake_Up": None}


@pytest.fixture
def paths(tmp_path):
    return ExperimentPaths(tmp_path / "exp")


@pytest.fixture
def library():
    specs = classic_specs()
    skills = [LibrarySkill(i, name, specs[name], "", (), (9,), None, None, age) for i, (name, age) in enumerate(AGES.items())]
    return Library("Craftax-Classic-Symbolic-v1", 4, False, tuple(skills), 0)


def rehearse(paths, number, rate, *frames, **more):
    """The records of a merged rehearsal that has left experts of such ages."""
    name = f"rehearsal_{number}"
    known = {skill: {"success": rate, "steps": 12.0} for skill in AGES}
    updates = {str(index): {"action": "updated", "frames": age} for index, age in enumerate(frames)}
    write_json(paths.rehearsal_experience(name), known | more)
    write_json(paths.rehearsal_merge(name), {"expert_updates": updates})


def test_the_newest_merged_rehearsal_counts_for_experts_that_have_not_been_trained_since(paths, library):
    assert rehearsed.seen(paths, library) == {}
    rehearse(paths, 1, 0.5, 700, 500, 100)
    rehearse(paths, 2, 0.25, 700, 400, 100)
    paths.run_folder(None, "rehearsal_3").mkdir(parents=True)  # under way
    # Eat_Cow was trained further after the second one; nothing is known of the age of Wake_Up's expert.
    assert rehearsed.seen(paths, library) == {"Collect_Wood": Seen(0.25, 12.0)}


@pytest.mark.parametrize("content", ["[1]", '{"Collect_Wood": {"success": "often"}}', "{"])
def test_damaged_records_of_a_rehearsal_are_named(paths, library, content):
    rehearse(paths, 1, 0.5, 700, 500, 100)
    write_whole(paths.rehearsal_experience("rehearsal_1"), content)
    with pytest.raises(BadInput, match=r"rehearsals/1/experience.json.* restore it from a copy"):
        rehearsed.seen(paths, library)


def test_what_a_rehearsal_saw_takes_the_place_of_success_and_steps_and_of_nothing_else():
    tested = {"Collect_Wood": Worth(0.9, 30.0, {"COLLECT_WOOD": 1.0}), "Eat_Cow": Worth(0.1, None, {}), "Explore": NEVER}
    found = worth.as_rehearsed(tested, {"Collect_Wood": Seen(0.95, 5.0), "Explore": Seen(1.0, 60.0)})
    assert found == tested | {"Collect_Wood": Worth(0.95, 5.0, {"COLLECT_WOOD": 1.0})}


def test_before_an_evaluation_what_was_not_rehearsed_counts_as_equally_good(paths, library):
    rehearse(paths, 1, 0.25, 700, 400, 100)
    equal = worth.equal(library)
    assert worth.stored(paths, library) == equal | {"Collect_Wood": equal["Eat_Cow"]._replace(success=0.25, steps=12.0)}
