"""What a skill's own expert tries, as ``tried`` of ``metrics.jsonl`` has it: the kinds of its actions, and how often it does
what has brought success. A training writes it, the report reads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError


class Tried(NamedTuple):
    """What the expert does, over its latest steps."""

    kinds: Mapping[str, float]
    """The share of each kind of action."""
    entropies: Mapping[str, float]
    """In nats: how evenly the actions of a kind are tried. Kinds of one action are left out."""
    decisive: str | None
    """The action with which most successes came; None before the first success, and where they came with many."""
    decisive_share: float | None
    """How often the expert chooses it."""

    def described(self) -> str:
        """Such as ``move 62%, use 30%, place 8%; DO, which succeeds, 30%``."""
        kinds = ", ".join(f"{kind} {_percent(share)}" for kind, share in self.kinds.items())
        return f"{kinds}; {self.decisive}, which succeeds, {_percent(self.decisive_share)}" if self.decisive else kinds

    def entropies_described(self) -> str:
        """Such as ``move 1.20, place 0.40``; empty where no kind has several actions."""
        return ", ".join(f"{kind} {entropy:.2f}" for kind, entropy in self.entropies.items())

    def to_data(self) -> dict[str, Any]:
        """Plain values, as ``metrics.jsonl`` holds them."""
        rounded = {kind: round(value, 4) for kind, value in self.entropies.items()}
        shares = {kind: round(share, 5) for kind, share in self.kinds.items()}
        decisive = None if self.decisive_share is None else round(self.decisive_share, 5)
        return {"kinds": shares, "entropies": rounded, "decisive": self.decisive, "decisive_share": decisive}


def from_data(data: Any) -> Tried | None:
    """What `Tried.to_data` wrote; None for anything else, such as the null of a game that names no actions."""
    try:
        return _ADAPTER.validate_python(data) if isinstance(data, dict) else None
    except ValidationError:
        return None


def _percent(share: float) -> str:
    """With a digit more where it is small: that is where it matters."""
    return f"{100 * share:.0f}%" if share >= 0.095 else f"{100 * share:.1f}%"


_ADAPTER = TypeAdapter(Tried)
