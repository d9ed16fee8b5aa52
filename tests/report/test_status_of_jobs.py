"""What ``flowrl status`` says about jobs on a cluster, from the ``queue.json`` that the scheduler writes."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime

import jsonschema
import pytest
from rich.console import Console

from flowrl.commands import status as command
from flowrl.files import write_json
from flowrl.parallel.launchers.slurm import SlurmLauncher
from flowrl.parallel.launchers.slurm_options import SlurmOptions
from flowrl.paths import ExperimentPaths
from flowrl.records import queue, state_file
from flowrl.records.queue import Place, QueueRecord
from flowrl.records.scheduler_state import SchedulerState, SkillEntry, Stage, Status
from flowrl.report.status.screen import Screen, draw
from flowrl.report.status.snapshot import SCHEMA_FILE, take
from tests.parallel.fakes.cluster_queue import FakeQueue, FakeSessions
from tests.parallel.launcher_contract import spec  # noqa: F401 (a fixture)

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
NODES = "ReqNodeNotAvail, UnavailableNodes:node[1,3]"


def entry(index: int, name: str, attempt: int = 1, stage: Stage = Stage.TRAINING) -> SkillEntry:
    return SkillEntry(skill_name=name, status=Status.RUNNING, expert_idx=index, attempt=attempt, slot=index, stage=stage,
                      run_folder=f"training_runs/skill_{index}_{name}", started_at=NOW,
                      tmux_session=f"flowrl_e{index}_{name}")  # fmt: skip


def an_experiment(root, *entries: SkillEntry) -> ExperimentPaths:
    paths = ExperimentPaths(root)
    root.mkdir(parents=True, exist_ok=True)
    write_json(paths.config, {"env_name": "Craftax-Classic-Symbolic-v1", "launcher": "slurm", "total_timesteps": 1_000_000})
    state_file.save(paths, SchedulerState(max_parallel=len(entries), skills=list(entries)))
    for one in entries:
        (root / one.run_folder).mkdir(parents=True, exist_ok=True)
    return paths


def training(paths: ExperimentPaths, one: SkillEntry) -> None:
    line = {"frames": 20_000, "total_frames": 1_000_000, "frames_per_s": 4000.0, "estimate": 0.25}
    (paths.root / one.run_folder / "metrics.jsonl").write_text(json.dumps(line) + "\n")


@pytest.fixture
def paths(tmp_path) -> ExperimentPaths:
    """One skill trains on a node; one job waits for others, and one for nodes."""
    entries = entry(0, "Collect_Wood"), entry(1, "Collect_Drink"), entry(2, "Eat_Cow", attempt=2)
    paths = an_experiment(tmp_path / "exp", *entries)
    training(paths, entries[0])
    places = (
        Place("skill_0_Collect_Wood", 1, "11", "RUNNING", node="gpu-node-017"),
        Place("skill_1_Collect_Drink", 1, "12", "PENDING", NODES, "", 2, 2),
        Place("skill_2_Eat_Cow", 2, "13", "PENDING", "Priority", "", 1, 2, "2026-03-01T12:30:00+00:00"),
    )
    queue.write(paths.queue, QueueRecord("2026-03-01T11:59:00+00:00", "", places))
    return paths


def shown(paths, width=80, height=None) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(draw(take(paths, NOW), Screen(width, height)))
    return out.getvalue()


def in_one_line(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("width", [80, 120, 200])
def test_it_says_where_each_job_stands_and_why_it_waits_at_any_width(paths, width):
    text = shown(paths, width)
    assert max(map(len, text.splitlines())) <= width
    told = in_one_line(text)
    assert "job 13 pending, place 1 of your 2 waiting jobs (Priority: jobs of higher priority go first), expected" in told
    assert "expected to start 2026-03-01 12:30 UTC" in told
    assert "job 12 pending, place 2 of your 2 waiting jobs (ReqNodeNotAvail: the nodes that it may use are down" in told
    assert told.index("job 13") < told.index("job 12")  # the next one to start comes first
    trained = next(line for line in text.splitlines() if "20.0k of 1.0M" in line)
    assert "Collect_Wood" in trained and "gpu-node-017" in trained
    assert text.count("  queued ") == 4 and "job 11" not in text
    assert any("Eat_Cow" in line and "queued 0 s" in line for line in text.splitlines())


def test_a_cluster_that_does_not_answer_is_said_with_the_time_and_the_reason(paths):
    before = queue.find(paths.queue)
    why = "squeue did not answer within 15 s"
    queue.write(paths.queue, QueueRecord(before.asked_at, why, before.places, "2026-03-01T11:40:00+00:00"))
    assert f"the cluster has not answered since 2026-03-01 11:40 UTC: {why}" in in_one_line(shown(paths))
    assert "job 13 pending" in shown(paths)  # what it said last
    queue.write(paths.queue, before)
    assert "not answered" not in shown(paths)


def test_of_many_jobs_that_wait_a_terminal_shows_the_first_and_a_pipe_all(tmp_path):
    entries = [entry(index, f"Skill_{index}") for index in range(20)]
    paths = an_experiment(tmp_path / "exp", *entries)
    places = [Place(f"skill_{i}_Skill_{i}", 1, str(i + 1), "PENDING", "Resources", "", i + 1, 20) for i in range(20)]
    queue.write(paths.queue, QueueRecord(places=tuple(places)))
    assert "and 16 more that wait" in shown(paths, 120, height=60) and "place 5 of" not in shown(paths, 120, height=60)
    assert all(f"place {i} of your 20 waiting jobs (Resources: no node" in in_one_line(shown(paths, 120)) for i in range(1, 21))


def test_json_has_the_same_and_fits_the_schema(paths, capsys):
    assert command.main([str(paths.root), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator(json.loads(SCHEMA_FILE.read_text())).validate(data)
    wood, drink, cow = (run["job"] for run in data["skills"])
    assert (wood["node"], wood["waits"], wood["place"]) == ("gpu-node-017", False, None)
    assert (drink["number"], drink["reason"], drink["place"], drink["waiting"], drink["waits"]) == ("12", NODES, 2, 2, True)
    assert cow["expected_at"] == "2026-03-01T12:30:00Z" and "Priority: jobs of higher" in cow["in_words"]
    assert data["cluster"]["asked_at"] == "2026-03-01T11:59:00Z" and data["cluster"]["silence"] is None


def test_in_a_pipe_there_are_the_same_words_without_colours(paths, capsys):
    assert command.main([str(paths.root)]) == 0
    text = capsys.readouterr().out
    assert "place 1 of your 2 waiting jobs" in text and "\x1b" not in text


def test_a_job_of_an_older_attempt_and_one_that_is_merged_are_not_shown(tmp_path):
    paths = an_experiment(tmp_path / "exp", entry(0, "Wood", attempt=2), entry(1, "Drink", stage=Stage.MERGING))
    places = Place("skill_0_Wood", 1, "11", "PENDING", place=1, waiting=1), Place("skill_1_Drink", 1, "12", "COMPLETING")
    queue.write(paths.queue, QueueRecord(places=places))
    assert [run.job for run in take(paths, NOW).skills] == [None, None]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"asked_at": "", "silence": "", "places": [{"run": "x"}]}'])
def test_a_file_that_is_half_written_or_missing_is_no_error(paths, text):
    paths.queue.write_text(text)
    assert take(paths, NOW).cluster is None and "Collect_Wood" in shown(paths)


def test_an_experiment_on_this_machine_has_no_jobs(paths):
    write_json(paths.config, {"launcher": "tmux"})
    assert take(paths, NOW).cluster is None and "place 1" not in shown(paths)


def test_what_the_scheduler_writes_is_what_is_shown(spec):  # noqa: F811
    """From the cluster's answer to the screen."""
    cluster, clock = FakeQueue(), [1_772_366_400.0]
    launcher = SlurmLauncher(SlurmOptions(), cluster, FakeSessions(), now=lambda: clock[0])
    cluster.starts_at_once = False
    first = spec("Wood", index=0)
    paths = an_experiment(first.experiment, entry(0, "Wood"))
    handle = launcher.launch(first)
    job = cluster.of(1)[0].id
    cluster.set(job, reason="QOSMaxJobsPerUserLimit", expected_s=1_772_368_200.0)
    launcher._forget_answer()
    launcher.poll([handle])
    told = in_one_line(shown(paths))
    assert f"job {job} pending, place 1 of your 1 waiting jobs (QOSMaxJobsPerUserLimit: you have reached" in told
    assert "expected to start 2026-03-01 12:30 UTC" in told
    cluster.silent = True
    for clock[0] in (1_772_366_460.0, 1_772_366_520.0):
        launcher._forget_answer()
        launcher.poll([handle])
    assert "the cluster has not answered since 2026-03-01 12:01 UTC" in in_one_line(shown(paths))
    cluster.silent = False
    cluster.set(job, state="RUNNING", node="node1", reason="")
    launcher._forget_answer()
    launcher.poll([handle])
    assert "node1" in shown(paths) and "not answered" not in shown(paths) and "queued" not in shown(paths)
    assert take(paths).cluster.silent_since is None
