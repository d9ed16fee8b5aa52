"""Event files are read back from what was written."""

from __future__ import annotations

import importlib.util
import struct
from pathlib import Path

import pytest
from tensorboardX.proto.event_pb2 import Event

from flowrl.errors import BadInput
from flowrl.host import train_ppo
from flowrl.tracking import tensorboard
from flowrl.tracking.tensorboard import tensorboard_tracker
from flowrl.tracking.trackers import all_of, no_tracker


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Each name's values over frames, from all event files of a folder (records of TFRecord: length, crc, data, crc)."""
    found: dict[str, list[tuple[int, float]]] = {}
    for path in sorted(folder.glob("events.out.tfevents.*")):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack("<Q", data[at : at + 8])
            event = Event.FromString(data[at + 12 : at + 12 + length])
            at += 16 + length
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


def test_metrics_and_the_result_are_curves_over_frames(tmp_path):
    tracker = all_of([no_tracker(), tensorboard_tracker(tmp_path / "3_Collect_Wood")])
    tracker.log(8192, {"success_rate": None, "reward": 0.5})
    tracker.log(16384, {"success_rate": 0.25, "reward": 0.75})
    tracker.finish({"frames": 16384, "success_rate": 0.875, "outcome": "completed"}, failed=False)
    assert scalars(tmp_path / "3_Collect_Wood") == {
        "reward": [(8192, 0.5), (16384, 0.75)],
        "success_rate": [(16384, 0.25)],
        "result/frames": [(16384, 16384.0)],
        "result/success_rate": [(16384, 0.875)],
        "result/failed": [(16384, 0.0)],
    }


def test_a_folder_that_cannot_be_written_ends_no_run_and_is_said_once(tmp_path):
    (tmp_path / "file").write_text("")
    said = []
    tracker = tensorboard_tracker(tmp_path / "file" / "run", said.append)
    tracker.log(1, {"reward": 0.5})
    tracker.log(2, {"reward": 0.5})
    tracker.finish({}, failed=True)
    assert len(said) == 1 and "event files cannot be written" in said[0] and "metrics.jsonl has everything" in said[0]


def test_without_the_package_the_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"pip install -e '\.\[tensorboard\]'"):
        tensorboard.check_tensorboard()


def test_a_training_on_a_host_environment_writes_them(tmp_path):
    flags = "--env CartPole-v1 --n-envs 2 --num-steps 16 --num-episodes 3 --eval-episodes 1 --tensorboard".split()
    assert train_ppo.main([*flags, "--checkpoint-dir", str(tmp_path / "run")]) == 0
    found = scalars(tmp_path / "run" / "tensorboard")
    assert {"reward", "frames_per_s", "result/evaluation_reward"} <= found.keys() and found["frames_per_s"][0][0] == 32
