"""A connecting peer's line to its Router: one DEALER socket at a time, opened anew when the session over it says so."""

from __future__ import annotations

import math
import uuid

import zmq

from eventmq.net.frames import POLLIN, POLLOUT, receive_some, send
from eventmq.net.tuning import tune

LINGER_MS = 500
"""How long the last messages, goodbye among them, may take to leave."""


class Line:
    """The line to the Router at `address`; what it waits for is registered with `poller`."""

    def __init__(self, address: str, poller: zmq.Poller) -> None:
        self._address = address
        self._poller = poller
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket: zmq.Socket[bytes] | None = None
        self._unsendable = False

    def open(self) -> None:
        """A new socket with an identity of its own: text, because a Router of 2020 dies of any other."""
        self._hang_up(linger_ms=0)
        new = self._context.socket(zmq.DEALER)
        tune(new)
        new.setsockopt(zmq.IDENTITY, uuid.uuid4().hex.encode())
        new.setsockopt(zmq.IMMEDIATE, 1)  # nothing is queued for a Router that is not there
        new.connect(self._address)
        self._socket = new
        self._unsendable = True  # until the connection is there
        self._watch()

    def send(self, frames: list[bytes]) -> bool:
        """Sends without ever waiting; False: nobody is connected."""
        if self._socket is None:
            return True
        if send(self._socket, frames):
            return True
        self._unsendable = True
        self._watch()
        return False

    def hear(self, ready: dict[object, int]) -> tuple[bool, list[list[bytes]]]:
        """Whether somebody is connected again, and at most `TURN_MESSAGES_MAX` messages that have arrived."""
        events = ready.get(self._socket, 0)
        sendable = self._unsendable and bool(events & POLLOUT)
        if sendable:
            self._unsendable = False
            self._watch()
        if self._socket is None or not events & POLLIN:
            return sendable, []
        return sendable, receive_some(self._socket, math.inf)[0]

    def close(self) -> None:
        """Gives everything back, once the last messages have had their time to leave."""
        self._hang_up(LINGER_MS)
        self._context.term()

    def _watch(self) -> None:
        self._poller.register(self._socket, POLLIN | (POLLOUT if self._unsendable else 0))

    def _hang_up(self, linger_ms: int) -> None:
        if self._socket is not None:
            self._poller.unregister(self._socket)
            self._socket.close(linger_ms)
            self._socket = None
