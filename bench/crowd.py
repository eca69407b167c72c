"""Managers and clients by the hundred before a Router in a process of its own: each is one connection and a few lines
here, all in one process. What is measured is the Router's CPU.
"""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import zmq
from alone import CALL, VALUE
from place import Place, Router

from eventmq.client.admin import Admin
from eventmq.client.ids import new_id
from eventmq.limits import HEARTBEAT_S
from eventmq.net.tuning import tune
from eventmq.protocol import v2

CREDIT = 100
"""Jobs that a manager asks for at a time, as two workers do with tiny jobs."""

JOBS = 50_000
BATCH_JOBS = 10
"""Jobs in a client's REQUEST."""

AHEAD = 64
"""REQUESTs under way of all clients together, or one of each."""

WITHIN_S = 120.0
IDLE_S = 2.0


class Peer:
    """One connection, and what it counts."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], address: str) -> None:
        self.socket = context.socket(zmq.DEALER)
        tune(self.socket)
        self.socket.connect(address)
        self.received = self.n = 0

    def send(self, command: bytes, body: v2.Body) -> None:
        self.socket.send_multipart(v2.encode(command, body))


class Crowd:
    """Peers of one socket of a Router."""

    def __init__(self, many: int, address: str) -> None:
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        self.context = zmq.Context()
        self.context.setsockopt(zmq.MAX_SOCKETS, 2 * many + 10)
        self.poller = zmq.Poller()
        self.peers: dict[Any, Peer] = {}
        for _ in range(many):
            peer = Peer(self.context, address)
            self.peers[peer.socket] = peer
            self.poller.register(peer.socket, zmq.POLLIN)

    def serve(self, answer: Callable[[Peer, bytes, bytes], None], until: Callable[[], bool], beat: bool) -> None:
        """Reads what comes until enough has."""
        deadline, beat_at = time.monotonic() + WITHIN_S, 0.0
        while not until():
            now = time.monotonic()
            assert now < deadline, "the Router did not get there"
            if beat and now >= beat_at:
                beat_at = now + HEARTBEAT_S
                for peer in self.peers.values():
                    peer.send(b"HEARTBEAT", v2.Beat(time.time(), peer.received + CREDIT * (peer.n > 0), now))
            for socket, _ in self.poller.poll(50):
                while True:
                    try:
                        frames = socket.recv_multipart(zmq.DONTWAIT)
                    except zmq.Again:
                        break
                    answer(self.peers[socket], frames[2], frames[3])

    def close(self) -> None:
        self.context.destroy(linger=0)


class Watched:
    """The Router: its CPU, its memory, and what it says."""

    def __init__(self, folder: str) -> None:
        self.place = Place(Path(folder), {})
        self.router = Router(self.place, "process")
        self.process = psutil.Process(self.router.process.pid)
        self.admin = Admin(self.router.environ["BENCH_ADMINISTRATIVE"], 20.0)

    @property
    def cpu_s(self) -> float:
        times = self.process.cpu_times()
        return float(times.user + times.system)

    def rate(self, before: float) -> float:
        """`JOBS` for each second of CPU since then, which the kernel counts in hundredths."""
        return JOBS / max(0.01, self.cpu_s - before)

    @property
    def memory_mb(self) -> float:
        return float(self.process.memory_info().rss) / 1e6

    def close(self) -> None:
        self.admin.close()
        self.place.close()


def managers(many: int) -> dict[str, float]:
    """Jobs that wait are handed out and settled; before that, what it costs to beat with all managers."""
    with tempfile.TemporaryDirectory(prefix="eventmq-curve-") as folder:
        watched = Watched(folder)
        crowd = Crowd(many, watched.router.environ["BENCH_BACKEND"])
        try:
            return _managers(many, watched, crowd)
        finally:
            crowd.close()
            watched.close()


def _managers(many: int, watched: Watched, crowd: Crowd) -> dict[str, float]:
    before_mb, here, settled = watched.memory_mb, 0, 0
    enqueue(watched, JOBS)

    def answer(peer: Peer, command: bytes, body: bytes) -> None:
        nonlocal here, settled
        if command == b"ACK" and not peer.n:
            here += 1
        elif command == b"REQUEST":
            request = v2.decode(body, v2.Request)
            peer.received, peer.n = request.n, peer.n + 1
            settled += len(request.jobs)
            outcomes = [v2.Outcome(job.id, job.lease, "succeeded", VALUE, None, 0.0001) for job in request.jobs]
            peer.send(b"REPLY", v2.Reply(peer.n, outcomes, peer.received + CREDIT))

    for number, peer in enumerate(crowd.peers.values()):
        peer.send(b"INFORM", v2.Inform(1, f"manager-{number}", "nonce", [], [], {}))
    crowd.serve(answer, lambda: here == many, beat=False)
    before, until = watched.cpu_s, time.monotonic() + IDLE_S
    crowd.serve(answer, lambda: time.monotonic() >= until, beat=True)
    idle = (watched.cpu_s - before) / IDLE_S
    before, began = watched.cpu_s, time.monotonic()
    for peer in crowd.peers.values():
        peer.n = 1
        peer.send(b"READY", v2.Ready(CREDIT))
    crowd.serve(answer, lambda: settled >= JOBS, beat=True)
    while watched.admin.ask("STATUS")["counts"].get("succeeded", 0) < JOBS:
        time.sleep(0.01)
    beats_s = idle * (time.monotonic() - began)  # they cost the same without jobs, and more the longer these take here
    return {"rate": watched.rate(before + beats_s), "memory_mb": watched.memory_mb - before_mb, "idle_cpu": idle}


def clients(many: int) -> dict[str, float]:
    """Jobs are accepted, `BATCH_JOBS` in a REQUEST."""
    with tempfile.TemporaryDirectory(prefix="eventmq-curve-") as folder:
        watched = Watched(folder)
        crowd = Crowd(many, watched.router.environ["BENCH_FRONTEND"])
        try:
            before_mb, before = watched.memory_mb, watched.cpu_s
            _ask(crowd, JOBS)
            return {"rate": watched.rate(before), "memory_mb": watched.memory_mb - before_mb}
        finally:
            crowd.close()
            watched.close()


def enqueue(watched: Watched, many: int) -> None:
    """So many jobs wait."""
    crowd = Crowd(1, watched.router.environ["BENCH_FRONTEND"])
    _ask(crowd, many, 500)
    crowd.close()


def _ask(crowd: Crowd, many: int, batch: int = BATCH_JOBS) -> None:
    asked = answered = 0
    ahead = max(1, AHEAD // len(crowd.peers))

    def ask(peer: Peer) -> None:
        nonlocal asked
        if asked < many:
            asked += batch
            peer.n += 1
            made = [v2.Job(new_id(), "default", "noop.noop", CALL) for _ in range(batch)]
            peer.send(b"REQUEST", v2.Request(peer.n, made))

    def answer(peer: Peer, command: bytes, body: bytes) -> None:
        nonlocal answered
        assert command == b"ACK", command
        answered += batch
        ask(peer)

    for _ in range(ahead):
        for peer in crowd.peers.values():
            ask(peer)
    crowd.serve(answer, lambda: answered >= many, beat=False)
