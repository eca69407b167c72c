"""`Retry`: when a job that failed is tried again. As a policy beside the job, or raised by the job itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from eventmq import values
from eventmq.errors import InvalidJob
from eventmq.protocol.calls import type_name
from eventmq.protocol.v2 import Options
from eventmq.values import Duration

RETRIES_MAX = 10_000
"""A job that fails so often will not succeed."""

DELAYS_MAX = 64
"""Delays that travel with a job; the last one counts for all retries that follow."""


class Retry(Exception):
    """A policy, `@job(retries=Retry(5, base=2, cap="10m", on=(OSError,)))`; or raised in a job,
    `raise Retry(delay="1m")`: try me again, unless all retries are used up.

    A crash of the worker process, a lost manager or a drain uses up no retry.

    Args:
        times: How often to try again.
        backoff: How the delay grows from `base`: `exponential` (doubles each time), `linear`, `constant`, or a function
            from the number of the retry, 1 for the first, to seconds. From the 64th on it does not grow any more.
        base: The first delay.
        cap: The longest delay.
        jitter: Stretch or shrink each delay by up to a half, so that jobs that failed together come back apart.
        on: Exceptions to try again on, with all that derive from them. Empty: any.
        not_on: Exceptions not to try again on.
        on_timeout: Whether a timeout is tried again, `SoftTimeout` included; `not_on` may say otherwise.
        on_crash: False: dead at the first crash of its worker process, instead of at the `crash_limit`-th.
        delay: When raised: how long to wait, instead of what the policy says.

    Raises:
        InvalidJob: A `TypeError`: a value that cannot be.
    """

    def __init__(
        self,
        times: int = 0,
        *,
        backoff: str | Callable[[int], float] = "exponential",
        base: Duration = 2.0,
        cap: Duration = 600.0,
        jitter: bool = True,
        on: tuple[type[BaseException], ...] = (),
        not_on: tuple[type[BaseException], ...] = (),
        on_timeout: bool = True,
        on_crash: bool = True,
        delay: Duration | None = None,
    ) -> None:
        asks = "to be tried again" if delay is None else f"for a retry in {delay}"
        super().__init__(f"the job asks {asks}; `retries` says how often it may")
        values.check_whole("Retry(): times", times, InvalidJob, 0, RETRIES_MAX)
        if not callable(backoff) and backoff not in _GROWTH:
            raise InvalidJob(f"Retry(): backoff is {backoff!r}, expected {', '.join(_GROWTH)} or a function")
        self.delay_s = None if delay is None else _seconds("delay", delay)
        self._policy: dict[str, Any] = {
            "retries": times,
            "retry_delays_s": _delays(times, backoff, _seconds("base", base), _seconds("cap", cap)),
            "retry_jitter": jitter and times > 0,
            "retry_on": _names("on", on),
            "retry_not_on": _names("not_on", not_on),
            "retry_timeout": on_timeout,
        } | ({} if on_crash else {"crash_limit": 1})

    def added_to(self, options: Options) -> Options:
        """The options with this policy."""
        return replace(options, **self._policy)


_GROWTH: dict[str, Callable[[float, int], float]] = {
    "exponential": lambda base, number: base * 2.0 ** (number - 1),
    "linear": lambda base, number: base * number,
    "constant": lambda base, number: base,
}


def _delays(times: int, backoff: str | Callable[[int], float], base_s: float, cap_s: float) -> tuple[float, ...]:
    """The delays before each retry, without the repetitions at the end."""
    delays: list[float] = []
    for number in range(1, min(times, DELAYS_MAX) + 1):
        delay = backoff(number) if callable(backoff) else _GROWTH[backoff](base_s, number)
        delays.append(min(_seconds("backoff", delay), cap_s))
    while len(delays) > 1 and delays[-1] == delays[-2]:
        delays.pop()
    return tuple(delays)


def _names(name: str, kinds: Any) -> tuple[str, ...]:
    kinds = kinds if isinstance(kinds, tuple) else (kinds,)
    for kind in kinds:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise InvalidJob(f"Retry(): {name} has {kind!r}, expected classes of exceptions")
    return tuple(map(type_name, kinds))


def _seconds(name: str, value: Duration) -> float:
    return values.seconds(f"Retry(): {name}", value, InvalidJob)
