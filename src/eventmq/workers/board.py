"""The flight recorder of one worker process: memory that it shares with its manager and that outlives it.

    word 0   lease of the job that runs, or ran last
    word 1   monotonic time at which it began; 0.0 = none runs
    word 2   outcomes on the board: count << 32 | bytes
    word 3   lease of the job that is to stop; 0 = none. Written by the manager
    word 4   1 = the manager drains: what runs may stop early. Written by the manager
    64 …     the outcomes, msgpack, one after another

The worker writes a word before and after each job and puts each outcome here first; it sends them over the
socketpair in batches, which clears the board. When it dies, however suddenly, the manager finds here which jobs
had ended and which single one was running. Each word is written by one aligned eight-byte store and the outcomes
before the word that counts them, so there is no moment at which death leaves a lie, and no lock: a process that
is dead has made all its stores. One outcome may be both here and sent; the manager goes by its lease.
"""

from __future__ import annotations

import mmap
import os
import tempfile

from eventmq import limits
from eventmq.protocol import v2
from eventmq.workers import messages

_HEADER_BYTES = 64
BOARD_BYTES = _HEADER_BYTES + limits.VALUE_BYTES_MAX + 4 * limits.TRACEBACK_CHARS_MAX + (128 << 10)
"""Room for any one outcome: the largest value, or the longest traceback in four-byte characters with its message.
The file is sparse: a board that only ever sees small outcomes takes a few pages."""

_COUNT_MASK = (1 << 32) - 1


class Board:
    """The shared memory behind descriptor `fd`."""

    def __init__(self, fd: int) -> None:
        self._map = mmap.mmap(fd, BOARD_BYTES)
        view = memoryview(self._map)
        self._words = view[:_HEADER_BYTES].cast("Q")
        self._times = view[:_HEADER_BYTES].cast("d")
        self._used = self._count = 0
        self._sent = self._sent_count = 0

    @staticmethod
    def create() -> int:
        """A descriptor of fresh, zeroed memory without a name."""
        if hasattr(os, "memfd_create"):
            fd = os.memfd_create("eventmq-board")
        else:
            with tempfile.TemporaryFile() as file:
                fd = os.dup(file.fileno())
        os.ftruncate(fd, BOARD_BYTES)
        return fd

    # ---- the worker's side -------------------------------------------------------------------

    def begin(self, lease: int, now: float) -> None:
        """The job of `lease` runs from now on."""
        self._words[0] = lease
        self._times[1] = now

    def end(self, outcome: bytes) -> int:
        """The job that ran has ended with this outcome, encoded. Returns how many bytes of outcomes there are now."""
        start = self._used
        self._used = used = start + len(outcome)
        self._count += 1
        self._map[_HEADER_BYTES + start : _HEADER_BYTES + used] = outcome
        self._words[2] = self._count << 32 | used
        self._times[1] = 0.0
        return used

    def room_for(self, size: int) -> bool:
        """Whether an outcome of `size` bytes fits."""
        return _HEADER_BYTES + self._used + size <= BOARD_BYTES

    def unsent(self) -> bytes | None:
        """A `done` message of the outcomes that no such message has carried yet. Callers hold one lock."""
        word = self._words[2]
        used, count = word & _COUNT_MASK, word >> 32
        if count == self._sent_count:
            return None
        encoded = self._map[_HEADER_BYTES + self._sent : _HEADER_BYTES + used]
        message = messages.done_of(encoded, count - self._sent_count)
        self._sent, self._sent_count = used, count
        return message

    def clear(self) -> None:
        """Forget the outcomes, all of which are sent. Only for the thread that runs jobs, under the same lock."""
        self._words[2] = 0
        self._used = self._count = self._sent = self._sent_count = 0

    # ---- either side ----------------------------------------------------------------------------

    def running(self) -> tuple[int, float] | None:
        """Lease and start of the job that runs."""
        words = self._words
        while True:
            lease = words[0]
            started = self._times[1]
            if words[0] == lease:  # else the next job began meanwhile, and these are of two
                return (lease, started) if started else None

    @property
    def unwanted(self) -> int:
        """Lease of the job that is to stop."""
        return self._words[3]

    @property
    def draining(self) -> bool:
        """Whether the manager drains."""
        return bool(self._words[4])

    # ---- the manager's side ----------------------------------------------------------------------

    def ask_to_stop(self, lease: int | None) -> None:
        """The job of this lease is to stop; None: the manager drains."""
        if lease is None:
            self._words[4] = 1
        else:
            self._words[3] = lease

    # ---- the manager's side, once the worker is dead ------------------------------------------------

    def outcomes(self) -> list[v2.Outcome]:
        """The outcomes on the board."""
        word = self._words[2]
        encoded = self._map[_HEADER_BYTES : _HEADER_BYTES + (word & _COUNT_MASK)]
        done = messages.decode_event(messages.done_of(encoded, word >> 32))
        assert isinstance(done, messages.Done)
        return done.outcomes

    def close(self) -> None:
        """Give the memory back."""
        self._words.release()
        self._times.release()
        self._map.close()
