"""eMQP/1.0 jobs per second through a Router: ours, or that of the 2020 release with its own logging at its default.

    python bench/emqp1.py eventmq|2020 FOLDER [--seconds S] [--peers]

Each job is five messages: REQUEST in, receipt out, REQUEST out, REPLY in and READY in. Ours syncs each job and each
outcome to disk; that of 2020 remembers nothing. Before it are, the same for both,

- a client and a job manager (16 slots) of a few lines here, which take as little time as they can, so that
  what is measured is the Router; or
- with `--peers` the release's own: its client, which sends a backlog, and its manager as it comes.

`cpu_us` is what the Router's process takes for a job, which says more where the machine or its peers are the limit.
`tests/peers` installs the release.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import uuid
from collections.abc import Callable
from importlib.metadata import version
from itertools import count
from math import inf
from pathlib import Path

import psutil
import zmq
from counting import PATH, Counts
from place import START_S, Place, Router, free_ports

from eventmq.net.frames import receive_some, send

ROOT = Path(__file__).parent.parent
PAYLOAD = json.dumps(
    ["run", {"path": "jobs", "callable": "noop", "args": [], "kwargs": {}, "class_args": [], "class_kwargs": {}}]
).encode()

SLOTS = 16
AHEAD_MAX = 256
"""Jobs sent and not yet run: enough that the Router never waits for them."""

AT_ONCE = 64
"""Messages taken from one socket before the other has its turn."""

BEAT_S = 1.0
WARM_S = 0.5

PEERS_RATE_MAX = 4_000
"""Jobs a second that the release's own client and manager do not reach."""

PEERS_S_MIN = 4.0
"""Its manager looks for what has ended once a second, so a shorter look at it says nothing."""

SEND_BACKLOG = """
import sys, time
from eventmq.client import messages
from eventmq.sender import Sender
import emqp1_jobs
sender = Sender()
sender.connect(sys.argv[1])
for _ in range(int(sys.argv[2])):
    messages.defer_job(sender, emqp1_jobs.noop)
time.sleep(3600)  # what it has not sent when it ends is lost
"""


class Peer:
    """A DEALER that speaks eMQP/1.0. Its identity is text: another one ends the Router of 2020."""

    def __init__(self, address: str) -> None:
        self.socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.IDENTITY, str(uuid.uuid4()).encode())
        self.socket.connect(address)
        self._ids = count()

    def send(self, command: bytes, *frames: bytes, id: str = "") -> None:
        send(self.socket, [b"", b"eMQP/1.0", command, (id or str(next(self._ids))).encode(), *frames])

    def received(self) -> list[list[bytes]]:
        """What has arrived, from the command on."""
        return [frames[2:] for frames in receive_some(self.socket, inf, AT_ONCE)[0]]


class Peers:
    """The client and the manager."""

    def __init__(self, frontend: str, backend: str) -> None:
        self.client, self.manager = Peer(frontend), Peer(backend)
        self.poller = zmq.Poller()
        for peer in (self.client, self.manager):
            self.poller.register(peer.socket, zmq.POLLIN)
        self.sent = self.ran = 0
        self.manager.send(b"INFORM", b'[[10, "default"]]', b"worker")
        if not self.manager.socket.poll(int(1000 * START_S)):
            raise TimeoutError(f"the Router did not answer INFORM within {START_S:g} s")
        self.manager.received()
        for _ in range(SLOTS):
            self.manager.send(b"READY")

    def run(self, seconds: float) -> int:
        """How many jobs ran in this time."""
        now = beat = time.monotonic()
        end, ran = now + seconds, self.ran
        while (now := time.monotonic()) < end:
            if now >= beat:
                beat = now + BEAT_S
                self.manager.send(b"HEARTBEAT", str(time.time()).encode())
            for _ in range(min(AT_ONCE, AHEAD_MAX - (self.sent - self.ran))):
                self.client.send(b"REQUEST", b"default", b"", PAYLOAD, id=str(uuid.uuid4()))
                self.sent += 1
            self.poller.poll(100)
            self.client.received()  # receipts
            for command, id, *_ in self.manager.received():
                if command == b"REQUEST":
                    self.manager.send(b"REPLY", b'{"value": true}', id)
                    self.manager.send(b"READY")
                    self.ran += 1
        return self.ran - ran


class ReleasedPeers:
    """The same from the release itself."""

    def __init__(self, place: Place, addresses: dict[str, str], seconds: float) -> None:
        place.environ[PATH] = str(place.folder / "counts")
        self._counts = Counts.create(place.folder / "counts")
        place.start([str(released() / "emq-jobmanager"), "-B", addresses["BENCH_BACKEND"]])
        many = int(PEERS_RATE_MAX * (seconds + WARM_S))
        sender = [str(released() / "python"), "-c", SEND_BACKLOG, addresses["BENCH_FRONTEND"], str(many)]
        place.until(lambda: self._counts.total > 0, place.start(sender), "what the client of 2020 sends")

    def run(self, seconds: float) -> int:
        """How many jobs ran in this time."""
        ran = self._counts.total
        time.sleep(seconds)
        return self._counts.total - ran


def released() -> Path:
    """The folder of the commands of 2020, a black box."""
    sys.path.insert(0, str(ROOT / "tests"))
    from peers.released import build

    return build(ROOT / ".venv-peer")


def released_router(place: Place) -> dict[str, str]:
    """Starts the Router of 2020; its addresses by socket."""
    names = ("FRONTEND", "BACKEND", "ADMINISTRATIVE")
    addresses = {name: f"tcp://127.0.0.1:{port}" for name, port in zip(names, free_ports(3), strict=True)}
    place.environ |= {f"EVENTMQ_{name}_ADDR": address for name, address in addresses.items()}
    place.start([str(released() / "emq-router")])
    return {f"BENCH_{name}": address for name, address in addresses.items()}


def measure(run: Callable[[float], int], router: psutil.Process, seconds: float) -> dict[str, float]:
    """Jobs per second, and what the Router takes for one."""
    run(WARM_S)
    times, began = router.cpu_times(), time.monotonic()
    jobs = run(seconds)
    took_s, now = time.monotonic() - began, router.cpu_times()
    assert jobs, "no job ran"
    return {"old": jobs / took_s, "cpu_us": 1e6 * (now.user + now.system - times.user - times.system) / jobs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("router", choices=["eventmq", "2020"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--peers", action="store_true")
    options = parser.parse_args()
    place = Place(options.folder, {})
    ours = options.router == "eventmq"
    seconds = max(options.seconds, PEERS_S_MIN) if options.peers else options.seconds
    try:
        addresses = Router(place, "full").environ if ours else released_router(place)
        router = psutil.Process(place.processes[0].pid)
        peers: Peers | ReleasedPeers
        if options.peers:
            peers = ReleasedPeers(place, addresses, seconds)
        else:
            peers = Peers(addresses["BENCH_FRONTEND"], addresses["BENCH_BACKEND"])
        figures = measure(peers.run, router, seconds)
    finally:
        place.close()
    versions = {"eventmq": version("eventmq") if ours else "0.3.13", "pyzmq": zmq.pyzmq_version()}
    print(json.dumps({"figures": figures, "versions": versions}))


if __name__ == "__main__":
    main()
