"""The launcher of a cluster, with a queue that does what the test says."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from flowrl.errors import BadInput
from flowrl.files import write_json
from flowrl.parallel import environment
from flowrl.parallel.launchers import slurm, slurm_queue
from flowrl.parallel.launchers.base import EngineUnreachable, Fault, Handle, NotLaunched, Phase
from flowrl.parallel.launchers.batch_script import attempt_of, batch_script, claim_of, comment_of
from flowrl.parallel.launchers.slurm import SlurmLauncher
from flowrl.parallel.launchers.slurm_options import SlurmOptions, seconds_of
from flowrl.parallel.launchers.slurm_queue import Job, Partition, Refused, SlurmQueue
from flowrl.paths import ExperimentPaths, RunPaths, batch_file, job_receipt
from flowrl.records import ending, queue
from flowrl.records.ending import Ending
from tests.parallel.fakes.cluster_queue import NOW_S, FakeQueue, FakeSessions
from tests.parallel.launcher_contract import LauncherContract, phase

HOUR_S = 3600.0


@pytest.fixture
def clock():
    return {"now_s": NOW_S}


@pytest.fixture
def cluster():
    return FakeQueue()


@pytest.fixture
def launcher(cluster, clock, monkeypatch):
    """With answers that are never old, so that each step of a test is seen."""
    monkeypatch.setattr(slurm, "FRESH_S", -1.0)
    monkeypatch.setattr(slurm, "RECENT_S", -1.0)
    monkeypatch.setattr(slurm, "CANCEL_LOOK_S", 0.001)
    return SlurmLauncher(SlurmOptions(), cluster, FakeSessions(), now=lambda: clock["now_s"])


class TestSlurmLauncher(LauncherContract):
    pass


def status(launcher, handle):
    return launcher.poll([handle])[handle.engine_id]


# Submission.


def test_a_submission_whose_answer_was_lost_is_not_repeated_once_the_queue_shows_the_job(launcher, cluster, spec):
    cluster.answers_lost = 1
    handle = launcher.launch(spec())
    assert phase(launcher, handle) is Phase.RUNNING
    assert launcher.launch(spec()).engine_id == handle.engine_id
    assert len(cluster.of(1)) == 1 and cluster.count("sbatch") == 1


def test_a_job_that_could_not_be_submitted_is_submitted_as_soon_as_the_cluster_answers(launcher, cluster, spec):
    cluster.silent = True
    handle = launcher.launch(spec())
    assert phase(launcher, handle) is Phase.UNKNOWN
    assert not cluster.table
    cluster.silent = False
    assert phase(launcher, handle) is Phase.QUEUED
    assert phase(launcher, handle) is Phase.RUNNING
    assert len(cluster.of(1)) == 1


def test_a_copy_of_a_job_is_cancelled_while_it_waits(launcher, cluster, spec):
    cluster.starts_at_once = False
    handle = launcher.launch(spec())
    cluster.submit(batch_file(spec().run_folder))  # a lost message that arrives late
    first, second = sorted(cluster.of(1), key=lambda job: int(job.id))
    assert phase(launcher, handle) is Phase.QUEUED
    assert cluster.table[second.id].state.startswith("CANCELLED")
    assert cluster.table[first.id].state == "PENDING"


def test_a_copy_that_waits_for_an_attempt_that_was_made_already_is_no_run(launcher, cluster, spec):
    """Found by the simulation: a scheduler that was started again took it over, and spent a second retry on it."""
    handle = launcher.launch(spec())
    first = cluster.of(1)[0].id
    claim_of(spec().run_folder, 1).write_text(f"{first} on node1\n")
    cluster.starts_at_once = False
    copy = cluster.submit(batch_file(spec().run_folder))
    cluster.set(first, state="FAILED")
    assert launcher.find(spec().experiment) == []
    assert status(launcher, handle).phase is Phase.EXITED
    assert cluster.table[copy].state.startswith("CANCELLED")
    cluster.forget(copy)
    cluster.set(first, state="PENDING")  # someone has it start again, or the cluster does in spite of --no-requeue
    found = status(launcher, handle)
    assert (found.phase, found.fault) == (Phase.EXITED, Fault.ENGINE) and "back into the queue" in found.reason


def test_a_job_that_an_answer_has_already_is_not_added_to_it_again(cluster, spec, monkeypatch):
    """A call of squeue that was under way as the job was submitted: the second entry was taken for a copy, and ended."""
    monkeypatch.setattr(slurm, "FRESH_S", 60.0)
    launcher = SlurmLauncher(SlurmOptions(), cluster, FakeSessions())
    cluster.starts_at_once = False
    submit = cluster.submit

    def submitted_while_asking(script):
        number = submit(script)
        launcher._forget_answer()
        launcher._ask(0.0)
        return number

    monkeypatch.setattr(cluster, "submit", submitted_while_asking)
    handle = launcher.launch(spec())
    assert status(launcher, handle).phase is Phase.QUEUED
    (job,) = cluster.of(1)
    assert job.state == "PENDING" and not withdrawals(cluster)
    assert [len(same) for same in launcher._answer.jobs.values()] == [1]


def test_a_job_that_is_seen_again_was_not_forgotten(launcher, cluster, spec, monkeypatch):
    handle = launcher.launch(spec())
    (job,) = cluster.of(1)
    begun_s = slurm.time.monotonic()
    for seen, now_s, expected in ((False, 1.0, Phase.UNKNOWN), (True, 500.0, Phase.RUNNING), (False, 1000.0, Phase.UNKNOWN)):
        monkeypatch.setattr(slurm.time, "monotonic", lambda now_s=now_s: begun_s + now_s)
        cluster.table = {job.id: job} if seen else {}
        assert status(launcher, handle).phase is expected


@pytest.mark.parametrize("words", ["{id} on node1", ""], ids=["whole", "half written"])
def test_a_job_that_has_begun_since_the_queue_was_asked_is_not_lost(launcher, cluster, spec, words):
    """Seen on a busy machine: it was cancelled as a copy of itself, and a retry was spent."""
    cluster.starts_at_once = False
    handle = launcher.launch(spec())
    (job,) = cluster.of(1)
    claim = claim_of(spec().run_folder, 1)
    claim.write_text(words.format(id=job.id))
    os.utime(claim, (0, 0))  # the clock of the file server is far behind
    assert status(launcher, handle).phase is Phase.QUEUED
    assert cluster.table[job.id].state == "PENDING" and not withdrawals(cluster)
    cluster.set(job.id, state="RUNNING", node="node1")
    assert status(launcher, handle).phase is Phase.RUNNING
    assert [found.engine_id for found in launcher.find(spec().experiment)] == [handle.engine_id]


def withdrawals(cluster) -> int:
    return cluster.count("scancel") + cluster.count("scancel --state=PENDING")


def test_a_copy_that_has_begun_since_the_queue_was_asked_goes_on(launcher, cluster, spec):
    """The answer shows both as waiting, and the first one would be kept; but the second one trains by now."""
    cluster.starts_at_once = False
    handle = launcher.launch(spec())
    copy = cluster.submit(batch_file(spec().run_folder))
    cluster.began_since[copy] = "RUNNING"
    assert status(launcher, handle).phase is Phase.QUEUED
    assert withdrawals(cluster) == 1 and cluster.table[copy].state == "PENDING"
    cluster.set(copy, state="RUNNING", node="node1")
    claim_of(spec().run_folder, 1).write_text(f"{copy} on node1\n")
    assert status(launcher, handle).phase is Phase.RUNNING


@pytest.mark.parametrize("copy_ended_s", [NOW_S - 500, NOW_S - 50], ids=["before", "after"])
def test_of_two_jobs_that_are_over_the_one_that_trained_says_how_it_ended(launcher, cluster, spec, copy_ended_s):
    """A copy ends at once and well. It must not hide that the node of the other one failed, which spends no retry."""
    handle = launcher.launch(spec())
    (copy,) = cluster.of(1)
    trained = cluster.submit(batch_file(spec().run_folder))
    claim_of(spec().run_folder, 1).write_text(f"{trained} on node2\n")
    cluster.set(copy.id, state="COMPLETED", ended_s=copy_ended_s)
    cluster.set(trained, state="NODE_FAIL", node="node2", ended_s=NOW_S - 100)
    assert status(launcher, handle).fault is Fault.ENGINE


def test_a_job_of_a_run_that_was_deleted_is_not_that_of_a_new_one(launcher, cluster, spec):
    """A new experiment in the folder of a deleted one: the queue still shows the old jobs for some minutes."""
    launcher.launch(spec())
    (old,) = cluster.of(1)
    cluster.set(old.id, state="COMPLETED", ended_s=NOW_S)
    shutil.rmtree(spec().run_folder)
    handle = launcher.launch(spec())
    assert cluster.count("sbatch") == 2 and status(launcher, handle).phase is Phase.RUNNING


def test_an_attempt_that_a_silent_cluster_never_got_is_submitted_by_the_next_scheduler(launcher, cluster, spec):
    cluster.silent = True
    launcher.launch(spec())
    cluster.silent = False
    known_from_files = Handle("", "flowrl_e2_Make_Pickaxe", spec().run_folder, 1)
    assert launcher.find(spec().experiment) == []
    assert status(launcher, known_from_files).phase is Phase.QUEUED
    assert len(cluster.of(1)) == 1 and len(launcher.find(spec().experiment)) == 1


def test_the_script_of_another_attempt_is_never_submitted_for_this_one(launcher, cluster, spec):
    cluster.silent = True
    launcher.launch(spec())
    cluster.silent = False
    assert status(launcher, Handle("", "", spec().run_folder, 2)).phase is Phase.LOST
    assert not cluster.table


def test_an_older_attempt_that_still_waits_is_cancelled_before_the_next_is_submitted(launcher, cluster, spec):
    cluster.starts_at_once = False
    launcher.launch(spec())
    launcher.launch(spec(attempt=2))
    assert [job.state for job in cluster.of(1)] == ["CANCELLED by 1000"]
    assert [job.state for job in cluster.of(2)] == ["PENDING"]


def test_a_refused_job_is_a_failed_launch_that_says_why_and_leaves_no_session(launcher, cluster, spec):
    cluster.refusal = "Invalid account or account/partition combination specified"
    with pytest.raises(NotLaunched, match="refused the job flowrl_e2_Make_Pickaxe: Invalid account"):
        launcher.launch(spec())
    assert not launcher._sessions.names


def test_a_cluster_that_takes_no_more_jobs_now_is_asked_again(launcher, cluster, spec, monkeypatch):
    def submit(script):
        raise EngineUnreachable("sbatch says: Job violates accounting/QOS policy (AssocMaxSubmitJobLimit)")

    monkeypatch.setattr(cluster, "submit", submit)
    handle = launcher.launch(spec())
    found = status(launcher, handle)
    assert found.phase is Phase.QUEUED and "AssocMaxSubmitJobLimit" in found.reason
    monkeypatch.undo()
    assert status(launcher, handle).phase is Phase.QUEUED
    assert len(cluster.of(1)) == 1


ANY_LIMIT = "Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"


@pytest.mark.parametrize(
    ("words", "is_refusal_of_a_try", "is_refusal"),
    [
        (f"QOSMaxWallDurationPerJobLimit; {ANY_LIMIT}", True, True),
        (f"AssocMaxSubmitJobLimit; {ANY_LIMIT}", False, False),
        (ANY_LIMIT, True, False),
        ("Invalid qos specification", True, True),
        ("Unable to contact slurm controller (connect failure)", False, False),
    ],
)
def test_a_limit_of_the_job_itself_is_a_refusal_and_one_on_the_number_of_jobs_is_not(
    monkeypatch, words, is_refusal_of_a_try, is_refusal
):
    failed = subprocess.CompletedProcess([], 1, "", f"sbatch: error: {words}\n")
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: failed)
    with pytest.raises(Refused if is_refusal_of_a_try else EngineUnreachable):
        SlurmQueue().try_submission("script")
    with pytest.raises(Refused if is_refusal else EngineUnreachable):
        SlurmQueue().submit(Path("script"))


def test_the_name_of_a_cluster_before_its_partitions_is_no_partition(monkeypatch):
    lines = "CLUSTER: other\ngpu*|up|1-00:00:00|n/a|idle\ngpu*|up|1-00:00:00|n/a|down*\nbrief|up|30:00|2:00|mixed\n"
    monkeypatch.setattr(SlurmQueue, "_call", lambda self, *command: lines)
    gpu, brief = SlurmQueue().partitions()
    assert gpu == Partition("gpu", True, "1-00:00:00", is_default=True, is_whole=False)
    assert brief == Partition("brief", True, "30:00", usual="2:00")


# What the queue says.


def test_no_answer_is_never_gone(launcher, cluster, spec):
    handle = launcher.launch(spec())
    cluster.silent = True
    assert status(launcher, handle).phase is Phase.UNKNOWN
    with pytest.raises(EngineUnreachable):
        launcher.find(spec().experiment)
    assert launcher.cancel(handle, grace_s=0) is False


def test_a_job_that_the_queue_has_forgotten_is_lost_and_not_submitted_again(launcher, cluster, spec):
    handle = launcher.launch(spec())
    cluster.forget(cluster.of(1)[0].id)
    ending.write(RunPaths(spec().run_folder).exit, Ending(1, 0))
    assert status(launcher, handle).phase is Phase.LOST
    assert status(launcher, handle).phase is Phase.LOST
    assert not cluster.table and cluster.count("sbatch") == 1


def test_the_files_of_a_job_that_the_queue_has_forgotten_may_come_later(launcher, cluster, spec, monkeypatch):
    handle = launcher.launch(spec())
    cluster.forget(cluster.of(1)[0].id)
    found = status(launcher, handle)
    assert found.phase is Phase.UNKNOWN and "files are awaited" in found.reason
    monkeypatch.setattr(slurm, "FILES_GRACE_S", 0.0)
    assert status(launcher, handle).phase is Phase.LOST
    assert not cluster.table and cluster.count("sbatch") == 1


def test_how_a_forgotten_job_ended_comes_from_the_clusters_books_where_it_keeps_any(launcher, cluster, spec):
    handles = [launcher.launch(spec(name, index=index)) for index, name in enumerate(("A", "B"))]
    jobs = cluster.of(1)
    cluster.books = {jobs[0].id: Job(jobs[0].id, "TIMEOUT"), jobs[1].id: Job(jobs[1].id, "RUNNING")}
    for job in jobs:
        cluster.forget(job.id)
    for _ in range(3):
        found = launcher.poll(handles)
    assert (found[handles[0].engine_id].phase, found[handles[0].engine_id].fault) == (Phase.EXITED, Fault.ENGINE)
    assert found[handles[1].engine_id].phase is Phase.UNKNOWN  # books that say that a forgotten job runs are wrong


def test_books_that_do_not_answer_are_not_needed_and_not_asked_again_and_again(launcher, cluster, spec):
    handle = launcher.launch(spec())
    cluster.forget(cluster.of(1)[0].id)
    for _ in range(5):
        assert status(launcher, handle).phase is Phase.UNKNOWN
    assert cluster.count("sacct") == 1


def test_a_line_of_sacct_is_a_job(monkeypatch):
    lines = ["12|NODE_FAIL|node1|1700000000", "12|CANCELLED by 1000|node2|1700000009", "13|FAILED|None assigned|Unknown", "x"]
    called = []
    monkeypatch.setattr(SlurmQueue, "_call", lambda self, *command: called.append(command) or "\n".join(lines))
    last = Job("12", "CANCELLED by 1000", node="node2", ended_s=1700000009.0)
    assert SlurmQueue().past(["12", "13"]) == [last, Job("13", "FAILED")]
    assert called[0][0] == "sacct" and "12,13" in called[0]


@pytest.mark.parametrize(
    ("state", "expected", "fault"),
    [
        ("PENDING", Phase.QUEUED, None),
        ("SUSPENDED", Phase.QUEUED, None),
        ("CONFIGURING", Phase.STARTING, None),
        ("RUNNING", Phase.RUNNING, None),
        ("COMPLETING", Phase.RUNNING, None),
        ("COMPLETED", Phase.EXITED, None),
        ("FAILED", Phase.EXITED, None),
        ("CANCELLED by 1000", Phase.EXITED, None),
        ("TIMEOUT", Phase.EXITED, Fault.ENGINE),
        ("PREEMPTED", Phase.EXITED, Fault.ENGINE),
        ("NODE_FAIL", Phase.EXITED, Fault.ENGINE),
        ("OUT_OF_MEMORY", Phase.EXITED, Fault.MEMORY),
        ("SOMETHING_NEW", Phase.UNKNOWN, None),
    ],
)
def test_the_states_of_a_job(launcher, cluster, spec, state, expected, fault):
    handle = launcher.launch(spec())
    cluster.set(cluster.of(1)[0].id, state=state)
    found = status(launcher, handle)
    assert (found.phase, found.fault) == (expected, fault)


def test_a_job_that_waits_too_long_is_given_up_with_the_reason(launcher, cluster, clock, spec):
    cluster.starts_at_once = False
    handle = launcher.launch(spec())
    cluster.set(cluster.of(1)[0].id, reason="QOSMaxJobsPerUserLimit")
    clock["now_s"] += 48 * HOUR_S
    assert status(launcher, handle).phase is Phase.QUEUED
    patient = SlurmLauncher(SlurmOptions(pending_timeout_s=HOUR_S), cluster, FakeSessions(), now=lambda: clock["now_s"])
    found = status(patient, handle)
    assert (found.phase, found.fault) == (Phase.EXITED, Fault.HOPELESS)
    assert "QOSMaxJobsPerUserLimit" in found.reason and "--slurm_pending_timeout 3600" in found.reason
    cluster.set(cluster.of(1)[0].id, state="SUSPENDED", node="node1")  # it has begun: this is no waiting in the queue
    assert status(patient, handle).phase is Phase.QUEUED


@pytest.mark.parametrize("state", ["COMPLETED", "FAILED", "TIMEOUT", "PREEMPTED", "OUT_OF_MEMORY"])
@pytest.mark.parametrize("apart_s", [-HOUR_S, HOUR_S])
def test_the_files_of_a_job_that_has_just_ended_on_a_node_may_come_later(launcher, cluster, spec, monkeypatch, state, apart_s):
    """Its checkpoint, too: without one it would seem to have made no progress, and spend a retry. The controller's clock is an
    hour before or behind ours."""
    handle = launcher.launch(spec())
    job = cluster.of(1)[0].id
    cluster.set(job, state=state, ended_s=NOW_S + apart_s)
    assert status(launcher, handle).phase is Phase.RUNNING
    ending.write(RunPaths(spec().run_folder).exit, Ending(1, 0))
    assert status(launcher, handle).phase is Phase.EXITED
    (spec().run_folder / "run.exit").unlink()
    assert status(launcher, handle).phase is Phase.RUNNING
    cluster.set(job, node=socket.gethostname())
    assert status(launcher, handle).phase is Phase.EXITED  # here, files are seen at once
    cluster.set(job, node="node1")
    later_s = slurm.time.monotonic() + slurm.FILES_GRACE_S
    monkeypatch.setattr(slurm.time, "monotonic", lambda: later_s)
    assert status(launcher, handle).phase is Phase.EXITED


def test_one_question_is_enough_for_all_jobs_and_for_many_calls(cluster, spec):
    launcher = SlurmLauncher(SlurmOptions(), cluster, FakeSessions())
    handles = [launcher.launch(spec(f"S{index}", index=index)) for index in range(5)]
    assert cluster.count("squeue") == 1  # for five launches, each of which looks for its own job first
    launcher._forget_answer()
    for _ in range(10):
        launcher.poll(handles)
    assert cluster.count("squeue") == 2


def test_the_place_in_the_queue_and_the_reason_are_written_for_those_who_look(launcher, cluster, spec):
    cluster.starts_at_once = False
    handles = [launcher.launch(spec(name, index=index)) for index, name in enumerate(("A", "B"))]
    cluster.set(cluster.of(1)[0].id, priority=5)
    cluster.set(cluster.of(1)[1].id, priority=9, reason="Resources")
    launcher.poll(handles)
    shown = queue.find(ExperimentPaths(spec().experiment).queue)
    assert [(place.run, place.place, place.waiting, place.reason) for place in shown.places] == [
        ("skill_0_A", 2, 2, "Priority"),
        ("skill_1_B", 1, 2, "Resources"),
    ]
    assert "place 2 of your 2 waiting jobs (Priority: jobs of higher priority go first)" in str(shown.of("skill_0_A", 1))
    assert shown.of("skill_0_A", 2) is None and not shown.silent_since
    cluster.silent = True
    launcher.poll(handles)
    later = queue.find(ExperimentPaths(spec().experiment).queue)
    assert "did not answer" in later.silence and later.places == shown.places and later.silent_since


def test_a_job_that_ends_by_itself_does_not_count_as_cancelled(launcher, cluster, spec):
    handle = launcher.launch(spec())
    ending.write(RunPaths(spec().run_folder).exit, Ending(1, 0))
    assert launcher.cancel(handle, grace_s=0)
    assert cluster.of(1)[0].state == "RUNNING" and cluster.count("scancel") == 0


def test_the_session_of_a_job_that_failed_goes_on_showing_how_it_ended(launcher, spec):
    for attempt, show_s in ((1, 0.0), (2, 99.0)):
        handle = launcher.launch(spec(attempt=attempt))
        ending.write(RunPaths(spec().run_folder).exit, Ending(attempt, 1))
        assert launcher.cancel(handle, 0, show_s)
        assert launcher._sessions.shown_s[handle.run_folder, attempt] == show_s


def test_jobs_of_others_are_none_of_ours(launcher, cluster, spec):
    cluster.table["7"] = Job("7", "RUNNING", name="flowrl_e2_Make_Pickaxe", comment="mine: hands off")
    handle = launcher.launch(spec())
    assert launcher.find(spec().experiment) == [handle]
    launcher.cancel(handle, grace_s=0)
    assert cluster.table["7"].state == "RUNNING"


def test_a_line_of_squeue_is_a_job_and_anything_else_is_not():
    line = "12|RUNNING|None|node1|1700000000|NONE|1700000000|4294|debug|flowrl_e0_A|flowrl:1:/a|b"
    assert Job.parse(line) == Job(
        "12", "RUNNING", "", "node1", 1700000000.0, None, 1700000000.0, 4294, "debug", "flowrl_e0_A", "flowrl:1:/a|b"
    )
    for other in ("", "second line of a comment", "1_[2-9]|PENDING|None||1|2|3|4|debug|x|y", "|".join("a" * 11)):
        assert Job.parse(other) is None


@pytest.mark.parametrize("folder", ["/a/training_runs/skill_0_A", "/with space/#1:2%/training_runs/skill_0_A", "/ä/skill_0_A"])
def test_a_comment_names_the_run_and_the_attempt(folder):
    assert attempt_of(comment_of(Path(folder), 12)) == (Path(folder), 12)
    assert not set(" #|'\"") & set(comment_of(Path(folder), 12))


@pytest.mark.parametrize("comment", ["", "(null)", "flowrl", "flowrl:x:/a", "flowrl:1:", "other:1:/a"])
def test_another_comment_is_none_of_ours(comment):
    assert attempt_of(comment) is None


# Options.


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30", 1800), ("30:30", 1830), ("4:00:00", 14400), ("2-12", 216000), ("1-01:30", 91800), ("1-0:0:5", 86405),
     ("UNLIMITED", None), ("infinite", None)],
)  # fmt: skip
def test_a_time_is_read_as_slurm_reads_it(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (SlurmOptions(time="x"), "--slurm_time must be minutes"),
        (SlurmOptions(time="4:59"), "--slurm_time must be at least 5 minutes, found 4:59"),
        (SlurmOptions(args="--comment=x"), "--slurm_args must not have '--comment=x'"),
        (SlurmOptions(args="--account=x -J name"), "--slurm_args must not have '-J name'"),
        (SlurmOptions(args="account=x"), "must be options of sbatch"),
        (SlurmOptions(args="-M other"), "set SLURM_CLUSTERS"),
        (SlurmOptions(args="--arr=0-3"), "--slurm_args must not have '--arr=0-3': each skill is a job of its own"),
        (SlurmOptions(args="--part x"), "use --slurm_partition"),
        (SlurmOptions(args="--version"), "it submits nothing"),
        (SlurmOptions(args="--account='x\ny'"), "--slurm_args must be in one line"),
        (SlurmOptions(args="--account='x"), "--slurm_args cannot be read"),
        (SlurmOptions(partition="a b"), "--slurm_partition must be one word"),
    ],
)
def test_what_cannot_be_asked_of_a_cluster_is_one_line(options, words):
    with pytest.raises(BadInput) as raised:
        options.check()
    assert words in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (SlurmOptions(partition="gpu"), "--slurm_partition gpu is unknown; this cluster has: brief, closed, debug, short"),
        (SlurmOptions(partition="closed"), "--slurm_partition closed is down"),
        (SlurmOptions(partition="short", time="1:00:00"), "--slurm_time 1:00:00 is more than short allows"),
        (SlurmOptions(partition="brief"), "a job gets 2 minutes in the partition brief, and must get at least 5"),
    ],
)
def test_what_the_cluster_does_not_have_is_found_before_anything_is_submitted(cluster, options, words):
    with pytest.raises(BadInput, match=words):
        SlurmLauncher(options, cluster, FakeSessions()).check()
    assert not cluster.table


def test_what_the_cluster_refuses_or_does_not_answer_is_bad_input(launcher, cluster):
    cluster.refusal = "Invalid qos specification"
    with pytest.raises(BadInput, match="Invalid qos specification"):
        launcher.check()
    cluster.silent = True
    with pytest.raises(BadInput, match="the cluster does not answer"):
        launcher.check()


def test_what_is_refused_only_while_nodes_are_out_of_work_is_no_hindrance(launcher, cluster, monkeypatch):
    cluster.refusal = "allocation failure: Requested node configuration is not available"
    with pytest.raises(BadInput, match="node configuration"):
        launcher.check()
    monkeypatch.setattr(cluster, "partitions", lambda: [Partition("debug", True, "infinite", True, is_whole=False)])
    launcher.check()
    cluster.refusal = "Invalid account"
    with pytest.raises(BadInput, match="Invalid account"):
        launcher.check()


def test_shares_of_this_machine_mean_nothing_on_a_cluster(launcher):
    assert len(launcher.slots(1000)) == 1000
    with pytest.raises(BadInput, match="--slurm_gpus"):
        launcher.slots(2, gpu_ids="0,1")
    with pytest.raises(BadInput, match="--slurm_gpus"):
        launcher.slots(2, skills_per_gpu=2)


# The batch script, as a shell runs it.


def run_script(spec, options=SlurmOptions(), **variables):
    script = spec.run_folder / "script"
    script.write_text(batch_script(spec, options, "flowrl_e2_Make_Pickaxe"))
    environment = {"PATH": "/usr/bin:/bin", "SLURM_JOB_ID": "12"} | variables
    done = subprocess.run(["bash", str(script)], env=environment, capture_output=True, text=True, check=False)
    output = spec.run_folder / "job.out"
    return done.returncode, output.read_text() if output.exists() else ""


def test_a_job_runs_the_command_with_its_variables_and_hands_on_its_exit_code(spec):
    code, said = run_script(spec(argv=("sh", "-c", "echo $MARK $FLOWRL_RUN; exit 7"), MARK="long path"))
    assert code == 7
    assert said == f"long path {spec().run_folder}#1\n"


def test_an_attempt_is_trained_by_one_job_alone(spec):
    run = spec(argv=("echo", "training"))
    assert run_script(run)[1] == "training\n"
    code, said = run_script(run, SLURM_JOB_ID="13")
    assert (code, said.count("training\n")) == (0, 1)
    assert f"job 13 ends: job 12 on {socket.gethostname()} has attempt 1" in said
    assert run_script(spec(argv=("echo", "training"), attempt=2))[1].count("training\n") == 2


def test_what_is_to_be_set_up_is_done_first_and_a_training_sees_it(spec):
    _, said = run_script(spec(argv=("sh", "-c", "echo $LOADED")), SlurmOptions(setup="export LOADED=cuda"))
    assert said == "cuda\n"
    assert batch_script(spec(), SlurmOptions(setup="module load cuda"), "x").startswith("#!/bin/bash -l\n")


def test_a_path_as_long_as_module_systems_make_it_is_no_hindrance(spec):
    long = ":".join(f"/software/module-{number}/bin" for number in range(4000))
    _, said = run_script(spec(argv=("sh", "-c", "echo ${#LONG}"), LONG=long))
    assert said == f"{len(long)}\n"


def test_a_folder_with_a_blank_and_a_hash_in_its_path_works(spec):
    code, said = run_script(spec(argv=("echo", "here"), experiment="my #1 'exp' %j"))
    assert (code, said) == (0, "here\n")


ASKED = """
import os, signal, sys
signal.signal(signal.SIGUSR1, lambda *_: sys.exit(143))
os.kill(os.getppid(), signal.SIGTERM)
signal.pause()
"""


def test_when_the_time_is_nearly_over_the_keeper_is_told_and_the_job_has_not_failed(spec):
    code, _ = run_script(spec(argv=(sys.executable, "-c", ASKED)))
    assert code == 0


def test_no_key_is_in_a_script(spec, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "secret-1")
    monkeypatch.setenv("OPENAI_API_KEY", "secret-2")
    script = batch_script(spec(**environment.to_start()), SlurmOptions(), "x")
    assert "secret" not in script
    assert not [value for value in environment.for_slurm().values() if "secret" in value]


def test_variables_that_would_override_a_jobs_own_options_are_not_passed_on(monkeypatch):
    monkeypatch.setenv("SBATCH_REQUEUE", "1")
    monkeypatch.setenv("SBATCH_ACCOUNT", "mine")
    monkeypatch.setenv("SQUEUE_FORMAT", "%i")
    monkeypatch.setenv("SLURM_JOB_ID", "99")
    passed = environment.for_slurm()
    assert passed["SBATCH_ACCOUNT"] == "mine"
    assert not {"SBATCH_REQUEUE", "SQUEUE_FORMAT", "SLURM_JOB_ID"} & passed.keys()


@pytest.mark.parametrize(
    ("options", "left_out"),
    [
        (SlurmOptions(), set()),
        (SlurmOptions("gpu", "4:00:00"), {"SBATCH_PARTITION", "SBATCH_TIMELIMIT"}),
        (SlurmOptions(mem="4G", gpus=1), {"SBATCH_MEM_PER_CPU", "SBATCH_GPUS"}),
        (SlurmOptions(args="--account=x --gpus-per-node 2"), {"SBATCH_ACCOUNT", "SBATCH_GPUS"}),
    ],
)
def test_a_variable_does_not_override_what_a_flag_asks_for(monkeypatch, options, left_out):
    """For sbatch, it would: it counts more than the script."""
    for name in [name for name in os.environ if name.startswith("SBATCH_")]:
        monkeypatch.delenv(name)
    names = {"PARTITION", "TIMELIMIT", "ACCOUNT", "MEM_PER_CPU", "GPUS", "RESERVATION"}
    for name in names:
        monkeypatch.setenv(f"SBATCH_{name}", "other")
    passed = environment.for_slurm(options.variables_instead())
    assert {f"SBATCH_{name}" for name in names} - passed.keys() == left_out


def test_the_cluster_of_sbatch_is_that_of_all_commands(monkeypatch):
    monkeypatch.delenv("SLURM_CLUSTERS", raising=False)
    monkeypatch.setenv("SBATCH_CLUSTERS", "b")
    assert environment.for_slurm()["SLURM_CLUSTERS"] == "b" and "SBATCH_CLUSTERS" not in environment.for_slurm()
    monkeypatch.setenv("SLURM_CLUSTERS", "a")
    assert environment.for_slurm()["SLURM_CLUSTERS"] == "a"


# Slurm's own commands, as programs that a test has written.


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """Writes a program in place of one of Slurm's; it is called with what it is to print, and notes how it was called."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def write(name: str, does: str) -> Path:
        called = tmp_path / f"{name}.called"
        program = folder / name
        program.write_text(f'#!/bin/sh\n{{ echo "$@"; env; }} >{called}\n{does}\n')
        program.chmod(0o755)
        return called

    return write


def test_hidden_partitions_and_jobs_that_have_ended_are_asked_for_and_no_key_is_passed_on(commands, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "secret-1")
    line = "7|RUNNING|None|node1|5|N/A|N/A|3|debug|name|flowrl:1:/x"
    called = commands("squeue", f"echo '{line}'")
    (job,) = SlurmQueue().jobs()
    assert (job.id, job.state, job.reason, job.node, job.comment) == ("7", "RUNNING", "", "node1", "flowrl:1:/x")
    asked, *variables = called.read_text().splitlines()
    assert "-a" in asked.split() and "-t all" in asked
    assert "SLURM_TIME_FORMAT=%s" in variables and "secret" not in called.read_text()
    called = commands("sinfo", "echo 'hidden|up|infinite|n/a|idle'")
    assert [partition.name for partition in SlurmQueue().partitions()] == ["hidden"]
    assert "-a" in called.read_text().splitlines()[0].split()


@pytest.mark.parametrize(("does", "words"), [("exit 1", "exit code 1"), ("sleep 9", "did not answer within 0.2 s")])
def test_a_command_that_fails_or_does_not_end_is_no_answer(commands, monkeypatch, does, words):
    monkeypatch.setattr(slurm_queue, "CALL_TIMEOUT_S", 0.2)
    for name, ask in (("squeue", SlurmQueue().jobs), ("sinfo", SlurmQueue().partitions)):
        commands(name, does)
        with pytest.raises(EngineUnreachable, match=words):
            ask()


def test_what_waits_is_withdrawn_and_what_runs_goes_on(commands):
    called = commands("scancel", "")
    SlurmQueue().withdraw(["7", "8"])
    assert called.read_text().splitlines()[0] == "--state=PENDING 7 8"


@pytest.mark.parametrize(
    ("says", "error"),
    [
        ("sbatch: error: Batch job submission failed: I/O error writing script/environment to file", EngineUnreachable),
        ("sbatch: error: Could not establish a configuration source", EngineUnreachable),
        ("sbatch: error: Batch job submission failed: Resource temporarily unavailable", EngineUnreachable),
        ("sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified", Refused),
    ],
)
def test_an_error_of_the_controller_is_no_refusal_of_the_job(commands, tmp_path, says, error):
    commands("sbatch", f"echo '{says}' >&2; exit 1")
    with pytest.raises(error):
        SlurmQueue().submit(tmp_path / "job.sbatch")


def test_the_script_of_a_launched_job_is_its_owners_alone(launcher, spec):
    launcher.launch(spec())
    assert batch_file(spec().run_folder).stat().st_mode & 0o077 == 0
    assert job_receipt(spec().run_folder).exists()


def test_the_options_of_a_job_are_those_that_were_asked_for(spec):
    options = SlurmOptions("gpu", "4:00:00", 1, 8, "16G", "--account=x --constraint='a&b' --reservation r")
    script = batch_script(spec(), options, "flowrl_e2_Make_Pickaxe")
    lines = {line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH")}
    assert lines >= {"--partition=gpu", "--time=4:00:00", "--gres=gpu:1", "--cpus-per-task=8", "--mem=16G", "--account=x",
                     "--constraint='a&b'", "--reservation r", "--no-requeue", "--signal=B:TERM@90",
                     "--job-name=flowrl_e2_Make_Pickaxe"}  # fmt: skip


def test_a_claim_is_of_one_attempt(tmp_path):
    assert claim_of(tmp_path, 1) != claim_of(tmp_path, 2)


def test_a_lost_job_of_an_unknown_run_can_be_asked_about(launcher, spec):
    unknown = Handle("", "", spec().run_folder, 4)
    assert status(launcher, unknown).phase is Phase.LOST
    assert shlex.join(launcher.attach_command(unknown)).startswith("tmux attach")


def test_a_receipt_of_an_older_attempt_does_not_count(launcher, cluster, spec):
    handle = launcher.launch(spec())
    cluster.forget(cluster.of(1)[0].id)
    write_json(job_receipt(spec().run_folder), {"attempt": 0, "job": "1"})
    assert status(launcher, handle).phase is Phase.QUEUED  # submitted again: nothing says that it ever was
    assert len(cluster.of(1)) == 1
