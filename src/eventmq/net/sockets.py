"""The Router's three sockets: frames in, frames out, nothing decided. To its peers they are ZeroMQ's ROUTER sockets.

They speak ZMTP (`zmtp`) themselves, on the Router's one thread: ZeroMQ has a thread of its own for that, and waking it
for each message, and being woken by it, took longer than all that the Router does for a job that comes alone.

A peer that is gone or stuck is an answer and never a wait: what it does not read is kept up to a high-water mark, in
messages, and dropped beyond.
"""

from __future__ import annotations

import itertools
import selectors
import socket
import time
from collections import deque
from collections.abc import Iterable
from selectors import EVENT_READ, EVENT_WRITE

from eventmq import limits
from eventmq.broker.outbox import ADMINISTRATIVE, Send
from eventmq.broker.pool import PeerId
from eventmq.errors import SettingsError
from eventmq.net import binding, zmtp
from eventmq.net.signals import Wakeup

READ_BYTES = 256 << 10
"""Bytes read from a connection at once."""

SEND_MESSAGES = 64
"""Messages sent to a connection at once."""

Messages = list[tuple[str, list[bytes]]]


class Connection:
    """One peer: its connection, what has come and is not taken yet, what is to go and is not sent yet."""

    __slots__ = ("conversation", "identity", "inbox", "name", "outbox", "socket", "watched")

    def __init__(self, name: str, accepted: socket.socket) -> None:
        self.name = name
        self.socket = accepted
        self.conversation = zmtp.Conversation()
        self.identity = b""
        self.inbox: deque[list[bytes]] = deque()
        self.outbox: deque[bytes] = deque()
        self.watched = EVENT_READ

    def read(self, buffer: memoryview) -> bool:
        """Takes in what has come; whether there may be more.

        Raises:
            OSError: It is gone.
            zmtp.Malformed: It is of no use.
        """
        try:
            size = self.socket.recv_into(buffer)
        except BlockingIOError:
            return False
        if not size:
            raise ConnectionResetError
        self.inbox += self.conversation.feed(buffer[:size])
        return size == len(buffer)

    def flush(self) -> None:
        """Sends as much as the kernel takes.

        Raises:
            OSError: It is gone.
        """
        outbox = self.outbox
        while outbox:
            try:
                sent = self.socket.sendmsg(itertools.islice(outbox, SEND_MESSAGES))
            except BlockingIOError:
                return
            while outbox and sent >= len(outbox[0]):
                sent -= len(outbox.popleft())
            if sent:
                outbox[0] = outbox[0][sent:]


class RouterSockets:
    """Sockets by name, bound to their addresses.

    Attributes:
        addresses: Where each is really bound; port 0 has become a number.
    """

    def __init__(self, addresses: dict[str, str]) -> None:
        """Binds all of them.

        Raises:
            SettingsError: An address cannot be bound; none is then.
        """
        self.addresses: dict[str, str] = {}
        self._asked: dict[str, str] = {}
        self._bound: dict[tuple[str, str], str] = {}
        self._listeners: list[socket.socket] = []
        self._selector = selectors.DefaultSelector()
        self._peers: dict[str, dict[bytes, Connection]] = {name: {} for name in addresses}
        self._readable: dict[str, dict[Connection, None]] = {name: {} for name in addresses}
        self._strangers: dict[Connection, float] = {}  # who has not shaken hands until then; the oldest first
        self._numbers = itertools.count(time.time_ns())
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._wakeup: Wakeup | None = None
        try:
            for name, address in addresses.items():
                self._bind(name, address)
        except BaseException:
            self.close()
            raise

    def _bind(self, name: str, address: str) -> None:
        if (name, address) not in self._bound:
            try:
                listener, self._bound[name, address] = binding.listen(address)
            except OSError as error:
                in_use = error.errno == binding.IN_USE
                reason = "another process listens there already" if in_use else str(error.strerror)
                text = f"{name}: cannot listen on {address}: {reason}. Choose another {name}_addr."
                raise SettingsError(text) from error
            self._listeners.append(listener)
            self._selector.register(listener, EVENT_READ, name)
        self._asked[name] = address
        self.addresses[name] = self._bound[name, address]

    def rebind(self, addresses: dict[str, str]) -> list[str]:
        """Listens on new addresses. The old ones stay open as long as this process lives: who is told of them, comes.

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
        self._selector.register(wakeup.descriptor, EVENT_READ)
        self._wakeup = wakeup

    # ---- receiving -------------------------------------------------------------------------------------

    def wait(self, until: float) -> None:
        """Waits for something to read, or until the monotonic time `until`; lets peers in, and sends what waits."""
        now = time.monotonic()
        while self._strangers and (first := next(iter(self._strangers.items())))[1] <= now:
            self._drop(first[0])
        waits = any(self._readable.values())
        for key, events in self._selector.select(0 if waits else max(0.0, until - now)):
            peer = key.data
            if peer.__class__ is Connection:
                if events & EVENT_READ:
                    self._readable[peer.name][peer] = None
                if events & EVENT_WRITE:
                    self._flush(peer)
            elif isinstance(key.fileobj, socket.socket):
                self._accept(key.fileobj, peer)
            elif self._wakeup is not None:
                self._wakeup.clear()

    def receive(self) -> tuple[Messages, bool]:
        """What has arrived.

        Returns:
            (socket, frames) in order of arrival within a connection, and whether that was all there was, questions of
            operators aside: however many they ask, it says nothing about the silence of others.
        """
        received: Messages = []
        drained = True
        for name, readable in self._readable.items():
            if readable:
                most = limits.ASKER_QUESTIONS_MAX if name == ADMINISTRATIVE else limits.TURN_MESSAGES_MAX
                self._receive(name, readable, most, received)
                drained = drained and (not readable or name == ADMINISTRATIVE)
        return received, drained

    def _receive(self, name: str, readable: dict[Connection, None], most: int, received: Messages) -> None:
        """At most so many messages, about `TURN_BYTES`, from one connection after the other."""
        room = limits.TURN_BYTES
        while readable and most > 0 and room > 0:
            connection = next(iter(readable))
            del readable[connection]
            more = not connection.inbox and self._read(connection)
            inbox = connection.inbox
            while inbox and most > 0 and room > 0:
                frames = inbox.popleft()
                room -= len(frames[-1])
                most -= 1
                received.append((name, [connection.identity, *frames]))
            if more or inbox:
                readable[connection] = None

    def _read(self, connection: Connection) -> bool:
        try:
            more = connection.read(self._buffer)
        except (OSError, zmtp.Malformed):
            self._drop(connection)
            return False
        if connection in self._strangers and connection.conversation.ready and not self._introduce(connection):
            return False
        if connection.conversation.answers:
            connection.outbox.append(connection.conversation.answers)
            connection.conversation.answers = b""
            self._flush(connection)
        return more

    # ---- peers -----------------------------------------------------------------------------------------

    def _accept(self, listener: socket.socket, name: str) -> None:
        try:
            accepted, _ = listener.accept()
        except OSError:  # it is gone again, or there is no descriptor left for it
            return
        binding.tune(accepted)
        connection = Connection(name, accepted)
        self._strangers[connection] = time.monotonic() + limits.HANDSHAKE_MS / 1000
        self._selector.register(accepted, EVENT_READ, connection)
        connection.outbox.append(zmtp.HELLO)
        self._flush(connection)

    def _introduce(self, connection: Connection) -> bool:
        """A peer has shaken hands. One that takes the name of another, which is connected, is not let in."""
        peers = self._peers[connection.name]
        identity = connection.conversation.identity or b"\0" + (next(self._numbers) % 2**64).to_bytes(8, "big")
        if identity in peers:
            self._drop(connection)
            return False
        del self._strangers[connection]
        connection.identity = identity
        peers[identity] = connection
        return True

    def _drop(self, connection: Connection) -> None:
        self._selector.unregister(connection.socket)
        connection.socket.close()
        connection.inbox.clear()
        self._strangers.pop(connection, None)
        self._readable[connection.name].pop(connection, None)
        if connection.identity:
            del self._peers[connection.name][connection.identity]

    # ---- sending ---------------------------------------------------------------------------------------

    def send(self, messages: Iterable[Send]) -> list[tuple[str, PeerId]]:
        """Sends without ever waiting.

        Returns:
            Peers whose connection is gone. A peer that does not read (its high-water mark is reached) loses the
            message, as one whose connection breaks would: what matters is repeated until acknowledged.
        """
        gone: list[tuple[str, PeerId]] = []
        fed: dict[Connection, PeerId] = {}
        for name, peer, frames in messages:
            identity = peer.encode() if isinstance(peer, str) else peer
            connection = self._peers[name].get(identity)
            if connection is None:
                gone.append((name, peer))
                continue
            most = limits.HWM_ANSWERS if name == ADMINISTRATIVE else limits.HWM_MESSAGES
            if len(connection.outbox) < most:
                connection.outbox.append(zmtp.join(frames))
                fed[connection] = peer
        for connection, peer in fed.items():
            if connection.watched == EVENT_READ and not self._flush(connection):
                gone.append((connection.name, peer))
        return gone

    def _flush(self, connection: Connection) -> bool:
        """Sends what waits for a peer; whether that is still there."""
        try:
            connection.flush()
        except OSError:
            self._drop(connection)
            return False
        watch = EVENT_READ | EVENT_WRITE if connection.outbox else EVENT_READ
        if watch != connection.watched:
            connection.watched = watch
            self._selector.modify(connection.socket, watch, connection)
        return True

    def close(self) -> None:
        """Closes everything at once."""
        for key in list(self._selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        for _, address in self._bound:
            binding.leave(address)
        self._selector.close()
