"""Garbage, floods and raw bytes at the three sockets of a real Router, while jobs go to and fro: it serves on, its
counters tell what it refused, its log and its memory stay small."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import threading
import time
from collections.abc import Iterator

import msgspec
import pytest
import zmq
from system_jobs import double

from eventmq.net.address import parse
from eventmq.protocol import v1, v2
from eventmq.router import Router

from .processes import System, until

MARK = 4_242_424_242
"""Number of the last, proper message on a connection; its answer says that all before it has been read."""

COMMANDS = {
    name: [(version, command) for version, command in table if command != b"DISCONNECT"]
    for name, table in Router.handlers.items()
}
"""Every (version, command) that a socket knows, but for the one that may end the Router."""

LAST = {
    "frontend": (b"INFO", v2.Info(MARK, "no such job")),
    "backend": (b"INFORM", v2.Inform(MARK, "marker", "", [(1, "marker")])),
    "administrative": (b"STATUS", v2.Question(MARK)),
}

DEPTH = 100_000
BOMBS = [
    b"",
    b"\xc1",
    b"\xff\xfe\x00",
    b"\x91" * DEPTH + b"\x01",
    b"\x81\xa1a" * DEPTH,
    b"\x9f" + b"\xcf" + b"\xff" * 8 + b"\xc0" * 14,
    b"\xdd\xff\xff\xff\xff" * 3,
    b"\xdb\xff\xff\xff\xff",
    b"[" * DEPTH,
    b'["run", ' + b"[" * DEPTH,
    b'{"value": ' + b"9" * 4_000 + b"}",
    b'{"value": "\\ud800"}',
    os.urandom(2_000),
]
"""Bodies: empty, truncated, lists in lists without end, lengths that lie, numbers over 64 bits, lone surrogates."""


class Pulse(threading.Thread):
    """Sends one job after another and waits for each result, for as long as it is in use."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.longest_s = 0.0
        self.beats = 0
        self.error: Exception | None = None
        self._stopped = threading.Event()

    def run(self) -> None:
        try:
            while not self._stopped.is_set():
                began = time.monotonic()
                assert double.delay(self.beats).result(20) == 2 * self.beats
                self.longest_s = max(self.longest_s, time.monotonic() - began)
                self.beats += 1
        except Exception as error:
            self.error = error

    def __enter__(self) -> Pulse:
        self.start()
        until(lambda: self.beats or self.error, "the first job is done")
        return self

    def __exit__(self, *exception: object) -> None:
        self._stopped.set()
        self.join(30)


@pytest.fixture
def served(system: System) -> Iterator[System]:
    """A system in which jobs are done all the time; in the end it is looked at."""
    router = system.start_router()
    system.start_manager(workers=1)
    before = router.rss
    with Pulse() as pulse:
        yield system
        beats = pulse.beats
        until(lambda: pulse.beats > beats + 10 or pulse.error, "jobs are still done")
    assert pulse.error is None
    assert pulse.longest_s < 20.0  # a busy machine may take long, a Router that hangs takes for ever
    assert router.running
    assert "Traceback" not in router.log
    assert len(router.log) < 50_000
    assert router.rss - before < 100 << 20
    assert system.count("redelivered") == 0


class Peer:
    """A DEALER that says anything, under an identity that is not text."""

    def __init__(self, system: System, name: str, identity: bytes | None = None) -> None:
        self.name = name
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.ROUTING_ID, identity or b"\xff" + os.urandom(20))
        self.socket.connect(getattr(system, name))

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *exception: object) -> None:
        self.context.destroy(linger=0)

    def send(self, *frames: bytes) -> None:
        """Sends, and throws away what has come."""
        self.socket.send_multipart(frames)
        while self.socket.poll(0):
            self.socket.recv_multipart()

    def finish(self) -> None:
        """Waits until the Router has read everything. It may have too many questions of this peer to take another."""
        command, body = LAST[self.name]
        for _ in range(20):
            if isinstance(body, v2.Inform):
                body = msgspec.structs.replace(body, nonce=os.urandom(8).hex())
            self.socket.send_multipart(v2.encode(command, body))
            while self.socket.poll(1_000):
                frames = self.socket.recv_multipart()
                with contextlib.suppress(Exception):
                    if v2.unpack(frames[3])[0] == MARK:
                        return
        raise AssertionError("the Router answers")


def nearly_right(chance: random.Random, name: str) -> list[bytes]:
    """A message that may be right up to any point."""
    version, command = chance.choice(COMMANDS[name])
    ids = [b"id", b"\xff\xff", b"", b"x" * 300]
    bodies = [*BOMBS, chance.randbytes(chance.randrange(100)), v2.pack([1, [["id", "q", "n", b""]], 3, [], [], {}])]
    frames = [b"", version, command, chance.choice(ids), *chance.choices(bodies, k=chance.randrange(5))]
    match chance.randrange(6):
        case 0:
            frames = frames[: chance.randrange(1, len(frames) + 1)]
        case 1:
            frames[1] = chance.choice([b"eMQP/9.9", b"", b"\xff", b"emqp/2.0"])
        case 2:
            frames[2] = chance.choice([b"__init__", b"process", b"\xff\xfe", b"", b"DELETE"])
        case 3:
            frames.insert(0, chance.randbytes(3))
        case 4:
            chance.shuffle(frames)
    return frames


@pytest.mark.parametrize("name", COMMANDS)
def test_messages_of_any_shape(served: System, name: str) -> None:
    chance = random.Random(2020)
    with Peer(served, name) as peer:
        for _ in range(1_500):
            peer.send(*nearly_right(chance, name))
        for _ in range(20):
            peer.send(*[b""] * 3_000)
        for version, command in COMMANDS[name]:
            for bomb in BOMBS:
                peer.send(b"", version, command, bomb)
                peer.send(b"", version, command, b"id", bomb, b"", bomb)
                peer.send(b"", version, command, b"id", bomb, bomb)
        peer.finish()
    refused = served.ask("STATUS")["refusals"]
    assert {"malformed", "unsupported_version", "unknown_command"} <= refused.keys()
    assert sum(refused.values()) > 1_000


def test_every_refusal_is_counted_under_its_reason(served: System) -> None:
    call = v2.pack(([], {}))
    with Peer(served, "frontend") as peer:
        for _ in range(7):
            peer.send(b"", b"eMQP/3.0", b"REQUEST", b"")
            peer.send(b"", b"eMQP/2.0", b"DELETE", b"")
            peer.send(b"", b"eMQP/2.0", b"REQUEST", b"\xc1")
            peer.send(*v2.encode(b"REQUEST", v2.Request(1, [v2.Job("", "nobody", "a.b", call)])))
            peer.send(*v2.encode(b"REQUEST", v2.Request(1, [v2.Job("j", "nobody", "a.b", bytes(2 << 20))])))
            peer.send(*v1.encode(b"SCHEDULE", "id", "nobody", "", "0", '["run", {"path": "a", "callable": "b"}]', ""))
        for n in range(8):
            peer.send(*v2.encode(b"REQUEST", v2.Request(1, [v2.Job("same", "nobody", f"a.b{n}", call)])))
        peer.finish()
    with Peer(served, "backend") as peer:
        for _ in range(7):
            peer.send(*v2.encode(b"READY", v2.Ready(1)))
        peer.finish()
    reasons = ("unsupported_version", "unknown_command", "malformed", "invalid_job", "too_large", "invalid_schedule")
    assert served.ask("STATUS")["refusals"] == dict.fromkeys((*reasons, "conflict", "unknown_peer"), 7)


def test_a_body_of_100_mb_costs_its_sender_the_connection(served: System) -> None:
    body = bytes(100 << 20)
    for name in COMMANDS:
        with Peer(served, name) as peer:
            monitor = peer.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
            peer.socket.send_multipart([b"", v2.VERSION, b"REQUEST", body])
            assert monitor.poll(10_000), f"the Router closes the connection to its {name}"


def test_bytes_that_are_no_zeromq_and_connections_that_come_and_go(served: System) -> None:
    places = [parse(address) for address in served.addresses]
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(48)
    said = [b"", os.urandom(500), b"GET / HTTP/1.1\r\n\r\n", greeting[:12], greeting, greeting + os.urandom(200)]
    connections = []
    for n in range(1_500):
        place = places[n % len(places)]
        connections.append(connection := socket.create_connection((place.host, place.port), 5))
        with contextlib.suppress(ConnectionError):
            connection.sendall(said[n // 3 % len(said)])
        if n % 7:
            connections.pop().close()
    for connection in connections:
        connection.close()


def test_peers_that_ask_and_never_read(served: System) -> None:
    """What they do not take is dropped for them alone; what they may ask at a time is bounded."""
    wants = [
        ("administrative", 2_000, v2.encode(b"STATUS", v2.Question(1))),
        ("administrative", 1_000, v2.encode(b"WORKERS", v2.Question(1))),
        ("frontend", 300, v2.encode(b"WAIT", v2.Wait(1, [f"id-{n}" for n in range(1_000)]))),
    ]
    with contextlib.ExitStack() as peers:
        for name, count, message in wants:
            peer = peers.enter_context(Peer(served, name))
            peer.socket.setsockopt(zmq.SNDTIMEO, 10_000)
            for _ in range(count):
                peer.socket.send_multipart(message)
        until(lambda: served.ask("STATUS", 20), "the Router answers others")


def test_managers_that_ask_for_jobs_without_end(served: System) -> None:
    """They announce themselves, claim to hold jobs, ask for all jobs of a queue of theirs, and are gone."""
    with contextlib.ExitStack() as peers:
        for n in range(50):
            peer = peers.enter_context(Peer(served, "backend"))
            held = [v2.Held(f"job-{k}", k) for k in range(100)]
            peer.send(*v2.encode(b"INFORM", v2.Inform(MARK, f"false-{n}", "nonce", [(1, f"queue-{n % 10}")], held)))
            peer.send(*v2.encode(b"READY", v2.Ready(2**62)))
            peer.socket.poll(5_000)
        until(lambda: len(served.ask("WORKERS", 20)["connected_workers"]) == 51, "they are known")
    until(lambda: len(served.ask("WORKERS")["connected_workers"]) == 1, "they are forgotten", 5)
