"""The scheduler process: tells the Router what is due. Holds nothing of its own, so any number of them may run.

Carries what `schedules.session` decides: one socket, signals, the clock. One thread, one loop.
"""

from __future__ import annotations

import gc
import logging
import math
import os
import signal
import socket
import time
from types import FrameType

import zmq

from eventmq.client import ids
from eventmq.logs import Limited
from eventmq.net.line import Line
from eventmq.net.signals import Wakeup
from eventmq.net.systemd import Service
from eventmq.schedules.session import SchedulerSession
from eventmq.schedules.session_v1 import SchedulerSessionV1
from eventmq.settings import Settings

log = logging.getLogger("eventmq.scheduler")

TICK_S = 0.5
"""The clock is looked at this often at least."""

FAREWELL_S = 2.0
"""When it is told to end, ticks that are under way get this long to be ACKed."""


class Scheduler:
    """One scheduler.

    Args:
        settings: As of the component `scheduler`.
    """

    def __init__(self, settings: Settings) -> None:
        self.name = settings.name or f"{socket.gethostname()}-{os.getpid()}"
        self._broker_addr = settings.scheduler_addr
        self._session: SchedulerSession | SchedulerSessionV1
        if settings.wire == "1.0":
            self._session = SchedulerSessionV1(ids.new_id)
        else:
            self._session = SchedulerSession(self.name, ids.new_id(), settings.heartbeat_interval)
        self._poller = zmq.Poller()
        self._line = Line(settings.scheduler_addr, self._poller)
        self._limited = Limited(log)
        self._asked = 0
        self._leave_at: float | None = None
        self._service = Service()

    def start(self) -> int:
        """Runs until told to leave, by the Router, or by SIGTERM or SIGINT (twice: at once).

        Returns:
            The process's exit code.
        """
        log.info("scheduler %s for the Router at %s", self.name, self._broker_addr)
        try:
            with Wakeup(dict.fromkeys((signal.SIGTERM, signal.SIGINT), self._on_signal)) as wakeup:
                self._poller.register(wakeup.descriptor, zmq.POLLIN)
                self._connect()
                self._service.ready(time.monotonic())
                while not self._turn():
                    wakeup.clear()
            return 0
        finally:
            self._line.close()

    def _turn(self) -> bool:
        """Waits for what comes first, the next thing that is due or a message, and deals with it; whether it was the
        last one."""
        session = self._session
        wait_s = min(TICK_S, max(0.0, session.next_time() - time.monotonic()))
        sendable, received = self._line.hear(dict(self._poller.poll(math.ceil(wait_s * 1000))))
        now = time.monotonic()
        if sendable:
            session.on_sendable(now)
        for frames in received:
            self._asked += session.receive(frames, now)
        session.tick(now, time.time())
        session.flush(now)
        if session.reconnect:
            self._connect()
        last = self._is_leaving(now)
        for frames in session.outgoing:
            if not self._line.send(frames):
                session.on_unsent(now)
        session.outgoing.clear()
        self._complain(now)
        self._service.turned(now, self._in_a_line, self._leave_at is not None)
        return last

    def _in_a_line(self) -> str:
        return "connected" if self._session.in_session else "the Router does not know it"

    def _is_leaving(self, now: float) -> bool:
        """Whether to go now, goodbye said."""
        if self._asked and self._leave_at is None:
            self._leave_at = now + FAREWELL_S
            self._session.leave()
        if self._leave_at is None or not (self._session.settled() or now >= self._leave_at or self._asked > 1):
            return False
        self._session.goodbye()
        return True

    def _connect(self) -> None:
        self._line.open()
        self._session.connect(time.monotonic())

    def _complain(self, now: float) -> None:
        for text in self._session.complaints:
            self._limited.log(logging.WARNING, "complaint", text, now)
        self._session.complaints.clear()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._asked += 1


def run(settings: Settings) -> int:
    """Runs a scheduler as the settings say; returns its process's exit code."""
    gc.freeze()
    return Scheduler(settings).start()
