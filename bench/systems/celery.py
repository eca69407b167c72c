"""Celery on Redis."""

from __future__ import annotations

from typing import Any

from celery import Celery

from systems.base import REDIS, RESULT_S, RESULTS, System, counts

app = Celery("bench", broker=REDIS, backend=REDIS if RESULTS else None)
app.conf.update(
    task_ignore_result=not RESULTS,
    task_store_errors_even_if_ignored=False,
    worker_prefetch_multiplier=128,
    worker_disable_rate_limits=True,
    worker_send_task_events=False,
    broker_pool_limit=32,
    broker_connection_retry_on_startup=True,
)


@app.task(name="noop")
def noop() -> int:
    return counts.ran()


@app.task(name="stamp")
def stamp(place: int) -> int:
    return counts.stamp(place)


TASKS = {"noop": noop, "stamp": stamp}


class Adapter(System):
    distributions = ("celery", "kombu", "redis", "hiredis")

    def workers(self, count: int) -> list[list[str]]:
        quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "ERROR"]
        worker = ["celery", "-A", __name__, "worker", "--pool", "solo", *quiet]
        return [[*worker, "--hostname", f"{number}@localhost"] for number in range(count)]

    async def enqueue(self, job: str, *arguments: int) -> Any:
        return TASKS[job].delay(*arguments)

    async def enqueue_many(self, count: int) -> None:
        with app.producer_pool.acquire(block=True) as producer:
            for _ in range(count):
                noop.apply_async(producer=producer)

    async def result(self, handle: Any) -> Any:
        return handle.get(timeout=RESULT_S)
