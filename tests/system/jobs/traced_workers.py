"""How a worker process of the proofs sets up OpenTelemetry: spans become lines of the file that is named there."""

from __future__ import annotations

import os

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter


def set_up() -> None:
    """Called once, where a worker starts; the file is open as long as it lives."""
    file = open(os.environ["TRACES"], "a", buffering=1)  # noqa: SIM115
    exporter = ConsoleSpanExporter(out=file, formatter=lambda span: span.to_json(indent=None) + "\n")
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
