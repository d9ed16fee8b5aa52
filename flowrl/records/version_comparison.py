"""Two versions of an expert, the library's and a run's, to be played in the same worlds; and how they did.

The merge asks in a folder of its own (`Request`), and the process that plays answers there (`Answer`). What was measured then
stays in the run's ``measured.json``, so that a merge that was killed does not measure again.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from flowrl.errors import BadInput
from flowrl.files import read_json, write_json
from flowrl.paths import ExperimentPaths
from flowrl.records.run_record import Slot
from flowrl.validation import first_fault

EPISODES = 256
"""That each of the two versions plays."""


@dataclass(frozen=True)
class Pair:
    """Two versions of one expert, each named by the fingerprint of its parameters."""

    skill_name: str
    global_expert_idx: int
    library_version: str
    run_version: str

    @property
    def seed(self) -> int:
        """Of the worlds: always the same for these two, and others for any other two. Less than ``2 ** 28``."""
        return int(hashlib.sha256(f"{self.library_version} {self.run_version}".encode()).hexdigest()[:7], 16)


@dataclass(frozen=True)
class Difference:
    """The run's success rate less the library's, with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """How the two versions did, each in ``episodes`` fresh worlds, the same for both."""

    pair: Pair
    episodes: int
    library_successes: int
    run_successes: int
    difference: Difference

    @property
    def is_run_better(self) -> bool:
        """Whether the run's version is better by more than the interval."""
        return self.difference.low > 0

    @property
    def is_library_better(self) -> bool:
        """Whether the library's version is better by more than the interval."""
        return self.difference.high < 0


@dataclass(frozen=True)
class Request:
    """What is to be measured, and with what."""

    env_name: str
    slot: Slot
    pairs: tuple[Pair, ...]
    episodes: int = EPISODES
    worlds: int = 0
    """With another number, each pair plays in other worlds."""


@dataclass(frozen=True)
class Answer:
    """What was measured."""

    comparisons: tuple[Comparison, ...]


@dataclass(frozen=True)
class MeasuringPaths:
    """The folder in which two processes talk about one measurement."""

    folder: Path

    @property
    def request(self) -> Path:
        return self.folder / "request.json"

    @property
    def answer(self) -> Path:
        return self.folder / "answer.json"

    @property
    def log(self) -> Path:
        return self.folder / "measuring.log"

    @property
    def library(self) -> ExperimentPaths:
        """The skills that are played, as the library had them."""
        return ExperimentPaths(self.folder)

    def version(self, global_expert_idx: int) -> Path:
        """The run's version of an expert."""
        return self.folder / f"run_version_{global_expert_idx}.pkl"


def write(path: Path, value: Request | Answer) -> None:
    """Writes a request or an answer, whole."""
    write_json(path, dataclasses.asdict(value))


def read_request(path: Path) -> Request:
    """Raises FileNotFoundError if there is none, and BadInput if it is damaged."""
    return _read(path, _REQUEST)


def read_answer(path: Path) -> Answer:
    """Raises FileNotFoundError if there is none, and BadInput if it is damaged."""
    return _read(path, _ANSWER)


def find(path: Path) -> dict[int, Comparison]:
    """What was measured, by global expert index; empty if there is nothing that can be read."""
    try:
        return by_expert(read_answer(path).comparisons)
    except (OSError, BadInput):
        return {}


def by_expert(comparisons: Iterable[Comparison]) -> dict[int, Comparison]:
    return {comparison.pair.global_expert_idx: comparison for comparison in comparisons}


def _read(path: Path, adapter: TypeAdapter):
    try:
        return adapter.validate_python(read_json(path))
    except ValidationError as error:
        raise BadInput(f"{path} is damaged ({first_fault(error)}); remove it, and the merge measures again") from error


_REQUEST, _ANSWER = TypeAdapter(Request), TypeAdapter(Answer)
