"""The docs name what exists: files, links, and the fields of every file that a run leaves."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from flowrl.files import read_json
from flowrl.parallel.library.merge_rule import Competition
from flowrl.parallel.training_processor import process_completed_training
from flowrl.parallel.training_setup import prepare_training_run, write_launch
from flowrl.paths import RunPaths
from flowrl.records import ending, heartbeat, liveness, picture
from flowrl.records.ending import Ending
from flowrl.records.heartbeat import Activity, Heartbeat
from flowrl.records.observed import Observed, ObservedResource
from flowrl.records.picture import Figure, Picture, Rate, Rates
from flowrl.records.queue import Place, QueueRecord
from flowrl.records.result import RunResult, TaskRate
from flowrl.records.run_record import PlannedTask, RunExpert, RunRecord, Slot
from flowrl.records.training_settings import RunSettings
from flowrl.skills.module import TaskSource, render_module
from tests.parallel.fakes.experiments import skill
from tests.parallel.fakes.launcher import finish
from tests.test_imports import ROOMS, SUB_ROOMS

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "exp/README.md", *(ROOT / "docs").glob("*.md")])
FORMATS = ROOT / "docs/files.md"
ARCHITECTURE = ROOT / "docs/architecture.md"

RECORDS = {
    "run.json": RunRecord,
    "run.json: settings": RunSettings,
    "run.json: plan": PlannedTask,
    "run.json: experts": RunExpert,
    "run.json: slot": Slot,
    "result.json": RunResult,
    "result.json: tasks": TaskRate,
    "result.json: observed": Observed,
    "result.json: resources": ObservedResource,
    "run.exit": Ending,
    "merge.json: competition": Competition,
    "queue.json": QueueRecord,
    "queue.json: places": Place,
    "pane.json: figures": Figure,
    "pane.json: rates": Rate,
}
"""The sections of docs/files.md that list the fields of a type."""


def pages(paths=PAGES):
    return pytest.mark.parametrize("page", paths, ids=[str(path.relative_to(ROOT)) for path in paths])


def prose(page: Path) -> str:
    """A page without its code blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """What a link may have behind ``#``, as GitHub makes it of headings."""
    headings = re.findall(r"^#+ (.+)$", prose(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pages()
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith(("http:", "https:")):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{page.name} links to {target}, which is not there"
        assert not anchor or anchor in anchors(linked), f"{page.name} links to {target}; {linked.name} has no such heading"


def is_made_by_the_reader(page: Path, named: str) -> bool:
    """Whether the reader of a page makes this file; `test_new_game` makes those of the new game, and imports them."""
    return page.name == "add_a_game.md" and "orchard" in named


@pages()
def test_files_that_are_named_exist(page):
    named = re.findall(r"\b(?:flowrl|tests|benchmarks|scripts|docs)/[\w/.-]*\w/?", page.read_text())
    missing = [name for name in named if not (ROOT / name).exists() and not is_made_by_the_reader(page, name)]
    assert not missing, f"{page.name} names {missing}, which are not there"


@pages()
def test_modules_that_are_named_exist(page):
    for name in re.findall(r"-m (flowrl[\w.]*\w)", page.read_text()):
        path = ROOT / name.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), f"{page.name}: no module {name}"


@pages()
def test_imports_of_the_examples_exist(page):
    for line in re.findall(r"^ *from flowrl[\w.]* import \w+(?:, \w+)*$", page.read_text(), flags=re.MULTILINE):
        if not is_made_by_the_reader(page, line):
            exec(line.strip(), {})


@pytest.mark.parametrize(
    ("section", "rooms"),
    [("The packages", ROOMS), ("Inside a training", SUB_ROOMS["training"]), ("Inside the fire package", SUB_ROOMS["fire"])],
)
def test_the_rooms_are_shown_as_imports_have_them(section, rooms):
    rows = [row for row in table(section, ARCHITECTURE) if row[2] != "all"]
    assert {row[0].strip("`/"): set(re.findall(r"`(\w+)`", row[2])) for row in rows} == rooms


def table(section: str, page: Path = FORMATS) -> list[list[str]]:
    """The rows of the first table of a section, each a list of its cells."""
    found = re.search(rf"^##+ {re.escape(section)}\n(.*?)(?=^##|\Z)", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    assert found, f"{page.name} has no section {section!r}"
    lines = itertools.takewhile(lambda line: line.startswith("|"), found[1][found[1].index("|") :].splitlines())
    rows = [[cell.strip() for cell in line.strip()[1:-1].split("|")] for line in lines]
    return rows[2:]  # without the headings, and the line below them


def documented(section: str) -> set[str]:
    names = list(itertools.chain.from_iterable(re.findall(r"`(\w+)`", row[0]) for row in table(section)))
    assert len(names) == len(set(names)), f"{section} has a field twice"
    return set(names)


@pytest.mark.parametrize("section", RECORDS)
def test_every_field_of_a_record_is_documented(section):
    assert documented(section) == {field.name for field in dataclasses.fields(RECORDS[section])}


def test_the_documented_defaults_of_settings_are_those_of_the_code():
    shown = {row[0].strip("`"): json.loads(row[2]) for row in table("run.json: settings")}
    assert shown == dataclasses.asdict(RunSettings())


def test_every_field_of_a_picture_is_documented(tmp_path):
    rates = Rates(Rate("plan", "-", None), (), "first", "earlier tasks")
    picture.write(tmp_path / "pane.json", 1, Picture("Collect_Wood", "training", None, 0, 1, rates=rates))
    shown = read_json(tmp_path / "pane.json")
    assert documented("pane.json") == shown.keys()
    assert all(f"`{name}`" in FORMATS.read_text() for name in shown["rates"])


def test_every_field_of_a_holder_is_documented(tmp_path):
    liveness.write_holder(tmp_path / "run.pid", 1)
    assert documented("run.pid") == read_json(tmp_path / "run.pid").keys()


def test_every_field_of_a_heartbeat_is_documented(tmp_path):
    heartbeat.write(tmp_path / "heartbeat", Heartbeat(1, Activity.TRAINING, 0.5))
    assert documented("heartbeat") == read_json(tmp_path / "heartbeat").keys()
    assert all(f"`{activity}`" in FORMATS.read_text() for activity in Activity)


def test_an_ending_is_written_as_documented(tmp_path):
    ending.write(tmp_path / "run.exit", Ending(1, 0))
    assert documented("run.exit") == read_json(tmp_path / "run.exit").keys()


def test_every_field_of_the_metrics_is_documented(tmp_path):
    line = metrics_line(tmp_path)
    assert documented("metrics.jsonl") == line.keys()
    assert documented("metrics.jsonl: experts") == line["experts"]["Collect_Wood"].keys()


def test_the_record_of_a_trial_is_documented():
    record = trial_decision()
    assert documented("candidates.json") == record.keys()
    assert documented("candidates.json: candidates") == record["candidates"][0].keys()


def test_every_field_of_a_merge_is_documented(experiment_folder):
    merged = read_json(experiment_folder / "skills/0_Collect_Wood/merge.json")
    assert documented("merge.json") == merged.keys()
    assert documented("merge.json: expert_updates") - {"competition"} == merged["expert_updates"]["0"].keys()


@pytest.fixture
def experiment_folder(tmp_path) -> Path:
    """With one skill, trained and merged."""
    data = skill("Collect_Wood")
    folder, _, _ = prepare_training_run("Collect_Wood", data, 0, [], {}, tmp_path)
    write_launch(folder, 1, Slot())
    finish(SimpleNamespace(run_folder=folder, attempt=1))
    process_completed_training(folder, "Collect_Wood", 0, tmp_path, 100)
    return tmp_path


def trial_decision() -> dict:
    """What a trial of two initial experts writes down: all that one of two rewards does, and more."""
    from flowrl.training.playing.comparison import Score
    from flowrl.training.run.decision import decision

    code = skill("Collect_Wood")
    task = TaskSource("Collect_Wood", 1, 0, code["task_is_done"], code["task_reward"])
    rewards = [code["task_reward"], code["task_reward"].replace("1.0", "2.0")]
    module = render_module("Collect_Wood", 0, {0: 0}, [task], rewards[1:])
    initial = [SimpleNamespace(skill_name=name) for name in ("Explore", None)]
    run = SimpleNamespace(module_text=module, settings=RunSettings(), skill_name="Collect_Wood", attempt=1, init_tried=initial)
    return decision(run, 1, 256, [Score(0.5, 0.5, 1.0)] * 2)


def metrics_line(folder: Path) -> dict:
    """A line of a run in which two rewards are on trial."""
    from flowrl.training.learning.ppo import Statistics
    from flowrl.training.playing.rollout import StepOutcome
    from flowrl.training.run.reporting import Reporter
    from flowrl.training.run.state import LocalExpert, RunState
    from flowrl.training.run.updates import Made

    settings = RunSettings(num_envs=2, num_steps=1, num_minibatches=1)
    expert = RunExpert("Collect_Wood", 0, 0)
    run = SimpleNamespace(
        settings=settings, plan=(PlannedTask("Collect_Wood", 1, 0, 0),), experts=(expert,), global_expert_idx=0, attempt=1,
        paths=RunPaths(folder / "skill_0_Collect_Wood"),
    )  # fmt: skip
    run.paths.folder.mkdir()
    nothing = SimpleNamespace(update=lambda report: None, log=lambda frames, values: None)
    clock = SimpleNamespace(frames_per_s=1.0, seconds_alive=1.0, time_shares=None)
    supervision = SimpleNamespace(pane=nothing, tracker=nothing, clock=clock)
    reporter = Reporter(run, [LocalExpert("Collect_Wood", 0, None)], 200, supervision, num_rewards=2)
    step = StepOutcome(
        task=np.zeros(2, int), next_task=np.zeros(2, int), task_done=np.zeros(2, bool), success=np.zeros(2, bool),
        ended=np.zeros(2, bool), reward=np.zeros(2), expert=np.zeros(2, int),
    )  # fmt: skip
    losses = Statistics(*(np.zeros(1, np.float32) for _ in Statistics._fields))
    report = reporter.report(RunState(None, 2, 1, np.zeros(1, np.int64), None), Made([step], losses))
    reporter.record(report, losses, None)
    return json.loads(run.paths.metrics.read_text())
