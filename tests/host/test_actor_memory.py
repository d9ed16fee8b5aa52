"""What actors and the learner share: whole parameters, and slots that do not overlap."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from gymnasium import spaces

from flowrl.host.learning.actors import parameters
from flowrl.host.learning.actors.exchange import Exchange, Sizes, num_bytes
from flowrl.host.learning.actors.parameters import SharedParameters, parameter_shapes

SIZE = 50_000


def shared(size: int = SIZE) -> tuple[SharedParameters, list[np.ndarray]]:
    arrays = [np.zeros(shape, dtype) for shape, dtype in parameter_shapes(size)]
    return SharedParameters(arrays), arrays


def test_the_newest_version_is_read():
    ours, arrays = shared(4)
    theirs = SharedParameters(arrays)
    for version in range(7, 12):
        ours.publish(version, np.full(4, version, np.float32))
        found, values = theirs.newest()
        assert found == version and (values == version).all()
    ours.publish(12, np.zeros(4, np.float32))
    assert (values == 11).all()  # what was read is a copy


@pytest.mark.parametrize("what", ["a version that is being written", "values that do not fit their checksum"])
def test_what_is_half_written_is_not_read(what):
    ours, (newest, versions, checksums, values) = shared(4)
    ours.publish(0, np.ones(4, np.float32))
    ours.publish(1, np.full(4, 2, np.float32))
    if what.startswith("a version"):
        versions[1] = 0
    else:
        values[1, 2] = 5
    found = []
    reader = threading.Thread(target=lambda: found.append(ours.newest()), daemon=True)
    reader.start()
    reader.join(0.05)
    assert not found
    ours.publish(2, np.full(4, 3, np.float32))
    reader.join(60)
    assert found[0][0] == 2 and (found[0][1] == 3).all()


def test_no_reading_is_torn_while_versions_are_written():
    ours, arrays = shared()
    theirs, last = SharedParameters(arrays), 300
    writer = threading.Thread(
        target=lambda: [ours.publish(version, np.full(SIZE, version, np.float32)) for version in range(last + 1)],
        daemon=True,
    )
    writer.start()
    read = set()
    while last not in read:
        version, values = theirs.newest()
        assert (values == version).all()
        read.add(version)
    writer.join()


def test_parameters_become_a_vector_and_back():
    params = {"b": {"kernel": np.arange(6.0).reshape(2, 3), "bias": np.zeros(3)}, "a": np.ones(2)}
    found = parameters.places(params)
    assert [place.path for place in found] == [("a",), ("b", "bias"), ("b", "kernel")]
    vector = parameters.flat(params, found)
    assert vector.dtype == np.float32 and vector.shape == (parameters.num_parameters(found),) == (11,)
    back = parameters.nested(vector, found)
    np.testing.assert_array_equal(back["b"]["kernel"], params["b"]["kernel"])
    np.testing.assert_array_equal(back["a"], params["a"])


def test_slots_and_all_else_have_their_own_places_in_one_memory():
    space = spaces.Dict({"image": spaces.Box(0, 255, (6, 5, 3), np.uint8), "size": spaces.Box(-1, 1, (2,), np.float32)})
    sizes = Sizes(space, spaces.Box(-1, 1, (2,), np.float32), 2, 3, 4, slots_per_actor=2, num_parameters=5)
    memory = bytearray(num_bytes(sizes))
    ours, theirs = Exchange(sizes, memory), Exchange(sizes, memory)

    def arrays(exchange):
        for slot in exchange.slots:
            observations = slot.steps[:3]
            yield from [*slot[1:], *slot.steps[3:], *(array for part in observations for array in part)]
        yield from (exchange.progress, exchange.stopping)

    for number, array in enumerate(arrays(ours)):
        array[...] = number % 2 if array.dtype == bool else number
    ours.parameters.publish(0, np.full(5, 7, np.float32))
    for number, array in enumerate(arrays(theirs)):
        assert (array == (number % 2 if array.dtype == bool else number)).all()
    assert theirs.parameters.newest()[0] == 0 and len(theirs.slots) == 4
    steps = theirs.slots[0].steps
    assert steps.observation.image.shape == (4, 3, 6, 5, 3) and steps.last_observation.vector.shape == (3, 2)
    assert theirs.slots[0].log_std.shape == (2,) and steps.masks.shape == (4, 3, 0)
    assert [sizes.owner(slot) for slot in range(4)] == [0, 0, 1, 1] and list(sizes.slots_of(1)) == [2, 3]
