"""When a silent run counts as hanging."""

from __future__ import annotations

import pytest

from flowrl.parallel.heartbeats import COMPILE_LIMIT_S, LEAST_TIMEOUT_S, Pulse, limit_s
from flowrl.paths import RunPaths
from flowrl.records import heartbeat
from flowrl.records.heartbeat import Activity, Heartbeat
from flowrl.training.host.process import Lifetime


class Clock:
    now_s = 1000.0

    def __call__(self):
        return self.now_s


def beat(phase="training", usual_s=0.0, text="1"):
    return Heartbeat(1, phase, usual_s, text)


@pytest.mark.parametrize(
    ("heard", "asked_s", "expected_s"),
    [
        (beat(usual_s=0.5), 0, LEAST_TIMEOUT_S),
        (beat(usual_s=60), 0, 600),
        (beat(usual_s=60), 20, 20),
        (beat("compiling", usual_s=0.5), 0, COMPILE_LIMIT_S),
        (beat("compiling"), 20, COMPILE_LIMIT_S),
        (beat("compiling"), 2 * COMPILE_LIMIT_S, 2 * COMPILE_LIMIT_S),
        (None, 20, COMPILE_LIMIT_S),
    ],
)
def test_how_long_a_run_may_be_silent(heard, asked_s, expected_s):
    assert limit_s(heard, asked_s) == expected_s


@pytest.fixture
def clock():
    return Clock()


def listen_for(pulse, clock, seconds, heard, every_s=1.0):
    for _ in range(int(seconds / every_s)):
        clock.now_s += every_s
        pulse.listen(heard)


def test_a_heartbeat_that_stays_the_same_is_silence_and_a_changed_one_is_life(clock):
    pulse = Pulse(clock)
    listen_for(pulse, clock, 9, beat())
    assert not pulse.is_stalled(10)
    listen_for(pulse, clock, 3, beat())
    assert pulse.is_stalled(10)
    pulse.listen(beat(text="2"))
    assert not pulse.is_stalled(10)


def test_a_run_that_starts_or_compiles_is_given_its_time(clock):
    pulse = Pulse(clock)
    listen_for(pulse, clock, 100, None)
    listen_for(pulse, clock, 100, beat("compiling"))
    assert not pulse.is_stalled(10)
    listen_for(pulse, clock, COMPILE_LIMIT_S, beat("compiling"))
    assert pulse.is_stalled(10)


def test_a_jump_of_the_clock_or_a_pause_of_our_own_is_no_silence_of_the_run(clock):
    pulse = Pulse(clock)
    pulse.listen(beat())
    clock.now_s += 86400
    pulse.listen(beat())
    assert not pulse.is_stalled(10)
    clock.now_s += 1
    pulse.listen(None)  # half written, or from another attempt: it does not count, and the silence goes on
    listen_for(pulse, clock, 10, None)
    assert pulse.is_stalled(10)


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "training_runs" / "skill_0_A"
    folder.mkdir(parents=True)
    return RunPaths(folder)


def test_a_training_tells_its_phase_and_its_usual_update(run):
    with Lifetime(run, attempt=2) as lifetime:
        first = heartbeat.find(run.heartbeat, 2)
        lifetime.beat(Activity.TRAINING, 1.25)
        second = heartbeat.find(run.heartbeat, 2)
    assert (first.activity, second.activity, second.usual_s) == ("starting", "training", 1.25)
    assert first != second
    assert heartbeat.find(run.heartbeat, 3) is None


@pytest.mark.parametrize("text", ["", "1732190000.123", '{"attempt": 2', "[]", '{"attempt": 2}'])
def test_a_heartbeat_that_cannot_be_read_is_none(run, text):
    run.heartbeat.write_text(text)
    assert heartbeat.find(run.heartbeat, 2) is None


def test_a_heartbeat_takes_the_place_of_whatever_was_there(run):
    run.heartbeat.write_text("x" * 500)
    with Lifetime(run, attempt=1):
        assert heartbeat.find(run.heartbeat, 1) is not None
