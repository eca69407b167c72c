"""Jobs for the tests of workers, and functions that are none."""

from __future__ import annotations

import asyncio
import dataclasses
import decimal
import enum
import logging
import os
import signal
import subprocess
import sys
import time
import uuid
from datetime import datetime
from pathlib import Path

from eventmq.client.jobs import job
from eventmq.workers.context import current_job

events: list[str] = []


@job
def noop() -> None:
    return None


@job
def add(a: int, b: int = 0) -> int:
    return a + b


@job
async def later(value: str) -> str:
    await asyncio.sleep(0)
    return value.upper()


@job
async def fails_later() -> None:
    await asyncio.sleep(0)
    raise LookupError("later")


class Shop:
    def __init__(self, name: str) -> None:
        self.name = name

    @job
    def sell(self, what: str) -> str:
        return f"{self.name} sold {what}"

    def close(self) -> None:
        raise AssertionError("not a job")


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


@job
def kinds(
    id: uuid.UUID, price: decimal.Decimal, at: datetime, colour: Colour, *points: Point, **more: Point
) -> list[str]:
    return [type(value).__name__ for value in (id, price, at, colour, *points, *more.values())]


def plain() -> str:
    return "I carry no mark"


@job
def fail(text: str) -> None:
    raise ValueError(text)


@job
def fail_oddly() -> None:
    raise ValueError("\udcff")


@job
def leave(code: int) -> None:
    sys.exit(code)


@job
def interrupt() -> None:
    raise KeyboardInterrupt


@job
def unencodable() -> object:
    return object()


@job
def big(size: int) -> bytes:
    return bytes(size)


@job
def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@job
def mark(path: str, die: bool = False) -> None:
    """Leaves a mark, and takes the worker process down if told to."""
    with open(path, "a") as file:
        file.write("x")
    if die:
        os.kill(os.getpid(), signal.SIGKILL)


@job
def wait_for(path: str) -> str:
    """Ends when the file exists."""
    while not Path(path).exists():
        time.sleep(0.002)
    return "seen"


@job
def die(code: int) -> None:
    os._exit(code)


@job
def kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@job
def fork(how: str) -> int:
    """Forks; the child leaves in some way, as if it were a program of its own. The exit code of that child."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if how == "raise":
        raise ValueError("in the child")
    if how == "exit":
        sys.exit(5)
    if how == "leave":
        sys.exit()
    return 0


@job
def pid() -> int:
    return os.getpid()


@job
def stdin() -> str:
    return sys.stdin.read()


@job
def spawn_and_sleep(path: str) -> None:
    """Starts a process of its own, says which, and hangs."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(path).with_suffix(".new").write_text(str(child.pid))
    Path(path).with_suffix(".new").rename(path)
    time.sleep(600)


@job
def who() -> list[object]:
    logging.getLogger("shop").info("selling")
    me = current_job()
    assert me is not None
    return [me.id, me.name, me.queue, me.attempt, me.lease]


@job
def seen() -> list[str]:
    return list(events)


def set_up() -> None:
    events.append("setup")


def on_entry(context: object) -> None:
    events.append(f"entry {context.id}")  # type: ignore[attr-defined]


def on_exit() -> None:
    events.append("exit")


@job
def wait_and_mark(gate: str, path: str) -> None:
    """Says that it waits, waits for the gate, leaves a mark."""
    Path(gate + ".waiting").touch()
    wait_for(gate)
    with open(path, "a") as file:
        file.write("x")
