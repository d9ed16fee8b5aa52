"""What a person chooses about the language model."""

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
    """The language model of one start."""

    model: str
    base_url: str
    """Address of the server, as ``http://localhost:8000/v1``."""
    folder: Path
    """Where the recordings lie: ``llm`` in the experiment's folder."""
    key: str | None = field(default=None, repr=False)
    """Never written anywhere."""
    mode: Mode = "live"
    max_repairs: int = 3
    """How often the model may mend one proposal."""
    budget_usd: float | None = None
    """Most dollars over all starts of the experiment; None for no limit."""
    timeout_s: float = 600.0
    """Most seconds for one answer, tries and pauses included."""
    candidates: int = 1
    """Rewards that are asked for with each skill."""
    seed: int = 0
    max_skills: int = 40
    """For the estimate of what the experiment will cost."""

    @property
    def prices_file(self) -> Path:
        """Prices of the user's own, laid over those that are shipped."""
        return self.folder.parent / "prices.json"


def check_address(address: str) -> str:
    """The address itself, without a slash at its end, if a server can be asked there.

    Raises:
        BadInput: it is not a web address, or it holds a password, which would be stored with the settings.
    """
    parts = urllib.parse.urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadInput(f"the model's address has to be as http://localhost:8000/v1, found {address!r}; correct --llm_base_url")
    if parts.username or parts.password or parts.query:
        raise BadInput(
            f"the model's address at {parts.hostname} holds a user, a password or a query, which would be stored; give the "
            "key in OPENAI_API_KEY instead"
        )
    return address.rstrip("/")
