"""The jobs of the proofs. Each run says so in a journal: one line in one write to a file opened with O_APPEND, so lines
of many processes do not mix and none is lost when a process is killed."""

from __future__ import annotations

import json
import os
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

from eventmq import current_job, job

GATE_S = 60.0
"""A gate that nobody opens is a broken test."""


@lru_cache
def _opened(journal: str) -> int:
    return os.open(journal, os.O_WRONLY | os.O_APPEND)


def say(journal: str, event: str) -> None:
    now = current_job()
    assert now is not None
    line = {"event": event, "id": now.id, "attempt": now.attempt, "pid": os.getpid(), "at": time.monotonic()}
    os.write(_opened(journal), json.dumps(line).encode() + b"\n")


@job
def note(journal: str) -> int:
    """A tiny job."""
    say(journal, "begin")
    return 1


@job
def nap(journal: str, seconds: float) -> int:
    """A job of a known length."""
    say(journal, "begin")
    time.sleep(seconds)
    return 1


@job
def hold(journal: str, gate: str) -> int:
    """Runs until the file `gate` is there; returns the attempt that saw it."""
    say(journal, "begin")
    deadline = time.monotonic() + GATE_S
    while not Path(gate).exists():
        assert time.monotonic() < deadline, "nobody opened the gate"
        time.sleep(0.002)
    say(journal, "end")
    now = current_job()
    assert now is not None
    return now.attempt


@job
def hold_one(journal: str, gate: str, number: int, held: int) -> int:
    """Tiny, but for the one whose number is `held`: that one waits for the gate."""
    if number == held:
        return hold(journal, gate)
    say(journal, "begin")
    return number


@job
def die(journal: str, number: int, doomed: int, signal: int) -> int:
    """Tiny, but the one whose number is `doomed` kills its worker by a signal; 0 = it exits with code 3."""
    say(journal, "begin")
    if number == doomed:
        if not signal:
            os._exit(3)
        os.kill(os.getpid(), signal)
    return number


@job
def tick(file: str, number: int) -> None:
    """Leaves eight bytes in a file: its number."""
    os.write(_opened(file), number.to_bytes(8, "little"))


@job
def double(number: int) -> int:
    return 2 * number


@job
def complain(length: int) -> None:
    raise ValueError("x" * length)


@job
def anything(value: Any) -> int:
    return 1


def unmarked() -> int:
    """Importable, but no job."""
    return 1


@job
def repeat(text: str, times: int) -> str:
    return text * times
