"""What the tests of this folder share."""

import pytest

from flowrl.parallel.processes import of_runs_below
from tests.experiment.starts import Practice


@pytest.fixture
def make_practice(tmp_path):
    """Folders to start the front door in; whatever still runs at the end is ended."""
    made = []

    def make(*arguments) -> Practice:
        made.append(Practice(tmp_path, *arguments))
        return made[-1]

    yield make
    for process in (process for practice in made for process in practice.started):
        if process.poll() is None:
            process.kill()
        process.communicate()
    for process in of_runs_below(tmp_path):
        process.kill()


@pytest.fixture
def practice(make_practice) -> Practice:
    return make_practice()
