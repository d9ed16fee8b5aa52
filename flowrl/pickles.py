"""Pickles that hold arrays and nothing else.

People exchange experts, so a checkpoint is read as data: the unpickler below admits numpy arrays, numpy
scalars and plain containers, and refuses every other name, so that a file from a stranger cannot run code
(a plain ``pickle.load`` runs whatever the file asks for).

A file ends with a checksum of its content: with a flipped bit inside an array it is still a valid pickle, and training
would go on with a wrong weight. Other pickle readers ignore the checksum; files without one are accepted.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from flowrl.errors import BadInput
from flowrl.files import whole_file

PROTOCOL = 4

_MULTIARRAY = ("numpy._core.multiarray", "numpy.core.multiarray")
_ADMITTED = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("collections", "OrderedDict"),
    *((module, name) for module in _MULTIARRAY for name in ("_reconstruct", "scalar")),
    *((module, "_frombuffer") for module in ("numpy._core.numeric", "numpy.core.numeric")),
}

_SEAL = b"\nflowrl sha256 "
_SEAL_LENGTH = len(_SEAL) + 64

_BFLOAT16_BITS = "bfloat16 bits"
"""numpy has no bfloat16: such an array is stored as its bits, under this key."""


class ForeignPickle(BadInput):
    """The file is damaged, or holds more than numpy arrays and plain containers."""


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _ADMITTED or (module == "numpy.dtypes" and name.endswith("DType")):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def dump(path: Path | str, tree: Any) -> None:
    """Writes nested dicts, lists, numbers, strings and numpy arrays, whole; copies at most one array at a time in memory."""
    plain = _plain(tree)
    with whole_file(path) as file:
        sealed = _Sealed(file)
        pickle.dump(plain, sealed, protocol=PROTOCOL)
        file.write(_SEAL + sealed.checksum.hexdigest().encode())


class _Sealed:
    """A file that keeps a checksum of what is written to it."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self.checksum = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.checksum.update(data)
        return self._file.write(data)


def load(path: Path | str) -> Any:
    """Reads what :func:`dump` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ForeignPickle: the file is damaged or holds more than arrays and plain containers.
    """
    path = Path(path)
    data = path.read_bytes()
    if data[-_SEAL_LENGTH:].startswith(_SEAL):
        data, seal = data[:-_SEAL_LENGTH], data[-_SEAL_LENGTH:]
        if seal != _seal(data):
            raise ForeignPickle(f"{path} is damaged: its checksum does not match its content; restore it from a copy")
    try:
        return _with_bfloat16(_whole(io.BytesIO(data)))
    except Exception as error:  # a damaged pickle raises almost anything
        raise ForeignPickle(
            f"{path} is not a flowrl file of plain arrays ({type(error).__name__}: {error}); "
            "use a file that flowrl wrote, or convert it with `python -m flowrl.migrate`"
        ) from error


def _whole(stream: io.BytesIO) -> Any:
    tree = _ArrayUnpickler(stream).load()
    if stream.read(1):
        raise pickle.UnpicklingError("there is data after its end")  # a damaged checksum
    return tree


def _seal(data: bytes) -> bytes:
    return _SEAL + hashlib.sha256(data).hexdigest().encode()


def _plain(tree: Any) -> Any:
    """The tree as plain containers and numpy arrays; anything else is refused here, not when it is read."""
    if isinstance(tree, dict):
        return {key: _plain(value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(_plain(value) for value in tree) if type(tree) in (list, tuple) else [_plain(v) for v in tree]
    if tree is None or isinstance(tree, (bool, int, float, str, bytes)):
        return tree
    if isinstance(tree, np.generic):
        return tree.item()
    array = np.asarray(tree)
    if array.dtype.name == "bfloat16":
        return {_BFLOAT16_BITS: array.view(np.uint16)}
    if array.dtype.hasobject:
        raise TypeError(f"a {type(tree).__name__} is neither an array nor a plain container")
    return array


def _with_bfloat16(tree: Any) -> Any:
    """The tree with bfloat16 arrays in place of their stored bits."""
    if isinstance(tree, dict):
        if tree.keys() == {_BFLOAT16_BITS}:
            import ml_dtypes

            return tree[_BFLOAT16_BITS].view(ml_dtypes.bfloat16)
        return {key: _with_bfloat16(value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(_with_bfloat16(value) for value in tree)
    return tree
