"""What can go wrong with a language model, sorted by what is to be done about it."""

from __future__ import annotations

from flowrl.errors import BadInput
from flowrl.proposers.base import ProposerError


class Misconfigured(BadInput):
    """The key, the model or the address is wrong: asking again does not help."""


class Unreachable(ProposerError):
    """No answer within the time allowed, however often it was tried."""


class InvalidRequest(Exception):
    """The server does not take the request as it is; another form of it may do. Never sent again unchanged."""


class Transient(Exception):
    """It may go well next time.

    Args:
        reason: one line.
        retry_after_s: how long the server asks to wait, None where it does not say.
        is_internal: HTTP 500, which some servers give for a request that they cannot do.
        is_absent: nobody listens at the address.
    """

    def __init__(self, reason: str, retry_after_s: float | None = None, is_internal: bool = False, is_absent: bool = False):
        super().__init__(reason)
        self.retry_after_s = retry_after_s
        self.is_internal = is_internal
        self.is_absent = is_absent


class AnswerRefused(BadInput):
    """An answer that is no skill: cut off, not JSON, not of the form asked for, not new, or out of reach."""


class BudgetSpent(Exception):
    """The next call could cost more than what is left of the budget."""
