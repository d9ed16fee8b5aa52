"""The launcher that tests of the scheduler use does what every launcher has to do."""

from __future__ import annotations

import pytest

from tests.parallel.fakes.launcher import MemoryLauncher
from tests.parallel.launcher_contract import LauncherContract


@pytest.fixture
def launcher():
    return MemoryLauncher()


class TestMemoryLauncher(LauncherContract):
    pass
