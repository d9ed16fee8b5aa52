"""The language model's entry in the state file: calls, tokens and dollars, in total and per skill."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flowrl.proposers.llm.calls import Call
from flowrl.proposers.llm.recorded_model import RecordedModel


def state_of(model: RecordedModel, next_number: int, status: str, last_error: str | None) -> dict[str, Any]:
    """The state, as plain values.

    Args:
        next_number: the proposal in progress. A replay reports only the proposals before it.
    """
    settings = model.settings
    calls = [] if model.is_replay else model.calls.all()
    numbers = [number for number in model.calls.proposals() if not model.is_replay or number < next_number]
    proposals = [model.calls.of(number) for number in numbers]
    return {
        "kind": "llm",
        "model": settings.model,
        "address": settings.base_url,
        "mode": settings.mode,
        "status": status,
        "calls": len(calls),
        "tokens": {"prompt": _sum("prompt", calls), "completion": _sum("completion", calls)},
        "cost_usd": model.spent(calls),
        "budget_usd": settings.budget_usd,
        "last_error": last_error,
        "skills": [_skill(group, model) for group in proposals if _verdict(group) == "accepted"],
        "refused": [_given_up(group) for group in proposals if _verdict(group) == "abandoned"],
    }


def _skill(calls: Sequence[Call], model: RecordedModel) -> dict[str, Any]:
    decision = calls[-1].outcome
    assert decision is not None
    return {
        "name": decision.skill_name,
        "proposal": calls[-1].proposal,
        "calls": len(calls),
        "cost_usd": model.spent(calls),
        "tokens": _sum("prompt", calls) + _sum("completion", calls),
        **({"dropped": decision.dropped} if decision.dropped else {}),
    }


def _given_up(calls: Sequence[Call]) -> dict[str, Any]:
    decision = calls[-1].outcome
    assert decision is not None
    return {"name": decision.skill_name, "reason": decision.reason, "repairs": len(calls) - 1}


def _verdict(calls: Sequence[Call]) -> str | None:
    return calls[-1].outcome.verdict if calls[-1].outcome else None


def _sum(name: str, calls: Sequence[Call]) -> int:
    return sum(getattr(call.tokens, name) for call in calls)
