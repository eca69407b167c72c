"""Garbage at all three sockets of a real Router: it serves on, and its counters tell."""

from __future__ import annotations

import os
import random
import socket

import deeds
import psutil
import pytest
import zmq
from running import System, until

from eventmq import JobFailed, defer_job
from eventmq.net.address import parse
from eventmq.protocol import v2

SOCKETS = ("frontend_addr", "backend_addr", "administrative_addr")


def serves(system: System) -> None:
    assert deeds.add.delay(2, 3).result(20) == 5


@pytest.fixture
def served(system: System) -> System:
    system.router()
    system.manager()
    return system


def garbage(chance: random.Random) -> list[bytes]:
    """A message of any shape, often nearly right."""
    commands = [
        b"REQUEST",
        b"INFORM",
        b"READY",
        b"REPLY",
        b"HEARTBEAT",
        b"KBYE",
        b"WAIT",
        b"INFO",
        b"CANCEL",
        b"STATUS",
    ]
    versions = [b"eMQP/1.0", b"eMQP/2.0", b"eMQP/9.9", b"\xff\xfe", b""]
    bodies = [
        b"",
        chance.randbytes(chance.randrange(200)),
        b"\x91" * 10_000 + b"\x01",
        v2.pack([1, [["id", "q", "n"]]]),
        v2.pack([1, "name", "nonce", [[1, "q"]] * chance.randrange(3), [["x", 1]]]),
        b"[" * 5_000,
    ]
    message = [chance.choice([b"", b"", b"", b"x"]), chance.choice(versions), chance.choice(commands)]
    message += [chance.choice(bodies) for _ in range(chance.randrange(6))]
    return message[: chance.randrange(1, len(message) + 1)]


@pytest.mark.parametrize("name", SOCKETS)
def test_random_frames(served: System, name: str) -> None:
    chance = random.Random(7)
    context = zmq.Context()
    try:
        for _ in range(20):
            peer = context.socket(zmq.DEALER)
            peer.linger = 1000
            peer.setsockopt(zmq.ROUTING_ID, bytes([chance.randrange(1, 256)]) + chance.randbytes(20))
            peer.connect(served.addresses[name])
            for _ in range(100):
                peer.send_multipart(garbage(chance))
            peer.send_multipart([b"x"] * 1_000)
            peer.close()
        until(lambda: sum(served.status()["refusals"].values()) > 500, "the refusals are counted")
    finally:
        context.destroy(linger=0)
    assert {"malformed", "unsupported_version", "unknown_command"} <= set(served.status()["refusals"])
    serves(served)


@pytest.mark.parametrize("name", SOCKETS)
def test_a_body_of_100_megabytes_costs_its_sender_the_connection(served: System, name: str) -> None:
    router = psutil.Process(served.processes["router"].pid)
    before = router.memory_info().rss
    context = zmq.Context()
    try:
        peer = context.socket(zmq.DEALER)
        peer.connect(served.addresses[name])
        monitor = peer.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        peer.send_multipart([b"", b"eMQP/2.0", b"REQUEST", bytes(100 << 20)])
        assert monitor.poll(10_000), "the Router closes the connection"
    finally:
        context.destroy(linger=0)
    serves(served)
    assert router.memory_info().rss - before < 64 << 20


@pytest.mark.parametrize("name", SOCKETS)
def test_bytes_that_are_no_zeromq_and_connections_that_say_nothing(served: System, name: str) -> None:
    address = parse(served.addresses[name])
    silent = []
    for n in range(200):
        connection = socket.create_connection((address.host, address.port), timeout=5)
        if n % 2:
            connection.sendall(os.urandom(100) + b"GET / HTTP/1.1\r\n\r\n")
            connection.close()
        else:
            silent.append(connection)
    serves(served)
    for connection in silent:
        connection.close()
    serves(served)


def test_an_administrator_who_asks_and_never_reads(served: System) -> None:
    context = zmq.Context()
    try:
        peer = context.socket(zmq.DEALER)
        peer.rcvhwm = 1
        peer.connect(served.addresses["administrative_addr"])
        for n in range(5_000):
            peer.send_multipart(v2.encode(b"STATUS", v2.Question(n)))
        serves(served)
    finally:
        context.destroy(linger=0)


@pytest.mark.parametrize(
    ("name", "type", "text"),
    [
        ("deeds.plain", "eventmq.NotAJob", "@job"),
        ("deeds.no_such_function", "eventmq.UnknownJob", "no_such_function"),
        ("os.getcwd", "eventmq", "os"),
    ],
)
def test_what_is_no_job_is_not_run_and_says_so(served: System, name: str, type: str, text: str) -> None:
    with pytest.raises(JobFailed) as raised:
        defer_job(name, args=[1]).result(20)
    assert raised.value.type.startswith(type)
    assert text in raised.value.message
    serves(served)
