"""Films: which episode is played, what is drawn and written below it, and the files that come of it."""

from __future__ import annotations

import dataclasses
import importlib.util
import io
import os
import warnings
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from flowrl.commands import watch as command
from flowrl.errors import BadInput
from flowrl.evaluation import bench as benches
from flowrl.films import drawing, film_files, footage, in_terminal, picture
from flowrl.films.footage import Episode, Shot, shoot, shoot_progress
from flowrl.paths import ExperimentPaths
from flowrl.records import moments
from flowrl.records.moments import Moment
from flowrl.records.run_record import PlannedTask
from tests.evaluation.camp import Camp, camp_library, pressing
from tests.films.drawn_camp import TILE, DrawnCamp, bar


@pytest.fixture(scope="module")
def bench():
    return benches.set_up(camp_library(), DrawnCamp(), 8)


def skill_of(bench, name):
    return next(skill for skill in bench.library.skills if skill.name == name)


def filmed(bench, name, **how):
    return shoot(bench, skill_of(bench, name), **{"seed": 3, "episodes": 1, "tile": TILE, **how})


def test_a_film_shows_each_state_of_the_episode_with_what_goes_on(bench):
    (episode,) = filmed(bench, "Build")
    shots = episode.shots
    assert episode.is_success and [shot.step for shot in shots] == list(range(len(shots)))
    plan = [task.skill_name for task in skill_of(bench, "Build").plan]
    assert [plan[shot.task] for shot in shots] == ["Chop", "Chop", "Build", "Build"]
    # The last one shows what the last step did: the wood is used up.
    assert [bar(shot, 1) for shot in shots] == [0, 1, 2, 0] == [shot.held.get("wood", 0) for shot in shots]
    assert [bar(shot, 0) for shot in shots] == [9, 8, 7, 6]
    assert shots[0].reward == 0 < shots[1].reward < shots[2].reward < shots[3].reward


def test_tools_are_held_too_and_an_array_counts_as_its_sum():
    inventory = SimpleNamespace(wood=np.array([2, 0]), potions=np.array([[0, 1, 2], [0, 0, 0]]), pickaxe=np.array([1, 3]))
    found = {name: amount.tolist() for name, amount in drawing.amounts(inventory, ("wood", "potions", "pickaxe")).items()}
    assert found == {"wood": [2, 0], "potions": [3, 0], "pickaxe": [1, 3]}


def test_the_same_seed_gives_the_same_film_and_worlds_are_different_ones(bench):
    first, again = filmed(bench, "Build", episodes=2), filmed(bench, "Build", episodes=2)
    assert len(first) == 2
    for one, other in zip(first, again):
        assert all(np.array_equal(a.picture, b.picture) and a[1:] == b[1:] for a, b in zip(one.shots, other.shots))


def test_what_never_happens_cannot_be_filmed(bench):
    with pytest.raises(BadInput, match="Build: of 8 episodes 0 ended in failure, 1 were asked for; choose another --seed"):
        filmed(bench, "Build", outcome="failure")
    assert filmed(bench, "Build", outcome="success")[0].is_success


def test_a_game_that_draws_nothing_is_refused():
    with pytest.raises(BadInput, match="Camp draws no pictures; its adapter's renderer"):
        filmed(benches.set_up(camp_library(), Camp(), 4), "Build")


def test_progress_is_one_world_with_the_experts_own_past_and_all_others_as_they_are(bench):
    build = skill_of(bench, "Build")
    waiting = {**build.params, "actor": pressing("WAIT")["actor"]}
    before, now = shoot_progress(bench, build, [waiting], seed=3, tile=TILE)
    assert not before.is_success and now.is_success
    (alone,) = filmed(bench, "Build")
    assert all(np.array_equal(one.picture, other.picture) for one, other in zip(now.shots, alone.shots, strict=True))
    # Until Build's turn comes, the same happens: Chop is as good as ever, on the same world.
    turn = [shot.task for shot in now.shots].index(len(build.plan) - 1)
    assert all(np.array_equal(one.picture, other.picture) for one, other in zip(now.shots[: turn + 1], before.shots))
    assert len(before.shots) > len(now.shots) and bar(before.shots[-1], 1) == 2  # its wood is never used


def test_the_outcome_asked_for_is_that_of_the_newest_expert(bench):
    build = skill_of(bench, "Build")
    with pytest.raises(BadInput, match="of 8 episodes 0 ended in failure"):
        shoot_progress(bench, build, [build.params], seed=3, tile=TILE, outcome="failure")


def test_progress_that_may_end_anyhow_ends_in_success_where_there_is_any(bench, monkeypatch):
    class Camera:
        success = np.array([False, False, True, True])

        def __init__(self, *_):
            pass

        def endings(self, params):
            return footage._Endings(self.success, np.full(4, 9))

        def film(self, params, rows, endings):
            return rows.tolist()

    monkeypatch.setattr(footage, "_Camera", Camera)
    build = skill_of(bench, "Build")
    assert shoot_progress(bench, build, [build.params], seed=3, tile=TILE) == [2, 2]
    assert shoot_progress(bench, build, [build.params], seed=3, tile=TILE, outcome="failure") == [0, 0]
    Camera.success = np.zeros(4, bool)
    assert shoot_progress(bench, build, [build.params], seed=3, tile=TILE) == [0, 0]


@pytest.mark.parametrize("tile", [TILE // 2, TILE, 2 * TILE])
def test_cells_are_drawn_as_large_as_asked(bench, tile):
    (episode,) = filmed(bench, "Build", tile=tile)
    assert episode.shots[0].picture.shape == (2 * tile, 9 * tile, 3)


PLAN = (PlannedTask("Collect_Wood", 3, 1, 0), PlannedTask("Place_Table", 1, 4, 1))


def an_episode(width=181, height=91, is_success=True) -> Episode:
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 255, (3, height, width, 3), np.uint8)
    return Episode([Shot(one, min(i, 1), i, 0.5 * i, {"wood": i, "stone": 2}) for i, one in enumerate(pictures)], is_success)


@pytest.mark.parametrize("width", [40, 181, 640])
def test_frames_have_one_even_size_and_the_picture_on_top(width):
    frames = picture.frames(an_episode(width), PLAN, hold=2)
    assert len(frames) == 5 and {frame.shape for frame in frames} == {frames[0].shape}
    assert frames[0].shape[0] % 2 == frames[0].shape[1] % 2 == 0 and frames[0].shape[0] > 91
    assert np.array_equal(frames[1][:91, :width], an_episode(width).shots[1].picture)
    assert frames[0].shape[1] >= 200  # room for the words, however small the picture is
    below = [frame[91:] for frame in frames]
    assert not np.array_equal(below[0], below[1]) and np.array_equal(below[3], below[4])


def test_what_is_held_takes_a_second_line_before_it_is_cut():
    font = picture.ImageFont.load_default(12)
    words = [f"thing_{number} 1" for number in range(9)]
    width = font.getlength("  ".join(words[:4])) + 1
    assert picture._in_lines(words[:4], font, width, 2) == ["  ".join(words[:4])]
    assert picture._in_lines(words, font, width, 2) == ["  ".join(words[:4]), "  ".join(words[4:])]
    assert picture._in_lines([], font, width, 2) == []


def test_films_side_by_side_have_a_label_each_and_wait_for_the_longest():
    longer, shorter = picture.frames(an_episode(), PLAN, hold=2), picture.frames(an_episode(is_success=False), PLAN, hold=1)
    together = picture.side_by_side([longer, shorter], ["at first", "now"])
    assert len(together) == len(longer) > len(shorter) and {frame.shape for frame in together} == {together[0].shape}
    height, width = longer[0].shape[:2]
    top = together[0].shape[0] - height
    assert together[0].shape[0] % 2 == together[0].shape[1] % 2 == 0 and top > 0
    for number, frame in enumerate(together):
        assert np.array_equal(frame[top:, :width], longer[number])
        assert np.array_equal(frame[top:, -width:], shorter[min(number, len(shorter) - 1)])
    first, second = together[0][:top, :width], together[0][:top, -width:]
    assert first.any() and not np.array_equal(first, second)


def test_the_end_says_how_it_ended():
    done, not_done = (picture.frames(an_episode(is_success=is_success), PLAN, hold=1) for is_success in (True, False))
    assert not np.array_equal(done[-1], not_done[-1]) and np.array_equal(done[0], not_done[0])


@pytest.mark.parametrize("suffix", [".webp", ".gif"])
def test_a_film_can_be_played_from_its_file(tmp_path, suffix):
    frames = picture.frames(an_episode(), PLAN, hold=1)
    path = tmp_path / "films" / f"Wood{suffix}"
    film_files.write(path, frames, fps=10)
    with Image.open(path) as film:
        assert film.size == frames[0].shape[1::-1] and film.n_frames == len(frames)
        film.seek(1)
        shown = np.asarray(film.convert("RGB"), int)
        assert film.info["duration"] == 100
    assert np.array_equal(shown, frames[1]) or (suffix == ".gif" and np.abs(shown - frames[1]).mean() < 40)
    assert [path.name for path in path.parent.iterdir()] == [path.name]


def test_a_long_webp_takes_less_room_for_a_little_sharpness(tmp_path, monkeypatch):
    frames = picture.frames(an_episode(), PLAN, hold=1)
    film_files.write(tmp_path / "short.webp", frames, fps=10)
    monkeypatch.setattr(film_files, "_LOSSLESS_FRAMES", 3)
    film_files.write(tmp_path / "long.webp", frames, fps=10)
    assert (tmp_path / "long.webp").stat().st_size < (tmp_path / "short.webp").stat().st_size
    with Image.open(tmp_path / "long.webp") as film:
        film.seek(1)
        assert np.abs(np.asarray(film.convert("RGB"), int) - frames[1]).mean() < 40


@pytest.mark.parametrize("suffix", [".webp", ".gif"])
def test_a_film_that_cannot_be_written_leaves_the_earlier_one_and_nothing_else(tmp_path, suffix, monkeypatch):
    path = tmp_path / f"Wood{suffix}"
    path.write_bytes(b"the earlier one")
    monkeypatch.setattr(film_files, "_write_pictures", lambda unfinished, *_: unfinished.write_bytes(b"half") and 1 / 0)
    with pytest.raises(ZeroDivisionError):
        film_files.write(path, picture.frames(an_episode(), PLAN), fps=10)
    assert path.read_bytes() == b"the earlier one" and list(tmp_path.iterdir()) == [path]


NO_ENCODER = not importlib.util.find_spec("imageio_ffmpeg")


@pytest.mark.skipif(NO_ENCODER, reason="imageio-ffmpeg is not installed: pip install -e '.[films]'")
def test_an_mp4_can_be_played_from_its_file(tmp_path):
    import imageio_ffmpeg

    frames = picture.frames(an_episode(), PLAN, hold=4)
    jnp.zeros(1).block_until_ready()  # JAX has started
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        film_files.write(tmp_path / "Wood.mp4", frames, fps=10)
    assert imageio_ffmpeg.count_frames_and_secs(str(tmp_path / "Wood.mp4"))[0] == len(frames)
    assert [path.name for path in tmp_path.iterdir()] == ["Wood.mp4"]


def test_names_that_no_film_can_have_are_refused(tmp_path, monkeypatch):
    with pytest.raises(BadInput, match="a film's name ends in .mp4, .webp or .gif"):
        film_files.check_suffix(tmp_path / "film.avi")
    monkeypatch.setattr(film_files, "usual_suffix", lambda: ".webp")
    with pytest.raises(BadInput, match="an MP4 needs an encoder: pip install"):
        film_files.check_suffix(tmp_path / "film.mp4")
    film_files.check_suffix(tmp_path / "film.gif")


def test_a_picture_fits_into_the_terminal_in_half_blocks():
    red_over_blue = np.zeros((20, 40, 3), np.uint8)
    red_over_blue[:10, :, 0], red_over_blue[10:, :, 2] = 255, 255
    text = in_terminal.blocks(red_over_blue, width=80, height=10)
    lines = text.plain.splitlines()
    assert len(lines) == 10 and {len(line) for line in lines} == {40}
    styles = {str(span.style) for span in text.spans}
    assert styles == {"rgb(255,0,0) on rgb(255,0,0)", "rgb(0,0,255) on rgb(0,0,255)"}
    out = Console(file=io.StringIO(), width=40, height=12)
    in_terminal.play([red_over_blue], 1000, out)
    assert "▀" in out.file.getvalue()


def test_bad_input_is_one_line(tmp_path, capsys):
    for arguments, said in (
        ([str(tmp_path), "Wood"], "holds no experiment"),
        ([str(tmp_path), "Wood", "--episodes", "0"], "--episodes must be at least 1"),
        ([str(tmp_path), "Wood", "--outcome", "both"], "--outcome"),
        ([str(tmp_path), "whole", "--progress"], "are about one skill"),
        ([str(tmp_path), "whole", "--max_steps", "0"], "--max_steps must be at least 1"),
    ):
        assert command.main(arguments) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1


@pytest.fixture
def paths(bench, tmp_path, monkeypatch) -> ExperimentPaths:
    """An experiment whose library is the bench's."""
    paths = ExperimentPaths(tmp_path)
    for skill in bench.library.skills:
        expert = paths.expert_params(skill.index, skill.name)
        expert.parent.mkdir(parents=True)
        expert.touch()
    entry = SimpleNamespace(settings=SimpleNamespace(env_name="Camp"))
    monkeypatch.setattr(command.stored_library, "find", lambda folder: (paths, entry))
    monkeypatch.setattr(command.stored_library, "load", lambda paths, game: bench.library)
    monkeypatch.setattr(command, "game", lambda name: SimpleNamespace(env_name=name))
    monkeypatch.setattr("flowrl.envs.registry.make_adapter", lambda name: DrawnCamp())
    monkeypatch.setattr("flowrl.evaluation.bench.set_up", lambda *_: bench)
    monkeypatch.setattr(film_files, "usual_suffix", lambda: ".gif")
    return paths


def test_all_films_what_has_no_film_or_was_trained_since(bench, paths, tmp_path, capsys):
    names = [skill.name for skill in bench.library.skills]

    def filmed_now() -> list[str]:
        assert command.main([str(tmp_path), "all", "--tile", str(TILE)]) == 0
        said = " ".join(capsys.readouterr().out.split())
        return [name for name in names if f"films/{name}.gif" in said]

    assert filmed_now() == names and len(names) > 1
    assert filmed_now() == []
    later = paths.report / "films" / f"{names[0]}.gif"
    os.utime(later, (0, 0))
    assert filmed_now() == names[:1]


def test_whole_episodes_are_filmed_as_the_planner_plays_them(paths, tmp_path, capsys):
    assert command.main([str(tmp_path), "whole", "--tile", str(TILE), "--max_steps", "12", "--episodes", "2"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "films/whole.gif (42 frames; " in said  # twice the start, 12 steps, and a second at the end
    assert said.count("3 of 3 achievements in 12 steps, still alive") == 2
    assert paths.film("whole", ".gif").exists()


def test_a_film_of_progress_shows_the_moments_that_were_kept(bench, paths, tmp_path, capsys):
    build = skill_of(bench, "Build")
    assert command.main([str(tmp_path), "Build", "--progress"]) == 2
    assert "no earlier moments of Build's expert are stored" in capsys.readouterr().err
    kept = [Moment(frames, pressing("WAIT" if frames < 300 else "BUILD")["actor"]) for frames in (0, 100, 200, 300, 400)]
    moments.write(paths.moments(build.index, "Build"), kept)
    assert command.main([str(tmp_path), "Build", "--progress", "--tile", str(TILE)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "films/Build_progress.gif" in said
    assert "after 0 frames: not done, after 100 frames: not done, after 300 frames: done, now: done" in said
    assert command.main([str(tmp_path), "all", "--progress", "--tile", str(TILE)]) == 0
    assert "Every skill of" in capsys.readouterr().out  # the others have no moments
    assert command.main([str(tmp_path), "Build", "--progress", "--episodes", "2"]) == 2
    assert "leave --episodes out" in capsys.readouterr().err


def test_a_training_under_way_is_filmed_where_the_library_lacks_the_skill_or_if_asked_for(
    bench, paths, tmp_path, monkeypatch, capsys
):
    asked = []

    def load(paths, name, game):
        asked.append(name)
        skills = [dataclasses.replace(skill, total_frames=1234) for skill in bench.library.skills]
        return dataclasses.replace(bench.library, skills=tuple(skills))

    monkeypatch.setattr(command.unfinished_run, "load", load)
    monkeypatch.setattr(command.unfinished_run, "names", lambda paths: ["Drink", "Build"])
    film = ["--tile", str(TILE)]
    assert command.main([str(tmp_path), "Drink", *film]) == 0 and asked == []
    assert command.main([str(tmp_path), "Drink", "--training", *film]) == 0 and asked == ["Drink"]
    assert "of a checkpoint after 1,234 frames" in " ".join(capsys.readouterr().out.split())
    paths.expert_params(skill_of(bench, "Build").index, "Build").unlink()
    assert command.main([str(tmp_path), "Build", *film]) == 0 and asked == ["Drink", "Build"]
    assert command.main([str(tmp_path), "all", "--training"]) == 2
    assert "--training films one training: name its skill" in capsys.readouterr().err
