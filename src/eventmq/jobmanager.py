"""The job manager process: asks the Router for jobs, runs them in worker processes. Runs no user code itself.

Carries what `workers.foreman` decides: one socket, the workers' socketpairs, signals, the clock. One thread, one loop;
nothing in it waits for a worker or for the Router.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import time
from types import FrameType
from typing import Any

import zmq

from eventmq import __version__, limits
from eventmq.client import ids
from eventmq.monitoring.listener import listening
from eventmq.monitoring.pages import Pages, loop_turns
from eventmq.net.frames import POLLIN, POLLOUT
from eventmq.net.line import Line
from eventmq.net.signals import SignalHandler, Wakeup
from eventmq.net.systemd import Service
from eventmq.settings import Settings
from eventmq.workers import effects, messages
from eventmq.workers.foreman import Foreman, Rules
from eventmq.workers.process import WorkerProcess, death_of
from eventmq.workers.session import Identity
from eventmq.workers.worker import Death

log = logging.getLogger("eventmq.jobmanager")


LOOK_S = 0.1
"""A death of which neither a signal nor a socket tells is seen after this time."""


class JobManager:
    """One job manager with its worker processes.

    Args:
        settings: As of the component `jobmanager`. `wire` cannot be found out by trying: a Router of 2020 dies of any
            frame that is not UTF-8.
    """

    def __init__(self, settings: Settings) -> None:
        self._broker_addr = settings.worker_addr
        self._setup = messages.Setup(
            sys.path,
            list(settings.modules),
            settings.subprocess_setup_func,
            settings.job_entry_func,
            settings.job_exit_func,
            settings.allow_any_callable,
            settings.least_level,
            settings.global_timeout,
            settings.log_format,
            settings.otel_parent == "parent",
        )
        host, pid = socket.gethostname(), os.getpid()
        about = {"host": host, "pid": pid, "version": __version__, "workers": settings.concurrent_jobs}
        name = settings.name or f"{host}-{pid}"
        identity = Identity(name, ids.new_id(), settings.queues, about, settings.fair)
        self.name = identity.name
        self._processes: dict[int, WorkerProcess] = {}
        rules = Rules(
            settings.concurrent_jobs,
            settings.max_job_count,
            settings.global_timeout,
            settings.drain_s,
            settings.heartbeat_interval,
            settings.wire,
        )
        self._foreman = Foreman(rules, identity, self._running, ids.new_id)
        self._poller = zmq.Poller()
        self._line = Line(settings.worker_addr, self._poller)
        self._leave_asked = 0
        self._leave_seen = 0
        self._hurry = False
        self._look_at = 0.0
        self._turned_at = time.monotonic()
        self._absence = ""
        self._service = Service()
        self._health_addr = settings.health_addr
        self._pages = Pages(lambda: loop_turns(lambda: self._turned_at), lambda: {"registered": self._absence})

    def start(self) -> int:
        """Run until told to leave, by the Router, by SIGTERM or SIGINT (twice: at once), or by `stop`.

        Returns:
            The process's exit code: 0, or 1 if no worker process can start.
        """
        log.info("job manager %s for the Router at %s", self.name, self._broker_addr)
        self._foreman.start()
        try:
            with Wakeup(self._signals()) as wakeup, listening(self._health_addr, self._pages):
                return self._serve(wakeup)
        finally:
            self._close()
            log.info("ended")

    def stop(self) -> None:
        """Leave as on SIGTERM, within a tenth of a second; from any thread. A second call: at once."""
        self._leave_asked += 1

    # ---- the loop ----------------------------------------------------------------------------------

    def _signals(self) -> dict[signal.Signals, SignalHandler]:
        """SIGTERM and SIGINT ask to leave; SIGCHLD only wakes the loop, which looks after its workers then. Elsewhere
        than on the main thread there are no signals: a death is then seen by the socket that it closes."""
        return {
            signal.SIGTERM: self._on_signal,
            signal.SIGINT: self._on_signal,
            signal.SIGCHLD: lambda number, frame: None,
        }

    def _serve(self, wakeup: Wakeup) -> int:
        foreman = self._foreman
        self._poller.register(wakeup.descriptor, POLLIN)
        code = self._turn_over()
        while code is None:
            ready = dict(self._poller.poll(0 if self._hurry else int(foreman.patience() * 1000)))
            woken = wakeup.descriptor in ready
            if woken:
                wakeup.clear()
            self._hear_router(ready)
            self._hear_workers(ready, woken)
            while self._leave_seen < self._leave_asked:
                self._leave_seen += 1
                foreman.drain(time.monotonic())
            code = self._turn_over()
        return code

    def _hear_router(self, ready: dict[Any, int]) -> None:
        now = time.monotonic()
        sendable, received = self._line.hear(ready)
        if sendable:
            self._foreman.on_sendable(now)
        for frames in received:
            self._foreman.on_frames(frames, now)
        self._hurry = len(received) == limits.TURN_MESSAGES_MAX

    def _hear_workers(self, ready: dict[Any, int], woken: bool) -> None:
        now = time.monotonic()
        look = woken or now >= self._look_at
        if look:
            self._look_at = now + LOOK_S
        for key, process in list(self._processes.items()):
            events = ready.get(process.channel.fileno(), 0)
            if events & POLLOUT:
                process.channel.flush()
                self._watch(process)
            if events & ~POLLOUT:
                self._pass_on(key, process.channel.receive(), now)
                if process.channel.closed:
                    process.kill()  # a worker that has closed its end is dead, or as good as
            code = process.died() if look or process.channel.closed else None
            if code is not None:
                self._bury(key, process, code, now)

    def _pass_on(self, key: int, received: list[bytes], now: float) -> None:
        for message in received:
            self._foreman.on_event(key, messages.decode_event(message), now)

    def _bury(self, key: int, process: WorkerProcess, code: int, now: float) -> None:
        self._pass_on(key, process.channel.receive_rest(), now)
        running = process.board.running()
        death = Death(death_of(code), code == 0, process.board.outcomes(), running[0] if running else None)
        self._poller.unregister(process.channel.fileno())
        del self._processes[key]
        process.close()
        self._foreman.on_death(key, death, now)

    def _running(self) -> dict[int, tuple[int, float]]:
        found = ((key, process.board.running()) for key, process in self._processes.items())
        return {key: running for key, running in found if running is not None}

    # ---- effects -------------------------------------------------------------------------------------

    def _turn_over(self) -> int | None:
        """Carry out what the turn has led to; an exit code if it is the last one."""
        code = None
        now = self._turned_at = time.monotonic()
        for effect in self._foreman.end_turn(now, time.time()):
            match effect:
                case effects.Send(frames):
                    if not self._line.send(frames):
                        self._foreman.on_unsent(time.monotonic())
                case effects.Tell(worker, message):
                    self._tell(worker, message)
                case effects.Spawn(worker):
                    self._spawn(worker)
                case effects.Stop(worker, lease):
                    if worker in self._processes:
                        self._processes[worker].board.ask_to_stop(lease)
                case effects.Terminate(worker):
                    if worker in self._processes:
                        self._processes[worker].terminate()
                case effects.Kill(worker):
                    if worker in self._processes:
                        self._processes[worker].kill()
                case effects.Report(level, text, detail):
                    log.log(logging.getLevelNamesMapping()[level.upper()], "%s", text, extra={"detail": detail})
                case effects.Connect():
                    self._line.open()
                    self._foreman.on_connected(time.monotonic())
                    self._service.ready(now)
                case effects.Exit(exit_code):
                    code = exit_code
        self._absence = self._foreman.absence
        self._service.turned(now, self._in_a_line, self._foreman.leaving)
        return code

    def _in_a_line(self) -> str:
        return f"{len(self._running())} of {len(self._processes)} workers run a job; {self._absence or 'connected'}"

    def _tell(self, worker: int, message: bytes) -> None:
        process = self._processes.get(worker)
        if process is not None:
            process.channel.send(message)
            if process.channel.unsent:
                self._watch(process)

    def _spawn(self, worker: int) -> None:
        process = self._processes[worker] = WorkerProcess(self._setup)
        self._watch(process)

    def _watch(self, process: WorkerProcess) -> None:
        writable = POLLOUT if process.channel.unsent else 0
        self._poller.register(process.channel.fileno(), POLLIN | writable)

    def _close(self) -> None:
        for process in self._processes.values():
            process.close()
        self._processes.clear()
        self._line.close()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._leave_asked += 1


def run(settings: Settings) -> int:
    """Run a job manager as the settings say; returns its process's exit code."""
    return JobManager(settings).start()
