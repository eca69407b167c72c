"""EventMQ: a Router, and one job manager with its worker processes. Nothing is set but the durability."""

from __future__ import annotations

import os
from typing import Any

from eventmq import configure, job
from eventmq.client.admin import Admin
from systems.base import RESULT_S, System, counts


@job
def noop() -> int:
    return counts.ran()


@job
def stamp(place: int) -> int:
    return counts.stamp(place)


JOBS = {"noop": noop, "stamp": stamp}


class Adapter(System):
    callers = ("threads", "tasks")
    distributions = ("eventmq", "pyzmq", "msgspec")

    def workers(self, count: int) -> list[list[str]]:
        backend = os.environ["BENCH_BACKEND"]
        return [["python", "-m", "eventmq", "jobmanager", "--broker-addr", backend, "--jobs", str(count), __name__]]

    async def open(self) -> None:
        configure(broker_addr=os.environ["BENCH_FRONTEND"], enqueue_timeout=60)
        self.admin = Admin(os.environ["BENCH_ADMINISTRATIVE"])

    async def enqueue(self, job: str, *arguments: int) -> Any:
        return JOBS[job].delay(*arguments)

    async def enqueue_beside(self) -> None:
        await noop.adelay()

    async def enqueue_many(self, count: int) -> None:
        noop.map([()] * count)

    async def result(self, handle: Any) -> Any:
        return handle.result(timeout=RESULT_S)

    async def settled(self) -> bool:
        """Every outcome is in the store."""
        jobs = self.admin.ask("STATUS")["jobs"]
        return not jobs["waiting"] and not jobs["running"]

    async def close(self) -> None:
        self.admin.close()
