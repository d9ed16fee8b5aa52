"""What every launcher has to do: a class of tests that those of each launcher inherit.

They need two fixtures: ``launcher``, on its own engine, and ``spec``, a function that makes a :class:`LaunchSpec`
of a command that runs for minutes: ``spec(name, experiment=..., attempt=..., index=...)``, all by default.
"""

from __future__ import annotations

import copy
import os
import shlex

import pytest

from flowrl.errors import BadInput
from flowrl.parallel.launchers.base import Handle, LaunchSpec, Phase
from flowrl.parallel.processes import retry_until
from tests.parallel.fakes.experiments import PATIENCE_S

UNDER_WAY = {Phase.QUEUED, Phase.STARTING, Phase.RUNNING}
OVER = {Phase.EXITED, Phase.LOST}


@pytest.fixture
def spec(tmp_path):
    """Specifications of runs that sleep, in experiments below the test's own folder."""

    def make(name="Make_Pickaxe", argv=("sleep", "300"), experiment="exp", attempt=1, index=2, **environment):
        root = tmp_path / experiment
        folder = root / "training_runs" / f"skill_{index}_{name}"
        folder.mkdir(parents=True, exist_ok=True)
        needed = {"PATH": os.environ["PATH"]} | environment
        return LaunchSpec(root, folder, name, index, attempt, tuple(argv), tmp_path, needed)

    make.folder = tmp_path  # where the commands run
    return make


def phase(launcher, handle: Handle) -> Phase:
    return launcher.poll([handle])[handle.engine_id].phase


class LauncherContract:
    def test_it_can_work_here(self, launcher):
        launcher.check()

    def test_it_has_between_one_slot_and_as_many_as_are_asked_for(self, launcher):
        for most in (1, 3):
            assert 1 <= len(launcher.slots(most)) <= most
        with pytest.raises(BadInput):
            launcher.slots(0)

    def test_a_launched_run_is_under_way_and_names_its_attempt(self, launcher, spec):
        handle = launcher.launch(spec(attempt=3))
        assert (handle.run_folder, handle.attempt) == (spec().run_folder, 3)
        assert handle.engine_id
        assert handle.name.startswith("flowrl_e2_Make_Pickaxe")
        assert phase(launcher, handle) in UNDER_WAY
        assert launcher.is_alive(handle) is not False

    def test_an_attempt_is_launched_once(self, launcher, spec):
        first = launcher.launch(spec())
        assert launcher.launch(spec()) == first
        second = launcher.launch(spec(attempt=2))
        assert second.engine_id != first.engine_id
        assert second in launcher.find(spec().experiment)  # an engine may have ended the first one

    def test_runs_are_found_by_their_experiment_and_without_any_state_of_the_launchers_own(self, launcher, spec):
        ours, theirs = launcher.launch(spec(experiment="ours")), launcher.launch(spec(experiment="theirs"))
        another = copy.copy(launcher)
        assert another.find(spec(experiment="ours").experiment) == [ours]
        assert another.find(spec(experiment="theirs").experiment) == [theirs]
        assert another.find(spec(experiment="none").experiment) == []
        assert ours.engine_id != theirs.engine_id

    def test_one_poll_answers_for_every_handle(self, launcher, spec):
        handles = [launcher.launch(spec(name, index=index)) for index, name in enumerate(("A", "B"))]
        unknown = Handle("", "flowrl_e9_Never", spec("Never", index=9).run_folder, 1)
        statuses = launcher.poll([*handles, unknown])
        assert set(statuses) == {*(handle.engine_id for handle in handles), ""}
        assert {statuses[handle.engine_id].phase for handle in handles} <= UNDER_WAY
        assert statuses[""].phase is Phase.LOST
        assert launcher.poll([]) == {}

    def test_a_cancelled_run_is_over_and_the_others_are_not(self, launcher, spec):
        ended, other = launcher.launch(spec("A", index=0)), launcher.launch(spec("B", index=1))
        assert launcher.cancel(ended, grace_s=5)
        assert retry_until(lambda: phase(launcher, ended) in OVER, PATIENCE_S)
        assert not launcher.is_alive(ended)
        assert ended not in launcher.find(spec().experiment)
        assert phase(launcher, other) in UNDER_WAY
        assert launcher.find(spec().experiment) == [other]
        assert launcher.cancel(ended, grace_s=0)  # safe to repeat

    def test_a_run_that_the_engine_does_not_know_can_be_asked_about_and_cancelled(self, launcher, spec):
        """As a scheduler knows it from the run's files alone."""
        unknown = Handle("", "", spec().run_folder, 1)
        assert not launcher.is_alive(unknown)
        assert launcher.output(unknown) == ""
        assert launcher.cancel(unknown, grace_s=0)

    def test_a_cancelled_attempt_does_not_keep_the_next_one_from_starting(self, launcher, spec):
        launcher.cancel(launcher.launch(spec()), grace_s=0)
        second = launcher.launch(spec(attempt=2))
        assert phase(launcher, second) in UNDER_WAY
        assert launcher.find(spec().experiment) == [second]

    def test_the_name_of_a_run_is_enough_to_look_at_it(self, launcher, spec):
        handle = launcher.launch(spec())
        command = launcher.attach_command(handle)
        assert launcher.attach_command(Handle("", handle.name, handle.run_folder, handle.attempt)) == command
        assert handle.name in shlex.split(shlex.join(command))

    def test_the_output_of_a_run_is_text(self, launcher, spec):
        assert isinstance(launcher.output(launcher.launch(spec())), str)
