"""Jobs per second through a whole system, and the time from `.delay()` to the job's first line.

    python bench/throughput.py [--jobs N] [--workers N] [--durability full] [--clients N] [--json]

Starts a Router and a job manager of its own on free ports and a scratch store, and prints

    bulk enqueue      jobs/s acknowledged as durable, one client, `.map`
    end to end        jobs/s from the first enqueue to the last outcome known to the Router
    one by one        `.delay()` after `.delay()`, each waiting for its durable ACK
    side by side      the same from 16 threads, and from 16 tasks of asyncio
    idle latency      `.delay()` to the first line of the job on an idle system, p50 p95 p99
    half load         the same while calls come at half of the rate of one by one; and while batches come every
                      10 ms, together half of the end-to-end rate, for the last job of each. Calls and batches come
                      at times that are planned, and latency counts from those, however late the caller is
    Router CPU        CPU seconds of the Router per job of the end-to-end run

A figure is worth as much as the machine was idle; compare within one run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import noop

from eventmq import JobHandle, configure
from eventmq.cli import system
from eventmq.cli.children import Children
from eventmq.client.admin import Admin

HALF_LOAD_S = 3.0
BATCH_EVERY_S = 0.01

HERE = Path(__file__).parent


def cpu_s(pid: int) -> float:
    """User and system time of a process so far (Linux), or NaN."""
    stat = Path(f"/proc/{pid}/stat")
    if not stat.exists():
        return float("nan")
    fields = stat.read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


WARM_JOBS = 60_000
"""Jobs that run before anything is measured: more than the store's journal holds (`journal.JOBS_MAX`), so that older
ones are archived meanwhile, as they are in a Router that has run for a while. That is a quarter of its work."""

ASK_S = 0.01
"""How often the Router is asked whether all is done: an answer costs it 0.2 ms."""


def until(condition: Callable[[], bool], timeout_s: float = 120.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the system did not get there")
        time.sleep(ASK_S)


def ended(admin: Admin) -> int:
    counts = admin.ask("STATUS")["counts"]
    return int(counts.get("succeeded", 0) + counts.get("dead", 0))


def end_to_end(admin: Admin, router: int, jobs: int) -> dict[str, float]:
    """One burst of no-op jobs."""
    before, turns, cpu, began = ended(admin), admin.ask("STATUS")["turns"], cpu_s(router), time.monotonic()
    noop.noop.map([()] * jobs)
    enqueued = time.monotonic() - began
    until(lambda: ended(admin) - before >= jobs)
    seconds = time.monotonic() - began
    return {
        "bulk enqueue, jobs/s": jobs / enqueued,
        "end to end, jobs/s": jobs / seconds,
        "Router CPU, us/job": 1e6 * (cpu_s(router) - cpu) / jobs,
        "jobs per turn of the loop": jobs / (admin.ask("STATUS")["turns"] - turns),
    }


def one_by_one(admin: Admin, seconds: float, threads: int) -> float:
    """Durable `.delay()`s per second from some threads, each waiting for its ACK."""
    deadline = time.monotonic() + seconds

    def caller(_: int) -> int:
        count = 0
        while time.monotonic() < deadline:
            noop.noop.delay()
            count += 1
        return count

    began = time.monotonic()
    with ThreadPoolExecutor(threads) as pool:
        total = sum(pool.map(caller, range(threads)))
    elapsed = time.monotonic() - began
    until(lambda: admin.ask("STATUS")["jobs"]["waiting"] == 0)
    return total / elapsed


def tasks(seconds: float, callers: int) -> float:
    """The same from tasks of asyncio."""
    deadline = time.monotonic() + seconds

    async def caller() -> int:
        count = 0
        while time.monotonic() < deadline:
            await noop.noop.adelay()
            count += 1
        return count

    async def together() -> int:
        return sum(await asyncio.gather(*(caller() for _ in range(callers))))

    return asyncio.run(together()) / seconds


def half_load_ms(call: Callable[[], JobHandle[float]], every_s: float) -> list[float]:
    """Calls at planned times; from each of those to the first line of the job."""
    began = time.monotonic() + every_s
    planned = [began + n * every_s for n in range(int(HALF_LOAD_S / every_s))]
    handles = []
    for at in planned:
        time.sleep(max(0.0, at - time.monotonic()))
        handles.append(call())
    return sorted(1e3 * (handle.result(timeout=30) - at) for handle, at in zip(handles, planned, strict=True))


def latencies_ms(count: int) -> list[float]:
    """Times from `.delay()` to the job's first line on an idle system."""
    found = []
    for _ in range(count):
        began = time.monotonic()
        handle = noop.now.delay()
        found.append(1e3 * (handle.result(timeout=30) - began))
        time.sleep(0.002)
    return sorted(found)


def run(jobs: int, workers: int, durability: str, rounds: int) -> dict[str, Any]:
    figures: dict[str, Any] = {"jobs": jobs, "workers": workers, "durability": durability}
    with tempfile.TemporaryDirectory(prefix="eventmq-bench-") as scratch:
        addresses = system.scratch_addresses()
        store = f"sqlite:///{scratch}/bench.db"
        settings = {"store": store, "durability": durability, "concurrent_jobs": workers, "modules": "noop"}
        environ = system.environ_of(os.environ | {"PYTHONPATH": str(HERE)}, addresses, **settings)
        with (
            Children(0.0, say=lambda _: None, log=Path(scratch, "log"), environ=environ) as children,
            Admin(addresses["administrative_addr"]) as admin,
        ):
            router = system.start_router(children, addresses)
            system.start_manager(children, addresses)
            configure(broker_addr=addresses["frontend_addr"], enqueue_timeout=60)
            noop.noop.map([()] * WARM_JOBS).results(60)
            best = max(
                (end_to_end(admin, router, jobs) for _ in range(rounds)), key=lambda each: each["end to end, jobs/s"]
            )
            figures |= best
            figures["one by one, jobs/s"] = one_by_one(admin, 2.0, 1)
            figures["16 threads, jobs/s"] = one_by_one(admin, 2.0, 16)
            figures["16 tasks, jobs/s"] = tasks(2.0, 16)
            until(lambda: admin.ask("STATUS")["jobs"]["waiting"] == 0)
            batch = int(best["end to end, jobs/s"] / 2 * BATCH_EVERY_S)
            times = {
                "idle latency": latencies_ms(500),
                "half load, calls": half_load_ms(noop.now.delay, 2 / figures["one by one, jobs/s"]),
                "half load, batches": half_load_ms(lambda: noop.now.map([()] * batch)[-1], BATCH_EVERY_S),
            }
            for name, found in times.items():
                for percent in (50, 95, 99):
                    figures[f"{name} p{percent}, ms"] = found[len(found) * percent // 100]
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description="Throughput and latency of a whole system on this machine.")
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--durability", default="full", choices=["full", "process", "none"])
    parser.add_argument("--rounds", type=int, default=3, help="bursts; the best one counts")
    parser.add_argument("--floor", type=float, default=0.0, help="exit 1 if end to end is below")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = run(options.jobs, options.workers, options.durability, options.rounds)
    if options.json:
        print(json.dumps(figures, indent=2))
    else:
        for name, value in figures.items():
            print(f"{name:>28}  {value:,.2f}" if isinstance(value, float) else f"{name:>28}  {value}")
    return 0 if figures["end to end, jobs/s"] >= options.floor else 1


if __name__ == "__main__":
    sys.exit(main())
