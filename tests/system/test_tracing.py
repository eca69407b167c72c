"""One trace from a client through a real Router into a real worker, and over a retry."""

from __future__ import annotations

import json

from system_jobs import falter
from tracing import Spans, spans

from .processes import System

__all__ = ["spans"]


def test_all_attempts_of_a_job_are_in_the_trace_that_enqueued_it(system: System, spans: Spans) -> None:
    file = system.folder / "traces"
    system.start_router()
    manager = system.start_manager(
        EVENTMQ_SUBPROCESS_SETUP_FUNC="traced_workers.set_up", EVENTMQ_LOG_FORMAT="json", TRACES=str(file)
    )
    with spans.tracer.start_as_current_span("request") as request:
        handle = falter.options(queue="default").delay()
    assert handle.result(timeout=20) == 2
    assert manager.terminate() == 0
    exported = [json.loads(line) for line in file.read_text().splitlines()]
    (send,) = spans.named("send default")
    trace_id, sender = f"{request.get_span_context().trace_id:032x}", f"0x{send.context.span_id:016x}"
    attempts = [span for span in exported if span["name"] == "process default"]
    assert [span["attributes"]["eventmq.job.attempt"] for span in attempts] == [1, 2]
    assert {span["context"]["trace_id"] for span in attempts} == {f"0x{trace_id}"}
    assert {span["parent_id"] for span in attempts} == {sender}
    assert [span["status"]["status_code"] for span in attempts] == ["ERROR", "UNSET"]
    assert [event["attributes"]["exception.message"] for event in attempts[0]["events"]] == ["not yet"]
    got = [span for span in exported if span["name"] == "receive default"]
    assert {span["links"][0]["context"]["span_id"] for span in got} == {sender}
    logged = [json.loads(line) for line in manager.log.splitlines() if '"shop"' in line]
    assert [(line["message"], line["trace_id"]) for line in logged] == [
        ("attempt 1", trace_id),
        ("attempt 2", trace_id),
    ]
