"""From a call to a job on its way: its message (`call`) is handed to the client, or run in place without one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Unpack

from eventmq.client import default, local, tracing
from eventmq.client.call import message_of, messages_of, named
from eventmq.client.handles import JobHandle, JobHandles
from eventmq.client.jobs import Job
from eventmq.client.options import Given, JobOptions
from eventmq.protocol import v2

USER = 4
"""Frames from `warnings.warn` up to the code that called `.delay()`."""


# ---- by the function: what Job.delay and its kin do ------------------------------------------------


def delay(job: Job[Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> JobHandle[Any]:
    """`Job.delay`."""
    return _send([message_of(job, args, kwargs)], job, job.default)[0]


async def adelay(job: Job[Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> JobHandle[Any]:
    """`Job.adelay`."""
    return (await _asend([message_of(job, args, kwargs)], job, job.default))[0]


def map(job: Job[Any, Any], calls: Iterable[Sequence[Any]]) -> JobHandles[Any]:
    """`Job.map`."""
    return JobHandles(_send(messages_of(job, calls), job, job.default))


async def amap(job: Job[Any, Any], calls: Iterable[Sequence[Any]]) -> JobHandles[Any]:
    """`Job.amap`."""
    return JobHandles(await _asend(messages_of(job, calls), job, job.default))


# ---- by name ------------------------------------------------------------------------------------------


def defer_job(
    target: str | Job[Any, Any] | Callable[..., Any],
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    **given: Unpack[Given],
) -> JobHandle[Any]:
    """Enqueues a call of what `target` names. For a name nothing is imported, so the worker checks the arguments.

    Args:
        target: `module.function` or `module:Class.method`, a job, or a function.
        args: Its positional arguments.
        kwargs: Its named arguments.
        given: Options, as for `Job.options`; `class_args` and `class_kwargs` are what a method's instance is made from.

    Raises:
        InvalidJob: No job can have that name, an option cannot be, or the arguments cannot be sent.
        EnqueueError: As `Job.delay`.
    """
    message, job, options = named("defer_job()", target, args, kwargs, given)
    return _send([message], job, options)[0]


async def adefer_job(
    target: str | Job[Any, Any] | Callable[..., Any],
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    **given: Unpack[Given],
) -> JobHandle[Any]:
    """`defer_job` for asyncio."""
    message, job, options = named("adefer_job()", target, args, kwargs, given)
    return (await _asend([message], job, options))[0]


# ---- steps ----------------------------------------------------------------------------------------------


def _send(messages: Sequence[v2.Job], job: Job[Any, Any] | None, options: JobOptions) -> list[JobHandle[Any]]:
    client = default.client()
    if client is None:
        default.warn_in_place(USER)
        return [JobHandle.ended(local.run(message, job), job) for message in messages]
    with tracing.sending(messages, client.broker_addr):
        existing = client.submit(messages, options.block_for_s)
    return JobHandle.of(messages, job, client, existing)


async def _asend(messages: Sequence[v2.Job], job: Job[Any, Any] | None, options: JobOptions) -> list[JobHandle[Any]]:
    client = default.client()
    if client is None:
        default.warn_in_place(USER)
        return [JobHandle.ended(await local.arun(message, job), job) for message in messages]
    with tracing.sending(messages, client.broker_addr):
        existing = await client.asubmit(messages, options.block_for_s)
    return JobHandle.of(messages, job, client, existing)
