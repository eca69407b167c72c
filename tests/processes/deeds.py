"""Jobs that leave a record of what they did: one line in a file for each beginning and each end."""

from __future__ import annotations

import os
import time

from eventmq import current_job, job


def write(path: str, what: str) -> None:
    """Appends one line in one write, so that lines of many processes do not mix."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, f"{what}\n".encode())
    finally:
        os.close(descriptor)


@job
def hold(path: str, seconds: float) -> str:
    """Begins, takes its time, ends."""
    me = current_job()
    assert me is not None
    write(path, f"begin {me.id} {me.attempt} {os.getpid()} {time.monotonic()}")
    time.sleep(seconds)
    write(path, f"end {me.id} {me.attempt} {os.getpid()} {time.monotonic()}")
    return me.id


@job
def once(path: str) -> None:
    """One line with its id."""
    me = current_job()
    assert me is not None
    write(path, me.id)


@job
def add(a: int, b: int) -> int:
    return a + b


def plain(a: int) -> int:
    return a
