"""Kills the process that it is imported into at its n-th statement to SQLite, or at its n-th message to a peer."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Callable
from itertools import count
from typing import Any

from eventmq.net import sockets


def kill_at(call: str, n: int) -> None:
    """Before the n-th `statement` or `message`."""
    calls = count(1)

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def kill_or_call(*args: Any, **named: Any) -> Any:
            if next(calls) == n:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **named)

        return kill_or_call

    if call == "message":
        sockets.send = counted(sockets.send)
        return
    connect = sqlite3.connect
    methods = ("execute", "executemany", "executescript")
    connection = type(
        "Connection", (sqlite3.Connection,), {m: counted(getattr(sqlite3.Connection, m)) for m in methods}
    )
    sqlite3.connect = lambda *args, **named: connect(*args, factory=connection, **named)  # type: ignore[assignment]
