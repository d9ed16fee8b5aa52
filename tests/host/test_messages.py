"""Messages between a worker and its parent."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from flowrl.host import messages
from flowrl.host.messages import Channel, Gone, Late


@pytest.fixture
def ends():
    ours, theirs = map(Channel, socket.socketpair())
    yield ours, theirs
    ours.close()
    theirs.close()


def soon() -> float:
    return time.monotonic() + 0.05


def test_single_bytes_and_values_arrive_in_either_direction(ends):
    for sender, receiver in (ends, reversed(ends)):
        for _ in range(3):
            sender.signal(messages.STEP)
            assert receiver.receive(soon()) == (messages.STEP, None)
            sender.send(messages.RESET, {"seeds": list(range(1_000))}, soon())
            assert receiver.receive() == (messages.RESET, {"seeds": list(range(1_000))})


def test_who_waits_is_woken(ends):
    ours, theirs = ends
    answered = threading.Thread(target=lambda: (theirs.receive(), theirs.signal(messages.DONE)))
    answered.start()
    ours.signal(messages.STEP)
    assert ours.receive(time.monotonic() + 10) == (messages.DONE, None)
    answered.join()


def test_what_does_not_come_in_time_is_late_and_may_come_afterwards(ends):
    ours, theirs = ends
    for _ in range(2):
        with pytest.raises(Late):
            ours.receive(soon())
    theirs.signal(messages.DONE)
    assert ours.receive(soon()) == (messages.DONE, None)


def test_a_value_of_which_only_a_part_came_is_late_and_may_be_completed(ends):
    ours, theirs = ends
    whole = messages._HEAD.pack(messages.FAULT, 4) + b"\x80\x04N."  # None, as a pickle
    theirs._socket.send(whole[:3])
    with pytest.raises(Late):
        ours.receive(soon())
    theirs._socket.send(whole[3:])
    assert ours.receive(soon()) == (messages.FAULT, None)


def test_the_last_words_of_one_that_has_gone_are_heard(ends):
    ours, theirs = ends
    theirs.send(messages.FAULT, "why")
    theirs.close()
    assert ours.receive() == (messages.FAULT, "why")
    for _ in range(2):
        with pytest.raises(Gone):
            ours.receive(soon())


def test_to_speak_to_one_that_has_gone_is_noticed(ends):
    ours, theirs = ends
    theirs.close()
    with pytest.raises(Gone):
        ours.signal(messages.STEP)
    with pytest.raises(Gone):
        ours.send(messages.RESET, None)


def test_single_bytes_that_nobody_reads_never_block(ends):
    for _ in range(200_000):
        ends[0].signal(messages.STEP)
