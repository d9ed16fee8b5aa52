from __future__ import annotations

import jax
import numpy as np
import pytest

from flowrl import pickles
from flowrl.checkpoint_files import KEPT
from flowrl.envs.observations import Layout
from flowrl.errors import BadInput
from flowrl.paths import RunPaths
from flowrl.records import run_record
from flowrl.records.run_record import Launch, Slot
from flowrl.training.learning import experts, optimiser
from flowrl.training.learning.networks import ExpertNetwork
from flowrl.training.learning.ppo import Learner
from flowrl.training.run import checkpoints
from flowrl.training.run.state import RunState
from tests.records.builders import RECORD

LOCAL_TO_GLOBAL = {0: 0, 1: 5, 2: 10}


@pytest.fixture
def paths(tmp_path):
    return RunPaths(tmp_path / "skill_10_Make_Pickaxe")


def learner(seed, layer_size=4, count=3):
    """Experts and Adam states in the shapes of a real run, filled with different numbers."""

    stacked = experts.stack([ExpertNetwork(Layout(0, 0, 3), 2, layer_size).init(jax.random.key(0))] * count)
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(lambda: Learner(stacked, optimiser.init(optimiser.make(1.0), stacked)))
    return jax.tree.map(lambda leaf: rng.integers(1, 1000, leaf.shape).astype(leaf.dtype), shapes)


def state(learner, frames, key=None):
    return RunState(
        learner, frames, frames // 64, np.array([frames, frames // 2, 7]), jax.random.key(3) if key is None else key
    )


def save(paths, seed, frames):
    return checkpoints.save(paths, state(learner(seed), frames), LOCAL_TO_GLOBAL, 2)


def check_same(found, expected):
    jax.tree.map(np.testing.assert_array_equal, experts.unstack(found, 3), experts.unstack(expected, 3))


def test_a_saved_state_is_restored_bit_for_bit(paths):
    name = save(paths, seed=1, frames=640)
    assert name == "10_policies/checkpoint_640.pkl" and (paths.folder / name).exists()
    where = checkpoints.newest(paths, learner(50), LOCAL_TO_GLOBAL)
    check_same(where.learner, learner(1))
    assert (where.frames, where.updates, where.acted_frames.tolist()) == (640, 10, [640, 320, 7])


def test_a_checkpoint_is_plain_data_with_a_name_for_everything(paths):
    record = pickles.load(paths.folder / save(paths, seed=1, frames=640))
    assert (record["format"], record["version"]) == ("flowrl-checkpoint", 1)
    assert sorted(record["experts"]) == ["0", "1", "2"]
    assert set(record["experts"]["1"]["params"]) == {"actor", "critic"}
    expected = {"frames": 640, "attempt": 2, "acted_frames": {"0": 640, "1": 320, "2": 7},
                "local_to_global": {"0": 0, "1": 5, "2": 10}}  # fmt: skip
    assert expected.items() <= record["metadata"].items()


def test_without_a_checkpoint_there_is_nothing_to_go_on_from(paths):
    assert checkpoints.newest(paths, learner(1), LOCAL_TO_GLOBAL) is None


def test_the_newest_is_the_one_with_most_frames_and_only_the_last_are_kept(paths):
    for frames in (640, 6400, 64000, 99968):
        save(paths, seed=frames, frames=frames)
    assert [path.name for path in paths.checkpoints()] == ["checkpoint_64000.pkl", "checkpoint_99968.pkl"]
    assert len(paths.checkpoints()) == KEPT
    where = checkpoints.newest(paths, learner(1), LOCAL_TO_GLOBAL)
    assert where.frames == 99968
    check_same(where.learner, learner(99968))


def cut_off(path):
    path.write_bytes(path.read_bytes()[:100])


def flip_a_bit_of_a_weight(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def hold_code(path):
    path.write_bytes(b"cos\nsystem\n(S'true'\ntR.")


@pytest.mark.parametrize("damage", [cut_off, flip_a_bit_of_a_weight, hold_code])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(paths, damage):
    save(paths, seed=1, frames=640)
    newest = paths.folder / save(paths, seed=2, frames=1280)
    damage(newest)
    said = []
    where = checkpoints.newest(paths, learner(50), LOCAL_TO_GLOBAL, said.append)
    assert where.frames == 640
    check_same(where.learner, learner(1))
    assert len(said) == 1 and str(newest) in said[0] and "trying the one before it" in said[0]
    assert newest.with_name("checkpoint_1280.pkl.damaged").exists()


def test_training_starts_over_and_says_so_if_every_checkpoint_is_damaged(paths):
    for frames in (640, 1280):
        cut_off(paths.folder / save(paths, seed=frames, frames=frames))
    said = []
    assert checkpoints.newest(paths, learner(1), LOCAL_TO_GLOBAL, said.append) is None
    assert len(said) == 2


def test_a_checkpoint_of_another_shape_is_refused_though_the_one_before_would_fit(paths):
    save(paths, seed=1, frames=640)
    checkpoints.save(paths, state(learner(2, layer_size=8), 1280), LOCAL_TO_GLOBAL, 2)
    with pytest.raises(BadInput, match="checkpoint_1280.pkl does not fit this run .*shape"):
        checkpoints.newest(paths, learner(1), LOCAL_TO_GLOBAL)


@pytest.mark.parametrize(
    ("fresh", "local_to_global", "reason"),
    [
        pytest.param(lambda: learner(1, layer_size=8), LOCAL_TO_GLOBAL, "shape", id="another width"),
        pytest.param(lambda: learner(1), {0: 0, 1: 4, 2: 10}, "experts", id="other experts"),
        pytest.param(lambda: learner(1, count=2), {0: 0, 1: 5}, "experts", id="fewer experts"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused_with_file_and_remedy(paths, fresh, local_to_global, reason):
    save(paths, seed=1, frames=640)
    with pytest.raises(BadInput, match=rf"checkpoint_640\.pkl.*{reason}.*move the run's folder away"):
        checkpoints.newest(paths, fresh(), local_to_global)


def test_experts_that_are_only_there_for_a_trial_have_no_place_in_the_library_and_had_one_below_0_before(paths):
    on_trial = {0: 0, 1: 5, 2: None}
    checkpoints.save(paths, state(learner(1), 640), on_trial, 2)
    record = pickles.load(paths.checkpoints()[-1])
    assert record["metadata"]["local_to_global"] == {"0": 0, "1": 5, "2": None}
    record["metadata"]["local_to_global"]["2"] = -2  # as earlier versions have written it
    pickles.dump(paths.checkpoint(1280), record)
    check_same(checkpoints.newest(paths, learner(50), on_trial).learner, learner(1))
    with pytest.raises(BadInput, match="experts"):
        checkpoints.newest(paths, learner(50), LOCAL_TO_GLOBAL)


def test_a_newer_format_is_refused(paths):
    path = paths.folder / save(paths, seed=1, frames=640)
    pickles.dump(path, pickles.load(path) | {"version": 2})
    with pytest.raises(BadInput, match="format"):
        checkpoints.newest(paths, learner(1), LOCAL_TO_GLOBAL)


# An older attempt may still write when the next one has begun.


def save_as(paths, attempt, frames):
    return checkpoints.save(paths, state(learner(frames), frames), LOCAL_TO_GLOBAL, attempt)


def launch(paths, attempt):
    """As the scheduler records it."""
    started = Launch(attempt, paths.checkpointed_frames)
    known = run_record.find(paths.run_json) or RECORD
    run_record.write(paths.run_json, known.for_attempt(started, Slot(), None))


def test_a_checkpoint_that_an_older_attempt_wrote_too_late_is_not_taken(paths):
    launch(paths, 1)
    save_as(paths, 1, 640)
    launch(paths, 2)
    save_as(paths, 2, 704)
    save_as(paths, 1, 6400)  # from a node that was lost
    launch(paths, 3)
    said = []
    where = checkpoints.newest(paths, learner(50), LOCAL_TO_GLOBAL, said.append)
    assert where.frames == 704
    check_same(where.learner, learner(704))
    assert [path.name for path in paths.policies.glob("*.late")] == ["checkpoint_6400.pkl.late"]
    assert "attempt 1 when attempt 2 had begun" in said[0]


def test_a_late_checkpoint_does_not_crowd_out_those_of_the_attempt_under_way(paths):
    launch(paths, 1)
    save_as(paths, 1, 640)
    launch(paths, 2)
    save_as(paths, 1, 6400)
    save_as(paths, 2, 704)
    assert [path.name for path in paths.checkpoints()] == ["checkpoint_640.pkl", "checkpoint_704.pkl"]


def test_what_an_attempt_left_before_the_next_was_launched_is_taken(paths):
    launch(paths, 1)
    save_as(paths, 1, 640)
    launch(paths, 2)
    assert checkpoints.newest(paths, learner(50), LOCAL_TO_GLOBAL).frames == 640
