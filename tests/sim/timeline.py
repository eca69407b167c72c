"""Time that only moves when something happens, and the record of what happened. Owns the order of all events."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from hashlib import blake2b
from heapq import heappop, heappush
from typing import Any

EPOCH_S = 1_790_000_000.0
"""Wall time at simulated time 0."""

LAST_LINES = 200
"""Lines of the trace that a failure shows."""


class Violation(AssertionError):
    """A promise was broken."""


class Trace:
    """What happened, as lines: hashed, the last ones kept, all printed when `loud`."""

    def __init__(self, loud: bool = False) -> None:
        self.last: deque[str] = deque(maxlen=LAST_LINES)
        self.lines = 0
        self._loud = loud
        self._hash = blake2b(digest_size=8)

    def write(self, line: str) -> None:
        self.lines += 1
        self.last.append(line)
        self._hash.update(line.encode())
        if self._loud:
            print(line)

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()


class Timeline:
    """The clock and the events to come. Events at the same time happen in the order in which they were planned.

    Attributes:
        now: Monotonic time, seconds.
        offset: How far the wall clock was set off, seconds.
        jumped: It was set at least once.
    """

    def __init__(self, trace: Trace) -> None:
        self.now = 1000.0
        self.offset = 0.0
        self.jumped = False
        self.trace = trace
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._planned = 0

    @property
    def wall(self) -> float:
        return EPOCH_S + self.now + self.offset

    def at(self, time: float, action: Callable[..., None], *args: Any) -> None:
        self._planned += 1
        heappush(self._events, (max(time, self.now), self._planned, action, args))

    def after(self, delay: float, action: Callable[..., None], *args: Any) -> None:
        self.at(self.now + delay, action, *args)

    def step(self) -> None:
        """The next event."""
        self.now, _, action, args = heappop(self._events)
        action(*args)

    @property
    def events(self) -> int:
        """Events planned so far."""
        return self._planned

    def say(self, text: str) -> None:
        """One line of the trace."""
        self.trace.write(f"{self.now - 1000:11.6f} {text}")


class Waker:
    """The alarm of one loop: the earliest time somebody asked for is when `action` is called, once.

    A paused loop is called when the pause is over.
    """

    def __init__(self, timeline: Timeline, action: Callable[[], None]) -> None:
        self._timeline = timeline
        self._action = action
        self._ticket = 0
        self._time: float | None = None
        self.paused_until = 0.0

    def wake(self, time: float) -> None:
        time = max(time, self._timeline.now, self.paused_until)
        if self._time is None or time < self._time:
            self._ticket += 1
            self._time = time
            self._timeline.at(time, self._ring, self._ticket)

    def pause(self, until: float) -> None:
        """Nothing happens before `until`."""
        self.paused_until = max(until, self.paused_until)
        if self._time is not None:
            self.cancel()
            self.wake(self.paused_until)

    def cancel(self) -> None:
        self._ticket += 1
        self._time = None

    @property
    def paused(self) -> bool:
        return self._timeline.now < self.paused_until

    def _ring(self, ticket: int) -> None:
        if ticket == self._ticket:
            self._time = None
            self._action()
