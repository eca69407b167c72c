"""Jobs that the client's tests enqueue."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from eventmq import job


@dataclass
class Point:
    x: int
    y: int = 0


@job
def add(a: int, b: int = 2) -> int:
    return a + b


@job
def fail(text: str) -> None:
    raise ValueError(text)


@job(queue="slow", priority=5, timeout="1m")
async def later(a: int) -> int:
    await asyncio.sleep(0)
    return a + 1


@job
def mirror(point: Point, by: int = 1) -> Point:
    return Point(-point.x * by, point.y)


class Mailer:
    def __init__(self, host: str = "localhost") -> None:
        self.host = host

    @job
    def send(self, to: str) -> str:
        return f"{to} via {self.host}"


def unmarked(a: int) -> int:
    return a
