"""What tokens cost: the shipped price list, overridden by the user's own, and how amounts are printed."""

from __future__ import annotations

import ipaddress
import re
import urllib.parse
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from flowrl.errors import BadInput
from flowrl.files import read_json
from flowrl.proposers.llm.endpoint import Usage
from flowrl.validation import first_fault

SHIPPED = Path(__file__).with_name("prices.json")
_MILLION = 1_000_000
_DATED = re.compile(r"-\d{4}-?\d{2}-?\d{2}$")  # gpt-4o-mini-2024-07-18 costs what gpt-4o-mini does


class Price(BaseModel):
    """USD per million tokens."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    prompt: float = Field(ge=0)
    completion: float = Field(ge=0)
    cached: float | None = Field(None, ge=0)

    def of(self, usage: Usage) -> float:
        """USD for one call."""
        cached_price = self.prompt if self.cached is None else self.cached
        fresh = usage.prompt - usage.cached
        return (fresh * self.prompt + usage.cached * cached_price + usage.completion * self.completion) / _MILLION


FREE = Price(prompt=0, completion=0)


class _PriceList(BaseModel):
    model_config = ConfigDict(extra="forbid")

    about: str = ""
    models: dict[str, Price]


def find_price(model: str, address: str, own_file: Path) -> Price | None:
    """The price of a model; None if neither list has it. An unlisted model on a local server is free.

    Raises:
        BadInput: the user's file is not a price list; names the bad entry.
    """
    models = {**_read(SHIPPED), **(_read(own_file) if own_file.exists() else {})}
    names = (model, model.rpartition("/")[2], _DATED.sub("", model.rpartition("/")[2]))
    found = next((models[name] for name in names if name in models), None)
    if found is None and is_local(address):
        return FREE
    return found


def is_local(address: str) -> bool:
    """Whether a server is on this machine or in its private network."""
    host = urllib.parse.urlsplit(address).hostname or ""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return host == "localhost" or host.endswith((".local", ".localhost", ".internal")) or "." not in host


def usd(amount: float | None) -> str:
    """``$0.21``; four decimals below a cent, and ``under $0.0001`` for what those would round to nothing."""
    if amount is None:
        return "an unknown amount"
    if 0 < amount < 0.0001:
        return "under $0.0001"
    return f"${amount:.2f}" if amount >= 0.01 or amount == 0 else f"${amount:.4f}"


def _read(path: Path) -> dict[str, Price]:
    try:
        return _PriceList.model_validate(read_json(path)).models
    except ValidationError as error:
        raise BadInput(
            f"{path} is not a price list ({first_fault(error)}); write it like this: "
            '{"models": {"my-model": {"prompt": 1.25, "completion": 10.0}}}'
        ) from None
