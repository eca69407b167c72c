"""One who asks the Router on and on, and never reads what it answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import zmq
from system_jobs import double

from eventmq.client.admin import Admin
from eventmq.net.frames import send
from eventmq.net.tuning import tune
from eventmq.protocol import v2

from .processes import System, until

JOBS = 1_500
"""Jobs of one measurement."""

ANSWERS = 30 << 20
"""Bytes of memory; what the Router would hold for one who does not read was more than ten times that."""


class DeafAsker(threading.Thread):
    """Asks for lists of jobs as fast as the socket takes it."""

    def __init__(self, addr: str) -> None:
        super().__init__()
        self.asked = 0
        self._addr = addr
        self._ended = threading.Event()

    def run(self) -> None:
        question = v2.encode(b"JOBS", v2.Question(1, {}))
        with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
            tune(socket)
            socket.connect(self._addr)
            while not self._ended.is_set():
                if send(socket, question):
                    self.asked += 1
                else:
                    time.sleep(0.001)

    def stop(self) -> None:
        self._ended.set()
        self.join()


@pytest.fixture
def asker(system: System) -> Iterator[DeafAsker]:
    asker = DeafAsker(system.administrative)
    yield asker
    if asker.is_alive():
        asker.stop()


def _took(system: System) -> float:
    """How long a number of jobs takes."""
    began, before = time.monotonic(), system.count("succeeded")
    double.map([(n,) for n in range(JOBS)])
    until(lambda: system.count("succeeded") == before + JOBS, "all are done")
    return time.monotonic() - began


def test_it_costs_the_router_neither_memory_nor_jobs(system: System, asker: DeafAsker) -> None:
    router = system.start_router()
    manager = system.start_manager()
    quiet_s = _took(system)
    rss = router.rss
    asker.start()
    until(lambda: asker.asked > 1_000, "it has asked a lot")
    flooded_s = _took(system)
    with Admin(system.administrative) as admin:
        began = time.monotonic()
        assert admin.ask("STATUS")["managers"] == 1
        answered_s = time.monotonic() - began
        manager.kill()
        until(lambda: not admin.ask("STATUS")["managers"], "a dead manager is noticed all the same")
    print(f"{quiet_s=:.2f} {flooded_s=:.2f} {answered_s=:.3f} {asker.asked=} {(router.rss - rss) / 2**20=:.1f}")
    assert router.rss - rss < ANSWERS
    assert flooded_s < 5 * quiet_s + 1
    assert answered_s < 1
