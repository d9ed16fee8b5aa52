"""Films of whole episodes: each state that the planner's episode came to, with what was done for what."""

import numpy as np
import pytest

from flowrl.errors import BadInput
from flowrl.evaluation import bench as benches
from flowrl.evaluation import worth
from flowrl.evaluation.planner import PlannerSettings
from flowrl.films import picture, whole_episodes
from tests.evaluation.camp import Camp, camp_library
from tests.films.drawn_camp import TILE, DrawnCamp, bar

SETTINGS = PlannerSettings()


def filmed(adapter=None, episodes=1, max_steps=100, settings=SETTINGS, **buttons):
    library = camp_library(limit=20, **buttons)
    bench = benches.set_up(library, adapter or DrawnCamp(), 4)
    planned = worth.planned_by(library, bench.adapter.facts, worth.equal(library), settings)
    return whole_episodes.shoot(bench, planned, 0, episodes, TILE, max_steps)


def test_a_film_shows_each_state_and_what_is_done_for_what():
    episodes = filmed(episodes=2, max_steps=7)
    assert len(episodes) == 2
    for episode in episodes:
        shots = episode.shots
        assert [shot.step for shot in shots] == list(range(8)) and episode.death == "" and episode.num_goals == 3
        # Two pieces of wood, the hut, water, and then wood to pass the time.
        assert [shot.task for shot in shots[:4]] == ["Chop", "Chop", "Build", "Drink"]
        assert [bar(shot, 1) for shot in shots[:4]] == [0, 1, 2, 0] == [shot.held.get("wood", 0) for shot in shots[:4]]
        assert [bar(shot, 0) for shot in shots[:5]] == [9, 8, 7, 6, 9]
        assert [shot.newest for shot in shots] == ["", "CHOP", "", "BUILD", "DRINK", "", "", ""]
        assert [shot.num_unlocked for shot in shots] == [0, 1, 1, 2, 3, 3, 3, 3]


def test_the_last_picture_of_a_player_who_died_is_that_of_the_death():
    (episode,) = filmed(settings=SETTINGS._replace(low=0.0))
    assert episode.death == "thirst" and bar(episode.shots[-1], 0) == 0
    assert [bar(shot, 0) for shot in episode.shots[-3:]] == [2, 1, 0]


def test_a_task_that_keeps_the_player_alive_says_so():
    (episode,) = filmed(max_steps=40, Build="WAIT")
    assert "water" in {shot.restores for shot in episode.shots if shot.task == "Drink"}
    assert all(shot.serves == "" for shot in episode.shots if shot.restores)


def test_what_a_step_unlocked_is_written_for_a_second_and_how_it_ended_for_the_last():
    (episode,) = filmed(max_steps=12)
    frames = picture.whole_frames(episode, fps=3)
    assert len(frames) == 13 + 3 and len({frame.shape for frame in frames}) == 1
    alive = frames[-1]
    assert np.array_equal(alive, frames[-2]) and not np.array_equal(alive, frames[-4])
    dead = picture.whole_frames(episode._replace(death="thirst"), fps=3)
    assert not np.array_equal(dead[-1], alive) and np.array_equal(dead[0], frames[0])
    # DRINK came with the fourth step; three frames later only the number of the step differs from a frame without it.
    quiet = picture.whole_frames(episode._replace(shots=[shot._replace(newest="") for shot in episode.shots]), fps=3)
    differ = [not np.array_equal(one, other) for one, other in zip(frames, quiet, strict=True)]
    assert differ == [False, *[True] * 6, *[False] * 9]


def test_a_game_that_draws_nothing_is_refused():
    with pytest.raises(BadInput, match="Camp draws no pictures; its adapter's renderer"):
        filmed(Camp())
