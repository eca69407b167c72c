"""Measures one system once and writes its figures as JSON; runs in that system's own environment.

    python bench/measure.py SYSTEM MODE FOLDER [--seconds S] [--results]

    workers off   one by one, 16 callers side by side, bulk          jobs/s that were enqueued
    workers on    drain what was enqueued in bulk                    jobs/s that ran
                  end to end: enqueue while idle workers wait        jobs/s from the first call to the last job's end
                  idle latency                                       ms from the call to the first line of the job

With `--results` outcomes are kept for the caller: end to end again, and ms from the call to its result. Sizes follow
from `--seconds`: each step goes on for about so long, and a slow system is stopped at four times that.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

from counting import PATH, STAMPS_MAX, Counts
from place import Place, Redis, Router
from systems import OURS

WORKERS = 2
CALLERS = 16
JOBS_MAX = 1_000_000
PATIENCE = 4
"""Times `--seconds` that a step may take before it is cut."""

READY_S = 30.0
PERCENTILES = (50, 95, 99)

Figures = dict[str, float]


class Measurement:
    """One system on what stands behind it."""

    def __init__(self, name: str, mode: str, folder: Path, seconds: float, results: bool) -> None:
        self.seconds = seconds
        self.results = results
        self.counts = Counts.create(folder / "counts")
        self.place = Place(folder, {PATH: str(folder / "counts"), "BENCH_RESULTS": str(int(results))})
        self.workers: list[Any] = []
        self.known: set[int] = set()
        try:
            self.backend = Router(self.place, mode) if name == OURS else Redis(self.place, mode)
            self.place.environ |= self.backend.environ
            os.environ.update(self.place.environ)
            self.system = importlib.import_module(f"systems.{name}").Adapter()
        except BaseException:
            self.place.close()
            raise

    async def run(self) -> Figures:
        """All figures of this system."""
        await self.system.open()
        try:
            return await (self._with_results() if self.results else self._without())
        finally:
            await self.system.close()

    async def _without(self) -> Figures:
        figures = {
            "one": await self._enqueue_one_by_one(),
            "callers": max([await self._enqueue_side_by_side(kind) for kind in self.system.callers]),
        }
        self.backend.empty()
        waiting, figures["bulk"] = await self._enqueue_in_bulk()
        figures["drain"] = await self._drain(waiting)
        figures["through"] = await self._end_to_end(figures["drain"])
        return figures | await self._latency()

    async def _with_results(self) -> Figures:
        await self._start_workers()
        rate = await self._end_to_end(500.0)
        return {"through_result": await self._end_to_end(rate)} | await self._latency()

    # ---- enqueueing: workers are off -------------------------------------------------------------------

    async def _enqueue_one_by_one(self) -> float:
        await self.system.enqueue("noop")  # connected and warm
        began = time.monotonic()
        total = await self._call(self._alone, began + self.seconds)
        return total / (time.monotonic() - began)

    async def _enqueue_side_by_side(self, kind: str) -> float:
        """From threads, or from tasks."""
        await self.system.enqueue_beside()
        began = time.monotonic()
        deadline = began + self.seconds
        if kind == "tasks":
            calls = [self._call(self.system.enqueue_beside, deadline) for _ in range(CALLERS)]
            total = sum(await asyncio.gather(*calls))
        else:
            with ThreadPoolExecutor(CALLERS) as pool:
                total = sum(pool.map(lambda _: asyncio.run(self._call(self._alone, deadline)), range(CALLERS)))
        return total / (time.monotonic() - began)

    async def _alone(self) -> None:
        await self.system.enqueue("noop")

    async def _call(self, enqueue: Callable[[], Awaitable[None]], deadline: float) -> int:
        count = 0
        while time.monotonic() < deadline:
            await enqueue()
            count += 1
        return count

    async def _enqueue_in_bulk(self) -> tuple[int, float]:
        """Batches that grow until one takes a quarter of the time."""
        count, batch, began = 0, 500, time.monotonic()
        while (now := time.monotonic()) < began + self.seconds and count < JOBS_MAX:
            await self.system.enqueue_many(batch)
            count += batch
            if time.monotonic() - now < self.seconds / 8:
                batch *= 2
        return count, count / (time.monotonic() - began)

    # ---- running ---------------------------------------------------------------------------------------

    async def _start_workers(self) -> None:
        """Starts them and waits until each has run a job."""
        self._launch()
        deadline = time.monotonic() + READY_S
        while len(self.counts.processes(self.known)) < WORKERS:
            for _ in range(8):
                await self.system.enqueue("noop")
            await asyncio.sleep(0.1)
            if time.monotonic() > deadline:
                raise TimeoutError(f"{WORKERS} workers did not run a job within {READY_S:g} s")
        await self._quiet()

    def _launch(self) -> None:
        self.known = self.counts.processes()
        for command in self.system.workers(WORKERS):
            program = sys.executable if command[0] == "python" else str(Path(sys.executable).parent / command[0])
            self.workers.append(self.place.start([program, *command[1:]]))

    async def _quiet(self) -> None:
        """Waits until no job has run for a while."""
        total = -1
        while total != self.counts.total or not await self.system.settled():
            total = self.counts.total
            await asyncio.sleep(0.3)

    async def _restart(self) -> None:
        """Empties what a slow system has left."""
        self.place.stop(self.workers)
        self.workers.clear()
        self.backend.empty()
        await self._start_workers()

    async def _reached(self, total: int, deadline: float) -> bool:
        while self.counts.total < total or not await self.system.settled():
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.002)
        return True

    async def _drain(self, waiting: int) -> float:
        """The clock starts when every worker has run a job, for starting them does not count."""
        end = self.counts.total + waiting
        first, began = self.counts.total, time.monotonic()
        self._launch()
        patience = began + READY_S
        while (total := self.counts.total) < end and len(self.counts.processes(self.known)) < WORKERS:
            if time.monotonic() > patience:
                raise TimeoutError(f"{WORKERS} workers did not run a job within {READY_S:g} s")
            if total == first:  # until one of them has begun
                began = time.monotonic()
            await asyncio.sleep(0.001)
        if total < end:
            first, began = total, time.monotonic()
        finished = await self._reached(end, began + PATIENCE * self.seconds)
        rate = (self.counts.total - first) / (time.monotonic() - began)
        if finished:
            await self._quiet()
        else:
            await self._restart()
        return rate

    async def _end_to_end(self, rate: float) -> float:
        count = int(min(max(rate * self.seconds, 50), JOBS_MAX))
        before, began = self.counts.total, time.monotonic()
        await self.system.enqueue_many(count)
        finished = await self._reached(before + count, began + PATIENCE * self.seconds)
        rate = (self.counts.total - before) / (time.monotonic() - began)
        if not finished:
            await self._restart()
        return rate

    # ---- latency -------------------------------------------------------------------------------------

    async def _latency(self) -> Figures:
        """One job at a time on an idle system."""
        starts: list[float] = []
        results: list[float] = []
        deadline = time.monotonic() + self.seconds
        self.counts.forget_stamps()
        while len(starts) < STAMPS_MAX and (time.monotonic() < deadline or len(starts) < 20):
            place, began = len(starts), time.monotonic_ns()
            handle = await self.system.enqueue("stamp", place)
            if self.results:
                value = await self.system.result(handle)
                results.append((time.monotonic_ns() - began) / 1e6)
                assert value == place, f"the result of job {place} is {value!r}"
            while not (ran := self.counts.stamped(place)):
                await asyncio.sleep(0.0005)
                assert time.monotonic_ns() - began < 30e9, "a job did not run within 30 s"
            starts.append((ran - began) / 1e6)
            await asyncio.sleep(0.002)
        return percentiles("result", results) if self.results else percentiles("idle", starts)


def percentiles(name: str, times: list[float]) -> Figures:
    times = sorted(times)
    return {f"{name}_p{percent}": times[len(times) * percent // 100] for percent in PERCENTILES}


def raise_exit(*_: object) -> None:
    sys.exit(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("system")
    parser.add_argument("mode")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--results", action="store_true")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, raise_exit)
    measurement = Measurement(options.system, options.mode, options.folder.resolve(), options.seconds, options.results)
    try:
        figures = asyncio.run(measurement.run())
    finally:
        measurement.place.close()
    versions = {name: version(name) for name in measurement.system.distributions}
    print(json.dumps({"figures": figures, "versions": versions}))


if __name__ == "__main__":
    main()
