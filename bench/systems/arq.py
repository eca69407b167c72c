"""arq."""

from __future__ import annotations

import asyncio
from typing import Any

from arq import create_pool
from arq.connections import RedisSettings

from systems.base import ASKING_S, REDIS, RESULT_S, RESULTS, System, counts

SETTINGS = RedisSettings.from_dsn(REDIS)


async def noop(ctx: dict[str, Any]) -> int:
    return counts.ran()


async def stamp(ctx: dict[str, Any], place: int) -> int:
    return counts.stamp(place)


class WorkerSettings:
    functions = [noop, stamp]
    redis_settings = SETTINGS
    max_jobs = 100
    poll_delay = 0.005
    keep_result = 600 if RESULTS else 0
    log_results = False


QUIET = {"version": 1, "disable_existing_loggers": False, "root": {"level": "ERROR"}}


class Adapter(System):
    callers = ("tasks",)
    distributions = ("arq", "redis", "hiredis")

    def workers(self, count: int) -> list[list[str]]:
        return [["arq", f"{__name__}.WorkerSettings", "--custom-log-dict", f"{__name__}.QUIET"]] * count

    async def open(self) -> None:
        self.pool = await create_pool(SETTINGS)

    async def enqueue(self, job: str, *arguments: int) -> Any:
        return await self.pool.enqueue_job(job, *arguments)

    async def enqueue_many(self, count: int) -> None:
        async def some(number: int) -> None:
            for _ in range(number):
                await self.pool.enqueue_job("noop")

        await asyncio.gather(*(some(count // 16) for _ in range(16)), some(count % 16))

    async def result(self, handle: Any) -> Any:
        return await handle.result(timeout=RESULT_S, poll_delay=ASKING_S)

    async def close(self) -> None:
        await self.pool.aclose()
