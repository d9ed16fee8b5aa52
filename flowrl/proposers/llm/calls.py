"""Every call to the model, recorded as a file ``<proposal>-<repair>-<hash>.json``: request, answer, cost and decision.

With these files a killed start continues without paying twice, a whole experiment can be replayed without a key, and a
person can see why a proposal was refused. Proposals are numbered from 1; the calls that find out what a server supports
are proposal 0. The hash is of the messages.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_serializer

from flowrl.errors import BadInput
from flowrl.files import append_line, read_json, write_json
from flowrl.proposers.llm.answer_forms import AnswerForm
from flowrl.proposers.llm.prompts import Message
from flowrl.validation import first_fault

FORM_CHECK = 0
"""The proposal number of the calls that only test the server."""
_FILE = re.compile(r"(\d+)-(\d+)-[0-9a-f]+\.json")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", validate_by_name=True, validate_by_alias=True, serialize_by_alias=True)


class Request(_Part):
    """The request."""

    address: str
    model: str
    form: AnswerForm = Field(alias="way")
    tokens_parameter: str
    max_tokens: int
    messages: list[Message]


class Reply(_Part):
    """The answer."""

    text: str
    finish_reason: str
    model: str
    refusal: str | None = None


class Tokens(_Part):
    """Token counts, as the server reports them."""

    prompt: int = Field(ge=0)
    completion: int = Field(ge=0)
    cached: int = Field(0, ge=0)
    is_estimated: bool = False


class Decision(_Part):
    """The decision about an answer."""

    verdict: Literal["accepted", "refused", "abandoned"]
    """``abandoned``: this last repair was refused too, and the skill was given up."""
    skill_name: str | None = None
    reason: str | None = None
    dropped: list[str] = Field(default_factory=list)
    """The rewards of the skill that are not trained, each with the reason."""

    @model_serializer(mode="wrap")
    def _without_empty_dropped(self, whole: Any) -> dict[str, Any]:
        return {name: value for name, value in whole(self).items() if name != "dropped" or value}


class Call(_Part):
    """One call."""

    version: Literal[1] = 1
    proposal: int = Field(ge=0)
    repair: int = Field(ge=0)
    asked_at: datetime
    request: Request
    answer: Reply
    tokens: Tokens
    seconds: float
    cost_usd: float | None
    """None if the model's price is unknown."""
    failed_tries: list[str] = Field(default_factory=list)
    outcome: Decision | None = None
    """None until it is decided."""

    @property
    def file_name(self) -> str:
        return f"{self.proposal}-{self.repair}-{hash_of(self.request.messages)}.json"

    @property
    def place(self) -> str:
        """Which call this is, for messages."""
        return f"proposal {self.proposal}, repair {self.repair}"

    @property
    def is_cut_off(self) -> bool:
        """Whether the answer stopped at its token limit."""
        return self.answer.finish_reason == "length"

    @property
    def is_refused(self) -> bool:
        return self.outcome is not None and self.outcome.verdict != "accepted"


class CallFolder:
    """The recordings of one experiment, by proposal and repair.

    Args:
        hide: removes secrets from a line of the log.

    Raises:
        BadInput: a file is not a recording; names the file.
    """

    def __init__(self, folder: Path, hide: Callable[[str], str] = str):
        self.folder = folder
        self._hide = hide
        self._calls: dict[tuple[int, int], Call] = {}
        self._lines: list[str] = []
        for path in sorted(folder.glob("*.json")) if folder.is_dir() else ():
            if _FILE.fullmatch(path.name):
                self._take(_read(path))

    def get(self, proposal: int, repair: int) -> Call | None:
        return self._calls.get((proposal, repair))

    def of(self, proposal: int) -> list[Call]:
        """The calls of one proposal, in order."""
        return [self._calls[key] for key in sorted(self._calls) if key[0] == proposal]

    def proposals(self) -> list[int]:
        """The numbers of the proposals, in order."""
        return sorted({proposal for proposal, _ in self._calls} - {FORM_CHECK})

    def first_gap(self) -> tuple[int, int] | None:
        """Proposal and repair number of the first missing answer; None if there is no gap.

        The last proposal may be unfinished, because its start was killed.
        """
        last = max(self.proposals(), default=1)
        for number in range(1, last + 1):
            calls = self.of(number)
            is_open = bool(calls) and number < last and _awaits_repair(calls[-1])
            expected = max(1, len(calls) + is_open)
            if missing := [repair for repair in range(expected) if self.get(number, repair) is None]:
                return number, missing[0]
        return None

    def all(self) -> list[Call]:
        return [self._calls[key] for key in sorted(self._calls)]

    def add(self, call: Call) -> Call:
        """Adds a call, in memory only: see ``save``."""
        self._take(call)
        return call

    def save(self, call: Call) -> None:
        """Writes a call to its file; called again once its outcome is known."""
        write_json(self.folder / call.file_name, call.model_dump(mode="json"))

    def log(self, line: str) -> None:
        """Adds a line to ``proposer.log``; held in memory until the folder exists: see ``open_log``."""
        self._lines.append(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}Z  {self._hide(line)}")
        if self.folder.is_dir():
            self.open_log()

    def open_log(self) -> None:
        """Makes the folder, and writes the lines held in memory."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for line in self._lines:
            append_line(self.folder / "proposer.log", line)
        self._lines = []

    def forget(self) -> None:
        """Drops all calls from memory; the files stay."""
        self._calls = {}

    def move_aside(self) -> Path | None:
        """Renames the folder, so that recording starts from scratch; returns the new path, None if there was no folder."""
        if not self.folder.exists():
            return None
        names = (self.folder.with_name(f"{self.folder.name}.{number}") for number in range(1, 1_000_000))
        aside = next(name for name in names if not name.exists())
        self.folder.rename(aside)
        return aside

    def _take(self, call: Call) -> None:
        # If a call is there twice (a copied file), the later one counts.
        key = (call.proposal, call.repair)
        if key not in self._calls or self._calls[key].asked_at <= call.asked_at:
            self._calls[key] = call


def hash_of(messages: Iterable[Message]) -> str:
    """Eight hexadecimal digits that identify a list of messages."""
    text = json.dumps(list(messages), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _awaits_repair(call: Call) -> bool:
    return call.outcome is not None and call.outcome.verdict == "refused"


def _read(path: Path) -> Call:
    try:
        return Call.model_validate(_content(path))
    except ValidationError as error:
        raise BadInput(f"{path} is not a flowrl recording ({first_fault(error)}); restore it, or move it away") from None


def _content(path: Path) -> Any:
    try:
        return read_json(path)
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror}); make it readable") from error
