"""How a job of any system says that it ran: one shared file, written by workers, read by the process that measures.

    cell 0            threads that have a place
    cells 1 …         for each of them (process id, jobs run)
    cells STAMPS_AT … monotonic nanoseconds at which a `stamp` job ran; 0 = not yet

One thread writes each cell, so nothing has to be locked but the taking of a place. It costs a job about 0.2 µs, the
same in every system.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import threading
import time
from pathlib import Path

PATH = "BENCH_COUNTS"
"""Environment variable with the file's path."""

THREADS_MAX = 2_048
STAMPS_AT = 1 + 2 * THREADS_MAX
STAMPS_MAX = 4_096
BYTES = 8 * (STAMPS_AT + STAMPS_MAX)


class Counts:
    """The file, mapped.

    Args:
        path: Where it is; `create` makes it.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = path
        with open(path, "r+b") as file:
            self._cells = memoryview(mmap.mmap(file.fileno(), BYTES)).cast("Q")
        self._mine = threading.local()

    @classmethod
    def create(cls, path: str | Path) -> Counts:
        """An empty file, mapped."""
        Path(path).write_bytes(bytes(BYTES))
        return cls(path)

    # ---- in a worker ---------------------------------------------------------------------------------

    def ran(self) -> int:
        """One more job ran on this thread."""
        try:
            cell = self._mine.cell
        except AttributeError:
            cell = self._mine.cell = self._take_place()
        self._cells[cell] += 1
        return 1

    def stamp(self, place: int) -> int:
        """The job of this number runs now."""
        self._cells[STAMPS_AT + place] = time.monotonic_ns()
        return place

    def _take_place(self) -> int:
        with open(self._path, "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            place = self._cells[0]
            assert place < THREADS_MAX, "more threads ran jobs than there are places"
            self._cells[1 + 2 * place] = os.getpid()
            self._cells[0] = place + 1
        return 2 + 2 * place

    # ---- in the process that measures ------------------------------------------------------------------

    @property
    def total(self) -> int:
        """Jobs run so far."""
        return sum(self._cells[2 : 2 + 2 * self._cells[0] : 2])

    def processes(self, before: set[int] | frozenset[int] = frozenset()) -> set[int]:
        """Process ids of those that ran any, but for those of `before`."""
        return set(self._cells[1 : 1 + 2 * self._cells[0] : 2]) - before

    def stamped(self, place: int) -> int:
        """When the `stamp` job of this number ran."""
        return self._cells[STAMPS_AT + place]

    def forget_stamps(self) -> None:
        """All of them are 0 again."""
        for place in range(STAMPS_MAX):
            self._cells[STAMPS_AT + place] = 0


def from_environment() -> Counts:
    """The file that this process was started with."""
    return Counts(os.environ[PATH])
