"""What the session of a job shows, and what Ctrl-C in it does."""

from __future__ import annotations

import dataclasses
import io
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from flowrl.files import write_json
from flowrl.pane.drawing import drawn
from flowrl.parallel.launchers import job_window
from flowrl.parallel.launchers.base import EngineUnreachable
from flowrl.parallel.launchers.batch_script import claim_of, output_of
from flowrl.parallel.launchers.job_sessions import JobSessions
from flowrl.parallel.launchers.job_window import Window
from flowrl.parallel.launchers.slurm_queue import Job
from flowrl.parallel.processes import retry_until
from flowrl.paths import ExperimentPaths, RunPaths, job_receipt
from flowrl.records import ending, picture, queue
from flowrl.records import result as run_result
from flowrl.records.ending import Ending
from flowrl.records.queue import Place, QueueRecord
from flowrl.records.result import Outcome, RunResult
from flowrl.training.run.view import PlanView
from tests.parallel.fakes.cluster_queue import FakeQueue
from tests.parallel.fakes.experiments import PATIENCE_S
from tests.records.builders import write_record
from tests.training.show_a_run import report

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "training_runs" / "skill_3_Collect_Wood"
    folder.mkdir(parents=True)
    write_record(RunPaths(folder))  # attempt 2
    return RunPaths(folder)


@pytest.fixture
def cluster(monkeypatch):
    monkeypatch.setattr(job_window, "LOOK_S", 0.001)
    found = FakeQueue()
    found.table["12"] = Job("12", "PENDING", comment="flowrl:2:/x")
    return found


class Clock:
    now_s = 1_000_000.0

    def __call__(self) -> float:
        self.now_s += job_window.CLOCK_S  # at each look: everything is drawn again
        return self.now_s


class Out(io.StringIO):
    """A terminal of a size that may change."""

    size = os.terminal_size((80, 24))

    def fileno(self) -> int:
        return -1


@pytest.fixture
def out(monkeypatch):
    monkeypatch.setattr("os.get_terminal_size", lambda descriptor: out.size)
    out = Out()
    return out


@pytest.fixture
def window(run, cluster, out):
    return Window(run, 2, out, cluster, Clock())


def colourless(text: str) -> str:
    return re.sub(r"\033\[[0-9;]*[A-Za-z]", "", text)


def screen(window) -> list[str]:
    """The rows that are seen after one more look, without colours."""
    window.look()
    return colourless(window._screen._out.getvalue().rpartition("\033[H")[2]).removesuffix("\r\n").split("\r\n")


def shown(window) -> str:
    """The same as one line."""
    return " ".join(" ".join(screen(window)).split())


def placed(run, **changes):
    place = Place(run.folder.name, 2, "12", "PENDING", **changes)
    queue.write(ExperimentPaths(run.folder.parent.parent).queue, QueueRecord("2026-01-01T00:00:00+00:00", "", (place,)))


def begun(run):
    claim_of(run.folder, 2).write_text("12 on node1\n")


def pictured(run, attempt=2, num_tasks=3, updates=20):
    view = PlanView("Collect_Wood (expert 3)", [f"Task_{number} x1" for number in range(num_tasks)], 0.8, 3_000_000)
    for update in range(1, updates + 1):
        view.add(report(update, num_tasks))
    view.set_phase("training")
    picture.write(run.pane, attempt, dataclasses.replace(view.picture(), phase_began_at=1_000_000.0))


def test_while_it_waits_its_place_and_the_reason_are_shown(window, run):
    placed(run, reason="QOSMaxJobsPerUserLimit", place=3, waiting=5, expected_at="2026-01-01T02:30:00+00:00")
    text = shown(window)
    assert "job 12 pending, place 3 of your 5 waiting jobs (QOSMaxJobsPerUserLimit: you have reached your limit" in text
    assert "expected to start 2026-01-01 02:30 UTC" in text
    assert "the queue last changed 2026-01-01 00:00 UTC" in text and "Closing this session ends nothing" in text


def test_a_cluster_that_does_not_answer_is_said_while_the_job_waits_and_while_it_runs(window, run):
    silent = QueueRecord("", "squeue did not answer", (), "2026-01-01T00:10:00+00:00")
    queue.write(ExperimentPaths(run.folder.parent.parent).queue, silent)
    assert "the cluster has not answered since 2026-01-01 00:10 UTC: squeue did not answer" in shown(window)
    begun(run)
    pictured(run)
    assert "the cluster has not answered since 2026-01-01 00:10 UTC: squeue did not answer" in shown(window)


def test_it_is_drawn_again_only_if_something_has_changed_or_for_its_clock(run, cluster, out):
    now_s = [1_000_000.0]
    window = Window(run, 2, out, cluster, lambda: now_s[0])
    begun(run)
    pictured(run)
    for now_s[0] in (1_000_000.0, 1_000_001.0, 1_000_004.0):
        window.look()
    assert out.getvalue().count("\033[H") == 1
    now_s[0] += job_window.CLOCK_S
    assert "training · 0:09" in shown(window)
    pictured(run, updates=21)
    assert "172,032 / 3,000,000 frames" in shown(window)


def test_before_the_training_has_a_pane_what_the_job_prints_is_shown(window, run):
    begun(run)
    output_of(run.folder).write_text("first\n")
    assert "attempt 2, job 12 on node1" in shown(window) and screen(window)[-1] == "first"
    with open(output_of(run.folder), "a") as file:
        file.write("second\n")
    assert screen(window)[-2:] == ["first", "second"]


def test_once_it_trains_its_pane_is_shown_as_on_a_terminal_of_its_own(window, run, out):
    begun(run)
    pictured(run)
    rows = screen(window)
    assert rows[0].startswith("job 12 on node1; Ctrl-C cancels it")
    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    console.print(drawn(picture.find(run.pane, 2), 24, window._now.now_s))
    assert rows[1:] == colourless(console.file.getvalue()).splitlines()
    text = " ".join(rows)
    for part in ("Collect_Wood (expert 3)", "training · 0:05", "163,840 / 3,000,000 frames (5%)", "4,321 frames/s",
                 "at most 11:18 left", "memory 1.2 GB", "time: game 45%, network 15%, update 35%, rest 5%", "reward", "▅▅▅",
                 "plan", "0.61", "goal 0.80, recent 0.58", "Task_2 x1", "tries move 62%",
                 "entropy of move 1.20, make 0.40"):  # fmt: skip
        assert part in text, part


def test_below_the_pane_are_the_last_lines_without_those_about_updates(window, run):
    begun(run)
    pictured(run)
    lines = [f"2026-01-01 00:00:{n:02}Z update {n}: 64 of 640 frames" for n in range(50)]
    lines += ["2026-01-01 00:01:00Z goal reached", "\033[31mslurmstepd:\033[0m \033[2J\007error", "10%\r20%\r100% loaded"]
    output_of(run.folder).write_text("\n".join([*lines[:20], "random policy 0.020", *lines[20:]]) + "\n")
    rows = screen(window)
    assert rows[-4:] == ["random policy 0.020", "2026-01-01 00:01:00Z goal reached", "slurmstepd: error", "100% loaded"]
    assert "update" not in " ".join(rows).replace("update 35%", "")
    assert "\007" not in window._screen._out.getvalue() and "\033[2J" not in window._screen._out.getvalue()


@pytest.mark.parametrize("size", [(1, 1), (10, 3), (20, 10), (40, 12), (80, 24), (80, 8), (200, 60)])
@pytest.mark.parametrize("num_tasks", [1, 40])
def test_it_fits_any_terminal_and_one_that_changes(window, run, out, size, num_tasks):
    begun(run)
    pictured(run, num_tasks=num_tasks)
    output_of(run.folder).write_text("\n".join(f"line{number}{'x' * 90}" for number in range(100)))
    for out.size in (os.terminal_size((80, 24)), os.terminal_size(size)):
        rows = screen(window)
        assert len(rows) <= out.size.lines and max(map(cell_len, rows)) <= out.size.columns
    if size == (80, 24):
        assert rows[-2].startswith("line99x") and rows[-1].endswith("xxx")  # its lines stay readable
        assert f"Task_{num_tasks - 1} x1" in " ".join(rows)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"attempt": 2, "title": "a"', '{"attempt": 2, "title": 3}'])
def test_a_half_written_file_leaves_what_was_drawn_before(window, run, text):
    begun(run)
    pictured(run)
    before = screen(window)
    run.pane.write_text(text)
    assert [row for row in screen(window) if "·" not in row] == [row for row in before if "·" not in row]
    pictured(run, updates=30)
    assert "245,760 / 3,000,000" in shown(window)


def test_the_pane_of_an_older_attempt_is_not_shown(window, run):
    begun(run)
    pictured(run, attempt=1)
    assert "frames/s" not in shown(window)


def test_what_the_queue_says_of_a_job_that_is_killed_is_shown(window, run):
    begun(run)
    pictured(run)
    place = Place(run.folder.name, 2, "12", "OUT_OF_MEMORY", "it used more memory than it was given (--slurm_mem)", "node1")
    queue.write(ExperimentPaths(run.folder.parent.parent).queue, QueueRecord("", "", (place,)))
    assert "job 12 on node1, out_of_memory (it used more memory than it was given (--slurm_mem))" in shown(window)


def test_once_it_has_ended_the_outcome_and_the_error_are_shown_and_the_clock_stops(window, run):
    begun(run)
    pictured(run)
    error = "out of memory while training Collect_Wood; give a smaller --num_envs\n  line 3\nMemoryError"
    run_result.write(run.result, RunResult(2, Outcome.FAILED, "Collect_Wood", error=error))
    ending.write(run.exit, Ending(2, 1))
    text = shown(window)
    assert "the training ended with exit code 1; the scheduler takes it from here failed: out of memory while" in text
    assert "give a smaller --num_envs line 3 MemoryError" in text
    assert "163,840 / 3,000,000 frames" in text and "training ·" not in text
    assert text.count("exit code 1") == 1


def test_an_end_before_there_was_a_pane_is_shown_with_the_last_lines(window, run):
    begun(run)
    output_of(run.folder).write_text("module: command not found\n")
    ending.write(run.exit, Ending(2, 143))
    assert "ended with exit code 143" in shown(window) and screen(window)[-1] == "module: command not found"


def test_in_tmux_it_follows_the_training_and_the_size_of_its_window(run, private_tmux):
    begun(run)
    pictured(run)
    output_of(run.folder).write_text("started\n")
    command = f"{shlex.join([sys.executable, '-m', job_window.__name__, str(run.folder), '2'])}"
    creation = ["-d", "-s", "run", "-x", "100", "-y", "24", "env", f"PYTHONPATH={CHECKOUT}", "LC_ALL=C", *shlex.split(command)]
    subprocess.run(["tmux", "new-session", *creation], check=True)

    def seen() -> str:
        return subprocess.run(["tmux", "capture-pane", "-p", "-t", "run"], capture_output=True, text=True).stdout

    assert retry_until(lambda: "163,840" in seen() and "started" in seen(), PATIENCE_S), seen()
    subprocess.run(["tmux", "resize-window", "-t", "run", "-x", "60", "-y", "20"], check=True)
    pictured(run, updates=30)
    assert retry_until(lambda: "245,760" in seen(), PATIENCE_S), seen()
    assert retry_until(lambda: all(len(row) <= 60 for row in seen().splitlines()) and seen().count("frames/s") == 1, PATIENCE_S)
    assert seen().count("━") > 40 and seen().count("Collect_Wood (expert 3)") == seen().count("started") == 1
    run.run_json.unlink()  # merged; what its job writes from now on keeps no session open
    assert retry_until(lambda: not seen(), PATIENCE_S), seen()


def test_a_place_of_an_older_attempt_is_not_shown(window, run):
    place = Place(run.folder.name, 1, "11", "RUNNING")
    queue.write(ExperimentPaths(run.folder.parent.parent).queue, QueueRecord("", "", (place,)))
    assert "job 11" not in shown(window)


def test_ctrl_c_ends_a_job_that_waits_and_the_skill_is_cancelled(window, run, cluster):
    write_json(job_receipt(run.folder), {"attempt": 2, "job": "12"})
    assert window.cancel() == "cancelled before it began"
    assert cluster.table["12"].state.startswith("CANCELLED")
    assert run_result.read(run.result).outcome == "cancelled"


def test_ctrl_c_records_the_end_before_the_scheduler_can_find_the_job_ended_without_one(window, run, cluster, monkeypatch):
    found, cancel = [], cluster.cancel
    monkeypatch.setattr(cluster, "cancel", lambda ids: (found.append(run_result.find(run.result, 2)), cancel(ids)))
    placed(run)
    window.cancel()
    assert [result.outcome for result in found] == ["cancelled"]
    assert claim_of(run.folder, 2).read_text().split()[0] == "12"  # a job that begins now does not train


def test_ctrl_c_cancels_a_job_that_waits_although_the_cluster_answers_no_more(window, run, cluster, monkeypatch):
    """Its job ends when it begins, since its attempt is claimed."""
    monkeypatch.setattr(cluster, "cancel", silent)
    placed(run)
    assert window.cancel() == "cancelled before it began"
    assert run_result.read(run.result).outcome == "cancelled"


def silent(ids):
    raise EngineUnreachable("scancel did not answer")


def test_ctrl_c_cancels_a_skill_whose_job_begins_at_that_moment(window, run, cluster, monkeypatch):
    """The job is ended as it starts, before its training could record that someone cancelled it."""
    jobs = cluster.jobs
    monkeypatch.setattr(cluster, "jobs", lambda: (jobs(), begun(run))[0])
    placed(run)
    assert window.cancel() == "cancelled before it began"
    assert run_result.read(run.result).outcome == "cancelled"
    assert cluster.table["12"].state.startswith("CANCELLED")


def test_ctrl_c_interrupts_a_job_that_runs_which_records_it_itself(window, run, cluster):
    write_json(job_receipt(run.folder), {"attempt": 2, "job": "12"})
    cluster.set("12", state="RUNNING")
    begun(run)
    assert "asked to stop" in window.cancel()
    assert "INT 12" in cluster.calls and not run.result.exists()


def test_ctrl_c_before_the_job_was_submitted_cancels_the_skill(window, run, cluster):
    assert window.cancel() == "cancelled before it began"
    assert run_result.read(run.result).attempt == 2


def test_ctrl_c_in_the_session_of_an_older_attempt_cancels_nothing(window, run):
    write_record(run, attempt=3)
    window.cancel()
    assert not run.result.exists()


def test_ctrl_c_while_the_cluster_does_not_answer_says_so(window, run, cluster):
    write_json(job_receipt(run.folder), {"attempt": 2, "job": "12"})
    cluster.silent = True
    assert window.cancel().startswith("not cancelled")
    assert not run.result.exists()


def test_a_wrong_command_line_is_refused(capsys):
    assert job_window.main(["x"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_session_of_a_failed_job_shows_its_end_for_a_while_and_makes_way_for_the_next_attempt(run, private_tmux):
    experiment = run.folder.parent.parent
    sessions = JobSessions()
    begun(run)
    name = sessions.open(experiment, run.folder, 2)
    run_result.write(run.result, RunResult(2, Outcome.FAILED, "Collect_Wood", error="diverged; try a smaller --lr"))
    ending.write(run.exit, Ending(2, 1))

    def seen() -> str:
        return subprocess.run(["tmux", "capture-pane", "-p", "-t", name], capture_output=True, text=True).stdout

    sessions.close(run.folder, 2, show_s=60)
    assert retry_until(lambda: "failed: diverged; try a smaller --lr" in seen(), PATIENCE_S), seen()
    assert sessions.open(experiment, run.folder, 3) == name
    sessions.close(run.folder, 3, show_s=1)
    assert retry_until(lambda: not seen(), PATIENCE_S), seen()
