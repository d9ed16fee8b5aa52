from __future__ import annotations

import io
import math
import os
import pty
import re
import shlex
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from rich.console import Console

from flowrl.pane.drawing import drawn
from flowrl.pane.figures import duration
from flowrl.records import picture
from flowrl.records.log_line import is_of_an_update
from flowrl.training.run.pane import FIRST_LINES, LINE_S, PICTURE_S, Pane, PictureFile
from flowrl.training.run.view import PlanView
from tests.training.show_a_run import report

ROOT = Path(__file__).parents[2]
CTRL_S = b"\x13"
STAMPED = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ .+")


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def wait_until(found, what):
    deadline = time.monotonic() + 30
    while not (result := found()):
        assert time.monotonic() < deadline, f"waited 30 s for {what}"
        time.sleep(0.02)
    return result


def lines_of(log):
    return log.read_text().splitlines() if log.exists() else []


@pytest.fixture
def log(tmp_path):
    return tmp_path / "training.log"


@pytest.fixture
def go_on(tmp_path):
    return tmp_path / "go_on"


@pytest.fixture
def show(log, go_on):
    """Starts a run's display in its own process, with its output on a file descriptor."""
    started = []

    def start(output, num_tasks=3):
        command = [sys.executable, "-m", "tests.training.show_a_run", str(log), str(num_tasks), str(go_on)]
        environ = {**os.environ, "TERM": "xterm-256color", "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(
            command, stdin=output, stdout=output, stderr=subprocess.PIPE, env=environ, cwd=ROOT, text=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def check_that_it_ends_well(process, log, go_on):
    go_on.touch()
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")
    assert lines_of(log)[-1].endswith("goal reached")


def wood_view() -> PlanView:
    return PlanView("Collect_Wood (expert 0)", ["Collect_Wood x3"], 0.8, 1000)


# The log


def test_a_line_is_stamped_and_is_in_the_log_at_once(log):
    stream = io.StringIO()
    with Pane(wood_view(), log, stream=stream) as pane:
        pane.line("random policy 0.020")
        assert STAMPED.fullmatch(lines_of(log)[0]) and lines_of(log)[0].endswith(" random policy 0.020")
    assert stream.getvalue() == log.read_text()


def test_updates_have_a_line_at_first_and_then_every_few_seconds(log):
    clock = Clock()
    with Pane(wood_view(), log, stream=io.StringIO(), clock=clock) as pane:
        for update in range(1, 101):
            pane.update(report(update, 1))
            clock.now += 1
    logged = [int(re.search(r"update (\d+):", line)[1]) for line in lines_of(log)]
    first = list(range(1, FIRST_LINES + 1))
    assert logged[:FIRST_LINES] == first
    assert logged[-1] == 100
    assert {later - earlier for earlier, later in zip(logged[FIRST_LINES - 1 : -2], logged[FIRST_LINES:-1])} == {LINE_S}


def test_a_line_comes_after_the_update_that_it_is_about(log):
    with Pane(wood_view(), log, stream=io.StringIO(), clock=Clock()) as pane:
        for update in range(1, 8):
            pane.update(report(update, 1))
        pane.line("goal reached")
    assert "update 7:" in lines_of(log)[-2] and lines_of(log)[-1].endswith("goal reached")


def test_an_update_is_described_in_words_and_numbers():
    told = report(5, 3).described()
    for part in ("update 5:", "40,960 of 3,000,000 frames (1%)", "4,321 frames/s", "11:18 left", "success 0.61",
                 "recent 0.58", "tasks 0.99 0.98 -", "reward 0.0123", "entropy 2.340", "policy loss -0.0100",
                 "value loss 0.2500", "kl 0.0040", "; move 62%, use 30%, make 8.0%; DO, which succeeds, 30%"):  # fmt: skip
        assert part in told


@pytest.mark.parametrize(
    ("seconds", "told"), [(0, "0:00"), (59.6, "1:00"), (754, "12:34"), (3661, "1:01:01"), (math.inf, "?"), (math.nan, "?")]
)
def test_durations(seconds, told):
    assert duration(seconds) == told


def test_numbers_that_are_none_can_be_told_and_drawn(log):
    odd = report(1, 2)._replace(seconds_left=math.inf, frames_per_s=math.nan, success_rate=math.nan, total_frames=0)
    screen = io.StringIO()
    with Pane(PlanView("Collect_Wood (expert 0)", ["a x1", "b x1"], 0.8, 0), log, stream=io.StringIO()) as pane:
        pane.update(odd)
        Console(file=screen, width=80, height=24).print(drawn(pane._view.picture(), 24, time.time()))
    assert "nan" in screen.getvalue() and "nan" in log.read_text()


def test_only_the_lines_about_updates_count_as_such(log):
    with Pane(wood_view(), log, stream=io.StringIO(), clock=Clock()) as pane:
        pane.update(report(1, 1))
        pane.line("update of the plan: goal reached")
    assert [is_of_an_update(line) for line in lines_of(log)] == [True, False]


# For those who look from elsewhere


@pytest.fixture
def elsewhere(tmp_path):
    return tmp_path / "pane.json"


def test_without_a_terminal_what_would_be_drawn_is_kept_for_others(log, elsewhere):
    view, clock = wood_view(), Clock()
    with Pane(view, log, stream=io.StringIO(), picture_file=PictureFile(elsewhere, 2, clock), clock=clock) as pane:
        pane.phase("compiling")
        assert picture.find(elsewhere, 2).phase == "compiling"  # at once: the next call may be minutes away
        for update in range(1, 11):
            pane.update(report(update, 1))
        assert picture.find(elsewhere, 2).frames == 0  # they come fast, and are not all written
        clock.now += PICTURE_S
        pane.update(report(11, 1))
        pane.phase("compiling")
        assert picture.find(elsewhere, 2) == view.picture()
        pane.phase("testing 8/512")
        pane.phase("testing 16/512")  # the same phase
        assert picture.find(elsewhere, 2).phase == "testing 8/512"
        pane.update(report(12, 1))
    assert picture.find(elsewhere, 2).frames == 12 * 8192  # the last one


def test_a_full_disk_costs_only_the_picture(log, elsewhere, monkeypatch):
    def refuse(path, attempt, shown):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(picture, "write", refuse)
    with Pane(wood_view(), log, stream=io.StringIO(), picture_file=PictureFile(elsewhere, 2)) as pane:
        pane.update(report(1, 1))
    assert not elsewhere.exists() and "update 1:" in log.read_text()


def test_a_rate_that_is_no_number_can_be_written(log, elsewhere):
    odd = report(1, 1)._replace(success_rate=math.nan, frames_per_s=math.nan, entropy=math.nan)
    with Pane(wood_view(), log, stream=io.StringIO(), picture_file=PictureFile(elsewhere, 2)) as pane:
        pane.update(odd)
    assert picture.find(elsewhere, 2).rates.whole.share is None


def test_on_a_terminal_no_picture_is_written(log, elsewhere):
    ours, theirs = open_terminal()
    with (
        os.fdopen(theirs, "w") as stream,
        Pane(wood_view(), log, stream=stream, picture_file=PictureFile(elsewhere, 2)) as pane,
    ):
        pane.update(report(1, 1))
    os.close(ours)
    assert not elsewhere.exists()


# Where a person looks


def test_in_a_pipe_there_are_only_plain_lines(show, log, go_on):
    reading, writing = os.pipe()
    process = show(writing)
    os.close(writing)
    wait_until(lambda: len(lines_of(log)) > FIRST_LINES, "the first updates")
    check_that_it_ends_well(process, log, go_on)
    with os.fdopen(reading) as output:
        assert output.read() == log.read_text() + "printed after the pane\n"
    assert all(STAMPED.fullmatch(line) for line in lines_of(log))


@pytest.mark.parametrize("num_tasks", [1, 3, 40])
def test_everything_fits_in_a_pane(private_tmux, log, go_on, num_tasks):
    command = f"{shlex.quote(sys.executable)} -m tests.training.show_a_run {log} {num_tasks} {go_on}; sleep 60"
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(
        ["tmux", "new-session", "-d", "-x", "80", "-y", "24", "-s", "run", command], check=True, env=environ, cwd=ROOT
    )

    def screen():
        return subprocess.run(["tmux", "capture-pane", "-p", "-t", "run"], capture_output=True, text=True).stdout

    shown = wait_until(lambda: "frames/s" in screen() and screen(), "the pane's first drawing")
    last_task = f"Collect_Wood_{num_tasks - 1} x{num_tasks}"
    for part in ("Make_Iron_Pickaxe (expert 12)", "training", "3,000,000 frames", "4,321 frames/s", "11:18 left",
                 "plan", "0.61", "goal 0.80", "recent 0.58", last_task, "started"):  # fmt: skip
        assert part in shown
    if num_tasks > 30:
        assert "earlier tasks, the lowest" in shown
    go_on.touch()
    ended = wait_until(lambda: "printed after the pane" in screen() and screen(), "the end")
    # Each part is there once: nothing was left behind by an earlier drawing.
    assert ended.count("Make_Iron_Pickaxe") == ended.count("goal 0.80") == ended.count("goal reached") == 1


def open_terminal():
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    return ours, theirs


def test_a_run_outlives_its_terminal(show, log, go_on):
    ours, theirs = open_terminal()
    process = show(theirs)
    os.close(theirs)
    os.read(ours, 1)
    wait_until(lambda: len(lines_of(log)) > FIRST_LINES, "the first updates")
    os.close(ours)
    time.sleep(1.2)  # two drawings and more on a dead terminal
    check_that_it_ends_well(process, log, go_on)


def test_a_run_does_not_wait_for_a_terminal_that_was_stopped(show, log, go_on):
    ours, theirs = open_terminal()
    process = show(theirs)
    os.close(theirs)
    wait_until(lambda: len(lines_of(log)) > FIRST_LINES, "the first updates")
    os.write(ours, CTRL_S)
    time.sleep(1.2)  # two drawings and more that go nowhere
    check_that_it_ends_well(process, log, go_on)
    os.close(ours)


def test_a_run_outlives_the_reader_of_its_pipe(show, log, go_on):
    reading, writing = os.pipe()
    process = show(writing)
    os.close(writing)
    os.close(reading)
    wait_until(lambda: len(lines_of(log)) > FIRST_LINES, "the first updates")
    check_that_it_ends_well(process, log, go_on)


def test_a_run_outlives_a_stream_that_was_closed(log):
    stream = io.StringIO()
    with Pane(wood_view(), log, stream=stream) as pane:
        stream.close()
        pane.line("still here")
    assert lines_of(log)[-1].endswith("still here")


def test_a_run_with_nothing_to_succeed_at_shows_no_rates():
    def shown(goal):
        out, view = io.StringIO(), PlanView("Explore (expert 0)", ("Explore x1",), goal, 1000)
        view.report = report(2, 1)
        Console(file=out, width=80).print(drawn(view.picture(), 40, time.time()))
        return out.getvalue()

    assert "goal 0.80" in shown(0.8) and "Explore x1" in shown(0.8)
    assert "goal" not in shown(None) and "Explore x1" not in shown(None) and "frames/s" in shown(None)
