"""Huey on Redis."""

from __future__ import annotations

from typing import Any

from huey import RedisHuey

from systems.base import REDIS, RESULT_S, RESULTS, System, counts

huey = RedisHuey("bench", url=REDIS, results=RESULTS, blocking=True, notify_result=RESULTS)


@huey.task()
def noop() -> int:
    return counts.ran()


@huey.task()
def stamp(place: int) -> int:
    return counts.stamp(place)


TASKS = {"noop": noop, "stamp": stamp}


class Adapter(System):
    distributions = ("huey", "redis", "hiredis")

    def workers(self, count: int) -> list[list[str]]:
        quiet = ["--no-periodic", "--disable-health-check", "--quiet"]
        return [["huey_consumer", f"{__name__}.huey", "--worker-type", "process", "--workers", str(count), *quiet]]

    async def enqueue(self, job: str, *arguments: int) -> Any:
        return TASKS[job](*arguments)

    async def enqueue_many(self, count: int) -> None:
        for _ in range(count):
            noop()

    async def result(self, handle: Any) -> Any:
        return handle.get(blocking=True, timeout=RESULT_S)
