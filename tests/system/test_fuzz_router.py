"""Broken messages of both versions at a real Router, while jobs go to and fro: it serves on, whatever it was sent."""

from __future__ import annotations

import time

import pytest
from mutants import SEEDS, mutants
from system_jobs import double

from .processes import System, until
from .test_garbage import Peer

BATCH = 2_000
"""Messages on one connection; then the Router has read them, and the peer is gone."""


@pytest.mark.fuzz
def test_mutated_messages_stop_nothing(system: System, pytestconfig: pytest.Config) -> None:
    """The jobs that flow are in a queue that none of the messages names."""
    count = int(pytestconfig.getoption("--messages"))
    router = system.start_router()
    system.start_manager(workers=1, EVENTMQ_QUEUES="real")
    real = double.options(queue="real")
    before, began, sent, jobs, round = router.rss, time.monotonic(), 0, 0, 0
    while sent < count:
        for name in SEEDS:
            with Peer(system, name) as peer:
                for frames in mutants(name, min(BATCH, count // len(SEEDS) + 1), round):
                    peer.send(*(frames or [b""]))
                    sent += 1
                peer.finish()
        assert real.delay(round).result(20) == 2 * round
        jobs, round = jobs + 1, round + 1
    took_s = time.monotonic() - began
    status = system.ask("STATUS")
    grown = router.rss - before
    print(
        f"{sent:,} messages in {took_s:.0f} s, {sum(status['refusals'].values()):,} refusals, "
        f"{status['counts']['accepted']:,} jobs accepted, {jobs} real ones done, {grown >> 20} MiB more memory"
    )
    assert status["refusals"]["malformed"] > count // 20
    assert grown < 100 << 20
    assert "Traceback" not in router.log
    assert router.running
    until(lambda: real.delay(1).result(20) == 2, "jobs are still done")
