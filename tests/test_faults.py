"""A run of the fault campaign: real trainings, real kills, and the library as if nothing had happened."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flowrl import pickles

ROOT = Path(__file__).parents[1]
RUNS = 1
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def faults():
    """The campaign, as a module: it is a script, and imports modules beside it."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    import faults

    yield faults
    sys.path.remove(str(ROOT / "benchmarks"))


@pytest.fixture(scope="module")
def campaign(tmp_path_factory):
    """The lines of the results of the runs; their folders are kept until the tests are done."""
    results = tmp_path_factory.mktemp("faults") / "results.jsonl"
    command = [sys.executable, str(ROOT / "benchmarks" / "faults.py"), "--runs", str(RUNS), "--seed", "5",
               "--strikes", "3", "--keep", "--results", str(results)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    yield command, results, lines, done
    for line in lines:
        shutil.rmtree(line["folder"])


def test_runs_with_random_kills_end_as_if_undisturbed(faults, campaign):
    _, _, lines, done = campaign
    assert [line["faults"] for line in lines] == [[]] * RUNS, done.stdout + done.stderr
    found = faults.summary(lines)
    assert (found["experts_lost"], found["frames_counted_twice"]) == (0, 0)
    assert RUNS <= sum(found["strikes"].values()) <= 3 * RUNS


def test_runs_that_are_done_are_not_done_again(campaign):
    command, results, lines, _ = campaign
    assert subprocess.run(command, capture_output=True, env=ENVIRONMENT, check=False).returncode == 0
    assert len(results.read_text().splitlines()) == len(lines)


def change(path, **metadata):
    expert = pickles.load(path)
    pickles.dump(path, expert | {"metadata": expert["metadata"] | metadata})


def change_a_weight(path):
    expert = pickles.load(path)
    next(iter(leaves(expert["params"])))[...] += 1
    pickles.dump(path, expert)


def leaves(tree):
    if isinstance(tree, dict):
        for branch in tree.values():
            yield from leaves(branch)
    elif tree.size:
        yield tree


def merge_again(ledger):
    line = json.loads(ledger.read_text().splitlines()[-1])
    ledger.write_text(ledger.read_text() + json.dumps(line | {"attempt": line["attempt"] + 1}) + "\n")


@pytest.mark.parametrize(
    ("damage", "lost", "twice"),
    [
        (lambda root, params: params.write_bytes(params.read_bytes()[:50]), 1, False),
        (lambda root, params: change_a_weight(params), 1, False),
        (lambda root, params: change(params, total_frames=10**9), 1, True),
        (lambda root, params: shutil.rmtree(params.parents[1]), 1, False),
        (lambda root, params: merge_again(root / "ledger.jsonl"), 0, True),
    ],
    ids=["torn", "another's weights", "too many frames", "removed", "merged twice"],
)
def test_the_comparison_sees_what_is_lost_and_what_is_counted_twice(faults, campaign, tmp_path, damage, lost, twice):
    root = tmp_path / "exp"
    shutil.copytree(Path(campaign[2][0]["folder"]) / "exp", root)
    assert faults.compare(root) == ([], 0, 0)
    damage(root, next(root.glob("skills/*_Find_Much/*/params.pkl")))
    found, experts_lost, frames_twice = faults.compare(root)
    assert found and (experts_lost, frames_twice > 0) == (lost, twice)
