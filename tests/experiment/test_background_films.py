"""Films while others train: for a hundredth of their time, one at a time, and never in anyone's way."""

from __future__ import annotations

import os
import threading
import time

import psutil
import pytest

from flowrl.experiment import background_films
from flowrl.experiment.background_films import USUAL_COST_S, BackgroundFilms
from flowrl.files import read_json
from flowrl.parallel.processes import retry_until
from flowrl.paths import ExperimentPaths
from tests.parallel.fakes.experiments import PATIENCE_S

ENOUGH_MINUTES = 100 * USUAL_COST_S / 60
"""Of training, for one film at the usual cost."""


@pytest.fixture
def paths(tmp_path) -> ExperimentPaths:
    return ExperimentPaths(tmp_path)


def skill(paths, index, minutes=0.0, status="completed"):
    """An entry of the state; what was completed has an expert, the higher index later."""
    name = f"Skill_{index}"
    if status == "completed":
        expert = paths.expert_params(index, name)
        expert.parent.mkdir(parents=True, exist_ok=True)
        expert.touch()
    completed_at = f"2026-01-01T00:00:{index:02}Z" if status == "completed" else None
    return {"skill_name": name, "expert_idx": index, "status": status, "minutes": minutes, "completed_at": completed_at}


def rehearsal(minutes):
    return {"skill_name": "rehearsal_1", "expert_idx": None, "status": "completed", "minutes": minutes, "completed_at": "2027"}


class Studio:
    """Makes films when the test lets it."""

    def __init__(self, paths, cost_s: float | None = 50.0):
        self.paths, self.cost_s = paths, cost_s
        self.asked: list[str] = []
        self.go_on = threading.Event()
        self.go_on.set()

    def film(self, name: str) -> float | None:
        self.asked.append(name)
        assert self.go_on.wait(PATIENCE_S)
        if self.cost_s is not None:
            film = self.paths.film(name, ".mp4")
            film.parent.mkdir(parents=True, exist_ok=True)
            film.touch()
        return self.cost_s


def looked(films: BackgroundFilms, entries) -> None:
    films.look(entries)
    if films._thread:
        films._thread.join(PATIENCE_S)


def test_no_film_is_made_before_a_hundredth_of_the_training_time_would_pay_for_it(paths):
    studio = Studio(paths)
    films = BackgroundFilms(paths, studio.film)
    looked(films, [skill(paths, 0, ENOUGH_MINUTES - 1), skill(paths, 1, None, "running")])
    assert studio.asked == []
    looked(films, [skill(paths, 0, ENOUGH_MINUTES - 1), rehearsal(2.0)])
    assert studio.asked == ["Skill_0"]
    assert read_json(paths.film_costs) == {"seconds": 50.0, "newest": 50.0}


def test_the_newest_skill_comes_first_and_what_films_cost_is_counted_over_starts(paths):
    studio = Studio(paths, cost_s=USUAL_COST_S * 5 / 6)
    entries = [skill(paths, 0, 2 * ENOUGH_MINUTES), skill(paths, 1), skill(paths, 2, 0.0, "failed")]
    looked(BackgroundFilms(paths, studio.film), entries)
    later_start = BackgroundFilms(paths, studio.film)
    for _ in range(3):
        looked(later_start, entries)
    assert studio.asked == ["Skill_1", "Skill_0"]
    looked(later_start, [*entries, skill(paths, 3)])  # twice the usual cost was allowed, and 10 / 6 of it are spent
    assert studio.asked == ["Skill_1", "Skill_0"]


def test_a_skill_that_was_trained_further_is_filmed_again(paths):
    studio, entries = Studio(paths, cost_s=1.0), [skill(paths, 0, ENOUGH_MINUTES)]
    films = BackgroundFilms(paths, studio.film)
    looked(films, entries)
    os.utime(paths.film("Skill_0", ".mp4"), (0, 0))
    looked(films, entries)
    assert studio.asked == ["Skill_0"] * 2


def test_one_film_at_a_time_and_nobody_waits_for_it(paths):
    studio, entries = Studio(paths), [skill(paths, 0, 9 * ENOUGH_MINUTES), skill(paths, 1)]
    studio.go_on.clear()
    films = BackgroundFilms(paths, studio.film)
    films.look(entries)
    films.look(entries)
    assert retry_until(lambda: studio.asked == ["Skill_1"], PATIENCE_S)
    studio.go_on.set()
    films.close()
    films.look(entries)
    assert studio.asked == ["Skill_1"]  # nothing is begun after the end


def test_a_skill_that_cannot_be_filmed_is_tried_once_and_costs_too(paths):
    studio, entries = Studio(paths, cost_s=None), [skill(paths, 0, 3 * ENOUGH_MINUTES)]
    films = BackgroundFilms(paths, studio.film)
    for _ in range(2):
        looked(films, entries)
    assert studio.asked == ["Skill_0"] and read_json(paths.film_costs)["seconds"] == USUAL_COST_S


def test_a_library_whose_folder_is_gone_ends_nothing(paths):
    studio, entry = Studio(paths), skill(paths, 0, ENOUGH_MINUTES)
    film = paths.film("Skill_0", ".gif")
    film.parent.mkdir(parents=True)
    film.touch()
    paths.expert_params(0, "Skill_0").unlink()
    looked(BackgroundFilms(paths, studio.film), [entry])
    assert studio.asked == []


def test_films_come_from_a_process_of_their_own_at_the_lowest_priority(paths, monkeypatch):
    script = paths.root / "watch.sh"
    script.write_text(f"#!/bin/sh\necho $@ > {paths.root}/asked\nwhile :; do :; done\n")
    script.chmod(0o755)
    monkeypatch.setattr(background_films.sys, "executable", str(script))
    films = BackgroundFilms(paths)
    films.look([skill(paths, 0, ENOUGH_MINUTES)])
    assert retry_until(lambda: (paths.root / "asked").exists(), PATIENCE_S)
    assert (paths.root / "asked").read_text().split() == ["-m", "flowrl", "watch", str(paths.root), "Skill_0"]
    assert retry_until(lambda: films._processes._current, PATIENCE_S)  # it may write before its start has returned
    process = psutil.Process(films._processes._current.pid)
    assert retry_until(lambda: process.nice() == background_films.LOWEST_PRIORITY, PATIENCE_S)
    began_s = time.monotonic()
    films.close()  # which ends it
    assert time.monotonic() - began_s < PATIENCE_S and not films._thread.is_alive()


def test_a_film_that_is_ended_with_its_command_leaves_nothing_behind(paths, monkeypatch):
    """Its process is killed while it writes, and so is the encoder that it started; what others write stays."""
    films = paths.report / "films"
    films.mkdir(parents=True)
    script = paths.root / "watch.sh"
    script.write_text(
        f"#!/bin/sh\nsleep 1000 &\necho $! > {paths.root}/encoder\n: > {films}/.Skill_0.$$.unfinished.mp4\n"
        f": > {films}/.Skill_0.1.unfinished.mp4\necho > {paths.root}/writes\nwhile :; do :; done\n"
    )
    script.chmod(0o755)
    monkeypatch.setattr(background_films.sys, "executable", str(script))
    making = BackgroundFilms(paths)
    making.look([skill(paths, 0, ENOUGH_MINUTES)])
    assert retry_until(lambda: (paths.root / "writes").exists(), PATIENCE_S)
    encoder = psutil.Process(int((paths.root / "encoder").read_text()))
    making.close()
    assert retry_until(lambda: not encoder.is_running() or encoder.status() == psutil.STATUS_ZOMBIE, PATIENCE_S)
    assert sorted(path.name for path in films.iterdir()) == [".Skill_0.1.unfinished.mp4", "costs.json"]
