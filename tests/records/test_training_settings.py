"""Training settings: their ranges hold wherever they come from, and no room has its own copies."""

from __future__ import annotations

import dataclasses

import pytest

from flowrl.config import Settings
from flowrl.errors import BadInput
from flowrl.records.training_settings import RunSettings, TrainingSettings
from flowrl.training.learning.ppo import Hyperparameters


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"num_envs": 0}, "--num_envs must be at least 1, found 0"),
        ({"lr": 0.0}, "--lr must be more than 0, found 0.0"),
        ({"lr": float("inf")}, "--lr must be more than 0, found inf"),
        ({"ent_coef": -1.0}, "--ent_coef must be 0 or more, found -1.0"),
        ({"gamma": 1.5}, "--gamma must be from 0 to 1, found 1.5"),
        ({"candidate_timesteps": 0}, "--candidate_timesteps must be at least 1, found 0"),
        ({"no_progress_frames": -1}, "--no_progress_frames must be 0 or more, found -1"),
        ({"num_envs": 10.5}, "--num_envs must be a whole number, found 10.5"),
        ({"task_steps": "succeses"}, "--task_steps must be fixed or successes, found 'succeses'"),
        ({"num_envs": 3, "num_steps": 3}, "--num_minibatches 8 does not divide --num_envs * --num_steps (3 * 3)"),
    ],
)
def test_a_value_out_of_its_range_is_refused_by_the_flags_name(value, said):
    with pytest.raises(BadInput) as error:
        TrainingSettings(**value)
    assert str(error.value).startswith(said)


def test_a_budget_given_as_a_float_is_a_number_of_frames():
    settings = Settings(total_timesteps=1e6, extra_timesteps=2e5, continue_skill="A")
    assert (settings.total_timesteps, settings.extra_timesteps) == (1_000_000, 200_000)
    assert type(settings.total_timesteps) is type(settings.extra_timesteps) is int
    assert f"{RunSettings.of({'total_timesteps': 5e7}).total_timesteps:,} frames" == "50,000,000 frames"


def test_rewards_are_tried_for_a_fifth_of_the_budget_unless_said_otherwise():
    assert TrainingSettings(total_timesteps=1000).trial_frames == 200
    assert TrainingSettings(total_timesteps=1000, candidate_timesteps=7).trial_frames == 7
    assert TrainingSettings(total_timesteps=3).trial_frames == 1


def test_half_a_million_frames_without_progress_are_enough_or_a_tenth_of_a_large_budget():
    assert TrainingSettings(total_timesteps=2_000_000).frames_without_progress == 500_000
    assert TrainingSettings(total_timesteps=100_000_000).frames_without_progress == 10_000_000
    assert TrainingSettings(total_timesteps=100_000_000, no_progress_frames=7).frames_without_progress == 7
    assert TrainingSettings(no_progress_frames=0).frames_without_progress == 0


def test_the_front_door_and_the_trainer_take_their_defaults_from_here():
    assert Settings().training() == TrainingSettings().training() == {
        field.name: field.default for field in dataclasses.fields(TrainingSettings)
    }  # fmt: skip
    given = TrainingSettings(gamma=0.5, update_epochs=2)
    assert Hyperparameters.of(TrainingSettings()) == Hyperparameters()
    assert Hyperparameters.of(given) == Hyperparameters(gamma=0.5, update_epochs=2)


def test_names_that_are_no_training_settings_are_passed_over():
    assert RunSettings.of({"num_envs": 16, "env_name": "A", "max_nodes": 3}) == RunSettings(num_envs=16)
