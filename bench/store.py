"""What the store costs: µs per job of each step, the longest single call, and the time that a restart takes.

    python bench/store.py [--jobs 200000] [--backlog 1000000] [--durability full]

Jobs carry 100 bytes of arguments and go in and out 500 at a time, as in a busy Router.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from eventmq.protocol.v2 import Job
from eventmq.store.base import Changes, Ended
from eventmq.store.open import open_store

BATCH = 500
LAG = 20
"""Batches that are added between a job and its end."""


def new_jobs(first: int, count: int) -> list[Job]:
    """Jobs with ids in the order of time, as clients make them."""
    ids = (
        f"{0x18F000000000 + seq // 10:012x}7{seq * 2654435761 % (1 << 76):019x}" for seq in range(first, first + count)
    )
    return [
        Job(id, "default", "pkg.tasks.add", b"x" * 100, created=(0x18F000000000 + seq // 10) / 1e3, seq=seq)
        for seq, id in enumerate(ids, first)
    ]


def batches(jobs: list[Job]) -> Iterator[list[Job]]:
    return (jobs[start : start + BATCH] for start in range(0, len(jobs), BATCH))


def measure(label: str, count: int, calls: Iterator[Callable[[], object]]) -> None:
    worst = total = 0.0
    for call in calls:
        begin = time.perf_counter()
        call()
        took = time.perf_counter() - begin
        worst, total = max(worst, took), total + took
    print(f"{label:24} {total / count * 1e6:7.2f} µs/job   longest call {worst * 1e3:6.1f} ms", flush=True)


def ended(job: Job) -> Ended:
    return Ended(job.seq, "succeeded", job.created, job.created + 3600.5, 1, 0, 0.011, "host-1", b"\xc0", b"")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--jobs", type=int, default=200_000)
    parser.add_argument("--backlog", type=int, default=1_000_000)
    parser.add_argument("--durability", default="full", choices=["full", "process", "none"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'bench.db'}"
        store = open_store(url, options.durability)
        store.load()

        def apply(changes: Changes) -> None:
            store.apply(changes)
            store.upkeep()

        count = options.jobs
        jobs, unknown = new_jobs(1, count), [job.id for job in new_jobs(count + 1, BATCH)]
        measure("add", count, (lambda some=some: apply(Changes(added=some)) for some in batches(jobs)))
        ends = [[ended(job) for job in some] for some in batches(jobs)]
        measure("end", count, (lambda some=some: apply(Changes(ended=some)) for some in ends))
        measure("find 500 unknown ids", 500 * BATCH, (lambda: store.find(unknown) for _ in range(500)))
        measure(
            "find 500 known ids", 200 * BATCH, (lambda: store.find([j.id for j in jobs[:BATCH]]) for _ in range(200))
        )
        measure("find one unknown id", 2_000, (lambda: store.find(unknown[:1]) for _ in range(2_000)))
        measure(
            "forget", count, (lambda: store.forget(2e9, 2_000, 1 << 40, 1 << 40) for _ in range(count // 2_000 + 1))
        )
        one = iter(new_jobs(count + 1, 1_000))
        measure("add one by one", 1_000, (lambda job=job: apply(Changes(added=[job])) for job in one))
        backlog = options.backlog
        spill = (lambda n=n: apply(Changes(spilled=new_jobs(n, BATCH))) for n in range(10**7, 10**7 + backlog, BATCH))
        measure("spill (and make jobs)", backlog, spill)
        measure(
            "page of 1000, everywhere",
            100_000,
            (
                lambda n=n: store.page("default", (0, 10**7 + n), 1_000)
                for n in range(0, backlog, max(1, backlog // 100))
            ),
        )
        flow = [*batches(new_jobs(3 * 10**7, count))]
        turns = (
            Changes(added=new, ended=[ended(job) for job in old])
            for new, old in zip(flow + [[]] * LAG, [[]] * LAG + flow, strict=True)
        )
        measure("add and end", count, (lambda each=each: apply(each) for each in turns))
        print(", ".join(f"{what} {number:,}" for what, number in store.info().items() if isinstance(number, int)))
        store.close()
        begin = time.perf_counter()
        store = open_store(url, options.durability)
        snapshot = store.load()
        print(f"restart with {sum(snapshot.paged.values()):,} paged jobs: {time.perf_counter() - begin:.2f} s")
        store.close()


if __name__ == "__main__":
    main()
