"""Dramatiq on Redis."""

from __future__ import annotations

from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from systems.base import REDIS, RESULT_S, RESULTS, System, counts

broker = RedisBroker(url=REDIS)
if RESULTS:
    broker.add_middleware(Results(backend=RedisBackend(url=REDIS), store_results=True))
dramatiq.set_broker(broker)


@dramatiq.actor
def noop() -> int | None:
    return counts.ran() if RESULTS else forget(counts.ran())


@dramatiq.actor
def stamp(place: int) -> int | None:
    return counts.stamp(place) if RESULTS else forget(counts.stamp(place))


def forget(value: int) -> None:
    """Without a backend for results a value costs a warning for each job."""


ACTORS = {"noop": noop, "stamp": stamp}


class Adapter(System):
    distributions = ("dramatiq", "redis", "hiredis")

    def workers(self, count: int) -> list[list[str]]:
        return [["dramatiq", __name__, "--processes", str(count), "--threads", "32", "--skip-logging"]]

    async def enqueue(self, job: str, *arguments: int) -> Any:
        return ACTORS[job].send(*arguments)

    async def enqueue_many(self, count: int) -> None:
        dramatiq.group(noop.message() for _ in range(count)).run()

    async def result(self, handle: Any) -> Any:
        return handle.get_result(block=True, timeout=int(1000 * RESULT_S))
