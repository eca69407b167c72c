"""From a call to the message that asks for it: checks the arguments, fills in options and key. Loads no ZeroMQ."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any, overload

from eventmq.client import ids
from eventmq.client.jobs import Job
from eventmq.client.options import Given, JobOptions
from eventmq.client.unique import key_of_arguments, key_of_template
from eventmq.errors import InvalidJob
from eventmq.limits import BATCH_JOBS_MAX, NAME_CHARS_MAX, PAYLOAD_BYTES_MAX
from eventmq.protocol import v2
from eventmq.protocol.arguments import UNSENDABLE, Signature, find_unsendable
from eventmq.protocol.calls import pack_call

_NAME = re.compile(r"\w+(\.\w+)*(:\w+)?\.\w+")


def message_of(job: Job[Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> v2.Job:
    job.signature.check(args, kwargs)
    return _made(job.name, job.default, args, kwargs, job.signature)


class Messages(Sequence[v2.Job]):
    """The messages of calls that were checked, made a thousand at a time when they are first asked for: the first ones
    are on their way to the Router while others are made.

    Args:
        count: How many there are.
        make: Makes those of a range, which is asked for once.
    """

    def __init__(self, count: int, make: Callable[[slice], list[v2.Job]]) -> None:
        self._count = count
        self._make = make
        self._made: list[v2.Job] = []

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, at: int) -> v2.Job: ...
    @overload
    def __getitem__(self, at: slice) -> list[v2.Job]: ...
    def __getitem__(self, at: int | slice) -> v2.Job | list[v2.Job]:
        places = range(self._count)[at]
        if isinstance(places, int):
            return self._up_to(places)[places]
        made = self._up_to(max(places[0], places[-1])) if places else []
        return [made[place] for place in places]

    def __iter__(self) -> Iterator[v2.Job]:
        return iter(self._up_to(self._count - 1))

    def _up_to(self, place: int) -> list[v2.Job]:
        made = self._made
        while place >= len(made):
            made += self._make(slice(len(made), len(made) + BATCH_JOBS_MAX))
        return made


def messages_of(job: Job[Any, Any], calls: Iterable[Sequence[Any]]) -> Messages:
    if job.default.id is not None:
        raise InvalidJob(f"{job.name}: one id cannot be that of many jobs; leave `id` out for map")
    name, options, signature = job.name, job.default, job.signature
    payloads: list[bytes] = []
    keys: list[str] = []
    try:
        for args in calls:
            if not isinstance(args, (tuple, list)):
                raise InvalidJob(f"{name} got {args!r}, expected a tuple of its positional arguments")
            signature.check(args, {})
            payload = _payload(name, options, args, {}, signature)
            if options.template:
                keys.append(_key(name, options, args, {}, signature))
            payloads.append(payload)
    except InvalidJob as error:
        raise InvalidJob(f"call {len(payloads)}: {error}") from None
    queue, priority, packed = options.queue, options.priority, options.packed

    def make(some: slice) -> list[v2.Job]:
        each = payloads[some]
        known = zip(ids.new_ids(len(each)), each, keys[some] or repeat("", len(each)), strict=True)
        return [v2.Job(id, queue, name, payload, priority, packed, key) for id, payload, key in known]

    return Messages(len(payloads), make)


def named(
    where: str, target: Any, args: Sequence[Any], kwargs: Mapping[str, Any] | None, given: Given
) -> tuple[v2.Job, Job[Any, Any] | None, JobOptions]:
    if not isinstance(target, str):
        job: Job[Any, Any] = target if isinstance(target, Job) else Job(target, JobOptions({}))
        job = job.options(**given)
        return message_of(job, tuple(args), dict(kwargs or {})), job, job.default
    if not _NAME.fullmatch(target) or len(target) > NAME_CHARS_MAX:
        raise InvalidJob(f"{target!r} names no job, expected module.function or module:Class.method")
    options = JobOptions({}).changed(where, given)
    return _made(target, options, tuple(args), dict(kwargs or {})), None, options


def _made(
    name: str, options: JobOptions, args: Sequence[Any], kwargs: dict[str, Any], signature: Signature | None = None
) -> v2.Job:
    payload = _payload(name, options, args, kwargs, signature)
    unique = _key(name, options, args, kwargs, signature) if options.template else ""
    id = options.id or ids.new_id()
    return v2.Job(id, options.queue, name, payload, options.priority, options.packed, unique)


def _payload(
    name: str, options: JobOptions, args: Sequence[Any], kwargs: dict[str, Any], signature: Signature | None
) -> bytes:
    try:
        payload = pack_call(args, kwargs, options.class_args, options.class_kwargs)
    except UNSENDABLE as error:
        _blame(name, args, kwargs, options, signature.names if signature else ())
        raise InvalidJob(f"{name}: the arguments cannot be sent: {error}") from None
    if len(payload) > PAYLOAD_BYTES_MAX:
        raise InvalidJob(
            f"{name}: the arguments have {len(payload):,} bytes, the limit is {PAYLOAD_BYTES_MAX:,}; "
            "store the data elsewhere and send where it is"
        )
    return payload


def _key(
    name: str, options: JobOptions, args: Sequence[Any], kwargs: dict[str, Any], signature: Signature | None
) -> str:
    """The call's key. By name nothing is known of the function: a template sees named arguments only, and all arguments
    are those that were written."""
    arguments: Mapping[str, Any] = kwargs
    if signature is not None:
        bound = signature.bound(args, kwargs)
        args, kwargs, arguments = bound.args, bound.kwargs, bound.arguments
    if isinstance(options.template, str):
        return key_of_template(name, options.template, arguments)
    return key_of_arguments(name, args, kwargs, options.class_args, options.class_kwargs)


def _blame(name: str, args: Sequence[Any], kwargs: dict[str, Any], options: JobOptions, names: Sequence[str]) -> None:
    """Says which argument cannot be sent."""
    try:
        find_unsendable(args, kwargs, names)
        find_unsendable(options.class_args, options.class_kwargs)
    except InvalidJob as error:
        raise InvalidJob(f"{name}: {error}") from None
