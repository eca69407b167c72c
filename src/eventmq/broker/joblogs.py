"""What jobs have logged lately, for people: the last lines of each, of the last jobs that logged anything.

In memory only, and bounded: a restart forgets it, and so does time. Lines are counted from 0 over all runs of a job, so
whoever reads on sees what was missed. Knows no clock and nobody who sends.
"""

from __future__ import annotations

import sys
from collections import OrderedDict, deque
from typing import Any

from eventmq import limits
from eventmq.protocol.answers import LoggedLine
from eventmq.protocol.v2 import LogLine

LINE_BYTES = 400
"""What a line takes besides its text, about."""


class Log:
    """The last lines of one job.

    Attributes:
        next: The number of the line that comes next.
        bytes: What the lines take in memory, about.
    """

    __slots__ = ("bytes", "lines", "next")

    def __init__(self) -> None:
        self.lines: deque[LoggedLine] = deque()
        self.next = 0
        self.bytes = 0

    def add(self, attempt: int, line: LogLine) -> None:
        """One more; the first one makes room for it."""
        self.lines.append(LoggedLine(n=self.next, at=line.at, level=line.level, attempt=attempt, text=line.text))
        self.next += 1
        self.bytes += size_of(line.text)
        if len(self.lines) > limits.JOB_LOG_LINES_MAX:
            self.bytes -= size_of(self.lines.popleft()["text"])


class JobLogs:
    """The logs by job, that of the job which logged last at the end."""

    def __init__(self) -> None:
        self._logs: OrderedDict[str, Log] = OrderedDict()
        self._bytes = 0

    def add(self, id: str, attempt: int, lines: list[LogLine], skipped: int) -> None:
        """A job has logged; `skipped` lines before these were left out."""
        log = self._logs.setdefault(id, Log())
        self._logs.move_to_end(id)
        self._bytes -= log.bytes
        log.next += skipped
        for line in lines:
            log.add(attempt, line)
        self._bytes += log.bytes
        while self._bytes > limits.JOB_LOGS_BYTES_MAX or len(self._logs) > limits.JOBS_WITH_LOGS_MAX:
            self._bytes -= self._logs.popitem(last=False)[1].bytes

    def read(self, id: str, after: int) -> dict[str, Any]:
        """The lines of a job from number `after` on, where to go on, and how many of them are not kept."""
        log = self._logs.get(id) or Log()
        found = [line for line in log.lines if line["n"] >= after]
        first = found[0]["n"] if found else log.next
        return {"lines": found, "next": max(log.next, after), "missed": max(first - after, 0)}


def size_of(text: str) -> int:
    """Bytes of a line in memory, about."""
    return LINE_BYTES + sys.getsizeof(text)
