"""Whole messages over a stream socketpair: a four-byte length, little-endian, then that many bytes.

The manager's end never blocks: what the kernel does not take at once waits in a buffer, and the manager's loop
calls `flush` when the socket is writable. The worker's end blocks, which is what a worker without work should do.
Knows nothing of what the messages mean.
"""

from __future__ import annotations

import socket

RECEIVE_BYTES = 256 << 10
"""Bytes read at once; about the size of the kernel's buffer."""


class Channel:
    """One end of a socketpair.

    Attributes:
        closed: The other end is gone; what had arrived whole before that has been returned.
    """

    def __init__(self, sock: socket.socket, blocking: bool) -> None:
        sock.setblocking(blocking)
        self._socket = sock
        self._buffer = bytearray(RECEIVE_BYTES)  # `recv` would map so much memory for each message, and unmap it
        self._incoming = bytearray()
        self._outgoing = bytearray()
        self.closed = False

    def fileno(self) -> int:
        """The descriptor, for a poll set."""
        return self._socket.fileno()

    @property
    def unsent(self) -> bool:
        """Whether `flush` has something to do once the socket is writable."""
        return bool(self._outgoing)

    def send(self, message: bytes) -> None:
        """Send one message, or on a non-blocking channel as much as the kernel takes now and the rest by `flush`."""
        data = len(message).to_bytes(4, "little") + message
        if self._socket.gettimeout() is None:
            self._socket.sendall(data)
            return
        self._outgoing += data
        self.flush()

    def flush(self) -> None:
        """Send what is waiting, as far as the kernel takes it."""
        try:
            while self._outgoing:
                sent = self._socket.send(self._outgoing)
                del self._outgoing[:sent]
        except BlockingIOError:
            return
        except (BrokenPipeError, ConnectionResetError):
            self._outgoing.clear()  # the process is gone; its board tells the rest

    def receive(self, wait: bool = True) -> list[bytes]:
        """The messages that have arrived whole. On a blocking channel waits for bytes unless told not to."""
        try:
            size = self._socket.recv_into(self._buffer, 0, 0 if wait else socket.MSG_DONTWAIT)
        except BlockingIOError:
            return []
        except ConnectionResetError:
            size = 0
        if not size:
            self.closed = True
            return []
        self._incoming += memoryview(self._buffer)[:size]
        return self._split()

    def receive_rest(self) -> list[bytes]:
        """Everything that has arrived, read until nothing is left: for a process that is dead."""
        messages: list[bytes] = []
        before = -1
        while not self.closed and before != (before := len(messages) + len(self._incoming)):
            messages += self.receive(wait=False)
        return messages

    def close(self) -> None:
        """Close this end."""
        self._socket.close()

    def _split(self) -> list[bytes]:
        data = self._incoming
        messages = []
        start = 0
        while len(data) - start >= 4:
            end = start + 4 + int.from_bytes(data[start : start + 4], "little")
            if len(data) < end:
                break
            messages.append(bytes(data[start + 4 : end]))
            start = end
        if start:
            del data[:start]
        return messages
