"""OpenTelemetry: a job belongs to the trace that enqueued it, and each attempt has a span of its own.

    send QUEUE         PRODUCER   `.delay()`; its context travels with the job
    send QUEUE         CLIENT     `.map()`, with a link to each of
    create QUEUE       PRODUCER       the jobs; their contexts travel
    receive QUEUE      CLIENT     a worker gets jobs
    process QUEUE      CONSUMER   an attempt

Spans and attributes are those of the messaging conventions; ours are called `eventmq.…`. Nothing is loaded and nothing
happens unless the program has set up an SDK: what it has imported for that is all that is looked for.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, TypeVar

from eventmq import __version__
from eventmq.limits import HEADERS_BYTES_MAX
from eventmq.protocol import v2

if TYPE_CHECKING:
    from opentelemetry.trace import Link, Span, SpanKind, Tracer

T = TypeVar("T")

parent = True
"""Whether a span `process` is a child of what sent the job, or else begins a trace that is linked to it. Set where
a worker starts (`otel_parent`)."""


def tracer() -> Tracer | None:
    """What makes our spans; None: the program has not set up any."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    provider = trace.get_tracer_provider()
    if isinstance(provider, (trace.ProxyTracerProvider, trace.NoOpTracerProvider)):
        return None
    return _tracer_of(provider)


@lru_cache(1)
def _tracer_of(provider: Any) -> Tracer:
    made: Tracer = provider.get_tracer("eventmq", __version__)
    return made


# ---- who enqueues ------------------------------------------------------------------------------------


def sending(jobs: Sequence[v2.Job], broker_addr: str) -> AbstractContextManager[None]:
    """The span around handing jobs to the Router at this address; the jobs get their headers first."""
    found = tracer()
    return nullcontext() if found is None or not jobs else _sending(found, jobs, broker_addr)


@contextmanager
def _sending(tracer: Tracer, jobs: Sequence[v2.Job], broker_addr: str) -> Iterator[None]:
    from opentelemetry.trace import Link, SpanKind

    from eventmq.net import address

    each = len(jobs) > 1 and _each_has_its_own()
    links = []
    for job in jobs if each else ():
        with _span(tracer, "create", SpanKind.PRODUCER, [job]) as span:
            inject(job)
        links.append(Link(span.get_span_context()))
    with _span(tracer, "send", SpanKind.CLIENT if each else SpanKind.PRODUCER, jobs, links) as span:
        place = address.parse(broker_addr)
        span.set_attributes({"server.address": place.host} | ({"server.port": place.port} if place.port else {}))
        for job in () if each else jobs:
            inject(job)
        try:
            yield
        except Exception as error:
            span.set_attribute("error.type", type(error).__qualname__)
            raise


@lru_cache(1)
def _each_has_its_own() -> bool:
    from eventmq import settings

    return settings.load("client").otel_create


def inject(job: v2.Job) -> None:
    """Puts the context that this code runs in, if it is part of a trace, into a job's headers; of what is too large
    only the trace itself."""
    if tracer() is None:
        return
    from opentelemetry import propagate

    headers: dict[str, str] = {}
    propagate.inject(headers)
    if sum(map(len, (*headers, *headers.values()))) > HEADERS_BYTES_MAX:
        headers = {name: value for name, value in headers.items() if name == "traceparent"}
    if headers:
        job.options = v2.with_headers(job.options, headers)


# ---- who runs jobs -----------------------------------------------------------------------------------


def received(jobs: Iterable[v2.Job]) -> None:
    """A worker has got jobs."""
    found = tracer()
    if found is not None:
        from opentelemetry.trace import SpanKind

        for job in jobs:
            with _span(found, "receive", SpanKind.CLIENT, [job], _link(_context_of(job))):
                pass


def around(run: Callable[[v2.Job], T]) -> Callable[[v2.Job], T]:
    """What runs attempts each within a span of its own; what `run` returns has `state` and `failure` of an outcome."""
    found = tracer()
    return run if found is None else partial(_process, found, run)


def _process(tracer: Tracer, run: Callable[[v2.Job], T], job: v2.Job) -> T:
    from opentelemetry import context as contexts
    from opentelemetry import trace

    context, links = _context_of(job), []
    if not parent or v2.options_of(job.options).schedule:  # the runs of a schedule are no part of what set it up
        links, context = _link(context), trace.set_span_in_context(trace.INVALID_SPAN, context)
    token = contexts.attach(context)
    try:
        with _span(tracer, "process", trace.SpanKind.CONSUMER, [job], links) as span:
            span.set_attributes({"eventmq.job.name": job.name, "eventmq.job.attempt": job.attempt})
            if job.attempt == 1 and job.created:
                span.set_attribute("eventmq.job.wait_ms", max(0, round(1e3 * (time.time() - v2.ready_at(job)))))
            ending = run(job)
            _conclude(span, ending)
    finally:
        contexts.detach(token)
    return ending


def _conclude(span: Span, ending: Any) -> None:
    from opentelemetry.trace import Status, StatusCode

    span.set_attribute("eventmq.job.outcome", ending.state)
    failure = ending.failure
    if failure is None or ending.state == "retry":
        return
    span.set_attribute("error.type", failure.type)
    told = {"type": failure.type, "message": failure.message, "stacktrace": failure.traceback}
    span.add_event("exception", {f"exception.{name}": text for name, text in told.items()})
    span.set_status(Status(StatusCode.ERROR, failure.message))


def trace_id(job: v2.Job) -> str:
    """The trace that a job which runs is part of; empty = none."""
    if tracer() is not None:
        from opentelemetry import trace

        context = trace.get_current_span().get_span_context()
        if context.is_valid:
            return trace.format_trace_id(context.trace_id)
    parts = _headers_of(job).get("traceparent", "").split("-")
    return parts[1] if len(parts) > 3 else ""


# ---- steps -------------------------------------------------------------------------------------------


def _context_of(job: v2.Job) -> Any:
    """The context that came with a job; that of this code if none did."""
    from opentelemetry import propagate

    return propagate.extract(_headers_of(job))


def _headers_of(job: v2.Job) -> dict[str, str]:
    return v2.options_of(job.options).headers or {}


def _link(context: Any) -> list[Link]:
    from opentelemetry import trace

    created = trace.get_current_span(context).get_span_context()
    return [trace.Link(created)] if created.is_valid else []


def _span(
    tracer: Tracer, operation: str, kind: SpanKind, jobs: Sequence[v2.Job], links: Sequence[Link] = ()
) -> AbstractContextManager[Span]:
    """A span about jobs of one queue, and the present one as long as its block runs."""
    from socket import gethostname

    attributes: dict[str, str | int] = {
        "messaging.system": "eventmq",
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": jobs[0].queue,
        "messaging.client.id": f"{gethostname()}-{os.getpid()}",
    }
    if len(jobs) == 1:
        attributes["messaging.message.id"] = jobs[0].id
    else:
        attributes["messaging.batch.message_count"] = len(jobs)
    return tracer.start_as_current_span(f"{operation} {jobs[0].queue}", kind=kind, attributes=attributes, links=links)
