"""What can go wrong with a language model, sorted by what to do about it."""

from __future__ import annotations

from flowrl.errors import BadInput
from flowrl.proposers.base import ProposerError


class Misconfigured(BadInput):
    """The key, the model or the address is wrong: a retry does not help."""


class Unreachable(ProposerError):
    """No answer within the time limit, in spite of retries."""


class InvalidRequest(Exception):
    """The server rejects this request; another form of it may work. Never sent again unchanged."""


class Transient(Exception):
    """A retry may work.

    Args:
        reason: one line.
        retry_after_s: how long the server asks to wait; None if it does not say.
        is_internal: HTTP 500, which some servers send for a request that they do not support.
        is_absent: nothing listens at the address.
    """

    def __init__(self, reason: str, retry_after_s: float | None = None, is_internal: bool = False, is_absent: bool = False):
        super().__init__(reason)
        self.retry_after_s = retry_after_s
        self.is_internal = is_internal
        self.is_absent = is_absent


class AnswerRefused(BadInput):
    """An answer that is not a usable skill: cut off, not JSON, in the wrong format, not new, or out of reach."""


class BudgetSpent(Exception):
    """The next call could cost more than is left of the budget."""
