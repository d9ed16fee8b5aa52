"""Every call to the model as a file, ``<proposal>-<repair>-<hash>.json``: what was asked, said, paid, and decided.

From these files a killed start goes on without paying twice, a whole experiment is replayed without a key, and a
person sees why a proposal was refused. Proposals are numbered from 1; the calls that found out what a server can do
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

FORM_CHECK = 0
"""The number of the calls that are no proposal."""
_FILE = re.compile(r"(\d+)-(\d+)-[0-9a-f]+\.json")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", validate_by_name=True, validate_by_alias=True, serialize_by_alias=True)


class Request(_Part):
    """What was asked."""

    address: str
    model: str
    form: AnswerForm = Field(alias="way")
    tokens_parameter: str
    max_tokens: int
    messages: list[Message]


class Reply(_Part):
    """What came back."""

    text: str
    finish_reason: str
    model: str
    refusal: str | None = None


class Tokens(_Part):
    """As the server counted them."""

    prompt: int = Field(ge=0)
    completion: int = Field(ge=0)
    cached: int = Field(0, ge=0)
    is_estimated: bool = False


class Decision(_Part):
    """What was decided."""

    verdict: Literal["accepted", "refused", "abandoned"]
    """``abandoned``: refused, and so was every repair."""
    skill_name: str | None = None
    reason: str | None = None
    dropped: list[str] = Field(default_factory=list)
    """The skill's rewards that are not trained, each with the reason."""

    @model_serializer(mode="wrap")
    def _without_nothing(self, whole: Any) -> dict[str, Any]:
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
    """None where the model's price is not known."""
    failed_tries: list[str] = Field(default_factory=list)
    outcome: Decision | None = None
    """None while it is not decided."""

    @property
    def file_name(self) -> str:
        return f"{self.proposal}-{self.repair}-{hash_of(self.request.messages)}.json"

    @property
    def place(self) -> str:
        """Which call it is, for a person."""
        return f"proposal {self.proposal}, repair {self.repair}"

    @property
    def is_cut_off(self) -> bool:
        """Whether the answer ends where its limit was reached."""
        return self.answer.finish_reason == "length"

    @property
    def is_refused(self) -> bool:
        return self.outcome is not None and self.outcome.verdict != "accepted"


class CallFolder:
    """The recordings of one experiment, by proposal and repair.

    Args:
        hide: takes the secrets out of a line of the log.

    Raises:
        BadInput: a file is not a recording; names it.
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

    def first_hole(self) -> tuple[int, int] | None:
        """Proposal and repair of the first answer that is missing among those that are there; None if they are whole.

        The last proposal may be unfinished: its start was killed.
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
        """Keeps a call, in memory only: see ``save``."""
        self._take(call)
        return call

    def save(self, call: Call) -> None:
        """Writes a call, whole; again when its outcome has become known."""
        write_json(self.folder / call.file_name, call.model_dump(mode="json"))

    def log(self, line: str) -> None:
        """A line for people in ``proposer.log``; kept in memory until the folder may be made: see ``open_log``."""
        self._lines.append(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}Z  {self._hide(line)}")
        if self.folder.is_dir():
            self.open_log()

    def open_log(self) -> None:
        """Writes the lines that were kept."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for line in self._lines:
            append_line(self.folder / "proposer.log", line)
        self._lines = []

    def forget(self) -> None:
        """Forgets all calls; the files stay."""
        self._calls = {}

    def move_aside(self) -> Path | None:
        """Gives the folder another name, so that recording begins anew; its new name, None if there was nothing."""
        if not self.folder.exists():
            return None
        names = (self.folder.with_name(f"{self.folder.name}.{number}") for number in range(1, 1_000_000))
        aside = next(name for name in names if not name.exists())
        self.folder.rename(aside)
        return aside

    def _take(self, call: Call) -> None:
        # The same call twice (a copied file): the later one counts.
        key = (call.proposal, call.repair)
        if key not in self._calls or self._calls[key].asked_at <= call.asked_at:
            self._calls[key] = call


def hash_of(messages: Iterable[Message]) -> str:
    """Eight hexadecimal digits that tell one list of messages from another."""
    text = json.dumps(list(messages), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _awaits_repair(call: Call) -> bool:
    return call.outcome is not None and call.outcome.verdict == "refused"


def _read(path: Path) -> Call:
    try:
        return Call.model_validate(_content(path))
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(str(part) for part in fault["loc"]) or "the file"
        raise BadInput(f"{path} is not a recording of flowrl ({place}: {fault['msg']}); restore it, or move it away") from None


def _content(path: Path) -> Any:
    try:
        return read_json(path)
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror}); make it readable") from error
