"""How environments are shared out among workers."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from flowrl.errors import BadInput


def shares(num_envs: int, num_workers: int) -> list[Sequence[int]]:
    """The numbers of each worker's environments: neighbours, and as many for each as can be."""
    each, more = divmod(num_envs, num_workers)
    ends = [(each + 1) * worker if worker <= more else each * worker + more for worker in range(num_workers + 1)]
    return [range(start, end) for start, end in itertools.pairwise(ends)]


def workers_wanted(num_workers: int | str, num_envs: int, auto: int) -> int:
    """How many workers there will be; never more than environments.

    Args:
        auto: what ``"auto"`` stands for.

    Raises:
        BadInput: neither ``"auto"`` nor a number that is at least 1.
    """
    if num_workers == "auto":
        return min(num_envs, auto)
    if isinstance(num_workers, bool) or not isinstance(num_workers, int) or num_workers < 1:
        raise BadInput(f"num_workers must be 'auto' or a whole number that is at least 1, found {num_workers!r}")
    return min(num_envs, num_workers)


def more_than_cores(num_workers: int, cores: int) -> str | None:
    """A warning if there are more workers than cores."""
    if num_workers <= cores:
        return None
    return f"{num_workers} workers will share {cores} core{'s'[cores == 1 :]}: more workers than cores bring no speed-up"


def named(numbers: Sequence[int]) -> str:
    """Neighbouring environments in words."""
    return f"environment {numbers[0]}" if len(numbers) == 1 else f"environments {numbers[0]} to {numbers[-1]}"


def check_seconds(name: str, value: float) -> float:
    """
    Raises:
        BadInput: not a number of seconds above 0.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise BadInput(f"{name} must be a number of seconds above 0, found {value!r}")
    return float(value)
