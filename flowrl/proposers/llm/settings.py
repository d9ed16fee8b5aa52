"""The user's settings for the language model."""

from __future__ import annotations

import urllib.parse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from flowrl.errors import BadInput

Mode = Literal["live", "record", "replay"]

OPENAI = "https://api.openai.com/v1"


@dataclass(frozen=True)
class LlmSettings:
    """The language model settings of one start."""

    model: str
    base_url: str
    """Address of the server, such as ``http://localhost:8000/v1``."""
    folder: Path
    """Where the recordings are: ``llm`` in the experiment's folder."""
    key: str | None = field(default=None, repr=False)
    """Never written anywhere."""
    mode: Mode = "live"
    max_repairs: int = 3
    """How many times the model may repair one proposal."""
    budget_usd: float | None = None
    """Limit in dollars over all starts of the experiment; None for no limit."""
    timeout_s: float = 600.0
    """Time limit for one answer, including retries and pauses."""
    candidates: int = 1
    """How many rewards to ask for with each skill."""
    seed: int = 0
    address_from: str = "--llm_base_url"
    """The flag or variable that sets the address, for messages."""
    max_skills: int = 40
    """For the estimate of what the experiment will cost."""

    @property
    def prices_file(self) -> Path:
        """The user's own prices, which override the shipped ones."""
        return self.folder.parent / "prices.json"


def check_address(address: str, address_from: str = "--llm_base_url") -> str:
    """The address without a trailing slash, if it is a valid one.

    Args:
        address_from: the flag or variable that set it.

    Raises:
        BadInput: it is not a web address, or it holds a password, which would be stored with the settings.
    """
    try:
        host = _host_of(address)
    except ValueError as error:
        raise BadInput(
            f"the model's address must look like http://localhost:8000/v1, found {_shown(address)} ({error}); correct "
            f"{address_from}"
        ) from None
    parts = urllib.parse.urlsplit(address)
    if parts.username or parts.password or parts.query:
        raise BadInput(
            f"the model's address at {host} contains a user, a password or a query, which would be stored; put the key into "
            "OPENAI_API_KEY instead"
        )
    return address.rstrip("/")


def _host_of(address: str) -> str:
    """The host of a web address.

    Raises:
        ValueError: it is not a web address; says why.
    """
    # urlsplit silently drops line breaks, but the HTTP client rejects them.
    if any(character.isspace() or not character.isprintable() for character in address):
        raise ValueError("it contains a space, a line break or a control character")
    try:
        parts = urllib.parse.urlsplit(address)
    except ValueError:
        raise ValueError("the brackets of the IPv6 address are wrong") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("it does not begin with http:// or https:// and a host")
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError("the port is not a number from 1 to 65535")
    try:
        parts.hostname.encode("idna")
    except UnicodeError:
        raise ValueError("the host is not a valid name") from None
    return parts.hostname


def _shown(address: str) -> str:
    """The address for messages, without user, password and query: each of them may be a key."""
    _, at, host = address.partition("?")[0].rpartition("@")
    return ascii(f"***@{host}" if at else host)
