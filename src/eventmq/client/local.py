"""Runs a job where it was called, for programs without a Router.

The steps are the worker's own, so arguments and value go through msgpack and the annotations as they will in a worker.
Not done here: queues, priorities, delays, timeouts, retries, keys. A failure is logged, as nobody may ever ask for the
outcome.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from eventmq.client import tracing
from eventmq.client.jobs import Job
from eventmq.protocol import v2
from eventmq.workers.execute import Executor
from eventmq.workers.resolve import Resolver, Target

log = logging.getLogger("eventmq.client")


def run(message: v2.Job, job: Job[Any, Any] | None) -> v2.Result:
    """Runs one job to its end.

    Args:
        message: The job as it would be sent.
        job: The function, when it is at hand; else it is imported by its name.
    """
    if not _in_event_loop():
        return _run(message, job)
    with ThreadPoolExecutor(1) as elsewhere:  # a coroutine needs a loop of its own, and a thread has but one
        return elsewhere.submit(_run, message, job).result()


async def arun(message: v2.Job, job: Job[Any, Any] | None) -> v2.Result:
    """`run` for asyncio, in a thread: the loop goes on."""
    return await asyncio.to_thread(_run, message, job)


def _run(message: v2.Job, job: Job[Any, Any] | None) -> v2.Result:
    resolver = Resolver()
    if job is not None:
        resolver.known[message.name] = Target(job.fn, _owner(job), job.signature)
    executor = Executor(resolver)
    try:
        ending = tracing.around(executor.run)(message)
    finally:
        executor.close()
    failure = ending.failure
    if failure is None:
        return v2.Result(message.id, ending.state, ending.value, None, 1)
    if failure.type == "builtins.KeyboardInterrupt":
        raise KeyboardInterrupt
    log.error("job %s (%s) failed\n%s", message.id, message.name, failure.traceback or failure.message)
    return v2.Result(message.id, "dead", b"", failure, 1)


def _owner(job: Job[Any, Any]) -> type | None:
    """The class of a method."""
    name, _, _ = job.fn.__qualname__.rpartition(".")
    found: type | None = getattr(sys.modules[job.fn.__module__], name) if name else None
    return found


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
