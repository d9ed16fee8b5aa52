"""The tiny job that looks whether nodes see the folder; its node is this machine's shell."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from flowrl.errors import BadInput
from flowrl.parallel.launchers import first_job
from flowrl.parallel.launchers.slurm_options import SlurmOptions
from flowrl.parallel.launchers.slurm_queue import Job, Refused
from tests.parallel.fakes.cluster_queue import FakeQueue


class ShellQueue(FakeQueue):
    """Runs a script at once, as one of its nodes. ``blind``: the node does not see the script's folder."""

    blind = False
    waits = False
    has_no_working_folder = False
    forgets = False
    ends = ""
    comment = ""

    def _take(self, script):
        if self.refusal:
            raise Refused(self.refusal)
        comment = re.search(r"^#SBATCH --comment=(.*)$", script, re.MULTILINE)[1]
        self.table["1"] = Job("1", "PENDING", "Resources", comment=self.comment or comment)
        if not self.waits:
            script = script.replace("cd ", "cd /nowhere; cd /nowhere/", 1) if self.blind else script
            if self.has_no_working_folder:
                script = script.replace(f"cd {Path.cwd()} ", "cd /nowhere ")
            code = subprocess.run(["bash"], input=script, env=os.environ, text=True, check=False).returncode
            state = self.ends or ("FAILED" if code else "COMPLETED")
            self.table["1"] = replace(self.table["1"], state=state, node="node1")
            if self.forgets:
                self.table.clear()
        return "1"


@pytest.fixture
def cluster(monkeypatch):
    monkeypatch.setattr(first_job, "LOOK_S", 0.001)
    return ShellQueue()


def try_out(folder, cluster, options=SlurmOptions()):
    said = []
    first_job.try_out(folder, options, said.append, cluster, patience_s=0.05, files_grace_s=0.01)
    assert list(folder.iterdir()) == []
    return said


def test_a_folder_that_nodes_see_is_good(tmp_path, cluster):
    assert "ran on node1: it sees" in try_out(tmp_path, cluster)[-1]


def test_a_folder_that_they_do_not_see_is_bad_input(tmp_path, cluster):
    cluster.blind = True
    with pytest.raises(
        BadInput, match=r"the nodes of the cluster \(node1\) do not see .*use a --graph_path that the nodes share"
    ):
        try_out(tmp_path, cluster)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_the_command_was_given_in_and_nodes_do_not_see_is_bad_input(tmp_path, cluster):
    """Every job would end at once, and leave no word."""
    cluster.has_no_working_folder = True
    with pytest.raises(BadInput, match=f"does not see {Path.cwd()}, where this command was given .*that the nodes share"):
        try_out(tmp_path, cluster)


def test_a_cluster_may_forget_a_job_as_soon_as_it_has_ended(tmp_path, cluster):
    cluster.forgets = True
    assert "ran on a node: it sees" in try_out(tmp_path, cluster)[-1]


def test_an_answer_counts_although_the_job_takes_long_to_end(tmp_path, cluster):
    cluster.ends = "COMPLETING"
    assert "ran on node1: it sees" in try_out(tmp_path, cluster)[-1]


@pytest.mark.parametrize("state", ["NODE_FAIL", "PREEMPTED", "CANCELLED by 1000"])
def test_an_end_that_says_nothing_about_the_folder_is_a_note(tmp_path, cluster, state):
    cluster.blind, cluster.ends = True, state
    assert f"ended without an answer ({state.lower()}), so it is unknown whether" in try_out(tmp_path, cluster)[-1]


def test_a_cluster_that_changes_comments_is_bad_input(tmp_path, cluster):
    cluster.comment = "changed by a plugin"
    with pytest.raises(BadInput, match="has changed the comment of a small test job .* to 'changed by a plugin'"):
        try_out(tmp_path, cluster)


def test_the_folder_is_tried_by_the_path_that_jobs_have_of_it(tmp_path, cluster):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    said = []
    first_job.try_out(tmp_path / "link" / "new", SlurmOptions(), said.append, cluster, patience_s=0.05, files_grace_s=0.01)
    assert f"it sees {(tmp_path / 'real').resolve()} and" in said[-1]


def test_what_has_to_be_set_up_and_fails_is_said(tmp_path, cluster):
    with pytest.raises(BadInput, match="could not run .*no such module; install flowrl where the nodes see it"):
        try_out(tmp_path, cluster, SlurmOptions(setup="echo no such module; exit 3"))


def test_a_job_that_waits_for_long_is_taken_back_and_the_experiment_begins(tmp_path, cluster):
    cluster.waits = True
    assert "still waits (Resources)" in try_out(tmp_path, cluster)[-1]
    assert cluster.table["1"].state.startswith("CANCELLED")


def test_a_cluster_that_refuses_or_is_silent_is_bad_input(tmp_path, cluster):
    cluster.refusal = "Invalid account"
    with pytest.raises(BadInput, match="refused a small test job: Invalid account"):
        try_out(tmp_path, cluster)
    cluster.silent = True
    with pytest.raises(BadInput, match="does not answer"):
        try_out(tmp_path, cluster)
