"""Tells systemd how this process is, if it runs as a service of `Type=notify` (sd_notify); else does nothing.

One datagram to the socket that the environment names. `contrib/systemd` has units that use all of it.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Mapping
from math import inf

log = logging.getLogger("eventmq.systemd")

STATUS_S = 5.0
"""The line that `systemctl status` shows is renewed this often, or as often as the watchdog wants to hear of us."""


class Service:
    """This process, as systemd knows it.

    Attributes:
        next: Monotonic time at which it wants to be told that the loop turns; never, if nobody asks.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        watched = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        watchdog_s = int(environ.get("WATCHDOG_USEC", "0")) / 1e6 if watched else 0.0
        self._every_s = min(STATUS_S, watchdog_s / 2) if watchdog_s else STATUS_S
        self._leaving = False
        self.next = inf

    def ready(self, now: float) -> None:
        """It does from now on what it is for."""
        if self._address and self.next == inf:
            self.next = now
            self._tell("READY=1")

    def turned(self, now: float, status: Callable[[], str], leaving: bool = False) -> None:
        """The loop has turned: told from time to time, and at once that the end begins, which may take its time."""
        if now < self.next and (leaving == self._leaving or not self._address):
            return
        self._leaving = leaving
        self.next = now + self._every_s
        more = ("STOPPING=1", f"EXTEND_TIMEOUT_USEC={int((self._every_s + STATUS_S) * 1e6)}") if leaving else ()
        self._tell("WATCHDOG=1", f"STATUS={status()}", *more)

    def _tell(self, *lines: str) -> None:
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as wire:
                wire.setblocking(False)
                wire.sendto("\n".join(lines).encode(), address)
        except OSError as error:
            log.warning("systemd cannot be told at %s: %s", self._address, error.strerror)
