"""A small experiment where the documentation has one, and its lines of code."""

from __future__ import annotations

import contextlib
import re
from functools import partial
from pathlib import Path

import pytest

from flowrl.paths import ExperimentPaths
from tests.api.experiments import kept_experiment

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def kept(tmp_path_factory) -> ExperimentPaths:
    """Of Craftax-Classic, with one skill, Collect_Wood, and a tiny network; in ``exp/demo``."""
    return kept_experiment(tmp_path_factory.mktemp("kept") / "exp" / "demo")


@pytest.fixture(scope="session")
def run_lines(kept):
    """Runs the one block of Python on a page that has these words, beside ``exp/demo``; what it leaves behind, by name."""

    def run(page: str, words: str) -> dict:
        blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), flags=re.DOTALL)
        (block,) = (block for block in blocks if words in block)
        names: dict = {}
        with contextlib.chdir(kept.root.parents[1]):
            exec(block, names)
        return names

    return run


@pytest.fixture(scope="session")
def using(run_lines):
    return partial(run_lines, "docs/using.md")
