"""The exchange for asyncio: one socket for each event loop, driven by callbacks on that loop.

ZeroMQ's descriptor signals a change, not a state, and a send can swallow the signal of a message that came meanwhile.
So after each round of sending the socket itself is asked, until it has nothing left and there is nothing left to say.
Calls begun in one turn of the loop travel together. A cancelled call is withdrawn: what was not sent is not sent.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import TypeVar

from eventmq.client.exchange import Exchange
from eventmq.client.pending import NEVER, Call, Frames
from eventmq.client.sockets import Dealer, dealer, descriptor
from eventmq.errors import BrokerUnavailable
from eventmq.net.frames import has_message, receive, send

C = TypeVar("C", bound=Call)

ROUND_MESSAGES_MAX = 64
"""Messages received before the loop's other tasks have their turn."""


class AsyncDriver:
    """One connection to the Router for one event loop. Used on that loop's thread only."""

    def __init__(self, address: str, loop: asyncio.AbstractEventLoop) -> None:
        self._address = address
        self._loop = loop
        self._exchange = Exchange(address)
        self._socket: Dealer | None = None
        self._scheduled = False
        self._alarm: asyncio.TimerHandle | None = None

    @property
    def usable(self) -> bool:
        """Its loop is not closed."""
        return not self._loop.is_closed()

    async def run(self, begin: Callable[[Exchange, float], C]) -> C:
        """Begins a call and returns when it has ended.

        Args:
            begin: Given the exchange and the time, makes the call.

        Raises:
            EventMQError: It ended with an error.
        """
        call = begin(self._exchange, self._loop.time())
        if not call.done:
            ended: asyncio.Future[None] = self._loop.create_future()
            call.notify = functools.partial(_end, ended)
            self._schedule()
            try:
                await ended
            finally:
                call.notify = None
                self._exchange.withdraw(call)
        if call.error is not None:
            raise call.error
        return call

    def close(self) -> None:
        """Ends all calls with BrokerUnavailable and closes the socket."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self.usable:
            self._exchange.fail(BrokerUnavailable("this client was closed"))
        self._release()

    # ---- on the loop ------------------------------------------------------------------------------

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        """Sends and receives until there is nothing to do now."""
        self._scheduled = False
        now = self._loop.time()
        for _ in range(ROUND_MESSAGES_MAX):
            self._exchange.expire(now)
            for frames in self._outgoing(now):
                send(self._socket or self._open(), frames)
            if self._socket is None or not has_message(self._socket):
                self._set_alarm(self._exchange.next_time())
                return
            self._exchange.receive(receive(self._socket), now)
        self._schedule()

    def _outgoing(self, now: float) -> list[Frames]:
        messages = self._exchange.outgoing(now)
        if not self._exchange.suspect:
            return messages
        self._release()
        return self._exchange.outgoing(now)

    def _set_alarm(self, when: float) -> None:
        """An alarm that is too early does no harm, so one that stands is only ever moved forward."""
        if self._alarm is not None:
            if self._alarm.when() <= when:
                return
            self._alarm.cancel()
        self._alarm = None if when == NEVER else self._loop.call_at(when, self._on_alarm)

    def _on_alarm(self) -> None:
        self._alarm = None
        self._turn()

    # ---- the socket ---------------------------------------------------------------------------------

    def _open(self) -> Dealer:
        self._socket = dealer(self._address)
        self._loop.add_reader(descriptor(self._socket), self._turn)
        return self._socket

    def _release(self) -> None:
        """Closes the socket. Whatever it still held is gone; the exchange sends what matters again."""
        if self._socket is not None:
            if self.usable:
                self._loop.remove_reader(descriptor(self._socket))
            self._socket.close()
            self._socket = None
        self._exchange.reopened()


def _end(ended: asyncio.Future[None]) -> None:
    if not ended.done():
        ended.set_result(None)
