"""A skill: a name, what it requires, consumes and gains, and two functions as source.

Amounts are linear in ``n``, how many times the skill is to be done, and are given as numbers, never as code:
``{"wood": {"per": 2, "fixed": 0}}`` is two pieces of wood for each time.
"""

from __future__ import annotations

import math
import re
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from flowrl.errors import BadInput
from flowrl.paths import rehearsal_number
from flowrl.validation import first_fault

MAX_NAME_LENGTH = 64
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_SPACES_AND_BRACKETS = re.compile(r"[ \t()\[\]{}<>]+")


def check_name(name: str) -> str:
    """The name itself, if it can name a folder and a session, and is one word in a log.

    Raises:
        BadInput: it is empty, too long, or has other characters than letters, digits, ``_`` and ``-``.
    """
    if isinstance(name, str) and len(name) <= MAX_NAME_LENGTH and _NAME.fullmatch(name):
        if rehearsal_number(name):
            raise BadInput(f"skill name {name!r} is the name of a rehearsal; give the skill another one")
        return name
    shown = repr(name if len(str(name)) <= MAX_NAME_LENGTH else f"{str(name)[:MAX_NAME_LENGTH]}...")
    raise BadInput(
        f"skill name {shown} is not usable; use 1 to {MAX_NAME_LENGTH} letters, digits, '_' or '-', beginning with a "
        "letter or digit, such as Collect_Wood"
    )


def name_from(title: str) -> str:
    """A valid skill name from a model's title: ``Collect_Wood`` from ``Collect Wood``.

    Spaces and brackets become ``_``. A title that is already valid, or that this cannot fix, is returned unchanged.
    """
    name = _SPACES_AND_BRACKETS.sub("_", title).strip("_")
    return title if _NAME.fullmatch(title) or not _NAME.fullmatch(name) else name


class Amount(BaseModel):
    """How much of one resource a skill requires, consumes or gains: ``per * n + fixed``."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    per: int | float = Field(0, ge=0)
    fixed: int | float = Field(0, ge=0)

    def at(self, n: int) -> int | float:
        """The amount when the skill is done ``n`` times."""
        return self.per * n + self.fixed

    def count_for(self, level: int | float) -> int:
        """The smallest ``n >= 1`` with ``at(n) >= level``.

        Raises:
            ValueError: no ``n`` reaches that level.
        """
        if self.at(1) >= level:
            return 1
        if self.per == 0:
            raise ValueError(f"{self.fixed} never reaches {level}")
        n = max(1, math.ceil((level - self.fixed) / self.per))
        return n if self.at(n) >= level else n + 1


class SkillSpec(BaseModel):
    """One skill with valid fields. :mod:`flowrl.skills.checks` checks its code, the game's facts its resources.

    ``requires`` must hold when the skill starts, ``consumes`` is used up by it, and ``gains`` holds once
    ``task_is_done`` says so: ``task_is_done`` judges absolute amounts, so ``gains`` is a level, not a difference.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    description: str = ""
    requires: dict[str, Amount] = Field(default_factory=dict)
    consumes: dict[str, Amount] = Field(default_factory=dict)
    gains: dict[str, Amount] = Field(default_factory=dict)
    task_is_done: str = Field(min_length=1)
    task_reward: str = Field(min_length=1)
    candidates: tuple[str, ...] = ()
    """Other rewards for the same skill: trained along with ``task_reward`` for a while, then the best one is kept."""

    max_task_steps: int | None = Field(None, ge=1)
    """Limit on its steps per unit of ``n``, if the game makes it slower than other skills; None for the setting's limit."""
    never_done: bool = False
    """Whether there is nothing to succeed at: it plays on until the game is over. No other skill's plan uses it."""

    _check_name = field_validator("name")(check_name)

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> SkillSpec:
        """The spec in a ``skill_data`` dict; keys of other rooms, such as ``execution_plan``, are ignored.

        Raises:
            BadInput: a field is missing or has the wrong type; names the skill and the field.
        """
        if not isinstance(data, dict):
            raise BadInput(f"expected a skill as an object with a skill_name, found {type(data).__name__}; see docs/skills.md")
        fields = {key: data[key] for key in cls.model_fields if key in data and key != "name"}
        try:
            return cls(name=check_name(data.get("skill_name", "")), **fields)
        except ValidationError as error:
            raise BadInput(
                f"skill {data.get('skill_name')}: {first_fault(error, 'the skill').with_value}; "
                'amounts are numbers, as in {"wood": {"per": 2, "fixed": 0}}, and the two functions are source text'
            ) from error

    def to_data(self) -> dict[str, Any]:
        """The spec as a JSON-compatible dict, called ``skill_data`` in all other rooms."""
        data = self.model_dump(mode="json")
        if not self.candidates:
            del data["candidates"]
        if self.max_task_steps is None:
            del data["max_task_steps"]
        if not self.never_done:
            del data["never_done"]
        return {"skill_name": data.pop("name"), **data}
