"""What running jobs say of themselves, until the worker sends it: how far they are, and the last lines they logged.

A handler of the root logger, beside the one that writes to stderr. A job that says nothing costs nothing. Lines of code
that runs outside of a job, as in a thread of its own, belong to none.
"""

from __future__ import annotations

import logging
from collections import deque

from eventmq import limits
from eventmq.errors import SoftTimeout
from eventmq.protocol.v2 import Job, LogLine, Report
from eventmq.workers import context
from eventmq.workers.execute import carried, tail


class Said:
    """What one run has said: how far it is, its last lines, and how many there were."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.value = b""
        self.last: deque[LogLine] = deque(maxlen=limits.JOB_LOG_LINES_MAX)
        self.count = 0

    def report(self) -> Report:
        """The same to be sent."""
        skipped = self.count - len(self.last)
        return Report(self.job.id, self.job.lease, self.value, list(self.last), skipped)


class Reports(logging.Handler):
    """Collects what each run says. Used by the job's threads and by the steward.

    Attributes:
        unsent: By lease.
    """

    def __init__(self) -> None:
        super().__init__()
        self.unsent: dict[int, Said] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """One record, if a job logged it; called with our lock held."""
        job = context.running.get()
        if job is None:
            return
        try:
            level, text = carried(str(record.levelname)), carried(self.format(record))
        except SoftTimeout:
            raise
        except Exception:
            self.handleError(record)
            return
        said = self._of(job)
        said.count += 1  # first: what is interrupted here has one line skipped, not less than none
        text = tail(text, limits.JOB_LOG_LINE_CHARS_MAX)
        said.last.append(LogLine(record.created, level[: limits.LEVEL_CHARS_MAX], text))

    def progress(self, job: Job, value: bytes) -> None:
        """How far a job is, packed."""
        self.acquire()
        try:
            self._of(job).value = value
        finally:
            self.release()

    def _of(self, job: Job) -> Said:
        return self.unsent.setdefault(job.lease, Said(job))

    def take(self) -> list[Report]:
        """What was not taken before."""
        self.acquire()
        try:
            taken, self.unsent = self.unsent, {}
        finally:
            self.release()
        return [said.report() for said in taken.values()]
