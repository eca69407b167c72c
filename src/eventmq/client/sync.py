"""The exchange for threads: no thread of its own, whoever waits does the work.

The thread that finds nobody at the socket leads: it sends what all threads have to say, receives for all, wakes those
whose answers came, and leaves the lead to one that still waits when its own has come. So a lone caller pays one send
and one receive, and callers side by side share messages.

      _lock      guards the exchange and who leads; never held during IO
      the lead   alone touches the socket; `_leader` names its call
      a byte     in the pipe wakes the leader from its poll, as another thread has something to send
"""

from __future__ import annotations

import math
import os
import select
import threading
import weakref
from collections.abc import Callable
from time import monotonic
from typing import TypeVar

from eventmq.client.exchange import Exchange
from eventmq.client.pending import Call, Frames
from eventmq.client.sockets import Dealer, abandon, dealer, descriptor
from eventmq.errors import BrokerUnavailable
from eventmq.net.frames import has_message, receive, send

C = TypeVar("C", bound=Call)

POLL_S_MAX = 3600.0
"""Longest single poll; the system call's limit is 24 days."""


class SyncDriver:
    """One connection to the Router for all threads of this process."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._start()
        _drivers.add(self)

    def _start(self) -> None:
        self._exchange = Exchange(self._address)
        self._lock = threading.Lock()
        self._leader: Call | None = None
        self._followers: dict[Call, threading.Lock] = {}
        self._woken = False
        self._closed = False
        self._socket: Dealer | None = None
        self._poll = select.poll()
        self._pipe = os.pipe()
        self._poll.register(self._pipe[0], select.POLLIN)

    def run(self, begin: Callable[[Exchange, float], C]) -> C:
        """Begins a call and returns when it has ended.

        Args:
            begin: Given the exchange and the time, makes the call.

        Raises:
            EventMQError: It ended with an error, as when the driver was closed.
        """
        call = turn = None
        try:
            with self._lock:
                if self._closed:
                    raise BrokerUnavailable("this client is closed")
                call = begin(self._exchange, monotonic())
                if not call.done and self._leader is None:
                    self._leader = call
                elif not call.done:
                    turn = self._follow(call)
            if turn is not None:
                turn.acquire()
            if not call.done:
                self._lead(call)
        finally:
            if call is not None:
                self._leave(call)
        if call.error is not None:
            raise call.error
        return call

    def close(self) -> None:
        """Ends all calls with BrokerUnavailable and closes the socket."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._exchange.fail(BrokerUnavailable("this client was closed"))
            if self._leader is None:
                self._release()
            else:
                self._wake()

    # ---- following ------------------------------------------------------------------------------

    def _follow(self, call: Call) -> threading.Lock:
        """A lock that opens when the call has ended or its thread is to lead."""
        turn = threading.Lock()
        turn.acquire()
        call.notify = turn.release
        self._followers[call] = turn
        self._wake()
        return turn

    def _wake(self) -> None:
        if not self._woken:
            self._woken = True
            os.write(self._pipe[1], b"\0")

    def _leave(self, call: Call) -> None:
        """The caller goes, with its answer or interrupted. Somebody else leads on."""
        with self._lock:
            call.notify = None
            self._followers.pop(call, None)
            self._exchange.withdraw(call)
            if self._leader is not call:
                return
            self._leader = next((other for other in self._followers if not other.done), None)
            if self._leader is not None:
                self._leader.notify = None
                self._followers.pop(self._leader).release()
            elif self._closed or self._exchange.suspect:
                self._release()

    # ---- leading ----------------------------------------------------------------------------------

    def _lead(self, call: Call) -> None:
        received: Frames | None = None
        while True:
            with self._lock:
                now = monotonic()
                if received is not None:
                    self._exchange.receive(received, now)
                self._exchange.expire(now)
                if call.done:
                    return
                messages = self._outgoing(now)
                until = self._exchange.next_time()
            socket = self._socket or self._open()
            for frames in messages:
                send(socket, frames)
            received = self._receive(socket, until)

    def _outgoing(self, now: float) -> list[Frames]:
        messages = self._exchange.outgoing(now)
        if not self._exchange.suspect:
            return messages
        self._release()
        return self._exchange.outgoing(now)

    def _receive(self, socket: Dealer, until: float) -> Frames | None:
        """The next message; None when there is none in time or another thread wants something.

        The socket's descriptor signals only a change, so the socket itself is asked before each poll.
        """
        if has_message(socket):
            return receive(socket)
        timeout_s = min(max(until - monotonic(), 0.0), POLL_S_MAX)
        for ready, _ in self._poll.poll(math.ceil(timeout_s * 1000)):
            if ready == self._pipe[0]:
                with self._lock:
                    os.read(ready, 1)
                    self._woken = False
        if has_message(socket):
            return receive(socket)
        return None

    # ---- the socket ---------------------------------------------------------------------------------

    def _open(self) -> Dealer:
        socket = dealer(self._address)
        with self._lock:
            self._poll.register(descriptor(socket), select.POLLIN)
            self._socket = socket
        return socket

    def _release(self) -> None:
        """Closes the socket. Whatever it still held is gone; the exchange sends what matters again."""
        if self._socket is not None:
            self._poll.unregister(descriptor(self._socket))
            self._socket.close()
            self._socket = None
        self._exchange.reopened()
        if self._closed:
            self._close_pipe()

    def _close_pipe(self) -> None:
        for end in self._pipe:
            os.close(end)

    def _start_in_child(self) -> None:
        if not self._closed:
            abandon(self._socket)
            self._close_pipe()
            self._start()


_drivers: weakref.WeakSet[SyncDriver] = weakref.WeakSet()


def _after_fork() -> None:
    for driver in list(_drivers):
        driver._start_in_child()


os.register_at_fork(after_in_child=_after_fork)
