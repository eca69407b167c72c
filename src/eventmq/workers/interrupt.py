"""How a job is interrupted while it runs: `SoftTimeout`, `Terminated`, and `CancelledError` in a coroutine.

    board, clock ─▶ what is due? ─┬─ awaits ────▶ thrown into the coroutine at its await
     (main, steward)              └─ runs code ─▶ a signal to the main thread, whose handler raises

What is due is worked out anew by each who asks, from the board and the clock; a signal only says "look". The steward
asks at each of its ticks until it is raised, so nothing is lost when the moment is bad. It is bad whenever code other
than the job's own would see the exception: the handler goes by the stack that it interrupts, which cannot lie about
where the job begins and ends. Each kind is raised once per run, always on the main thread.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from time import monotonic
from types import CoroutineType, FrameType
from typing import Any, NamedTuple

from eventmq.errors import SoftTimeout, Terminated
from eventmq.protocol import v2
from eventmq.workers.board import Board

PROD = signal.SIGURG
"""The steward's signal. Hardly a program uses it, and where nobody handles it, it is ignored: a job that changes its
process's handlers does no harm. (Go's runtime interrupts by it, for these reasons.)"""

_EVENT_LOOP = str(Path(asyncio.__file__).parent)


def call(function: Callable[..., Any], args: Iterable[Any], kwargs: dict[str, Any]) -> Any:
    """Calls a job's own code: what runs in this frame's callees may be interrupted."""
    return function(*args, **kwargs)


class Driven:
    """A job's coroutine on its event loop; `throw` raises something in it at its await."""

    def __init__(self, coroutine: CoroutineType[Any, Any, Any]) -> None:
        self._coroutine = coroutine
        self._thrown: BaseException | None = None
        self._task: asyncio.Task[Any] | None = None
        self.loop: asyncio.AbstractEventLoop | None = None

    async def run(self) -> Any:
        """Awaits the coroutine, as the task that the loop runs."""
        self._task = asyncio.current_task()
        self.loop = asyncio.get_running_loop()
        return await self

    def __await__(self) -> Generator[Any, Any, Any]:
        step: Callable[[Any], Any] = self._coroutine.send
        argument: Any = None
        while True:
            try:
                awaited = step(argument)
            except StopIteration as end:
                return end.value
            try:
                argument = yield awaited
                step = self._coroutine.send
            except BaseException as error:
                step, argument = self._coroutine.throw, self._instead(error)

    def throw(self, error: BaseException) -> None:
        """Cancels what the coroutine awaits, and raises `error` there. On the loop's thread."""
        if self._task is not None and self._task.cancel() and not isinstance(error, asyncio.CancelledError):
            self._thrown = error

    def _instead(self, error: BaseException) -> BaseException:
        thrown, task = self._thrown, self._task
        if thrown is None or task is None or not isinstance(error, asyncio.CancelledError):
            return error
        self._thrown = None
        task.uncancel()  # it was our way in, and is no wish that the task should end
        return thrown


_CALL, _DRIVE = call.__code__, Driven.__await__.__code__


def interruptible(frame: FrameType | None) -> bool:
    """Whether what is raised in `frame` is seen by the job's own code first, and not by ours or by its event loop."""
    innermost, in_loop = frame, False
    while frame is not None:
        code = frame.f_code
        if code is _CALL:
            return frame is not innermost
        if code is _DRIVE:
            return frame is not innermost and not in_loop
        in_loop = in_loop or code.co_filename.startswith(_EVENT_LOOP)
        frame = frame.f_back
    return False


class Raised(NamedTuple):
    """What was raised in the run of one lease."""

    lease: int = 0
    kinds: tuple[type[BaseException], ...] = ()


class Interrupter:
    """Interrupts the job that runs in this process.

    Attributes:
        job: The one that runs, or ran last. Set by the main thread.
        driven: Its coroutine, if it is one and awaits or runs. Set by the main thread.
    """

    def __init__(self, board: Board) -> None:
        self.job: v2.Job | None = None
        self.driven: Driven | None = None
        self._board = board
        self._raised = Raised()
        self._terminated = 0
        self._scheduled: tuple[int, type[BaseException]] | None = None

    def install(self) -> None:
        """Handle the signals; on the main thread. A forked child of a job is as if nothing had been installed."""
        signal.signal(signal.SIGTERM, self._on_sigterm)
        signal.signal(PROD, self._on_signal)
        os.register_at_fork(after_in_child=self._in_child)

    def _in_child(self) -> None:
        if signal.getsignal(signal.SIGTERM) == self._on_sigterm:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    # ---- on the main thread ----------------------------------------------------------------------

    def _on_sigterm(self, number: int, frame: FrameType | None) -> None:
        """The manager means one job, which may have ended meanwhile. From anybody else it means nothing: a supervisor
        that signals all processes of a service wants the manager to drain."""
        running = self._board.running()
        if running is not None and running[0] == self._board.unwanted:
            self._terminated = running[0]
        self._on_signal(number, frame)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        kind = self._due()
        if kind is not None and kind is not asyncio.CancelledError and interruptible(frame):
            raise self._made(kind)

    def _throw(self, driven: Driven, kind: type[BaseException]) -> None:
        if driven is self.driven and kind is self._due():
            driven.throw(self._made(kind))

    def _made(self, kind: type[BaseException]) -> BaseException:
        job = self.job
        assert job is not None
        earlier = self._raised.kinds if self._raised.lease == job.lease else ()
        self._raised = Raised(job.lease, (*earlier, kind))
        if kind is SoftTimeout:
            return SoftTimeout(f"ran longer than its soft_timeout of {soft_timeout_of(job):g} s")
        return Terminated("cancelled, and it did not stop when it was asked") if kind is Terminated else kind()

    # ---- on either thread ------------------------------------------------------------------------

    def _due(self) -> type[BaseException] | None:
        """What is to be raised in the job that runs, and was not yet."""
        job, running, raised = self.job, self._board.running(), self._raised
        if job is None or running is None or running[0] != job.lease:
            return None
        kind: type[BaseException] | None = None
        if job.lease == self._board.unwanted:
            kind = Terminated if self._terminated == job.lease else asyncio.CancelledError
        elif 0 < soft_timeout_of(job) <= monotonic() - running[1]:
            kind = SoftTimeout
        return None if raised.lease == job.lease and kind in raised.kinds else kind

    # ---- on the steward's thread -----------------------------------------------------------------

    def look(self) -> None:
        """Have raised what is due."""
        kind, job, driven = self._due(), self.job, self.driven
        if kind is None or job is None:
            return
        loop = driven.loop if driven is not None else None
        if loop is not None and driven is not None and self._scheduled != (job.lease, kind):
            self._scheduled = job.lease, kind
            loop.call_soon_threadsafe(self._throw, driven, kind)
        if kind is not asyncio.CancelledError:
            main = threading.main_thread().ident
            assert main is not None
            signal.pthread_kill(main, PROD)


def soft_timeout_of(job: v2.Job) -> float:
    """Seconds after which `SoftTimeout` is raised in a job; 0 = never."""
    return (v2.decode(job.options, v2.Options).soft_timeout_s or 0.0) if job.options else 0.0
