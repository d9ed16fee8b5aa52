"""An experiment that an earlier version started continues with this one, with real trainings.

``begun_before/version_0_1_0.tar.gz`` is what version 0.1.0 left of a start with the built-in curriculum: one skill in the
library, and one whose training was stopped after 6,400 of 20,000 frames, when its scheduler had been killed. Networks are
tiny.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from flowrl import pickles
from flowrl.files import read_json
from flowrl.paths import ExperimentPaths

CHECKOUT = Path(__file__).parents[2]
PATIENCE_S = 600


@pytest.fixture
def begun(tmp_path):
    with tarfile.open(Path(__file__).parent / "begun_before" / "version_0_1_0.tar.gz") as archive:
        archive.extractall(tmp_path / "exp", filter="data")
    return ExperimentPaths(tmp_path / "exp")


def test_a_run_goes_on_from_its_checkpoint_and_the_library_stays(begun):
    before = pickles.load(begun.expert_params(0, "Collect_Wood"))
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(CHECKOUT)}
    command = [
        sys.executable,
        "-m",
        "flowrl.bottomup_parallel",
        "--graph_path",
        str(begun.root),
        "--max_nodes",
        "2",
        "--num_envs",
        "128",
        "--max_task_steps",
        "20",  # its 512 fresh episodes are then short
    ]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    skills = {skill["skill_name"]: skill for skill in read_json(begun.state)["skills"]}
    assert len(skills) == 2 and {skill["status"] for skill in skills.values()} == {"completed"}
    drink = begun.skill_folder(1, "Collect_Drink")
    assert "continuing from frame 6,400 (attempt 2)" in (drink / "training.log").read_text()
    assert (
        pickles.load(begun.expert_params(1, "Collect_Drink"))["metadata"]["total_frames"] == skills["Collect_Drink"]["frames"]
    )
    after = pickles.load(begun.expert_params(0, "Collect_Wood"))
    assert after["metadata"]["total_frames"] >= before["metadata"]["total_frames"]
    assert read_json(begun.skill_folder(0, "Collect_Wood") / "result.json")["attempt"] == 1
