"""The jobs of the benchmarks."""

from __future__ import annotations

import time

from eventmq import job


@job
def noop() -> None:
    """Nothing: what is left is EventMQ."""


@job
def now() -> float:
    """The machine's monotonic clock when the job runs."""
    return time.monotonic()
