"""`@job` and what it makes: a function that runs here when called, and in a worker when delayed.

Imported by user code in clients and in worker processes alike, so it loads no ZeroMQ. Being a `Job` whose `name` is the
name on the wire is the mark without which a worker runs nothing.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Coroutine, Iterable, Sequence
from pathlib import Path
from types import MethodType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Self, TypeVar, Unpack, overload

from eventmq.client.options import Common, Given, JobOptions
from eventmq.client.unique import check_template
from eventmq.errors import InvalidJob, InvalidSchedule
from eventmq.limits import NAME_CHARS_MAX
from eventmq.protocol.arguments import Signature, is_method

if TYPE_CHECKING:
    from eventmq.client.handles import JobHandle, JobHandles
    from eventmq.schedules.rule import Rule

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")
Q = ParamSpec("Q")


class Job(Generic[P, R]):
    """A function that can run as a job. Made by `@job`.

    Args:
        fn: The function.
        options: How its jobs are enqueued.
        name: Its name on the wire; None = where it was defined.

    Attributes:
        fn: The function itself.
        default: How its jobs are enqueued.

    Raises:
        InvalidJob: No worker could find the function by its name.
    """

    def __init__(self, fn: Callable[..., Any], options: JobOptions, name: str | None = None) -> None:
        functools.update_wrapper(self, fn)
        self.fn = fn
        self.default = options
        self._name = name
        if name is None:
            _check_findable(fn)
        elif not isinstance(name, str) or "." not in name[1:-1] or len(name) > NAME_CHARS_MAX:
            expected = f"module.function or module:Class.method, {NAME_CHARS_MAX} characters at most"
            raise InvalidJob(f"name is {name!r}, expected {expected}")
        if isinstance(options.unique, str):
            check_template(options.unique, fn)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Runs the function here and now, as if it had no `@job`."""
        return self.fn(*args, **kwargs)  # type: ignore[no-any-return]

    @overload
    def __get__(self: Job[Concatenate[S, Q], R], instance: None, owner: type) -> Job[Q, R]: ...
    @overload
    def __get__(self: Job[Concatenate[S, Q], R], instance: S, owner: type) -> Callable[Q, R]: ...
    def __get__(self, instance: Any, owner: type) -> Any:
        """A method: from the class the job, from an instance what runs here on that instance."""
        return self if instance is None else MethodType(self.fn, instance)

    def __reduce__(self) -> str:
        """Pickled as its function would be, by name: multiprocessing and the like keep working."""
        return self.fn.__qualname__

    def __repr__(self) -> str:
        return f"<Job {self._name or self.fn.__qualname__}>"

    @functools.cached_property
    def name(self) -> str:
        """Its name on the wire: `module.function` or `module:Class.method`.

        Raises:
            InvalidJob: It was typed into an interactive interpreter, where no worker can import it from.
        """
        if self._name is not None:
            return self._name
        separator = ":" if is_method(self.fn) else "."
        return f"{_real_module(self.fn)}{separator}{self.fn.__qualname__}"

    @functools.cached_property
    def signature(self) -> Signature:
        """How it can be called. Made at the first use, when the names in its annotations exist."""
        return Signature(self.fn)

    def options(self, **given: Unpack[Given]) -> Self:
        """The same job, enqueued otherwise: `send.options(queue="slow").delay(…)`. See `Given`.

        Raises:
            InvalidJob: A `TypeError`: an unknown option, or a value that cannot be.
        """
        other = type(self)(self.fn, self.default.changed(f"{self.fn.__qualname__}.options()", given), self._name)
        other.__dict__["signature"] = self.signature
        return other

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]:
        """Enqueues a call. Returns when the Router has stored it.

        Raises:
            InvalidJob: The arguments do not fit the function or cannot be sent; a `TypeError` too.
            BrokerUnavailable: No Router answered in time.
            QueueFull: The queue has reached its bound, and had no room within `block_for`.
            DuplicateJob: A job with its key is in its way, and it said `on_conflict="raise"`.
            JobRefused: The Router refused it for another reason.
        """
        from eventmq.client import enqueue

        return enqueue.delay(self, args, kwargs)

    async def adelay(self, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]:
        """`delay` for asyncio. Calls of the same turn of the loop travel together."""
        from eventmq.client import enqueue

        return await enqueue.adelay(self, args, kwargs)

    def map(self, calls: Iterable[Sequence[Any]]) -> JobHandles[R]:
        """Enqueues many calls in few messages; each element is one call's positional arguments.

        All arguments are checked before the first job is sent.

        Raises:
            InvalidJob: As `delay`; the message tells the element.
            EnqueueError: As `delay`; jobs before and after a refused one exist.
        """
        from eventmq.client import enqueue

        return enqueue.map(self, calls)

    async def amap(self, calls: Iterable[Sequence[Any]]) -> JobHandles[R]:
        """`map` for asyncio."""
        from eventmq.client import enqueue

        return await enqueue.amap(self, calls)


class CoroutineJob(Job[P, R]):
    """A coroutine function that can run as a job. Called it gives a coroutine; the job's value is what that returns."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:  # type: ignore[override]
        """Makes the coroutine, as if it had no `@job`."""
        return self.fn(*args, **kwargs)  # type: ignore[no-any-return]


class Decorator:
    """`@job(…)`, waiting for its function."""

    def __init__(self, options: JobOptions, name: str | None, schedule: Rule | None) -> None:
        self._options = options
        self._name = name
        self._schedule = schedule

    @overload
    def __call__(self, fn: Callable[P, Coroutine[Any, Any, R]], /) -> CoroutineJob[P, R]: ...
    @overload
    def __call__(self, fn: Callable[P, R], /) -> Job[P, R]: ...
    def __call__(self, fn: Callable[..., Any], /) -> Job[Any, Any]:
        kind = CoroutineJob if inspect.iscoroutinefunction(fn) else Job
        made: Job[Any, Any] = kind(fn, self._options, self._name)
        if self._schedule is not None:
            _check_schedule(fn, self._schedule, self._options)
            declared.append((made, self._schedule))
        return made


declared: list[tuple[Job[..., Any], Rule]] = []
"""The schedules that stand beside their jobs, in the order in which their modules were imported."""


@overload
def job(fn: Callable[P, Coroutine[Any, Any, R]], /) -> CoroutineJob[P, R]: ...
@overload
def job(fn: Callable[P, R], /) -> Job[P, R]: ...
@overload
def job(*, name: str | None = ..., schedule: Rule | None = ..., **given: Unpack[Common]) -> Decorator: ...
def job(
    fn: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    schedule: Rule | None = None,
    **given: Unpack[Common],
) -> Any:
    """Marks a function as a job: `@job` or `@job(queue="email", timeout="5m")`.

    Args:
        fn: The function, where `@job` stands bare.
        name: Where workers find it, `module.function`, when that is not where it was defined.
        schedule: When it runs by itself, without arguments: `Every("5m")` or `Cron("0 9 * * 1-5")`. It counts for as
            long as job managers with this module say so.
        given: Options for all its jobs: `queue`, `priority`, `timeout`, `soft_timeout`, `result_ttl`, `crash_limit`,
            `retries`, `expires`, `redeliver`, `on_partition`, `unique`, `unique_scope`, `unique_for`, `on_conflict`,
            `debounce`, `block_for`; see `Common`.

    Raises:
        InvalidJob: A `TypeError`: an option that cannot be, a key that names no argument, or a function that no worker
            could find, as a lambda or a function in a function.
        InvalidSchedule: A `ValueError`: a schedule for what cannot be called without arguments.
    """
    decorator = Decorator(JobOptions({}).changed("@job", given, Common), name, schedule)
    return decorator if fn is None else decorator(fn)


def _check_schedule(fn: Any, schedule: Any, options: JobOptions) -> None:
    """That a schedule beside a function can be."""
    from eventmq.schedules.rule import Rule  # not for those who only import `@job`: it brings the calendar

    if not isinstance(schedule, Rule):
        raise InvalidSchedule(f"{fn.__qualname__}(): schedule is {schedule!r}, expected Every(…) or Cron(…)")
    if schedule.overlap != "allow" and options.template:
        raise InvalidSchedule(f"{fn.__qualname__}(): overlap and unique exclude each other")
    try:
        inspect.signature(fn).bind(*[None] * is_method(fn))
    except TypeError as error:
        text = f"{fn.__qualname__}(): a schedule beside it calls it without arguments: {error}"
        raise InvalidSchedule(f"{text}; give them defaults, or use schedule(…, args=…)") from None


def _check_findable(fn: Any) -> None:
    """That a worker which imports the module finds the function there."""
    if not inspect.isroutine(fn) or inspect.ismethod(fn) or isinstance(fn, (staticmethod, classmethod)):
        raise InvalidJob(f"@job goes on a function or a method, not on {fn!r}")
    if "<" in fn.__qualname__:
        kind = "a lambda" if fn.__name__ == "<lambda>" else "a function in a function"
        raise InvalidJob(f"{fn.__qualname__} is {kind}, which no worker can import; define it in a module or a class")
    if fn.__qualname__.count(".") > 1:
        raise InvalidJob(f"{fn.__qualname__} is in a class in a class; a job's class stands in a module")


def _real_module(fn: Any) -> str:
    """The module's name for others: `__main__` is the name that it was run by."""
    if fn.__module__ != "__main__":
        return str(fn.__module__)
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return str(spec.name)
    file = getattr(main, "__file__", None)
    if file is None:
        raise InvalidJob(
            f"{fn.__qualname__} was typed into an interpreter, which no worker can import; put it in a file"
        )
    return Path(file).stem
