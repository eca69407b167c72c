"""eMQP/1.0 jobs per second through a Router: ours, or that of the 2020 release with its own logging at its default.

    python bench/emqp1.py eventmq|2020 FOLDER [--seconds S]

The Router is the only process of either release: the client and the job manager (16 slots) are a few lines here that
speak eMQP/1.0, the same for both. So each job is five messages: REQUEST in, receipt out, REQUEST out, REPLY in and
READY in. Ours syncs each job and each outcome to disk; that of 2020 remembers nothing. `tests/peers` installs it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import uuid
from importlib.metadata import version
from pathlib import Path

import zmq
from place import START_S, Place, Router, free_ports

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


class Peer:
    """A DEALER that speaks eMQP/1.0. Its identity is text: another one ends the Router of 2020."""

    def __init__(self, address: str) -> None:
        self.socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.IDENTITY, str(uuid.uuid4()).encode())
        self.socket.connect(address)

    def send(self, command: bytes, *frames: bytes) -> None:
        self.socket.send_multipart([b"", b"eMQP/1.0", command, uuid.uuid4().hex.encode(), *frames])

    def received(self) -> list[list[bytes]]:
        """What has arrived, from the command on."""
        found: list[list[bytes]] = []
        while len(found) < AT_ONCE:
            try:
                found.append(self.socket.recv_multipart(zmq.DONTWAIT)[2:])
            except zmq.Again:
                break
        return found


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

    def run(self, seconds: float) -> float:
        """Jobs per second."""
        now = beat = time.monotonic()
        end, ran = now + seconds, self.ran
        while (now := time.monotonic()) < end:
            if now >= beat:
                beat = now + BEAT_S
                self.manager.send(b"HEARTBEAT", str(time.time()).encode())
            for _ in range(min(AT_ONCE, AHEAD_MAX - (self.sent - self.ran))):
                self.client.send(b"REQUEST", b"default", b"", PAYLOAD)
                self.sent += 1
            self.poller.poll(100)
            self.client.received()  # receipts
            for command, id, *_ in self.manager.received():
                if command == b"REQUEST":
                    self.manager.send(b"REPLY", b'{"value": true}', id)
                    self.manager.send(b"READY")
                    self.ran += 1
        assert self.ran > ran, "no job arrived at the manager"
        return (self.ran - ran) / seconds


def released_router(place: Place) -> dict[str, str]:
    """Starts the Router of 2020, as a black box; its addresses by socket."""
    sys.path.insert(0, str(ROOT / "tests"))
    from peers.released import build

    names = ("FRONTEND", "BACKEND", "ADMINISTRATIVE")
    addresses = {name: f"tcp://127.0.0.1:{port}" for name, port in zip(names, free_ports(3), strict=True)}
    place.environ |= {f"EVENTMQ_{name}_ADDR": address for name, address in addresses.items()}
    place.start([str(build(ROOT / ".venv-peer") / "emq-router")])
    return {f"BENCH_{name}": address for name, address in addresses.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("router", choices=["eventmq", "2020"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=2.0)
    options = parser.parse_args()
    place = Place(options.folder, {})
    ours = options.router == "eventmq"
    try:
        addresses = Router(place, "full").environ if ours else released_router(place)
        peers = Peers(addresses["BENCH_FRONTEND"], addresses["BENCH_BACKEND"])
        peers.run(WARM_S)
        rate = peers.run(options.seconds)
    finally:
        place.close()
    versions = {"eventmq": version("eventmq") if ours else "0.3.13", "pyzmq": zmq.pyzmq_version()}
    print(json.dumps({"figures": {"old": rate}, "versions": versions}))


if __name__ == "__main__":
    main()
