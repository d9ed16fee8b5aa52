"""Pickles that hold arrays and nothing else."""

import hashlib
import os
import pickle
import pickletools

import ml_dtypes
import numpy as np
import pytest

from flowrl import pickles
from flowrl.errors import BadInput


def test_arrays_and_containers_come_back_as_they_were(tmp_path):
    tree = {
        "float": np.arange(6, dtype=np.float32).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "empty": np.zeros((0, 4), np.int8),
        "scalar": np.float64(2.5),
        "nested": {"list": [1, "two", None, (3.0, b"four")], 5: True},
    }
    pickles.dump(tmp_path / "x.pkl", tree)
    found = pickles.load(tmp_path / "x.pkl")
    for name in ("float", "fortran", "empty"):
        np.testing.assert_array_equal(found[name], tree[name])
        assert found[name].dtype == tree[name].dtype
    assert found["scalar"] == 2.5
    assert found["nested"] == tree["nested"]


def test_a_file_is_the_pickle_and_its_checksum_for_arrays_of_any_size(tmp_path):
    tree = {"small": np.ones(3), "large": np.arange(200_000.0), "list": ["x" * 70_000, 1, np.zeros((2, 2), order="F")]}
    pickles.dump(tmp_path / "x.pkl", tree)
    data = pickle.dumps(tree, protocol=4)
    assert (tmp_path / "x.pkl").read_bytes() == data + b"\nflowrl sha256 " + hashlib.sha256(data).hexdigest().encode()


def test_protocol_is_4(tmp_path):
    pickles.dump(tmp_path / "x.pkl", {"a": np.ones(3)})
    opcodes = list(pickletools.genops((tmp_path / "x.pkl").read_bytes()))
    assert opcodes[0][0].name == "PROTO" and opcodes[0][1] == 4


class RunsOnLoad:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("function", [os.system, eval, exec, open, getattr, __import__])
def test_a_pickle_that_runs_code_is_refused_and_does_not_run(tmp_path, function):
    witness = tmp_path / "witness"
    arguments = {
        os.system: (f"touch {witness}",),
        eval: (f"open({str(witness)!r}, 'w')",),
        exec: (f"open({str(witness)!r}, 'w')",),
        open: (str(witness), "w"),
        getattr: (os, "system"),
        __import__: ("os",),
    }[function]
    try:
        data = pickle.dumps({"params": RunsOnLoad(function, *arguments)})
    except TypeError:  # a module cannot be pickled: take its name instead
        data = pickle.dumps({"params": RunsOnLoad(function, "os", "system")})
    (tmp_path / "x.pkl").write_bytes(data)
    with pytest.raises(pickles.ForeignPickle, match="x.pkl.*asks for"):
        pickles.load(tmp_path / "x.pkl")
    assert not witness.exists()


def test_numpy_names_that_could_do_harm_are_refused(tmp_path):
    for function in (np.load, np.save, np.fromfile):
        (tmp_path / "x.pkl").write_bytes(pickle.dumps(RunsOnLoad(function, "/etc/hostname")))
        with pytest.raises(pickles.ForeignPickle):
            pickles.load(tmp_path / "x.pkl")


def test_an_array_of_objects_is_neither_written_nor_read(tmp_path):
    objects = np.array([RunsOnLoad(os.system, "true"), None], dtype=object)
    with pytest.raises(TypeError, match="neither an array nor a plain container"):
        pickles.dump(tmp_path / "x.pkl", {"a": objects})
    assert not (tmp_path / "x.pkl").exists()
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({"a": objects}))
    with pytest.raises(pickles.ForeignPickle):
        pickles.load(tmp_path / "x.pkl")


@pytest.mark.parametrize("keep", [0, 1, 10, -1])
def test_a_truncated_file_is_refused_by_name(tmp_path, keep):
    pickles.dump(tmp_path / "x.pkl", {"a": np.ones(100)})
    (tmp_path / "x.pkl").write_bytes((tmp_path / "x.pkl").read_bytes()[:keep])
    with pytest.raises(BadInput, match="x.pkl"):
        pickles.load(tmp_path / "x.pkl")


def test_bfloat16_travels_as_its_bits_in_a_file_of_plain_numpy(tmp_path):
    values = np.array([1.5, -0.125, 3e38], ml_dtypes.bfloat16)
    pickles.dump(tmp_path / "x.pkl", {"w": values})
    assert b"ml_dtypes" not in (tmp_path / "x.pkl").read_bytes()
    loaded = pickles.load(tmp_path / "x.pkl")["w"]
    assert loaded.dtype == values.dtype and (loaded == values).all()


def test_no_flipped_bit_goes_unnoticed(tmp_path):
    path = tmp_path / "x.pkl"
    pickles.dump(path, {"params": np.linspace(0, 1, 50, dtype=np.float32), "metadata": {"frames": 7}})
    data = path.read_bytes()
    for position in range(len(data)):
        path.write_bytes(data[:position] + bytes([data[position] ^ 4]) + data[position + 1 :])
        with pytest.raises(pickles.ForeignPickle, match="x.pkl"):
            pickles.load(path)
    path.write_bytes(data)
    assert pickles.load(path)["metadata"] == {"frames": 7}


def test_a_sealed_file_is_an_ordinary_pickle_and_one_without_seal_is_read(tmp_path):
    path = tmp_path / "x.pkl"
    pickles.dump(path, {"a": np.ones(3)})
    np.testing.assert_array_equal(pickle.loads(path.read_bytes())["a"], np.ones(3))
    path.write_bytes(pickle.dumps({"a": np.zeros(3)}, protocol=4))  # as flowrl wrote them before
    np.testing.assert_array_equal(pickles.load(path)["a"], np.zeros(3))
