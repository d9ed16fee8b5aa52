"""What an expert was like while it was trained: which moments are shown, and what becomes of damaged files."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowrl import pickles
from flowrl.errors import BadInput
from flowrl.records import moments
from flowrl.records.moments import Moment


def at(*frames: int) -> list[Moment]:
    return [Moment(number, {"bias": np.full(2, number)}) for number in frames]


def test_what_is_written_is_read_and_no_file_means_no_moments(tmp_path):
    path = tmp_path / "moments.pkl"
    assert moments.read(path) == []
    moments.write(path, at(0, 640))
    found = moments.read(path)
    assert [moment.frames for moment in found] == [0, 640] and found[1].actor["bias"].tolist() == [640, 640]


def test_a_damaged_file_or_one_of_another_version_is_one_line(tmp_path):
    path = tmp_path / "moments.pkl"
    pickles.dump(path, {"format": moments.FORMAT, "version": 99, "moments": []})
    with pytest.raises(BadInput, match=r"moments.pkl is not of flowrl-moments 1; remove it"):
        moments.read(path)
    path.write_bytes(b"half of a file")
    with pytest.raises(BadInput, match=r"moments.pkl is not a flowrl file"):
        moments.read(path)


def test_they_are_shown_evenly_over_the_whole_training():
    kept = at(0, 200, 400, 600, 800)
    assert [moment.frames for moment in moments.evenly(kept, 3, 900)] == [0, 200, 600]
    assert [moment.frames for moment in moments.evenly(kept, 3, None)] == [0, 200, 600]
    assert [moment.frames for moment in moments.evenly(at(0), 3, 50)] == [0]
    assert [moment.frames for moment in moments.evenly(at(640), 3, 640)] == [640]


@settings(deadline=None)
@given(st.sets(st.integers(0, 10_000), min_size=1, max_size=8), st.integers(0, 20_000))
def test_no_moment_is_shown_twice_or_out_of_order(frames, end):
    shown = [moment.frames for moment in moments.evenly(at(*sorted(frames)), 3, end)]
    assert shown == sorted(set(shown)) and 1 <= len(shown) <= 3 and set(shown) <= frames and shown[0] == min(frames)
