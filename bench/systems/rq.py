"""RQ."""

from __future__ import annotations

import time
from typing import Any

import redis
from rq import Queue
from rq.serializers import JSONSerializer

from systems.base import ASKING_S, REDIS, RESULT_S, RESULTS, System, counts

RESULT_TTL_S = 600 if RESULTS else 0
"""0 = a job that has succeeded is deleted at once."""


def noop() -> int:
    return counts.ran()


def stamp(place: int) -> int:
    return counts.stamp(place)


FUNCTIONS = {"noop": noop, "stamp": stamp}


class Adapter(System):
    distributions = ("rq", "redis", "hiredis")

    def workers(self, count: int) -> list[list[str]]:
        worker = ["rq", "worker", "--url", REDIS, "--worker-class", "rq.worker.SimpleWorker"]
        return [[*worker, "--serializer", "json", "--disable-job-desc-logging", "--quiet"]] * count

    async def open(self) -> None:
        self.queue = Queue(connection=redis.Redis.from_url(REDIS), serializer=JSONSerializer)

    async def enqueue(self, job: str, *arguments: int) -> Any:
        return self.queue.enqueue(FUNCTIONS[job], *arguments, result_ttl=RESULT_TTL_S)

    async def enqueue_many(self, count: int) -> None:
        data = [Queue.prepare_data(noop, result_ttl=RESULT_TTL_S) for _ in range(count)]
        self.queue.enqueue_many(data)

    async def result(self, handle: Any) -> Any:
        deadline = time.monotonic() + RESULT_S
        while (found := handle.latest_result(timeout=1)) is None:
            assert time.monotonic() < deadline, "no result"
            time.sleep(ASKING_S)
        return found.return_value
