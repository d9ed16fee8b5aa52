"""What the session of a job shows, and what Ctrl-C in it does."""

from __future__ import annotations

import io

import pytest

from flowrl.files import write_json
from flowrl.parallel.launchers import job_window
from flowrl.parallel.launchers.batch_script import claim_of, output_of
from flowrl.parallel.launchers.job_window import Window
from flowrl.parallel.launchers.slurm_queue import Job
from flowrl.paths import ExperimentPaths, RunPaths, job_receipt
from flowrl.records import ending, queue
from flowrl.records import result as run_result
from flowrl.records.ending import Ending
from flowrl.records.queue import Place, QueueRecord
from tests.parallel.fakes.cluster_queue import FakeQueue
from tests.records.builders import write_record


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


@pytest.fixture
def window(run, cluster):
    return Window(run, 2, io.StringIO(), cluster)


def shown(window):
    window.look()
    return window._out.getvalue()


def placed(run, **changes):
    place = Place(run.folder.name, 2, "12", "PENDING", **changes)
    queue.write(ExperimentPaths(run.folder.parent.parent).queue, QueueRecord("2026-01-01T00:00:00+00:00", "", (place,)))


def begun(run):
    claim_of(run.folder, 2).write_text("12 on node1\n")


def test_while_it_waits_its_place_and_the_reason_are_shown(window, run):
    placed(run, reason="QOSMaxJobsPerUserLimit", place=3, waiting=5)
    text = shown(window)
    assert "job 12 pending, place 3 of your 5 waiting jobs (QOSMaxJobsPerUserLimit)" in text
    assert "as of 2026-01-01" in text and "Closing this session ends nothing" in text
    assert shown(window) == text  # drawn again only if something has changed


def test_once_it_runs_what_it_prints_is_shown(window, run):
    begun(run)
    output_of(run.folder).write_text("first\n")
    assert "job 12 on node1" in shown(window) and shown(window).endswith("first\n")
    with open(output_of(run.folder), "a") as file:
        file.write("second\n")
    assert shown(window).endswith("first\nsecond\n")
    ending.write(run.exit, Ending(2, 143))
    assert "ended with exit code 143" in shown(window)
    assert shown(window).count("exit code 143") == 1


def test_a_place_of_an_older_attempt_is_not_shown(window, run):
    place = Place(run.folder.name, 1, "11", "RUNNING")
    queue.write(ExperimentPaths(run.folder.parent.parent).queue, QueueRecord("", "", (place,)))
    assert "job 11" not in shown(window)


def test_ctrl_c_ends_a_job_that_waits_and_the_skill_is_cancelled(window, run, cluster):
    write_json(job_receipt(run.folder), {"attempt": 2, "job": "12"})
    assert window.cancel() == "cancelled before it began"
    assert cluster.table["12"].state.startswith("CANCELLED")
    assert run_result.read(run.result).outcome == "cancelled"


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
