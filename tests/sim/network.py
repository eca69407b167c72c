"""The network between DEALERs and the Router's ROUTER sockets, as ZeroMQ over TCP behaves.

Within a connection everything stays in order. `send` that succeeds means nothing: what is under way when the
connection breaks is lost, but for what had got through. Each end learns of a break by itself, sooner or later. A
DEALER connects again under its identity; while the Router has not seen the old connection end, the new one is deaf
(ROUTER_HANDOVER is 0). The Router's send to an identity without a connection says so (ROUTER_MANDATORY). At the
high-water mark, which counts what was sent and not yet read at the other end, the Router's messages are dropped and a
DEALER's send says EAGAIN, until half of them have been read. A cut stops one direction or both for a host; then it
heals, and what waited arrives, or the connection is gone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random

from sim.timeline import Timeline

Frames = list[bytes]

RECONNECT_S = 0.1
RECONNECT_S_MAX = 2.0
"""ZMQ_RECONNECT_IVL and _MAX, as `limits` has them."""

HANDSHAKE_AGAIN_S = 0.15
"""Between two handshakes, when one has taken longer than ZMQ_HANDSHAKE_IVL."""

RETRANSMIT_S = 0.2
"""What waited behind a cut arrives within this time after it has healed."""


class Host:
    """Where one process runs.

    Attributes:
        sends: Nothing that it sends is held up.
        hears: Nothing that it is sent is held up.
        lossy: Chance of a message to be dropped at a high-water mark.
        repeats: Chance of a message to arrive twice.
        ends: Connections that it has closed and whose end is held up.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.sends = True
        self.hears = True
        self.lossy = 0.0
        self.repeats = 0.0
        self.dealers: list[Dealer] = []
        self.ends: list[Link] = []


class Lane:
    """One direction of a connection.

    Attributes:
        last: When the last message arrives.
        dead_after: What would arrive later is lost.
        held: What waits behind a cut.
        unread: Messages sent and not yet read.
        full: The high-water mark was reached.
    """

    __slots__ = ("dead_after", "full", "held", "last", "unread")

    def __init__(self) -> None:
        self.unread = 0
        self.full = False
        self.last = 0.0
        self.dead_after = float("inf")
        self.held: list[Frames] = []

    def admits(self, high_water: int) -> bool:
        """Whether there is room for another message."""
        if self.full:
            self.full = self.unread > high_water // 2
        else:
            self.full = self.unread >= high_water
        return not self.full


class Link:
    """One connection: what it is called, and whether the Router ignores it because another one has that name."""

    __slots__ = ("deaf", "dealer", "down", "identity", "up")

    def __init__(self, dealer: Dealer, identity: bytes, deaf: bool) -> None:
        self.dealer = dealer
        self.identity = identity
        self.deaf = deaf
        self.up = Lane()
        self.down = Lane()


class Dealer:
    """A connecting socket.

    Attributes:
        identity: Empty: the Router makes up one for each connection.
        immediate: ZMQ_IMMEDIATE, which managers set and clients do not: nothing is queued while nobody is connected.
        inbox: Messages that have arrived, see `read`.
        link: Its connection as it knows it; None = there is none.
    """

    def __init__(self, network: Network, socket: str, host: Host, identity: bytes, wake: Callable[[], None]) -> None:
        self.network = network
        self.socket = socket
        self.host = host
        self.identity = identity
        self.immediate = bool(identity)
        self.wake = wake
        self.inbox: deque[tuple[Link, Frames]] = deque()
        self.link: Link | None = None
        self.closed = False
        self._outbox: deque[Frames] = deque()
        self._pause_s = RECONNECT_S
        host.dealers.append(self)
        network.timeline.after(network.latency(), self.try_connect)

    def read(self) -> Frames:
        """The next message, which must be there."""
        link, frames = self.inbox.popleft()
        link.down.unread -= 1
        return frames

    @property
    def writable(self) -> bool:
        return self.link is not None and self.link.up.admits(self.network.high_water)

    def send(self, frames: Frames) -> bool:
        """False: EAGAIN, nobody is connected or the queue is full."""
        if self.link is None:
            if not self.immediate and len(self._outbox) < self.network.high_water:
                self._outbox.append(frames)
            return not self.immediate
        return self.network.carry_up(self.link, frames)

    def close(self, flush: bool = False, noticed_after: float = 0.0) -> None:
        """Closes the socket, or the process ends; `flush`: what was sent still arrives."""
        self.closed = True
        self.host.dealers.remove(self)
        if self.link is not None:
            link, self.link = self.link, None
            self.network.break_link(link, flush=flush, router_after=noticed_after)

    def lost(self, link: Link) -> None:
        """The connection is seen to be gone."""
        if self.link is link:
            self.link = None
            self._pause_s = RECONNECT_S
            self.network.timeline.after(self._pause_s * self.network.rng.uniform(0.5, 1.0), self.try_connect)
            self.wake()

    def try_connect(self) -> None:
        if self.closed or self.link is not None:
            return
        if self.network.frozen is not None:
            self.network.frozen.append(self)
            return
        link = self.network.connect(self)
        if link is None:
            self._pause_s = min(RECONNECT_S_MAX, self._pause_s * 2)
            self.network.timeline.after(self._pause_s * self.network.rng.uniform(0.8, 1.2), self.try_connect)
            return
        self.link = link
        while self._outbox:
            self.network.carry_up(link, self._outbox.popleft())
        self.wake()


class Network:
    """All connections.

    Attributes:
        listening: The Router's sockets are bound.
        frozen: While the Router's process stands still: sockets that wait for its side of the handshake.
        arrived: What the Router can read, by socket: through which connection, and the frames.
        routes: The Router's connections, by socket and identity.
    """

    def __init__(self, timeline: Timeline, rng: Random, latency_s: float, jitter_s: float, high_water: int) -> None:
        self.timeline = timeline
        self.rng = rng
        self.listening = False
        self.frozen: list[Dealer] | None = None
        self.arrived: dict[str, deque[tuple[Link, Frames]]] = {}
        self.routes: dict[str, dict[bytes, Link]] = {}
        self.wake_router: Callable[[], None] = lambda: None
        self._latency_s = latency_s
        self._jitter_s = jitter_s
        self.high_water = high_water

    def latency(self) -> float:
        return self._latency_s + self.rng.random() * self._jitter_s

    def identity(self) -> bytes:
        return f"{self.rng.getrandbits(64):016x}".encode()

    # ---- the Router's end --------------------------------------------------------------------------

    def bind(self, sockets: tuple[str, ...]) -> None:
        self.listening = True
        self.arrived = {name: deque() for name in sockets}
        self.routes = {name: {} for name in sockets}

    def router_gone(self) -> None:
        """The Router's process has ended: every connection breaks, and whoever listens sees it soon."""
        self.thaw()
        self.listening = False
        links = [link for routes in self.routes.values() for link in routes.values()]
        self.routes, self.arrived = {}, {}
        for link in links:
            link.up.dead_after = -1.0
            self.break_link(link, dealer_after=0.0)

    def freeze(self) -> None:
        """The Router's process stands still: the kernel accepts connections for it, nobody shakes hands."""
        self.frozen = [] if self.frozen is None else self.frozen

    def thaw(self) -> None:
        frozen, self.frozen = self.frozen or [], None
        for dealer in frozen:
            self.timeline.after(self.latency() + self.rng.choice((0.0, 0.0, HANDSHAKE_AGAIN_S)), dealer.try_connect)

    def receive(self, socket: str, count: int) -> list[tuple[str, Frames]]:
        arrived = self.arrived[socket]
        received = []
        for _ in range(min(count, len(arrived))):
            link, frames = arrived.popleft()
            link.up.unread -= 1
            if link.up.full and link.up.admits(self.high_water):
                link.dealer.wake()
            received.append((socket, [link.identity, *frames]))
        return received

    def send(self, socket: str, peer: bytes, frames: Frames) -> bool:
        """The Router sends. False: no such connection."""
        link = self.routes[socket].get(peer)
        if link is None:
            return False
        self._carry(link, link.down, frames, self._to_dealer)
        return True

    # ---- connections ---------------------------------------------------------------------------------

    def connect(self, dealer: Dealer) -> Link | None:
        if not self.listening or not (dealer.host.sends and dealer.host.hears):
            return None
        routes = self.routes[dealer.socket]
        identity = dealer.identity or self.identity()
        link = Link(dealer, identity, deaf=identity in routes)
        if not link.deaf:
            routes[identity] = link
        return link

    def break_link(
        self, link: Link, flush: bool = False, router_after: float | None = None, dealer_after: float | None = None
    ) -> None:
        """A connection ends. Of what is under way some still arrives; each side learns it after that."""
        now = self.timeline.now
        for lane in (link.up, link.down):
            share = 1.0 if flush else self.rng.choice((0.0, 0.0, self.rng.random(), 1.0))
            until = now + share * max(0.0, lane.last - now)
            lane.dead_after = min(lane.dead_after, until)
            lane.held.clear()
        if router_after is not None:
            self.timeline.at(max(now, link.up.dead_after) + self.latency() + router_after, self._router_learns, link)
        if dealer_after is not None:
            self.timeline.at(max(now, link.down.dead_after) + self.latency() + dealer_after, link.dealer.lost, link)

    def _router_learns(self, link: Link) -> None:
        if not link.dealer.host.sends:
            link.dealer.host.ends.append(link)
            return
        routes = self.routes.get(link.dealer.socket, {})
        if routes.get(link.identity) is link:
            del routes[link.identity]

    # ---- cuts ------------------------------------------------------------------------------------------

    def cut(self, host: Host, sends: bool, hears: bool) -> None:
        host.sends, host.hears = sends, hears

    def heal(self, host: Host) -> None:
        """What waited behind the cut arrives."""
        host.sends = host.hears = True
        ends, host.ends = host.ends, []
        for link in ends:
            self.timeline.after(self.rng.random() * RETRANSMIT_S, self._router_learns, link)
        for dealer in host.dealers:
            if dealer.link is not None:
                self._release(dealer.link, dealer.link.up, self._to_router)
                self._release(dealer.link, dealer.link.down, self._to_dealer)

    def _release(self, link: Link, lane: Lane, arrive: Callable[[Link, Frames], None]) -> None:
        held, lane.held = lane.held, []
        start = self.timeline.now + self.rng.random() * RETRANSMIT_S
        for frames in held:
            lane.last = max(lane.last, start) + 1e-5
            self.timeline.at(lane.last, arrive, link, frames)

    # ---- messages --------------------------------------------------------------------------------------

    def carry_up(self, link: Link, frames: Frames) -> bool:
        host = link.dealer.host
        if not link.up.admits(self.high_water) or (host.lossy and self.rng.random() < host.lossy / 4):
            return False
        self._carry(link, link.up, frames, self._to_router)
        return True

    def _carry(self, link: Link, lane: Lane, frames: Frames, arrive: Callable[[Link, Frames], None]) -> None:
        host = link.dealer.host
        full = lane is link.down and not lane.admits(self.high_water)
        if full or (lane is link.down and host.lossy and self.rng.random() < host.lossy):
            self.timeline.say(f"net dropped {frames[2].decode(errors='replace')} to {host.name}: high-water mark")
            return
        lane.last = max(lane.last, self.timeline.now + self.latency())
        lane.unread += 1
        late = 0.0
        if host.repeats and self.rng.random() < host.repeats:
            late = self.rng.choice((0.0, 0.01, 1.0))
            kind = self.rng.choice(("repeats", "overtakes"))
            self.timeline.say(f"net {kind} {frames[2].decode(errors='replace')} of or to {host.name}")
            if kind == "repeats":
                lane.unread += 1
                self.timeline.at(lane.last, arrive, link, frames)
        self.timeline.at(lane.last + late, arrive, link, frames)

    def _to_router(self, link: Link, frames: Frames) -> None:
        if self.timeline.now > link.up.dead_after or link.deaf:
            return
        if not link.dealer.host.sends:
            link.up.held.append(frames)
            return
        self.arrived[link.dealer.socket].append((link, frames))
        self.wake_router()

    def _to_dealer(self, link: Link, frames: Frames) -> None:
        if self.timeline.now > link.down.dead_after or link.dealer.closed:
            return
        if not link.dealer.host.hears:
            link.down.held.append(frames)
            return
        link.dealer.inbox.append((link, frames))
        link.dealer.wake()
