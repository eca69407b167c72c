"""Job ids: UUIDv7 (RFC 9562, method 2 of 6.2) as 32 hex digits.

    48 bits      4        12      2        62
    wall ms   | version | random | variant | starts at random, rises by a step that is random in each millisecond

Ids made in one process rise, also when the clock is set back, and no two threads get the same one. A forked child
starts from a new random place. Ids are unique, not secret.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count, islice
from random import Random, SystemRandom

STEP_BITS = 31
"""The step's size. The start leaves the upper half of 62 bits free: room for 2**30 ids before the next millisecond."""


class Ids:
    """A source of ids.

    Args:
        wall_ns: The wall clock, in nanoseconds.
        seed: Where randomness starts; a fast generator is seeded once.
    """

    def __init__(self, wall_ns: Callable[[], int], seed: int) -> None:
        self._wall_ns = wall_ns
        self._getrandbits = Random(seed).getrandbits
        self._lock = threading.Lock()
        self._until_ns = 0
        self._numbers: Iterator[int] = iter(())

    def new(self) -> str:
        """A new id, greater than those before."""
        if self._wall_ns() >= self._until_ns:
            self._next_millisecond()
        # next() on a count is one step of the interpreter: no lock is needed.
        return f"{next(self._numbers):032x}"

    def many(self, count: int) -> list[str]:
        """So many, which say the same millisecond: half the price."""
        if self._wall_ns() >= self._until_ns:
            self._next_millisecond()
        return [f"{number:032x}" for number in islice(self._numbers, count)]

    def _next_millisecond(self) -> None:
        with self._lock:
            time_ms = self._wall_ns() // 1_000_000
            if (time_ms + 1) * 1_000_000 <= self._until_ns:
                return
            high = time_ms << 16 | 0x7000 | self._getrandbits(12)
            low = 0x8000_0000_0000_0000 | self._getrandbits(61)
            self._numbers = count(high << 64 | low, 1 + self._getrandbits(STEP_BITS))
            self._until_ns = (time_ms + 1) * 1_000_000


def _seed() -> None:
    global new_id, new_ids
    source = Ids(time.time_ns, SystemRandom().getrandbits(128))
    new_id, new_ids = source.new, source.many


new_id: Callable[[], str]
"""A new id. To be looked up here at each use, `ids.new_id()`: a fork replaces it."""

new_ids: Callable[[int], list[str]]
"""So many at once; the same."""

_seed()
os.register_at_fork(after_in_child=_seed)
