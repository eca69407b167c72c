"""taskiq on Redis."""

from __future__ import annotations

import asyncio
from typing import Any

from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend

from systems.base import ASKING_S, REDIS, RESULT_S, RESULTS, System, counts

broker = ListQueueBroker(REDIS)
if RESULTS:
    broker = broker.with_result_backend(RedisAsyncResultBackend(REDIS, result_ex_time=600))


@broker.task(task_name="noop")
async def noop() -> int:
    return counts.ran()


@broker.task(task_name="stamp")
async def stamp(place: int) -> int:
    return counts.stamp(place)


TASKS = {"noop": noop, "stamp": stamp}


class Adapter(System):
    callers = ("tasks",)
    distributions = ("taskiq", "taskiq-redis", "redis", "hiredis", "uvloop")

    def workers(self, count: int) -> list[list[str]]:
        options = ["--no-parse", "--max-async-tasks", "100", "--max-prefetch", "100", "--log-level", "ERROR"]
        return [["taskiq", "worker", f"{__name__}:broker", "--workers", str(count), *options]]

    async def open(self) -> None:
        await broker.startup()

    async def enqueue(self, job: str, *arguments: int) -> Any:
        return await TASKS[job].kiq(*arguments)

    async def enqueue_many(self, count: int) -> None:
        async def some(number: int) -> None:
            for _ in range(number):
                await noop.kiq()

        await asyncio.gather(*(some(count // 16) for _ in range(16)), some(count % 16))

    async def result(self, handle: Any) -> Any:
        return (await handle.wait_result(check_interval=ASKING_S, timeout=RESULT_S)).return_value

    async def close(self) -> None:
        await broker.shutdown()
