"""What a worker process and its parent say to each other, through a pair of connected sockets.

A step is one byte there and one byte back: each end sleeps in the kernel until the other writes. What is larger follows
as a pickle. Everything that both sides would otherwise copy is in the shared block.
"""

from __future__ import annotations

import pickle
import select
import socket
import struct
import time
from typing import Any

STEP, CLOSE, DONE = b"s", b"c", b"d"
"""Messages of one byte."""
MEMORY, FORK = b"m", b"f"
"""Messages of one byte that carry a descriptor."""
MAKE, SPACES, RESET, INFOS, FAULT, FORKED, STATUS, KILL, READY, FILL, FULL = (letter.encode() for letter in "MSRIEFTKYLU")
"""Messages with a pickle behind them."""
_WITH_PICKLE = frozenset((MAKE, SPACES, RESET, INFOS, FAULT, FORKED, STATUS, KILL, READY, FILL, FULL))
_HEAD = struct.Struct("<cQ")
"""Such a message's first byte, and the bytes that follow."""


class Late(Exception):
    """The other end did not answer, or did not read, in time."""


class Gone(Exception):
    """The other end has ended."""


class Channel:
    """One end of the connection. ``deadline`` is a time of `time.monotonic`; None waits as long as the other end lives."""

    def __init__(self, end: socket.socket):
        self._socket = end
        self._read = bytearray()  # of a message; kept, since Ctrl-C may interrupt its reading
        self._readable, self._writable = select.poll(), select.poll()
        self._readable.register(end, select.POLLIN)
        self._writable.register(end, select.POLLOUT)

    def fileno(self) -> int:
        return self._socket.fileno()

    def signal(self, kind: bytes) -> None:
        """Sends a message of one byte, which never has to wait for room.

        Raises:
            Gone: the other end has ended.
        """
        try:
            self._socket.send(kind, socket.MSG_DONTWAIT)
        except BlockingIOError:  # thousands of bytes that nobody read: it hangs, and that is noticed when it has to answer
            return
        except OSError:
            raise Gone from None

    def send(self, kind: bytes, value: Any, deadline: float | None = None) -> None:
        """Sends a message with a value.

        Raises:
            Gone: the other end has ended.
            Late: it has not read all by the deadline.
        """
        self.send_pickled(kind, pickle.dumps(value, pickle.HIGHEST_PROTOCOL), deadline)

    def send_pickled(self, kind: bytes, pickled: bytes, deadline: float | None = None) -> None:
        """`send` for a value that is pickled already."""
        left = memoryview(_HEAD.pack(kind, len(pickled)) + pickled)
        while left:
            self._wait(self._writable, deadline)
            try:
                left = left[self._socket.send(left, socket.MSG_DONTWAIT) :]
            except BlockingIOError:
                continue
            except OSError:
                raise Gone from None

    def send_descriptor(self, kind: bytes, descriptor: int) -> None:
        """
        Raises:
            Gone: the other end has ended.
        """
        try:
            socket.send_fds(self._socket, [kind], [descriptor])
        except OSError:
            raise Gone from None

    def receive(self, deadline: float | None = None) -> tuple[bytes, Any]:
        """The next message, and its value or None.

        Raises:
            Gone: the other end has ended.
            Late: nothing came by the deadline.
        """
        self._fill(1, deadline)
        return self._whole(deadline)

    def receive_with_descriptor(self) -> tuple[bytes, Any, int | None]:
        """The next message, its value or None, and the descriptor that came with it or None.

        Raises:
            Gone: the other end has ended.
        """
        try:
            kind, descriptors, *_ = socket.recv_fds(self._socket, 1, 1)
        except OSError:
            raise Gone from None
        if not kind:
            raise Gone
        self._read += kind
        return *self._whole(None), descriptors[0] if descriptors else None

    def close(self) -> None:
        self._socket.close()

    def _whole(self, deadline: float | None) -> tuple[bytes, Any]:
        """The message whose first byte has been read."""
        kind = bytes(self._read[:1])
        if kind in _WITH_PICKLE:
            self._fill(_HEAD.size, deadline)
            self._fill(_HEAD.size + _HEAD.unpack(self._read[: _HEAD.size])[1], deadline)
        message, self._read = self._read, bytearray()
        return kind, pickle.loads(memoryview(message)[_HEAD.size :]) if kind in _WITH_PICKLE else None

    def _fill(self, size: int, deadline: float | None) -> None:
        """Reads until ``size`` bytes of the message are there, and no further."""
        while (missing := size - len(self._read)) > 0:
            if deadline is not None:
                self._wait(self._readable, deadline)
            try:
                part = self._socket.recv(min(missing, 1 << 20))
            except OSError:
                part = b""
            if not part:
                raise Gone
            self._read += part

    def _wait(self, poller: select.poll, deadline: float | None) -> None:
        milliseconds = None if deadline is None else max(0.0, (deadline - time.monotonic()) * 1000)
        if not poller.poll(milliseconds):
            raise Late


def until_hangup(descriptor: int) -> None:
    """Sleeps until the other end of a socket has ended, whatever it writes before that."""
    poller = select.poll()
    poller.register(descriptor, 0)  # a hangup is always reported
    poller.poll()
