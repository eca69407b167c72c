"""A million waiting jobs, and every core busy beside fifty managers. The suite does it with fewer."""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from system_jobs import double

import eventmq
from eventmq import Client
from eventmq.client.ids import new_id
from eventmq.protocol.calls import pack_call
from eventmq.protocol.v2 import Job

from .processes import Process, System, until
from .test_stops import load

ROUND_JOBS = 10_000
ROUNDS = 5
SPIN = "while True: pass"


@pytest.fixture
def other(tmp_path: Path) -> Iterator[System]:
    """A second system, to compare with."""
    folder = tmp_path / "other"
    folder.mkdir()
    system = System(folder)
    yield system
    system.close()


def fill(system: System, count: int) -> None:
    """So many tiny jobs more wait."""
    call = pack_call((1,), {})
    with Client(system.frontend, enqueue_timeout=60) as client:
        for first in range(0, count, 10_000):
            some = range(first, min(first + 10_000, count))
            client.submit([Job(new_id(), "default", "system_jobs.double", call) for _ in some])


def rate(system: System, jobs: int) -> float:
    """Jobs a second, of `jobs` that wait already."""
    before, began = system.count("succeeded"), time.monotonic()
    system.ask("RESUME", queue="default")
    until(lambda: system.count("succeeded") >= before + jobs, f"{jobs} jobs are run", 120)
    took_s, done = time.monotonic() - began, system.count("succeeded") - before
    system.ask("PAUSE", queue="default")
    return done / took_s


@pytest.mark.load
def test_a_backlog_costs_disk_and_neither_memory_nor_speed(system: System, other: System, thorough: bool) -> None:
    """Memory, the time of a restart after kill -9, and the rate against a Router that has few jobs waiting."""
    count = 1_000_000 if thorough else 120_000
    router = system.start_router()
    system.ask("PAUSE", queue="default")
    fill(system, 1_000)
    before = router.rss
    began = time.monotonic()
    fill(system, count)
    print(f"{count:,} jobs enqueued, {count / (time.monotonic() - began):,.0f} a second, durable")
    grown = router.rss - before
    router.kill()
    began = time.monotonic()
    router = system.start_router()
    restart_s = time.monotonic() - began
    print(f"{grown >> 20} MiB more memory; restarted in {restart_s:.2f} s with {router.rss >> 20} MiB")
    assert system.ask("STATUS")["jobs"]["waiting"] == count + 1_000
    assert grown < 100 << 20
    assert restart_s < 5.0  # 2 s on a quiet machine
    if thorough:
        other.start_router()
        compare(system, other)


def compare(deep: System, few: System) -> None:
    """Rounds by turns, so that both meet the same noise of the machine."""
    for each in (deep, few):
        each.start_manager(workers=1)
        each.ask("PAUSE", queue="default")
    fill(few, ROUND_JOBS)
    for each in (few, deep):
        rate(each, ROUND_JOBS)  # both are warm now
    rates: dict[str, list[float]] = {"few": [], "deep": []}
    for _ in range(ROUNDS):
        fill(few, ROUND_JOBS)
        rates["few"].append(rate(few, ROUND_JOBS))
        rates["deep"].append(rate(deep, ROUND_JOBS))
    part = statistics.median(deep / few for deep, few in zip(rates["deep"], rates["few"], strict=True))
    print(f"{', '.join(f'{name}: {statistics.median(each):,.0f} jobs/s' for name, each in rates.items())}; {part:.0%}")
    assert part > 0.6  # those of few are parts of a journal's rows, these have rows of their own


@pytest.mark.load
def test_nobody_is_declared_dead_while_every_core_is_busy(system: System, thorough: bool) -> None:
    managers, busy_s = (50, 60.0) if thorough else (4, 3.0)
    router = system.start_router()
    crowd = [system.start_manager(f"manager-{n}", workers=1) for n in range(managers)]
    spinning: list[Process] = []
    with load(system) as (_, journal):
        spinning += [system.start(f"spin-{n}", [sys.executable, "-c", SPIN]) for n in range(2 * (os.cpu_count() or 2))]
        time.sleep(busy_s)
        for process in spinning:
            process.kill()
    print(f"{managers} managers, {len(spinning)} busy processes, {busy_s:g} s: {len(journal.runs()):,} jobs, each once")
    assert system.count("redelivered") == 0
    assert len(system.ask("WORKERS")["connected_workers"]) == managers
    assert "; it had" not in router.log, "nobody is lost"
    assert all(manager.running for manager in crowd)
    eventmq.configure(broker_addr=system.frontend)
    assert double.delay(1).result() == 2
