"""The Router's own side of ZMTP: what peers say in any pieces, what it answers, and whom it hangs up on; with ZeroMQ's
sockets before it, and with bytes."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
import zmq

from eventmq import limits
from eventmq.broker.outbox import ADMINISTRATIVE, BACKEND, FRONTEND, Send
from eventmq.errors import SettingsError
from eventmq.net import address, zmtp
from eventmq.net.sockets import RouterSockets

WITHIN_S = 10.0

GREETING = zmtp.HELLO[: zmtp.GREETING_BYTES]


def hello(identity: bytes = b"") -> bytes:
    """What a DEALER says first."""
    return GREETING + zmtp.command(b"READY", b"\x08Identity" + len(identity).to_bytes(4, "big") + identity)


@pytest.fixture
def sockets() -> Iterator[RouterSockets]:
    sockets = RouterSockets(dict.fromkeys((FRONTEND, BACKEND, ADMINISTRATIVE), "tcp://127.0.0.1:*"))
    yield sockets
    sockets.close()


@pytest.fixture
def context() -> Iterator[zmq.Context[Any]]:
    context = zmq.Context()
    yield context
    context.destroy(linger=0)


def received(sockets: RouterSockets, count: int, turns: int = 100_000) -> list[tuple[str, list[bytes]]]:
    """That many messages."""
    found: list[tuple[str, list[bytes]]] = []
    deadline = time.monotonic() + WITHIN_S
    while len(found) < count and turns > 0:
        assert time.monotonic() < deadline, f"{len(found)} of {count} came"
        sockets.wait(time.monotonic() + 0.01)
        found += sockets.receive()[0]
        turns -= 1
    return found


def raw(sockets: RouterSockets, say: bytes, name: str = FRONTEND) -> socket.socket:
    """A connection that says something; the Router has had its turn."""
    place = address.parse(sockets.addresses[name])
    peer = socket.create_connection((place.host, place.port), timeout=WITHIN_S)
    peer.sendall(say)
    for _ in range(3):
        sockets.wait(time.monotonic() + 0.05)
        sockets.receive()
    return peer


def hung_up(peer: socket.socket) -> bool:
    """Whether the Router has closed it, once it has said its greeting."""
    peer.settimeout(0.2)
    try:
        while peer.recv(4096):
            continue
    except TimeoutError:
        return False
    except ConnectionResetError:
        pass
    return True


MESSAGES = [[b"", b"eMQP/2.0", b"X", b"1"], [b"x" * 255], [b"y" * 256, b"", b"z" * 70_000]]


@pytest.mark.parametrize("piece", [1, 2, 9, 64, 1 << 20])
def test_messages_are_the_same_in_any_pieces(piece: int) -> None:
    said = memoryview(hello(b"me") + b"".join(map(zmtp.join, MESSAGES)))
    conversation = zmtp.Conversation()
    found = [m for at in range(0, len(said), piece) for m in conversation.feed(said[at : at + piece])]
    assert (found, conversation.identity, conversation.ready) == (MESSAGES, b"me", True)


def test_a_message_has_no_more_frames_than_anybody_may_send() -> None:
    conversation = zmtp.Conversation()
    conversation.feed(memoryview(hello()))
    (frames,) = conversation.feed(memoryview(zmtp.join([b"f"] * 1_000)))
    assert len(frames) == limits.FRAMES_MAX  # with the identity in front one too many, so it is refused


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x01\x00",  # ZMTP 1
        GREETING[:10] + b"\x01" + GREETING[11:],  # ZMTP 2
        GREETING.replace(b"NULL\0", b"CURVE"),
        GREETING + zmtp.join([b"", b"eMQP/2.0"]),  # no READY
        hello() + b"\x02" + (limits.FRAME_BYTES_MAX + 1).to_bytes(8, "big"),
        hello() + b"\x02" + b"\xff" * 8,
        GREETING + zmtp.command(b"READY", b"\x08Identity\xff\xff\xff\xff"),
        GREETING + zmtp.command(b"ERROR", b"\x02no"),
    ],
)
def test_who_speaks_something_else_is_hung_up_on(sockets: RouterSockets, said: bytes) -> None:
    peer = raw(sockets, said)
    assert hung_up(peer)
    peer.close()


def test_who_never_shakes_hands_is_hung_up_on(sockets: RouterSockets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HANDSHAKE_MS", 0)
    with raw(sockets, GREETING[:20]) as silent:
        assert hung_up(silent)


def test_a_ping_is_answered(sockets: RouterSockets) -> None:
    with raw(sockets, hello() + zmtp.command(b"PING", b"\x00\x0acontext")) as peer:
        said = peer.recv(4096)
        while not said.endswith(zmtp.command(b"PONG", b"context")):
            said += peer.recv(4096)


def test_zeromq_talks_to_it(sockets: RouterSockets, context: zmq.Context[Any]) -> None:
    named, unnamed = context.socket(zmq.DEALER), context.socket(zmq.DEALER)
    named.setsockopt(zmq.IDENTITY, b"named")
    for peer in (named, unnamed):
        peer.connect(sockets.addresses[BACKEND])
        for message in MESSAGES:
            peer.send_multipart(message)
    found = received(sockets, 2 * len(MESSAGES))
    assert [frames[1:] for name, frames in found if frames[0] == b"named" and name == BACKEND] == MESSAGES
    identities = {frames[0] for _, frames in found}
    assert len(identities) == 2
    messages = [Send(BACKEND, identity, message) for message in MESSAGES for identity in identities]
    assert sockets.send([*messages, Send(BACKEND, "nobody", [b""])]) == [(BACKEND, "nobody")]
    for peer in (named, unnamed):
        assert [peer.recv_multipart() for _ in MESSAGES] == MESSAGES


def test_who_takes_anothers_name_is_not_let_in(sockets: RouterSockets) -> None:
    with raw(sockets, hello(b"one")) as first, raw(sockets, hello(b"one")) as second:
        assert hung_up(second)
        assert sockets.send([Send(FRONTEND, b"one", [b"to the first"])]) == []
        assert not hung_up(first)
    received(sockets, 1, turns=2)
    assert sockets.send([Send(FRONTEND, b"one", [b""])]) == [(FRONTEND, b"one")]


def test_a_flood_is_taken_in_turns_and_nobody_waits_for_it(sockets: RouterSockets) -> None:
    count = 2 * limits.TURN_MESSAGES_MAX
    with raw(sockets, hello(b"flood")) as flood, raw(sockets, hello(b"quiet")) as quiet:
        flood.sendall(zmtp.join([b"f"]) * count)
        sockets.wait(time.monotonic() + WITHIN_S)
        messages, drained = sockets.receive()
        assert (len(messages), drained) == (limits.TURN_MESSAGES_MAX, False)
        quiet.sendall(zmtp.join([b"q"]))
        sockets.wait(time.monotonic() + WITHIN_S)
        assert len(sockets.receive()[0]) <= limits.TURN_MESSAGES_MAX
        found = received(sockets, 1)
        assert (FRONTEND, [b"quiet", b"q"]) in found or (FRONTEND, [b"quiet", b"q"]) in messages


def test_what_a_peer_does_not_read_is_dropped_at_its_mark(sockets: RouterSockets) -> None:
    answer = [b"a" * 1_000_000]
    with raw(sockets, hello(b"deaf"), ADMINISTRATIVE) as deaf:
        for _ in range(200):
            assert sockets.send([Send(ADMINISTRATIVE, b"deaf", answer)]) == []
        size, goal = 0, len(zmtp.HELLO)
        deaf.settimeout(0.5)
        try:
            while chunk := deaf.recv(1 << 20):
                size += len(chunk)
                sockets.wait(0.0)
        except TimeoutError:
            pass
    whole = len(zmtp.join(answer))
    assert limits.HWM_ANSWERS * whole <= size - goal < 3 * limits.HWM_ANSWERS * whole
    assert (size - goal) % whole == 0


def test_an_address_that_is_taken_is_told_of(sockets: RouterSockets, tmp_path: Any) -> None:
    taken = sockets.addresses[FRONTEND]
    with pytest.raises(SettingsError, match="another process listens there already"):
        RouterSockets({FRONTEND: taken})
    with pytest.raises(SettingsError, match="cannot listen on"):
        RouterSockets({FRONTEND: f"ipc://{tmp_path}/nowhere/socket"})


def test_it_listens_where_zeromq_would(context: zmq.Context[Any], tmp_path: Any) -> None:
    places = ["tcp://*:*", "tcp://localhost:*", "tcp://lo:*", f"ipc://{tmp_path}/socket"]
    for place in places:
        sockets = RouterSockets({FRONTEND: place})
        peer = context.socket(zmq.DEALER)
        peer.connect(address.reachable(sockets.addresses[FRONTEND]))
        peer.send(b"here")
        assert received(sockets, 1)[0][1][1:] == [b"here"]
        sockets.close()
    assert not (tmp_path / "socket").exists()


def test_who_reads_slowly_gets_all_in_order(sockets: RouterSockets) -> None:
    count, rest = 3_000, b"r" * 3_000
    with raw(sockets, hello(b"slow")) as slow:
        for n in range(count):
            assert sockets.send([Send(FRONTEND, b"slow", [b"%d" % n, rest])]) == []
        wanted = zmtp.HELLO + b"".join(zmtp.join([b"%d" % n, rest]) for n in range(count))
        said = bytearray()
        while len(said) < len(wanted):
            said += slow.recv(50_000)
            sockets.wait(0.0)
    assert said == wanted
