"""Logs: one line per record whatever a peer wrote into it, and repetitions counted."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator

import pytest

from eventmq import logs

ABOUT = {"job_id": "42", "job_name": "tasks.add", "queue": "default", "attempt": 1}


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
    logs.setup("WARNING", about=lambda: ABOUT, stream=stream)
    logging.getLogger("x").info("hidden")
    logging.getLogger("x").warning("shown")
    assert stream.getvalue().count("\n") == 1
    assert stream.getvalue().endswith("WARNING tasks.add[42 #1]: shown\n")
    logs.setup("INFO", about=lambda: ABOUT | {"trace_id": "ab12"}, stream=stream)
    logging.getLogger("x").info("traced", extra={"detail": "more\nof it\n"})
    assert stream.getvalue().endswith("INFO tasks.add[42 #1 trace_id=ab12]: traced\n    more\n    of it\n")


def test_in_json_a_record_is_one_object_a_line(stream: io.StringIO) -> None:
    logs.setup("INFO", "json", lambda: ABOUT, stream)
    logging.getLogger("shop").info("sold %s", "a\nb\u2028\x1b é")
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logging.getLogger("shop").exception("failed")
    plain, failed = map(json.loads, stream.getvalue().splitlines())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d{4}", plain.pop("time"))
    assert plain == {"level": "INFO", "logger": "shop", "message": "sold a\nb\u2028\x1b é", **ABOUT}
    assert failed["detail"].splitlines()[-2:] == ["ValueError: two", "lines"]
    assert stream.getvalue().isascii()


def test_repetitions_are_counted_not_said(stream: io.StringIO) -> None:
    limited = logs.Limited(logging.getLogger("x"), period_s=5.0)
    said = [limited.log(logging.WARNING, "malformed", "refused", now) for now in (0.0, 0.1, 4.9, 5.0, 5.1, 11.0)]
    assert said == [True, False, False, True, False, True]
    assert limited.log(logging.WARNING, "too_large", "another kind", 11.1)
    texts = [line.partition(": ")[2] for line in stream.getvalue().splitlines()]
    more = "refused (and {} more of this kind before)"
    assert texts == ["refused", more.format(2), more.format(1), "another kind"]


def test_kinds_are_remembered_as_far_as_there_is_room(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "KINDS_MAX", 2)
    limited = logs.Limited(logging.getLogger("x"), period_s=5.0)
    said = [limited.log(logging.WARNING, kind, kind, 1.0) for kind in ("a", "b", "b", "a", "c", "a", "c", "b")]
    assert said == [True, True, False, False, True, True, False, True], "the one that was said first made room"
