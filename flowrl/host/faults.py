"""What can go wrong while environments are stepped. Bad arguments are `flowrl.errors.BadInput`, as everywhere."""

from __future__ import annotations

import traceback

from flowrl.errors import FlowrlError


class HostError(FlowrlError):
    """Stepping failed. Base of the errors of this room."""


class EnvironmentFault(HostError):
    """An environment raised an exception, or returned the wrong thing.

    Attributes:
        environment: its number in the batch.
    """

    def __init__(self, message: str, environment: int):
        super().__init__(message, environment)  # both, so that it can be pickled
        self.environment = environment

    def __str__(self) -> str:
        return self.args[0]


class WorkerLost(HostError):
    """A worker died, or did not answer in time. The batch is closed."""


class Misuse(HostError):
    """The batch was used in the wrong order, such as a step before the first reset."""


def raised(environment: int, call: str, error: BaseException) -> EnvironmentFault:
    """The fault of an environment whose code raised ``error``: one line, and the traceback below it."""
    lines = "".join(traceback.format_exception(error)).rstrip()
    first = str(error).splitlines()[0] if str(error) else "no message"
    return EnvironmentFault(f"environment {environment} raised {type(error).__name__} in {call}: {first}\n{lines}", environment)
