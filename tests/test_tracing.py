"""Traces: a job belongs to the trace that enqueued it, wherever and however often it runs."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from typing import Any

import pytest
from fakejobs import add
from opentelemetry import baggage, trace
from opentelemetry import context as contexts
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode
from tracing import Spans, spans
from world import World, job

from eventmq import Retry, errors
from eventmq.broker.outbox import FRONTEND
from eventmq.client import default, schedules, tracing
from eventmq.limits import HEADERS_BYTES_MAX
from eventmq.protocol import calls, scheduling, v2
from eventmq.protocol.administration import Selection
from eventmq.schedules.rule import Rule
from eventmq.workers import context
from eventmq.workers.execute import Executor
from eventmq.workers.resolve import Resolver

__all__ = ["spans"]

HEADERS = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "tracestate": "vendor=1"}
TRACED = v2.pack_options(v2.Options(headers=HEADERS))


class Router:
    """A client whose Router takes everything, or nothing."""

    broker_addr = "tcp://router.example:47291"
    refuses: Exception | None = None

    def __init__(self) -> None:
        self.jobs: list[v2.Job] = []

    def submit(self, jobs: list[v2.Job], block_for_s: float) -> dict[str, str]:
        self.jobs += jobs
        if self.refuses:
            raise self.refuses
        return {}

    async def asubmit(self, jobs: list[v2.Job], block_for_s: float) -> dict[str, str]:
        await asyncio.sleep(0)
        return self.submit(jobs, block_for_s)

    def query(self, command: bytes, body: Any, timeout_s: float | None = None) -> Any:
        self.jobs.append(body(1).schedule.job)


@pytest.fixture
def router(monkeypatch: pytest.MonkeyPatch) -> Router:
    router = Router()
    monkeypatch.setattr(default, "_client", router)
    return router


def headers_of(job: v2.Job) -> dict[str, str]:
    return v2.options_of(job.options).headers or {}


def traceparent(span: ReadableSpan) -> str:
    return f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-{span.context.trace_flags:02x}"


def run(name: str, *args: Any, options: bytes = TRACED, **fields: Any) -> Any:
    job = v2.Job("j1", "mail", name, calls.pack_call(args, {}), options=options, created=1.0, **fields)
    return tracing.around(Executor(Resolver(["fakejobs"])).run)(job)


# ---- who enqueues --------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["delay", "adelay"])
def test_one_job_is_sent_in_one_span_whose_context_travels(spans: Spans, router: Router, how: str) -> None:
    with spans.tracer.start_as_current_span("request") as request:
        mail = add.options(queue="mail")
        handle = mail.delay(1) if how == "delay" else asyncio.run(mail.adelay(1))
    assert spans.names() == ["send mail", "request"]
    (span,) = spans.named("send mail")
    assert (span.kind, span.parent.span_id) == (SpanKind.PRODUCER, request.get_span_context().span_id)
    attributes = dict(span.attributes)
    assert attributes.pop("messaging.client.id")
    assert attributes == {
        "messaging.system": "eventmq",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.destination.name": "mail",
        "messaging.message.id": str(handle),
        "server.address": "router.example",
        "server.port": 47291,
    }
    assert headers_of(router.jobs[0]) == {"traceparent": traceparent(span)}


def test_of_a_batch_each_job_has_a_span_and_the_sending_is_linked_to_them(spans: Spans, router: Router) -> None:
    add.options(queue="mail").map([(1,), (2,)])
    created, (send,) = spans.named("create mail"), spans.named("send mail")
    assert [headers_of(job)["traceparent"] for job in router.jobs] == [traceparent(span) for span in created]
    assert {span.kind for span in created} == {SpanKind.PRODUCER}
    assert [span.attributes["messaging.message.id"] for span in created] == [job.id for job in router.jobs]
    assert send.kind == SpanKind.CLIENT
    assert [link.context for link in send.links] == [span.context for span in created]
    assert send.attributes["messaging.batch.message_count"] == 2


def test_that_each_has_one_can_be_switched_off(spans: Spans, router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENTMQ_OTEL_CREATE", "off")
    add.options(queue="mail").map([(1,), (2,)])
    assert spans.names() == ["send mail"]
    (send,) = spans.named("send mail")
    assert send.kind == SpanKind.PRODUCER
    assert [headers_of(job)["traceparent"] for job in router.jobs] == [traceparent(send)] * 2


def test_sending_that_fails_is_an_error(spans: Spans, router: Router) -> None:
    router.refuses = errors.BrokerUnavailable("nobody there")
    with pytest.raises(errors.BrokerUnavailable):
        add.delay(1)
    (span,) = spans.named("send default")
    assert span.status.status_code == StatusCode.ERROR
    assert span.attributes["error.type"] == "BrokerUnavailable"


def test_baggage_travels_and_what_is_too_large_leaves_the_trace_alone(spans: Spans, router: Router) -> None:
    token = contexts.attach(baggage.set_baggage("tenant", "acme"))
    add.delay(1)
    contexts.detach(token)
    token = contexts.attach(baggage.set_baggage("tenant", "x" * HEADERS_BYTES_MAX))
    add.delay(1)
    contexts.detach(token)
    assert headers_of(router.jobs[0])["baggage"] == "tenant=acme"
    assert list(headers_of(router.jobs[1])) == ["traceparent"]


def test_options_of_a_job_stay_beside_its_headers(spans: Spans, router: Router) -> None:
    add.options(retries=3, timeout=5).delay(1)
    options = v2.options_of(router.jobs[0].options)
    assert (options.retries, options.timeout_s, len(options.headers or {})) == (3, 5.0, 1)
    assert not v2.options_of(add.options(retries=3, timeout=5).default.packed).headers


def test_a_schedule_carries_the_context_that_set_it_up(spans: Spans, router: Router) -> None:
    with spans.tracer.start_as_current_span("deploy") as deploy:
        schedules.schedule(add, interval_secs=60, args=(1,))
    schedules.schedule(add, interval_secs=60, args=(1,))
    assert f"{deploy.get_span_context().trace_id:032x}" in headers_of(router.jobs[0])["traceparent"]
    assert not router.jobs[1].options


# ---- who runs jobs -------------------------------------------------------------------------------------


def test_an_attempt_is_a_child_of_what_sent_the_job(spans: Spans) -> None:
    assert run("fakejobs.add", 1, 2).state == "succeeded"
    (span,) = spans.named("process mail")
    assert span.kind == SpanKind.CONSUMER
    assert traceparent(span)[:36] == HEADERS["traceparent"][:36]
    assert (span.parent.is_remote, f"{span.parent.span_id:016x}") == (True, "00f067aa0ba902b7")
    attributes = dict(span.attributes)
    assert attributes.pop("messaging.client.id")
    assert attributes.pop("eventmq.job.wait_ms") > 1e12
    assert attributes == {
        "messaging.system": "eventmq",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "mail",
        "messaging.message.id": "j1",
        "eventmq.job.name": "fakejobs.add",
        "eventmq.job.attempt": 1,
        "eventmq.job.outcome": "succeeded",
    }


@pytest.mark.parametrize("why", ["setting", "schedule"])
def test_an_attempt_is_linked_when_that_is_wanted_and_of_a_schedule_always(
    spans: Spans, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    if why == "setting":
        monkeypatch.setattr(tracing, "parent", False)
    schedule = "daily" if why == "schedule" else ""
    run("fakejobs.add", 1, options=v2.pack_options(v2.Options(headers=HEADERS, schedule=schedule)), attempt=2)
    (span,) = spans.named("process mail")
    assert span.parent is None
    assert [f"{link.context.trace_id:032x}" for link in span.links] == [HEADERS["traceparent"].split("-")[1]]
    assert "eventmq.job.wait_ms" not in span.attributes, "a second attempt has waited for other reasons"


def test_a_job_of_nobodys_trace_begins_one(spans: Spans) -> None:
    run("fakejobs.add", 1, options=b"")
    (span,) = spans.named("process mail")
    assert (span.parent, span.links) == (None, ())


def test_a_failure_is_recorded_a_wish_to_run_again_is_none(spans: Spans) -> None:
    run("fakejobs.fail", "no such shop")
    (failed,) = spans.named("process mail")
    assert (failed.status.status_code, failed.status.description) == (StatusCode.ERROR, "no such shop")
    assert failed.attributes["error.type"] == "builtins.ValueError"
    (event,) = failed.events
    assert event.name == "exception"
    assert event.attributes["exception.message"] == "no such shop"
    assert "ValueError: no such shop" in event.attributes["exception.stacktrace"]
    executor = Executor(Resolver(["fakejobs"]), entry=again)
    tracing.around(executor.run)(v2.Job("j2", "mail", "fakejobs.add", calls.pack_call((1,), {})))
    retried = spans.named("process mail")[1]
    assert retried.status.status_code == StatusCode.UNSET
    assert retried.attributes["eventmq.job.outcome"] == "retry"


def again() -> None:
    raise Retry


def test_user_code_runs_within_the_span_and_what_it_logs_names_the_trace(
    spans: Spans, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append((context.about().get("trace_id"), trace.get_current_span().get_span_context().span_id))

    logger, handler = logging.getLogger("shop"), Handler()
    monkeypatch.setattr(logger, "level", logging.INFO)
    logger.addHandler(handler)
    run("fakejobs.who")
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    run("fakejobs.who")
    run("fakejobs.who", options=b"")
    logger.removeHandler(handler)
    (span,) = spans.named("process mail")
    trace_id = HEADERS["traceparent"].split("-")[1]
    assert seen == [(trace_id, span.context.span_id), (trace_id, 0), (None, 0)], "without an SDK from the job's headers"


def test_what_a_worker_gets_is_linked_to_its_sending(spans: Spans) -> None:
    tracing.received([job("a", queue="mail", options=TRACED), job("b", queue="mail"), job("c")])
    assert spans.names() == ["receive mail", "receive mail", "receive default"]
    mail, plain = spans.named("receive mail")
    assert (mail.kind, mail.attributes["messaging.message.id"]) == (SpanKind.CLIENT, "a")
    assert [f"{link.context.span_id:016x}" for link in mail.links] == ["00f067aa0ba902b7"]
    assert not plain.links


# ---- on the way ----------------------------------------------------------------------------------------


def test_headers_are_kept_over_delay_retry_requeue_and_restart() -> None:
    world = World()
    options = v2.Options(headers=HEADERS, delay_s=5.0, retries=1, retry_delays_s=(5.0,))
    world.enqueue(job("a", options=v2.pack_options(options)))
    world.join(b"m", credit=9)
    for attempt in (1, 2):
        world.wait(6, step=1.0)
        world.finish(b"m", world.handed(b"m")[-1], state="failed")
        assert len(world.handed(b"m")) == attempt
    world.restart()
    world.join(b"m", credit=9)
    assert world.router.requeue(Selection(ids=["a"])) == {"requeued": 1, "next": None}
    world.turn()
    (again,) = world.handed(b"m")
    assert (again.attempt, headers_of(again)) == (3, HEADERS)


def test_runs_of_a_schedule_have_its_headers() -> None:
    world = World()
    schedule = scheduling.Schedule("s", "token", Rule(interval_s=60.0), job("run", options=TRACED))
    world.turn((FRONTEND, [b"c", *v2.encode(b"SCHEDULE", scheduling.Arrange(1, schedule))]))
    world.router.schedules.run_now(world.router.schedules.entries["s"], "now", world.wall, False)
    world.join(b"m", credit=1)
    (run_of_it,) = world.handed(b"m")
    assert headers_of(run_of_it) == HEADERS


# ---- without an SDK ------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["", "import opentelemetry.trace;"])
def test_without_an_sdk_nothing_is_loaded_and_jobs_carry_nothing(first: str) -> None:
    code = f"""if True:
        {first or "pass"}
        import sys
        from eventmq.client import enqueue, tracing
        from eventmq.protocol import calls, v2
        from eventmq.workers.execute import Executor
        from eventmq.workers.resolve import Resolver
        before = set(sys.modules)
        one = v2.Job("j", "q", "fakejobs.add", calls.pack_call((1, 2), dict()))
        with tracing.sending([one], "tcp://127.0.0.1:1"): pass
        tracing.received([one])
        assert tracing.around(Executor(Resolver(["fakejobs"])).run)(one).state == "succeeded"
        assert one.options == b""
        loaded = [name for name in set(sys.modules) - before if name.startswith("opentelemetry")]
        assert not loaded, loaded
        assert {bool(first)} or not any(name.startswith("opentelemetry") for name in sys.modules)
    """
    subprocess.run([sys.executable, "-c", code], check=True, cwd="tests", timeout=60)
