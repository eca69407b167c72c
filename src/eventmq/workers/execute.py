"""The steps of one job: find what it names, convert its arguments, call it, encode what became of it.

Whatever user code does short of ending the process is an outcome, `SystemExit` and `KeyboardInterrupt` included.
Knows nothing of managers and sockets. Runs on one thread.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import os
import sysconfig
import traceback
from collections.abc import Callable
from pathlib import Path
from types import CoroutineType, TracebackType
from typing import Any

from eventmq import limits
from eventmq.client.retry import Retry
from eventmq.errors import SoftTimeout
from eventmq.protocol import arguments, calls, v2
from eventmq.protocol.v2 import Failure, Outcome
from eventmq.workers import context, interrupt
from eventmq.workers.interrupt import Driven, Interrupter, call
from eventmq.workers.resolve import JobLookupError, Resolver

log = logging.getLogger("eventmq.worker")

Hook = Callable[[], Any] | None


class Executor:
    """Runs jobs in this process.

    Args:
        entry: Called before each job; if it raises, the job has failed with that.
        exit: Called after each job; what it raises is logged.

    Attributes:
        interrupter: Is shown each job and coroutine, so that it can interrupt them; None = nobody does.
    """

    def __init__(self, resolver: Resolver, entry: Hook = None, exit: Hook = None) -> None:
        self._resolver = resolver
        self._targets = resolver.known
        self._entry = entry
        self._exit = exit
        self._runner: asyncio.Runner | None = None
        self.interrupter: Interrupter | None = None

    def run(self, job: v2.Job) -> Outcome:
        """Run one job. How long it took is for the caller to say."""
        context.running.set(job)
        if self.interrupter is not None:
            self.interrupter.job = job
        try:
            if self._entry is not None:
                self._entry()
            target = self._targets.get(job.name) or self._resolver.find(job.name)
            args, kwargs, class_args, class_kwargs = calls.unpack_call(job.payload)
            if target.signature is not None:
                args, kwargs = target.signature.convert(args, kwargs)
            if target.owner is not None:
                args = [call(target.owner, class_args, class_kwargs), *args]
            value = call(target.function, args, kwargs)
            if type(value) is CoroutineType:
                value = self._await(value)
            return _succeeded(job, value)
        except JobLookupError as error:
            return _outcome(job, "failed", Failure(error.type, str(error)))
        except Retry as error:
            return _outcome(job, "retry", failure_of(error), error.delay_s)
        except SoftTimeout as error:
            return _outcome(job, "timeout", failure_of(error))
        except BaseException as error:
            return _outcome(job, "failed", failure_of(error))
        finally:
            if self._exit is not None:
                self._leave(self._exit)
            context.running.set(None)

    def close(self) -> None:
        """End the event loop, if any coroutine ever ran."""
        if self._runner is not None:
            self._runner.close()

    def _await(self, coroutine: CoroutineType[Any, Any, Any]) -> Any:
        if self._runner is None:
            self._runner = asyncio.Runner()
        driven = Driven(coroutine)
        if self.interrupter is not None:
            self.interrupter.driven = driven
        try:
            return self._runner.run(driven.run(), context=contextvars.copy_context())
        finally:
            if self.interrupter is not None:
                self.interrupter.driven = None

    def _leave(self, function: Callable[[], Any]) -> None:
        try:
            function()
        except BaseException:
            log.exception("job_exit_func raised; the job's outcome stands")


def _succeeded(job: v2.Job, value: Any) -> Outcome:
    """It returned a value; it has failed nevertheless if that cannot be sent."""
    try:
        encoded = v2.pack(value)
    except arguments.UNSENDABLE as error:
        text = f"{job.name} returned a {type(value).__name__} that cannot be sent back: {error}; return plain data"
        return _outcome(job, "failed", Failure("eventmq.InvalidResult", text))
    if len(encoded) > limits.VALUE_BYTES_MAX:
        text = (
            f"{job.name} returned {len(encoded)} bytes, the limit is {limits.VALUE_BYTES_MAX}; "
            f"store it elsewhere and return where it is"
        )
        return _outcome(job, "failed", Failure("eventmq.InvalidResult", text))
    return Outcome(job.id, job.lease, "succeeded", encoded)


def _outcome(job: v2.Job, state: str, failure: Failure, delay_s: float | None = None) -> Outcome:
    return Outcome(job.id, job.lease, state, b"", failure, 0.0, delay_s)


_OWN_FILES = (__file__, interrupt.__file__, asyncio.runners.__file__, asyncio.base_events.__file__)


def failure_of(error: BaseException) -> Failure:
    """What is told of an exception: its qualified type, its text, and the traceback from user code on."""
    kind, frames = type(error), _user_part(error.__traceback__)
    try:
        message = str(error)
    except Exception as broken:
        message = f"<its __str__ raised {type(broken).__name__}>"
    text = tail("".join(traceback.TracebackException(kind, error, frames).format()), limits.TRACEBACK_CHARS_MAX)
    bases = tuple(calls.type_name(base) for base in kind.__mro__[1:-1])
    message = carried(message[: limits.TRACEBACK_CHARS_MAX])
    return Failure(calls.type_name(kind), message, carried(text), bases, _place(frames))


def _user_part(frames: TracebackType | None) -> TracebackType | None:
    while frames is not None and frames.tb_frame.f_code.co_filename in _OWN_FILES:
        frames = frames.tb_next
    return frames


_LIBRARIES = tuple({sysconfig.get_path(kind) + os.sep for kind in ("stdlib", "platstdlib", "purelib", "platlib")})


def _place(frames: TracebackType | None) -> str:
    """The last line of the user's own code: of the package that the job is in, or of what is not installed."""
    place, own = "", None
    for frame, line in traceback.walk_tb(frames):
        module, code = str(frame.f_globals.get("__name__", "")).split("."), frame.f_code
        own = own or module[0]
        if module[0] == own or not code.co_filename.startswith(_LIBRARIES):
            *folders, file = Path(code.co_filename).parts
            packages = len(module) - (file != "__init__.py")
            place = f"{'/'.join([*folders[len(folders) - packages :], file])}:{line} {code.co_qualname}"
    return carried(place)


def tail(text: str, chars_max: int) -> str:
    """The end of a text that is too long."""
    return text if len(text) <= chars_max else "…" + text[1 - chars_max :]


def carried(text: str) -> str:
    """Text that UTF-8 can carry: lone surrogates, as in undecodable file names, become escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def hook(function: Callable[..., Any]) -> Callable[[], Any]:
    """A function named by `job_entry_func` or `job_exit_func`; one that takes a parameter gets the current job."""
    required = [
        p
        for p in inspect.signature(function).parameters.values()
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    return (lambda: function(context.current_job())) if len(required) == 1 else function
