"""The worker process: `python -m eventmq.workers.child SOCKET-FD BOARD-FD MANAGER-PID`.

    main thread   reads commands when it has nothing to do, runs jobs one after another, marks each on the board
    steward       takes over while the main thread stays on one job: interrupts it when that is due, gives back what
                  waits behind it, sends the outcomes that wait, how far the job is and what it logs, reads commands,
                  and ends the process when the manager is gone

The jobs that wait stand in one deque: the main thread takes from the left, the steward from the right, each in one
atomic step, so a job is either run or given back. The one thing that this cannot do anything about is a job that
keeps the interpreter lock inside C code: then the steward does not run either, and what waits behind it waits.

Never imports ZeroMQ by itself; a job that enqueues others does.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections import deque

from eventmq import limits, logs
from eventmq.client import tracing
from eventmq.protocol import v2
from eventmq.protocol.scheduling import Declared
from eventmq.workers import context, messages
from eventmq.workers.board import Board
from eventmq.workers.channel import Channel
from eventmq.workers.declared import import_modules
from eventmq.workers.execute import Executor, hook
from eventmq.workers.interrupt import Interrupter
from eventmq.workers.reports import Reports
from eventmq.workers.resolve import Resolver, load_function

FLUSH_S = 0.001
"""Outcomes wait at most about this long for others to be sent with them, while there are jobs to run."""

FLUSH_BYTES = 128 << 10
"""The same in bytes: what a socketpair takes without blocking."""

PARK_TICKS = 100
"""The steward sleeps once the main thread was seen idle so many times in a row: an idle worker wakes nobody."""

UNREADY_EXIT_CODE = 3
"""Exit code of a worker that could not import the user's modules; its `unready` message says why."""


class Worker:
    """Everything that one worker process does; the `Host` of its jobs.

    Args:
        job_timeout_s: After which the manager kills jobs that have no timeout of their own; 0 = never.
    """

    def __init__(self, channel: Channel, board: Board, executor: Executor, job_timeout_s: float) -> None:
        self._channel = channel
        self._board = board
        self._executor = executor
        self._job_timeout_s = job_timeout_s
        self._interrupter = executor.interrupter = Interrupter(board)
        self._jobs: deque[v2.Job] = deque()
        self._sending = threading.Lock()
        self._reading = threading.Lock()
        self._wake = threading.Event()
        self._parked = False
        self._stopping = False
        self._forked = False
        self._flushed = 0.0
        self._reports = Reports()
        self._told_at = 0.0

    def run(self, declared: list[Declared]) -> None:
        """Serve the manager until it says stop; ends the process when it is gone."""
        context.host = self
        self._interrupter.install()
        os.register_at_fork(after_in_child=self._begin_fork)
        logging.getLogger().addHandler(self._reports)
        threading.Thread(target=self._steward, name="eventmq-steward", daemon=True).start()
        self._send(messages.encode(messages.Ready(declared)))
        while True:
            self._run_jobs()
            self._flush()
            if self._stopping and not self._jobs:
                return
            with self._reading:
                self._obey(self._channel.receive())

    # ---- main thread ---------------------------------------------------------------------------

    def _run_jobs(self) -> None:
        jobs, board, run = self._jobs, self._board, tracing.around(self._executor.run)
        now = self._flushed = time.monotonic()
        while jobs:
            try:
                job = jobs.popleft()
            except IndexError:  # the steward took the last one
                return
            board.begin(job.lease, now)
            if self._parked:
                self._wake.set()
            outcome = run(job)
            if self._forked:
                end_forked(outcome.failure)
            ended = time.monotonic()
            outcome.run_s = ended - now
            packed = v2.pack(outcome)
            if len(packed) > FLUSH_BYTES and not board.room_for(len(packed)):  # any smaller one has room
                self._flush()
            now = ended
            if board.end(packed) >= FLUSH_BYTES or now - self._flushed >= FLUSH_S:
                self._flush()
                self._look_up()
                now = time.monotonic()

    def _flush(self) -> None:
        with self._sending:
            self._send_outcomes()
            self._board.clear()
        self._flushed = time.monotonic()

    def _begin_fork(self) -> None:
        """A job has forked this process. Asking the kernel who we are after each job would cost a seventh of it."""
        self._forked = True

    # ---- for jobs --------------------------------------------------------------------------------

    def deadline_of(self, job: v2.Job) -> float | None:
        """Wall time at which a running job is killed; None = never, or it does not run any more."""
        running = self._board.running()
        timeout_s = v2.options_of(job.options).timeout_s
        timeout_s = self._job_timeout_s if timeout_s is None else timeout_s
        if not timeout_s or running is None or running[0] != job.lease:
            return None
        return time.time() + running[1] + timeout_s - time.monotonic()

    def should_stop(self, lease: int) -> bool:
        """Whether the job of this lease was asked to stop."""
        return self._board.draining or self._board.unwanted == lease

    def progress(self, job: v2.Job, value: bytes) -> None:
        """How far this job says it is; told by the steward."""
        self._reports.progress(job, value)

    # ---- either thread ---------------------------------------------------------------------------

    def _send(self, message: bytes) -> None:
        with self._sending:
            self._channel.send(message)

    def _send_outcomes(self) -> None:
        """What the board has; ahead of it what those jobs have logged, as nothing is told of a job that has ended. In
        this order: a line that was logged before its job's outcome stood on the board is taken after that was read."""
        outcomes = self._board.unsent()
        if outcomes is not None:
            if self._reports.unsent:
                self._channel.send(messages.encode(messages.Progress(self._reports.take())))
            self._channel.send(outcomes)

    def _obey(self, commands: list[bytes]) -> None:
        if self._channel.closed:
            end_with_group()
        for command in map(messages.decode_command, commands):
            match command:
                case messages.Run(jobs):
                    tracing.received(jobs)
                    self._jobs.extend(jobs)
                case messages.Return():
                    self._give_back()
                case messages.Stop():
                    self._stopping = True

    def _look_up(self) -> None:
        """Obey what the manager has said meanwhile, unless the other thread does."""
        if self._reading.acquire(blocking=False):
            try:
                self._obey(self._channel.receive(wait=False))
            finally:
                self._reading.release()

    def _give_back(self) -> None:
        leases = []
        while self._jobs:
            try:
                leases.append(self._jobs.pop().lease)
            except IndexError:  # the main thread took the last one
                break
        if leases:
            self._send(messages.encode(messages.Returned(leases[::-1])))

    # ---- the steward ------------------------------------------------------------------------------

    def _steward(self) -> None:
        idle_ticks = 0
        while True:
            time.sleep(limits.STUCK_S)
            running = self._board.running()
            idle_ticks = idle_ticks + 1 if running is None else 0
            if running is not None and time.monotonic() - running[1] >= limits.STUCK_S:
                self._interrupter.look()
                self._take_over()
                self._tell(time.monotonic())
            elif idle_ticks >= PARK_TICKS:
                self._park()
                idle_ticks = 0

    def _park(self) -> None:
        self._wake.clear()
        self._parked = True
        if self._board.running() is None:  # asked again after the flag is up: the main thread looks at it later
            self._wake.wait()
        self._parked = False

    def _take_over(self) -> None:
        with self._sending:
            self._send_outcomes()
        self._look_up()
        self._give_back()

    def _tell(self, now: float) -> None:
        """What the job says of itself, at most every `PROGRESS_S`."""
        if self._reports.unsent and now - self._told_at >= limits.PROGRESS_S:
            self._told_at = now
            self._send(messages.encode(messages.Progress(self._reports.take())))


def end_forked(failure: v2.Failure | None) -> None:
    """End a process that a job has forked, as it comes out of that job's function: it is no worker, and what it would
    do with board and socket, the job in its parent would seem to do."""
    text = "" if failure is None else failure.message
    if failure is not None and failure.type != "builtins.SystemExit":
        sys.stderr.write(failure.traceback)
        text = failure.type
    sys.stdout.flush()
    os._exit(int(text) if text.isdecimal() else text not in ("", "None"))


def end_with_group() -> None:
    """End this process, and what its jobs have started, at once: its manager is gone."""
    os.killpg(os.getpgrp(), signal.SIGKILL)


def die_with(manager_pid: int) -> None:
    """Have the kernel kill this process when the manager dies, where it can; end it if that has happened already."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != manager_pid:
        end_with_group()


def prepare(setup: messages.Setup) -> tuple[Executor, list[Declared]]:
    """Import what the user's jobs need and call the setup function; raises whatever that raises."""
    sys.path[:] = setup.path
    tracing.parent = setup.otel_parent
    logs.setup(setup.log_level, setup.log_format, context.about)
    declared = import_modules(setup.modules)
    if setup.subprocess_setup_func:
        hook(load_function(setup.subprocess_setup_func))()
    entry, leave = (hook(load_function(path)) if path else None for path in (setup.job_entry_func, setup.job_exit_func))
    return Executor(Resolver(setup.modules, setup.allow_any_callable), entry, leave), declared


def receive_setup(channel: Channel) -> messages.Setup:
    """The first message."""
    received: list[bytes] = []
    while not received:
        received = channel.receive()
        if channel.closed:
            end_with_group()
    setup = messages.decode_command(received[0])
    assert isinstance(setup, messages.Setup)
    assert len(received) == 1, "a manager sends nothing else before `ready`"
    return setup


def main() -> int:
    """Run a worker process.

    Returns:
        Its exit code.
    """
    socket_fd, board_fd, manager_pid = map(int, sys.argv[1:])
    die_with(manager_pid)
    channel = Channel(socket.socket(fileno=socket_fd), blocking=True)
    for fd in (socket_fd, board_fd):
        os.set_inheritable(fd, False)
    board = Board(board_fd)
    setup = receive_setup(channel)
    try:
        executor, declared = prepare(setup)
    except BaseException:
        channel.send(messages.encode(messages.Unready(traceback.format_exc())))
        return UNREADY_EXIT_CODE
    Worker(channel, board, executor, setup.job_timeout_s).run(declared)
    executor.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
