"""Logs: one line per record whatever a peer wrote into it, and repetitions counted."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterator

import pytest

from eventmq import logs


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """What is logged during the test, in our form; the root logger is as before afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    written = io.StringIO()
    logs.setup("INFO", stream=written)
    yield written
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)


def test_a_record_is_one_line(stream: io.StringIO) -> None:
    logging.getLogger("eventmq.router").warning("peer said %s", "a\nb\x1b[31m\u2028c é")
    line = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d{4} WARNING eventmq\.router: peer said (.*)\n"
    found = re.fullmatch(line, stream.getvalue())
    assert found is not None
    assert found[1] == r"a\nb\x1b[31m\u2028c é"


def test_a_traceback_is_indented(stream: io.StringIO) -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logging.getLogger("x").exception("failed")
    first, *rest = stream.getvalue().splitlines()
    assert first.endswith("ERROR x: failed")
    assert rest
    assert all(line.startswith("    ") for line in rest)


def test_level_and_origin(stream: io.StringIO) -> None:
    logs.setup("WARNING", origin=lambda: "tasks.add[42 #1]", stream=stream)
    logging.getLogger("x").info("hidden")
    logging.getLogger("x").warning("shown")
    assert stream.getvalue().count("\n") == 1
    assert stream.getvalue().endswith("WARNING tasks.add[42 #1]: shown\n")


def test_repetitions_are_counted_not_said(stream: io.StringIO) -> None:
    limited = logs.Limited(logging.getLogger("x"), period_s=5.0)
    said = [limited.log(logging.WARNING, "malformed", "refused", now) for now in (0.0, 0.1, 4.9, 5.0, 5.1, 11.0)]
    assert said == [True, False, False, True, False, True]
    assert limited.log(logging.WARNING, "too_large", "another kind", 11.1)
    texts = [line.partition(": ")[2] for line in stream.getvalue().splitlines()]
    more = "refused (and {} more of this kind before)"
    assert texts == ["refused", more.format(2), more.format(1), "another kind"]
