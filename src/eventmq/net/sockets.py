"""The Router's three ROUTER sockets: frames in, frames out, nothing decided.

Beside the options of `tuning` they have ROUTER_MANDATORY, and DONTWAIT, so that a peer that is gone or stuck is an
answer and never a wait.
"""

from __future__ import annotations

import math
import time
from collections.abc import Container, Iterable
from typing import Any

import zmq

from eventmq import limits
from eventmq.broker.outbox import ADMINISTRATIVE, Send
from eventmq.broker.pool import PeerId
from eventmq.errors import SettingsError
from eventmq.net.frames import receive_some, send
from eventmq.net.signals import Wakeup
from eventmq.net.tuning import tune


class RouterSockets:
    """ROUTER sockets by name, bound to their addresses.

    Attributes:
        addresses: Where each is really bound; port 0 has become a number.
    """

    def __init__(self, addresses: dict[str, str]) -> None:
        """Binds all of them.

        Raises:
            SettingsError: An address cannot be bound; none is then.
        """
        self.context = zmq.Context()
        self.context.setsockopt(zmq.MAX_SOCKETS, 1023)
        self.sockets: dict[str, zmq.Socket[bytes]] = {}
        self.addresses: dict[str, str] = {}
        self._asked: dict[str, str] = {}
        self._bound: dict[tuple[str, str], str] = {}
        self.poller = zmq.Poller()
        self._wakeup: Wakeup | None = None
        try:
            for name, address in addresses.items():
                socket = self.context.socket(zmq.ROUTER)
                self.sockets[name] = socket
                tune(socket)
                socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
                if name == ADMINISTRATIVE:
                    socket.setsockopt(zmq.SNDHWM, limits.HWM_ANSWERS)
                socket.setsockopt(zmq.BACKLOG, limits.BACKLOG)
                self._bind(name, address)
                self.poller.register(socket, zmq.POLLIN)
        except BaseException:
            self.close()
            raise

    def _bind(self, name: str, address: str) -> None:
        if (name, address) not in self._bound:
            try:
                self.sockets[name].bind(address)
            except zmq.ZMQError as error:
                reason = "another process listens there already" if error.errno == zmq.EADDRINUSE else str(error)
                text = f"{name}: cannot listen on {address}: {reason}. Choose another {name}_addr."
                raise SettingsError(text) from error
            self._bound[name, address] = str(self.sockets[name].getsockopt_string(zmq.LAST_ENDPOINT))
        self._asked[name] = address
        self.addresses[name] = self._bound[name, address]

    def rebind(self, addresses: dict[str, str]) -> list[str]:
        """Listens on new addresses. The old ones stay open as long as this process lives: ZeroMQ's unbind would cut
        every connection that came in through them, and what managers run there would run again elsewhere.

        Args:
            addresses: As the settings name them; "" = where it was.

        Returns:
            The names of those that moved.

        Raises:
            SettingsError: A new address cannot be bound; that socket stays where it was.
        """
        moved = []
        for name, address in addresses.items():
            if address not in (self._asked[name], ""):
                self._bind(name, address)
                moved.append(name)
        return moved

    def wake_by(self, wakeup: Wakeup) -> None:
        """What ends `wait` besides messages."""
        self.poller.register(wakeup.descriptor, zmq.POLLIN)
        self._wakeup = wakeup

    def wait(self, until: float) -> Container[Any]:
        """What there is something to read from, waiting for it until the monotonic time `until`."""
        ready = dict(self.poller.poll(max(0, math.ceil((until - time.monotonic()) * 1000))))
        if self._wakeup is not None and self._wakeup.descriptor in ready:
            self._wakeup.clear()
        return ready

    def receive(self, ready: Container[Any]) -> tuple[list[tuple[str, list[bytes]]], bool]:
        """What has arrived.

        Returns:
            (socket, frames) in order of arrival within a socket, and whether that was all there was, questions of
            operators aside: however many they ask, it says nothing about the silence of others.
        """
        received: list[tuple[str, list[bytes]]] = []
        drained = True
        for name, socket in self.sockets.items():
            if socket in ready:
                most = limits.ASKER_QUESTIONS_MAX if name == ADMINISTRATIVE else limits.TURN_MESSAGES_MAX
                messages, all_read = receive_some(socket, limits.TURN_BYTES, most)
                received += [(name, frames) for frames in messages]
                drained = drained and (all_read or name == ADMINISTRATIVE)
        return received, drained

    def send(self, messages: Iterable[Send]) -> list[tuple[str, PeerId]]:
        """Sends without ever waiting.

        Returns:
            Peers whose connection is gone. A peer that does not read (its high-water mark is reached) loses the
            message, as one whose connection breaks would: what matters is repeated until acknowledged.
        """
        gone: list[tuple[str, PeerId]] = []
        for name, peer, frames in messages:
            identity = peer.encode() if isinstance(peer, str) else peer
            try:
                send(self.sockets[name], [identity, *frames])
            except zmq.ZMQError as error:
                if error.errno != zmq.EHOSTUNREACH:
                    raise
                gone.append((name, peer))
        return gone

    def close(self) -> None:
        """Closes everything at once."""
        self.context.destroy(linger=0)
