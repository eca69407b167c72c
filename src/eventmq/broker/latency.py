"""How long jobs take, by queue: from hand-out to outcome, in seconds. Pure; since the Router's start."""

from __future__ import annotations

from collections.abc import Mapping


class Latency:
    """Of one queue."""

    __slots__ = ("count", "max", "total")

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self.max = 0.0


def observe(latencies: dict[str, Latency], took_s: Mapping[str, list[float]]) -> None:
    """More outcomes, by queue: how long they took, for each of these queues one at least."""
    for queue, seconds in took_s.items():
        latency = latencies.get(queue)
        if latency is None:
            latency = latencies[queue] = Latency()
        latency.count += len(seconds)
        latency.total += sum(seconds)
        latency.max = max(latency.max, *seconds)
