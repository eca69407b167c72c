"""What the running job logs, kept until the worker sends it to its manager: the last lines, and how many were before.

A handler of the root logger, beside the one that writes to stderr. A job that logs nothing costs nothing. Lines of code
that runs outside of a job, as in a thread of its own, belong to none.
"""

from __future__ import annotations

import logging
from collections import deque

from eventmq import limits
from eventmq.errors import SoftTimeout
from eventmq.protocol.v2 import LogLine
from eventmq.workers import context, messages
from eventmq.workers.execute import carried, tail


class Lines:
    """The last lines of one run; `count` is how many there were."""

    def __init__(self) -> None:
        self.last: deque[LogLine] = deque(maxlen=limits.JOB_LOG_LINES_MAX)
        self.count = 0


class JobLog(logging.Handler):
    """Collects the lines of each run.

    Attributes:
        unsent: By lease.
    """

    def __init__(self) -> None:
        super().__init__()
        self.unsent: dict[int, Lines] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """One record, if a job logged it."""
        job = context.running.get()
        if job is None:
            return
        try:
            text = carried(self.format(record))
        except SoftTimeout:
            raise
        except Exception:
            self.handleError(record)
            return
        line = LogLine(
            record.created,
            record.levelname[: limits.LEVEL_CHARS_MAX],
            tail(text, limits.JOB_LOG_LINE_CHARS_MAX),
        )
        lines = self.unsent.setdefault(job.lease, Lines())
        lines.last.append(line)
        lines.count += 1

    def take(self) -> list[messages.Progress]:
        """What was not taken before, to be sent."""
        self.acquire()
        try:
            taken, self.unsent = self.unsent, {}
        finally:
            self.release()
        return [
            messages.Progress(lease, b"", list(lines.last), lines.count - len(lines.last))
            for lease, lines in taken.items()
        ]
