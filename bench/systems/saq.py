"""SAQ on Redis."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from saq import Queue

from systems.base import ASKING_S, REDIS, RESULT_S, RESULTS, System, counts

queue = Queue.from_url(REDIS)


async def noop(ctx: dict[str, Any]) -> int:
    return counts.ran()


async def stamp(ctx: dict[str, Any], place: int) -> int:
    return counts.stamp(place)


settings = {"queue": queue, "functions": [noop, stamp], "concurrency": 10}

TTL_S = 600 if RESULTS else -1
"""-1 = a job that has ended is deleted at once."""


class Adapter(System):
    callers = ("tasks",)
    distributions = ("saq", "redis", "hiredis")

    def workers(self, count: int) -> list[list[str]]:
        return [["saq", f"{__name__}.settings", "--workers", str(count), "--quiet"]]

    async def open(self) -> None:
        await queue.connect()

    async def enqueue(self, job: str, *arguments: int) -> Any:
        return await queue.enqueue(job, ttl=TTL_S, **({"place": arguments[0]} if arguments else {}))

    async def enqueue_many(self, count: int) -> None:
        async def some(number: int) -> None:
            for _ in range(number):
                await queue.enqueue("noop", ttl=TTL_S)

        await asyncio.gather(*(some(count // 16) for _ in range(16)), some(count % 16))

    async def result(self, handle: Any) -> Any:
        """Asks again and again: `refresh(until_complete=…)` misses a job that ends before it listens."""
        deadline = time.monotonic() + RESULT_S
        while not handle.completed:
            assert time.monotonic() < deadline, "no result"
            await asyncio.sleep(ASKING_S)
            await handle.refresh()
        return handle.result

    async def close(self) -> None:
        await queue.disconnect()
