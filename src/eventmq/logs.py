"""Logs of our processes: stderr, one line per record, no colours; a traceback follows its line, indented.

    2026-11-23T23:10:00.123+0000 INFO eventmq.router: listening: frontend tcp://127.0.0.1:47291

So a line that does not begin with a space begins a record. What stands in a message may come from a peer, hence
control characters are escaped: nobody writes a second line, or a terminal's escape sequence, into our log. For programs
there is a form in JSON, one object a line.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import textwrap
import time
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from eventmq.limits import LOG_PER_REASON_S

KINDS_MAX = 1_000
"""Kinds of things, those said last, of which a logger that says each only now and then remembers when: 100 kB."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


About = Callable[[], Mapping[str, Any]]
"""What a record is about, besides what it says: of a job `job_id`, `job_name`, `queue`, `attempt` and `trace_id`."""


class LineFormatter(logging.Formatter):
    """One line per record, and below it, indented, what is `detail` of it.

    Args:
        about: A job that it names takes the place of the logger's name.
    """

    def __init__(self, about: About = dict) -> None:
        super().__init__()
        self._about = about

    def format(self, record: logging.LogRecord) -> str:
        """The line of one record, followed by its traceback if it has one."""
        message = _CONTROL.sub(lambda found: repr(found[0])[1:-1], record.getMessage())
        line = f"{_stamp(record)} {record.levelname} {self._origin() or record.name}: {message}"
        return "\n".join([line, *(textwrap.indent(text.rstrip(), "    ") for text in self._details(record))])

    def _origin(self) -> str:
        """As `tasks.add[42 #1]`, and its trace if it is part of one."""
        job = self._about()
        trace = f" trace_id={job['trace_id']}" if job.get("trace_id") else ""
        return f"{job['job_name']}[{job['job_id']} #{job['attempt']}{trace}]" if job else ""

    def _details(self, record: logging.LogRecord) -> list[str]:
        error = self.formatException(record.exc_info) if record.exc_info else ""
        stack = self.formatStack(record.stack_info) if record.stack_info else ""
        return [text for text in (error, stack, getattr(record, "detail", "")) if text]


class JsonFormatter(LineFormatter):
    """One object per record, on one line."""

    def format(self, record: logging.LogRecord) -> str:
        """The object: `time`, `level`, `logger`, `message`, what it is about, and `detail`, as a traceback."""
        said = {
            "time": _stamp(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        detail = "\n".join(self._details(record))
        return json.dumps(said | dict(self._about()) | ({"detail": detail} if detail else {}))


FORMATS = {"text": LineFormatter, "json": JsonFormatter}


def _stamp(record: logging.LogRecord) -> str:
    moment = time.localtime(record.created)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', moment)}.{int(record.msecs):03d}{time.strftime('%z', moment)}"


def setup(level: str = "INFO", format: str = "text", about: About = dict, stream: TextIO | None = None) -> None:
    """Sends everything logged in this process from `level` up to stderr. Calling it again replaces what was set up."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(FORMATS[format](about))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(True)


class Limited:
    """A logger that says the same kind of thing once per period, and then how often it happened meanwhile.

    Time is an argument, so that deciding code and tests have their own.
    """

    def __init__(self, logger: logging.Logger, period_s: float = LOG_PER_REASON_S) -> None:
        self._logger = logger
        self._period_s = period_s
        self._said: dict[str, tuple[float, int]] = {}  # by kind: when, and how often it has happened since

    def log(self, level: int, key: str, text: str, now: float) -> bool:
        """Logs `text` unless something of the kind `key` was logged within the period.

        A key may have the name of a queue in it: what was said last is remembered, of at most `KINDS_MAX` kinds.

        Returns:
            Whether it was logged.
        """
        said, held_back = self._said.get(key, (-self._period_s, 0))
        if now - said < self._period_s:
            self._said[key] = said, held_back + 1
            return False
        self._said.pop(key, None)
        self._said[key] = now, 0
        if len(self._said) > KINDS_MAX:
            del self._said[next(iter(self._said))]
        self._logger.log(level, "%s%s", text, f" (and {held_back} more of this kind before)" if held_back else "")
        return True
