"""The jobs of the proofs. Each run says so in a journal: one line in one write to a file opened with O_APPEND, so lines
of many processes do not mix and none is lost when a process is killed."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

from eventmq import Retry, SoftTimeout, current_job, job

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
def rest(seconds: float) -> int:
    """A job of a known length, and nothing else; which worker had it."""
    if seconds:
        time.sleep(seconds)
    return os.getpid()


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


# ---- jobs that are told to stop: each notes how it ends ------------------------------------------------


@job
def heed(journal: str) -> None:
    """Looks whether it should stop."""
    say(journal, "begin")
    now = current_job()
    assert now is not None
    while not now.should_stop:
        time.sleep(0.002)
    say(journal, "heeded")


@job
async def await_long(journal: str) -> None:
    say(journal, "begin")
    try:
        await asyncio.sleep(GATE_S)
    except asyncio.CancelledError:
        say(journal, "CancelledError")
        raise


@job
def sleep_long(journal: str) -> None:
    """Waits in one system call."""
    say(journal, "begin")
    try:
        time.sleep(GATE_S)
    except BaseException as error:
        say(journal, type(error).__name__)
        raise
    finally:
        say(journal, "finally")


@job
def ignore(journal: str, number: int) -> None:
    """Takes no notice of a signal, and of nothing else."""
    signal.signal(number, signal.SIG_IGN)
    say(journal, "begin")
    time.sleep(GATE_S)


@job
def advance(journal: str, gate: str) -> None:
    """Says how far it is, then waits for the gate."""
    say(journal, "begin")
    now = current_job()
    assert now is not None
    for done in range(1000):
        now.progress({"done": done, "of": 1000})
    hold(journal, gate)


@job
def step_aside(journal: str) -> str:
    """Asks to be run again when its manager drains."""
    say(journal, "begin")
    now = current_job()
    assert now is not None
    if Path(journal).with_suffix(".moved").exists():
        return "done elsewhere"
    while not now.should_stop:
        time.sleep(0.002)
    Path(journal).with_suffix(".moved").touch()
    raise Retry


# ---- jobs over their soft timeout ----------------------------------------------------------------------


@job(soft_timeout=0.2, timeout=20)
def outrun(journal: str, way: str) -> str:
    """Runs too long in some way, and cleans up when it is told."""
    say(journal, "begin")
    try:
        if way == "sleep":
            time.sleep(GATE_S)
        elif way == "read":
            os.read(os.pipe()[0], 1)
        elif way == "loop":
            asyncio.run(asyncio.sleep(GATE_S))
        else:
            while True:
                pass
    except SoftTimeout as error:
        return str(error)
    return "nothing happened"


@job(soft_timeout=0.2, timeout=20)
async def outrun_await(journal: str, way: str) -> str:
    say(journal, "begin")
    try:
        if way == "await":
            await asyncio.sleep(GATE_S)
        elif way == "group":
            await asyncio.gather(asyncio.sleep(GATE_S), asyncio.sleep(GATE_S))
        else:
            time.sleep(GATE_S)
    except SoftTimeout as error:
        await asyncio.sleep(0.05)  # it is raised once
        return str(error)
    return "nothing happened"


@job(soft_timeout=0.1, timeout=20)
def let_out(journal: str) -> None:
    say(journal, "begin")
    time.sleep(GATE_S)


@job(soft_timeout=0.03, timeout=20)
def close_race(seconds: float) -> str:
    """About as long as its soft timeout; whatever happens to it happens here."""
    try:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(0.0005)
    except SoftTimeout:
        return "soft"
    return "done"


@job(retries=1)
def falter() -> int:
    """Logs which attempt it is; the first one fails."""
    now = current_job()
    assert now is not None
    logging.getLogger("shop").info("attempt %d", now.attempt)
    if now.attempt == 1:
        raise ValueError("not yet")
    return now.attempt


@job
def recount(gate: str, lines: int) -> int:
    """Says how far it is, logs so many lines, waits for the gate, logs one more."""
    now = current_job()
    assert now is not None
    now.progress(lines, 2 * lines, "counting")
    for line in range(lines):
        logging.getLogger("shop").info("line %d of %d", line, now.attempt)
    deadline = time.monotonic() + GATE_S
    while not Path(gate).exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    logging.getLogger("shop").warning("the end")
    return lines
