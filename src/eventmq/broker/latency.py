"""How long jobs take, by queue: from hand-out to outcome, in seconds. Pure; since the Router's start."""

from __future__ import annotations


class Latency:
    """Of one queue."""

    __slots__ = ("count", "max", "total")

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self.max = 0.0


def observe(latencies: dict[str, Latency], queue: str, seconds: float) -> None:
    """One more outcome of a queue."""
    latency = latencies.get(queue)
    if latency is None:
        latency = latencies[queue] = Latency()
    latency.count += 1
    latency.total += seconds
    if seconds > latency.max:
        latency.max = seconds
