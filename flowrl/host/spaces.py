"""How observations and actions lie in arrays: one array for each leaf of a space, with one row for each environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces

from flowrl.errors import BadInput

Path = tuple[str, ...]
Tree = Any
"""An array, or a dictionary of trees: what a batch of observations is."""

_FLAT = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)


class WrongValue(ValueError):
    """A value does not fit its space. The message says what was expected and what was found."""


class Leaf(NamedTuple):
    """One array of an observation.

    Attributes:
        path: the keys that lead to it; empty if the space is not a Dict.
    """

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype


def leaves(space: spaces.Space, what: str = "observation", path: Path = ()) -> list[Leaf]:
    """The arrays that hold one value of a space, in a fixed order.

    Raises:
        BadInput: the space, or a part of it, has no fixed shape.
    """
    if isinstance(space, spaces.Dict):
        return [leaf for key, part in space.spaces.items() for leaf in leaves(part, what, (*path, key))]
    if isinstance(space, _FLAT):
        return [Leaf(path, tuple(space.shape), np.dtype(space.dtype))]
    where = f" at {'/'.join(map(str, path))}" if path else ""
    raise BadInput(
        f"the {what} space{where} is {type(space).__name__}; flowrl steps Box, Discrete, MultiDiscrete, MultiBinary and Dict: "
        "wrap the environment, for example in gymnasium.wrappers.FlattenObservation"
    )


def action_leaf(space: spaces.Space) -> Leaf:
    """The array that holds one action.

    Raises:
        BadInput: actions are not Discrete, MultiDiscrete, MultiBinary or Box.
    """
    if isinstance(space, spaces.Dict):
        raise BadInput(
            "the action space is Dict; flowrl steps Discrete, MultiDiscrete, MultiBinary and Box: flatten it in a wrapper"
        )
    return leaves(space, "action")[0]


def num_masked(space: spaces.Space) -> int | None:
    """Entries in an action mask: one for each choice, those of a MultiDiscrete space side by side. None if a choice cannot be
    forbidden."""
    if isinstance(space, spaces.Discrete):
        return int(space.n)
    return int(space.nvec.sum()) if isinstance(space, spaces.MultiDiscrete) else None


def tree(found: Sequence[Leaf], arrays: Sequence[np.ndarray]) -> Tree:
    """Arrays in the shape of their space: one array, or nested dictionaries."""
    if len(found) == 1 and not found[0].path:
        return arrays[0]
    result: dict[str, Any] = {}
    for leaf, array in zip(found, arrays):
        inner = result
        for key in leaf.path[:-1]:
            inner = inner.setdefault(key, {})
        inner[leaf.path[-1]] = array
    return result


def flat(found: Sequence[Leaf], values: Tree) -> list[Any]:
    """The values of a tree in the order of its leaves. The reverse of `tree`.

    Raises:
        WrongValue: a key is missing, or there is one too many.
    """
    if len(found) == 1 and not found[0].path:
        return [values]
    _check_keys(found, values)
    return [_at(values, leaf.path) for leaf in found]


class Rows:
    """Writes values of a space into rows of a batch, and refuses what does not fit.

    Args:
        arrays: one for each leaf, ``[num_envs, *shape]``.
    """

    def __init__(self, found: Sequence[Leaf], arrays: Sequence[np.ndarray]):
        self._leaves = list(found)
        self._arrays = list(arrays)

    def write(self, row: int, value: Tree) -> None:
        """
        Raises:
            WrongValue: the value has another shape, or a dtype that would lose what it means.
        """
        for leaf, array, part in zip(self._leaves, self._arrays, flat(self._leaves, value)):
            if type(part) is np.ndarray and part.shape == leaf.shape and part.dtype == leaf.dtype:
                array[row] = part
            else:
                array[row] = fitting(leaf, part)


def fitting(leaf: Leaf, value: Any) -> np.ndarray:
    """The value as an array of the leaf's shape whose dtype can become the leaf's.

    Raises:
        WrongValue: it cannot be that.
    """
    try:
        found = np.asarray(value)
    except ValueError:  # rows of different lengths
        found = np.asarray(None)
    if found.shape == leaf.shape and np.can_cast(found.dtype, leaf.dtype, "same_kind"):
        return found
    where = f" at {'/'.join(map(str, leaf.path))}" if leaf.path else ""
    kind = type(value).__name__ if found.dtype == object else f"{found.dtype} of shape {found.shape}"
    raise WrongValue(f"{leaf.dtype} of shape {leaf.shape}{where} was expected, found {kind}")


def _check_keys(found: Sequence[Leaf], values: Tree, depth: int = 0, path: Path = ()) -> None:
    here = [leaf for leaf in found if leaf.path[:depth] == path]
    keys = {leaf.path[depth] for leaf in here}
    where = f" at {'/'.join(map(str, path))}" if path else ""
    if not isinstance(values, Mapping):
        raise WrongValue(f"a dictionary with the keys {sorted(keys)} was expected{where}, found {type(values).__name__}")
    if values.keys() != keys:
        raise WrongValue(f"the keys {sorted(keys)} were expected{where}, found {sorted(map(str, values))}")
    for key in keys:
        if any(len(leaf.path) > depth + 1 for leaf in here if leaf.path[depth] == key):
            _check_keys(found, values[key], depth + 1, (*path, key))


def _at(values: Tree, path: Path) -> Any:
    for key in path:
        values = values[key]
    return values
