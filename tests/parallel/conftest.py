"""Experiments and schedulers for the tests of this folder."""

from __future__ import annotations

import pytest

from flowrl.parallel.scheduler import SkillScheduler
from flowrl.paths import ExperimentPaths
from tests.parallel.fakes.experiments import FAKE_TRAINING
from tests.parallel.launcher_contract import spec  # noqa: F401 (a fixture)


@pytest.fixture
def experiment(tmp_path) -> ExperimentPaths:
    return ExperimentPaths(tmp_path / "exp" / "bottom_up")


@pytest.fixture
def make_scheduler(experiment):
    """Schedulers on the experiment that start the fake training, in real tmux."""

    def make(*args, **kwargs) -> SkillScheduler:
        kwargs = {"base_dir": experiment.root, "command": FAKE_TRAINING} | kwargs
        return SkillScheduler(*args, **kwargs)

    return make
