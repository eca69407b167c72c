"""Signals as a file descriptor: a process that polls wakes up at once, and handlers run between two turns."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Mapping
from types import FrameType, TracebackType
from typing import Any

SignalHandler = Callable[[int, FrameType | None], None]


class Wakeup:
    """Installs signal handlers and a descriptor that becomes readable when one of them is due.

    Outside the main thread, where Python allows no handlers, it installs nothing and never wakes anybody.
    """

    def __init__(self, handlers: Mapping[signal.Signals, SignalHandler]) -> None:
        self._wanted = dict(handlers)
        self._before: dict[signal.Signals, Any] = {}
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._fd_before: int | None = None

    @property
    def descriptor(self) -> int:
        """What to poll for reading."""
        return self._reader.fileno()

    def __enter__(self) -> Wakeup:
        try:
            self._fd_before = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        except ValueError:
            self._wanted.clear()
        for number, handler in self._wanted.items():
            self.handle(number, handler)
        return self

    def handle(self, number: signal.Signals, handler: SignalHandler) -> None:
        """One more signal."""
        if self._fd_before is not None:
            self._before[number] = signal.signal(number, handler)

    def clear(self) -> None:
        """Empties the descriptor."""
        try:
            while self._reader.recv(4096):
                continue
        except BlockingIOError:
            return

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._fd_before is not None:
            signal.set_wakeup_fd(self._fd_before)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._reader.close()
        self._writer.close()
