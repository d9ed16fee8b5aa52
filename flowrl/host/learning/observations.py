"""What an agent sees: a vector of numbers, an image, or both, made from observations of any space that is stepped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces

from flowrl.errors import BadInput
from flowrl.host.spaces import Leaf, Path, Tree, flat, leaves

_MOST_CHANNELS = 16
"""A first axis that is at most this long, and shorter than the last one, holds an image's channels."""


class Observation(NamedTuple):
    """Encoded observations, with any leading axes."""

    vector: Any
    """float32 ``[..., vector_size]``."""
    image: Any
    """uint8 ``[..., height, width, channels]``; ``[..., 0]`` if there is no image."""


class Layout:
    """How observations of a space are encoded. Of the parts of a Dict at most one may be an image.

    Choices become one-hot, bytes are divided by 255, other numbers stay as they are, side by side in one vector. A Box of
    uint8 with two or three axes is an image, which keeps its bytes.

    Attributes:
        vector_size: numbers in the vector.
        image_shape: height, width and channels; None without an image.

    Raises:
        BadInput: there are several images, or nothing to see.
    """

    def __init__(self, space: spaces.Space):
        self._leaves = leaves(space)
        parts = [_part(space, leaf) for leaf in self._leaves]
        images = [place for place, leaf in enumerate(self._leaves) if _is_image(part_of(space, leaf.path))]
        if len(images) > 1:
            names = ", ".join("/".join(self._leaves[place].path) for place in images)
            raise BadInput(f"the observation space has several images ({names}); stack them into one in a wrapper")
        self._image = images[0] if images else None
        self._encoders = [(place, encode) for place, (encode, _) in enumerate(parts) if place != self._image]
        self.vector_size = sum(size for place, (_, size) in enumerate(parts) if place != self._image)
        self.image_shape = _channels_last(self._leaves[self._image].shape)[0] if images else None
        if not self.vector_size and not images:
            raise BadInput(f"the observation space {space} holds no numbers to learn from; wrap the environment")

    def encode(self, observations: Tree) -> Observation:
        """A batch of observations ``[B, ...]``, encoded. The arrays may share memory with what they were made from."""
        values = flat(self._leaves, observations)
        batch = len(values[0])
        found = [encode(values[place]).reshape(batch, -1) for place, encode in self._encoders]
        vector = found[0] if len(found) == 1 else np.concatenate([np.zeros((batch, 0), np.float32), *found], axis=1)
        if self._image is None:
            return Observation(vector, np.zeros((batch, 0), np.uint8))
        shape, move = _channels_last(self._leaves[self._image].shape)
        return Observation(vector, move(values[self._image]).reshape(batch, *shape))

    def blank(self, *axes: int) -> Observation:
        """Zeros with these leading axes."""
        image = np.zeros((*axes, *(self.image_shape or (0,))), np.uint8)
        return Observation(np.zeros((*axes, self.vector_size), np.float32), image)


def part_of(space: spaces.Space, path: Path) -> spaces.Space:
    """The space of a leaf."""
    for key in path:
        space = space[key]
    return space


def _is_image(space: spaces.Space) -> bool:
    return isinstance(space, spaces.Box) and space.dtype == np.uint8 and len(space.shape) in (2, 3)


def _part(space: spaces.Space, leaf: Leaf) -> tuple[Callable[[np.ndarray], np.ndarray], int]:
    """What encodes a leaf ``[B, *shape]``, and how many numbers that gives."""
    space = part_of(space, leaf.path)
    if isinstance(space, spaces.Discrete):
        return _one_hots(np.array([space.n]), np.array([space.start])), int(space.n)
    if isinstance(space, spaces.MultiDiscrete):
        return _one_hots(space.nvec.ravel(), space.start.ravel()), int(space.nvec.sum())
    size = int(np.prod(leaf.shape))
    if leaf.dtype == np.uint8:
        return lambda values: values.astype(np.float32) / 255, size
    return lambda values: values.astype(np.float32), size


def _one_hots(counts: np.ndarray, starts: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    column_of = np.concatenate([[0], np.cumsum(counts)[:-1]]) - starts

    def encode(values: np.ndarray) -> np.ndarray:
        columns = values.reshape(len(values), -1) + column_of
        result = np.zeros((len(values), int(counts.sum())), np.float32)
        np.put_along_axis(result, columns, 1.0, axis=1)
        return result

    return encode


def _channels_last(shape: tuple[int, ...]) -> tuple[tuple[int, int, int], Callable[[np.ndarray], np.ndarray]]:
    """Height, width and channels of an image, and what turns a batch of it into that order."""
    if len(shape) == 2:
        return (*shape, 1), lambda values: values
    if shape[0] <= _MOST_CHANNELS and shape[0] < shape[2]:
        return (shape[1], shape[2], shape[0]), lambda values: np.moveaxis(values, 1, -1)
    return shape, lambda values: values
