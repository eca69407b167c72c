"""ZMTP 3.0, what ZeroMQ's sockets speak over a connection (rfc.zeromq.org/spec/23), from a ROUTER's side: bytes ↔
messages. Knows no socket.

      greeting ─▶  ◀─ greeting      64 bytes: version 3 or later, mechanism NULL
      READY    ─▶  ◀─ READY         its identity, if it has chosen one
      messages ─▶  ◀─ messages      each some frames; a frame has flags, a length, and a body

What breaks these rules costs the connection.
"""

from __future__ import annotations

from eventmq import limits

MORE, LONG, COMMAND = 1, 2, 4
"""Flags of a frame: others follow, the length has eight bytes in the place of one, it is for ZMTP itself."""

SHORT_MAX = 255

GREETING_BYTES = 64
_NULL = b"NULL".ljust(20, b"\0")
_GREETING = b"\xff" + bytes(8) + b"\x7f" + b"\x03\x00" + _NULL + bytes(32)


class Malformed(Exception):
    """It does not speak ZMTP 3, or sends a frame that is larger than `FRAME_BYTES_MAX`."""


def _head(size: int, flags: int) -> bytes:
    return bytes((flags, size)) if size <= SHORT_MAX else bytes((flags | LONG,)) + size.to_bytes(8, "big")


def command(name: bytes, body: bytes) -> bytes:
    """A command on the wire."""
    return _head(1 + len(name) + len(body), COMMAND) + bytes((len(name),)) + name + body


def join(frames: list[bytes]) -> bytes:
    """A message on the wire."""
    parts: list[bytes] = []
    for body in frames[:-1]:
        parts += (_head(len(body), MORE), body)
    parts += (_head(len(frames[-1]), 0), frames[-1])
    return b"".join(parts)


def _property(name: bytes, value: bytes) -> bytes:
    return bytes((len(name),)) + name + len(value).to_bytes(4, "big") + value


HELLO = _GREETING + command(b"READY", _property(b"Socket-Type", b"ROUTER") + _property(b"Identity", b""))
"""What a ROUTER says first."""


class Conversation:
    """What one peer says.

    Attributes:
        ready: It has shaken hands; only then there are messages.
        identity: What it calls itself, or nothing.
        answers: What is to be sent to it for ZMTP's own sake.
    """

    __slots__ = ("_data", "_frames", "_greeted", "answers", "identity", "ready")

    def __init__(self) -> None:
        self._data = bytearray()
        self._frames: list[bytes] = []
        self._greeted = False
        self.ready = False
        self.identity = b""
        self.answers = b""

    def feed(self, received: memoryview) -> list[list[bytes]]:
        """The messages that end in what has been received.

        Raises:
            Malformed: The connection is of no use.
        """
        data = self._data
        if not data:
            messages, end = self._parse(received)
            data += received[end:]
            return messages
        data += received
        with memoryview(data) as whole:
            messages, end = self._parse(whole)
        del data[:end]
        return messages

    def _parse(self, data: memoryview) -> tuple[list[list[bytes]], int]:
        """The messages, and where the first frame begins that is not whole."""
        messages: list[list[bytes]] = []
        start, have = 0, len(data)
        if not self._greeted:
            self._check_greeting(data)
            if have < GREETING_BYTES:
                return messages, 0
            start, self._greeted = GREETING_BYTES, True
        while have - start >= 2:
            flags, begin, size = data[start], start + 2, data[start + 1]
            if flags & LONG:
                begin = start + 9
                if begin > have:
                    break
                size = int.from_bytes(data[start + 1 : begin], "big")
                if size > limits.FRAME_BYTES_MAX:
                    raise Malformed(f"a frame of {size} bytes")
            if begin + size > have:
                break
            start = begin + size
            body = bytes(data[begin:start])
            if flags & COMMAND:
                self._obey(body)
            elif self._take(body, flags & MORE):
                messages.append(self._frames)
                self._frames = []
        return messages, start

    def _check_greeting(self, data: memoryview) -> None:
        """As much as there is of it: who speaks something else may wait for us."""
        looks_right = (not data or data[0] == 0xFF) and (len(data) < 10 or data[9] & 1)
        if not looks_right or (len(data) > 10 and data[10] < 3) or (len(data) >= 32 and data[12:32] != _NULL):
            raise Malformed("no greeting of ZMTP 3 with mechanism NULL")

    def _take(self, body: bytes, more: int) -> bool:
        """One more frame of a message; whether it is the last one. What nobody may send is not kept either."""
        if not self.ready:
            raise Malformed("a message before READY")
        if len(self._frames) < limits.FRAMES_MAX:
            self._frames.append(body)
        return not more

    def _obey(self, body: bytes) -> None:
        """A command: `READY`, and `PING`, whose context is sent back."""
        end = 1 + body[0] if body else 0
        name, rest = body[1:end], body[end:]
        if name == b"READY" and not self.ready:
            self.identity = _properties(rest).get(b"identity", b"")
            self.ready = True
        elif name == b"PING":
            self.answers += command(b"PONG", rest[2:])
        elif name == b"ERROR":
            raise Malformed("it has refused")


def _properties(data: bytes) -> dict[bytes, bytes]:
    """What READY says, by name in small letters."""
    found: dict[bytes, bytes] = {}
    at = 0
    while at < len(data):
        name_end = at + 1 + data[at]
        value_at = name_end + 4
        value_end = value_at + int.from_bytes(data[name_end:value_at], "big")
        if value_end > len(data):
            raise Malformed("READY ends before its properties do")
        found[data[at + 1 : name_end].lower()] = data[value_at:value_end]
        at = value_end
    return found
