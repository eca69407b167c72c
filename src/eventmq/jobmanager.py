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
import textwrap
import time
import uuid
from collections.abc import Sequence
from types import FrameType
from typing import Any

import zmq

from eventmq import limits
from eventmq.net.line import Line
from eventmq.net.signals import SignalHandler, Wakeup
from eventmq.settings import Settings
from eventmq.workers import effects, messages
from eventmq.workers.foreman import Foreman, Rules
from eventmq.workers.process import WorkerProcess, death_of
from eventmq.workers.session import Identity
from eventmq.workers.worker import Death

log = logging.getLogger("eventmq.jobmanager")


class JobManager:
    """One job manager with its worker processes.

    Args:
        broker_addr: The Router's backend.
        name: Stable, for people. Empty: host and process id.
        queues: (weight, name) pairs; empty = the Router's default queues.
        fair: The weights share the slots among the queues instead of ranking them.
        concurrent_jobs: Worker processes; 0 = one for each core.
        modules: Imported by workers at start, and then the only ones that jobs may come from.
        max_job_count: Jobs after which a worker process is replaced; 0 = never.
        subprocess_setup_func: `module.function` that each worker process calls first.
        job_entry_func: `module.function` to call before each job.
        job_exit_func: `module.function` to call after each job.
        job_timeout_s: A job that has run this long is killed, unless it has its own timeout; 0 = never.
        drain_s: How long SIGTERM lets running jobs finish.
        heartbeat_s: Time between beats.
        wire: `2.0`, or `1.0` for a Router of 2020. It cannot be found out by trying: such a Router dies of any frame
            that is not UTF-8.
        allow_any_callable: Run functions without the `@job` mark too, as 0.3.13 did.
    """

    def __init__(
        self,
        *,
        broker_addr: str = "tcp://127.0.0.1:47290",
        name: str = "",
        queues: Sequence[tuple[int, str]] = (),
        fair: bool = False,
        concurrent_jobs: int = 0,
        modules: Sequence[str] = (),
        max_job_count: int = 0,
        subprocess_setup_func: str = "",
        job_entry_func: str = "",
        job_exit_func: str = "",
        job_timeout_s: float = limits.JOB_TIMEOUT_S,
        drain_s: float = limits.DRAIN_S,
        heartbeat_s: float = limits.HEARTBEAT_S,
        wire: str = "2.0",
        allow_any_callable: bool = False,
        log_level: str = "INFO",
    ) -> None:
        workers = concurrent_jobs or os.cpu_count() or 1
        self._broker_addr = broker_addr
        self._setup = messages.Setup(
            sys.path,
            list(modules),
            subprocess_setup_func,
            job_entry_func,
            job_exit_func,
            allow_any_callable,
            log_level,
            job_timeout_s,
        )
        host, pid = socket.gethostname(), os.getpid()
        about = {"host": host, "pid": pid, "workers": workers}
        identity = Identity(name or f"{host}-{pid}", uuid.uuid4().hex, tuple(queues), about, fair)
        self.name = identity.name
        self._processes: dict[int, WorkerProcess] = {}
        rules = Rules(workers, max_job_count, job_timeout_s, drain_s, heartbeat_s, wire)
        self._foreman = Foreman(rules, identity, self._running, _new_id)
        self._poller = zmq.Poller()
        self._line = Line(broker_addr, self._poller)
        self._leave_asked = 0
        self._leave_seen = 0
        self._hurry = False

    def start(self) -> int:
        """Run until told to leave, by the Router, by SIGTERM or SIGINT (twice: at once), or by `stop`.

        Returns:
            The process's exit code: 0, or 1 if no worker process can start.
        """
        log.info("job manager %s for the Router at %s", self.name, self._broker_addr)
        self._foreman.start()
        try:
            with Wakeup(self._signals()) as wakeup:
                return self._serve(wakeup)
        finally:
            self._close()

    def stop(self) -> None:
        """Leave as on SIGTERM, within a tenth of a second; from any thread. A second call: at once."""
        self._leave_asked += 1

    # ---- the loop ----------------------------------------------------------------------------------

    def _signals(self) -> dict[signal.Signals, SignalHandler]:
        """SIGTERM and SIGINT ask to leave; SIGCHLD only wakes the loop, which looks after its workers in each turn.
        Elsewhere than on the main thread there are no signals: a death is then seen by the socket that it closes."""
        return {
            signal.SIGTERM: self._on_signal,
            signal.SIGINT: self._on_signal,
            signal.SIGCHLD: lambda number, frame: None,
        }

    def _serve(self, wakeup: Wakeup) -> int:
        foreman = self._foreman
        self._poller.register(wakeup.descriptor, zmq.POLLIN)
        code = self._turn_over()
        while code is None:
            ready = dict(self._poller.poll(0 if self._hurry else int(foreman.patience() * 1000)))
            if wakeup.descriptor in ready:
                wakeup.clear()
            self._hear_router(ready)
            self._hear_workers(ready)
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

    def _hear_workers(self, ready: dict[Any, int]) -> None:
        now = time.monotonic()
        for key, process in list(self._processes.items()):
            events = ready.get(process.channel.fileno(), 0)
            if events & zmq.POLLOUT:
                process.channel.flush()
                self._watch(process)
            if events & ~zmq.POLLOUT:
                self._pass_on(key, process.channel.receive(), now)
                if process.channel.closed:
                    process.kill()  # a worker that has closed its end is dead, or as good as
            code = process.died()
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
        for effect in self._foreman.end_turn(time.monotonic(), time.time()):
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
                    log.log(logging.getLevelNamesMapping()[level.upper()], "%s", text)
                    sys.stderr.write(textwrap.indent(detail, "    "))
                case effects.Connect():
                    self._line.open()
                    self._foreman.on_connected(time.monotonic())
                case effects.Exit(exit_code):
                    code = exit_code
        return code

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
        writable = zmq.POLLOUT if process.channel.unsent else 0
        self._poller.register(process.channel.fileno(), zmq.POLLIN | writable)

    def _close(self) -> None:
        for process in self._processes.values():
            process.close()
        self._processes.clear()
        self._line.close()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._leave_asked += 1


def run(settings: Settings) -> int:
    """Run a job manager as the settings say; returns its process's exit code."""
    manager = JobManager(
        broker_addr=settings.worker_addr,
        name=settings.name,
        queues=settings.queues,
        fair=settings.fair,
        concurrent_jobs=settings.concurrent_jobs,
        modules=settings.modules,
        max_job_count=settings.max_job_count,
        subprocess_setup_func=settings.subprocess_setup_func,
        job_entry_func=settings.job_entry_func,
        job_exit_func=settings.job_exit_func,
        job_timeout_s=settings.global_timeout,
        drain_s=settings.drain_s,
        heartbeat_s=settings.heartbeat_interval,
        wire=settings.wire,
        allow_any_callable=settings.allow_any_callable,
        log_level="DEBUG" if settings.super_debug else settings.log_level,
    )
    return manager.start()


def _new_id() -> str:
    return uuid.uuid4().hex
