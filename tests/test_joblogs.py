"""What jobs log, from the worker to the answer to LOGS: in order, bounded, and nothing of jobs that log nothing."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from world import World, job

from eventmq import limits
from eventmq.broker.joblogs import JobLogs
from eventmq.broker.outbox import ADMINISTRATIVE
from eventmq.protocol import v2
from eventmq.protocol.v2 import LogLine
from eventmq.workers import context, messages
from eventmq.workers.reports import Reports
from eventmq.workers.session import Identity, SessionV2

# ---- in the worker ----------------------------------------------------------------------------------------


@pytest.fixture
def log() -> Iterator[Reports]:
    """The handler on a logger of its own, in a job of lease 7."""
    handler = Reports()
    logger = logging.getLogger("test.joblog")
    logger.propagate = False
    logger.setLevel("INFO")
    logger.addHandler(handler)
    context.running.set(v2.Job("a", "q", "f", b"", lease=7))
    yield handler
    context.running.set(None)
    logger.removeHandler(handler)


def say(text: str, *args: object) -> None:
    logging.getLogger("test.joblog").info(text, *args)


def test_lines_carry_level_time_text_and_traceback(log: Reports) -> None:
    say("%s of %s", 1, 2)
    logging.getLogger("test.joblog").debug("below the level")
    try:
        raise ValueError("no such user \udcff")
    except ValueError:
        logging.getLogger("test.joblog").exception("it failed")
    (report,) = log.take()
    assert (report.lease, report.value, report.skipped) == (7, b"", 0)
    assert [(line.level, line.text.splitlines()[0]) for line in report.lines] == [
        ("INFO", "1 of 2"),
        ("ERROR", "it failed"),
    ]
    assert report.lines[1].text.endswith("ValueError: no such user \\udcff")
    messages.encode(messages.Progress([report]))
    assert log.take() == []


def test_of_many_lines_the_last_are_kept_and_of_a_long_one_its_end(log: Reports) -> None:
    for n in range(limits.JOB_LOG_LINES_MAX + 5):
        say("line %d", n)
    logging.addLevelName(35, "LEVEL \udcff" * 5)
    logging.getLogger("test.joblog").log(35, "x" * limits.JOB_LOG_LINE_CHARS_MAX + "end")
    (report,) = log.take()
    assert len(report.lines) == limits.JOB_LOG_LINES_MAX
    assert report.skipped == 6
    assert report.lines[0].text == "line 6"
    assert len(report.lines[-1].text) == limits.JOB_LOG_LINE_CHARS_MAX
    assert report.lines[-1].text.endswith("end")
    encoded = messages.encode(messages.Progress([report]))
    assert messages.decode_event(encoded) == messages.Progress([report]), "it keeps to what a manager takes"


def test_what_no_job_logs_and_what_cannot_be_formatted_is_left_out(
    log: Reports, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd: list[logging.LogRecord] = []
    monkeypatch.setattr(log, "handleError", odd.append)
    log.handle(logging.LogRecord("test", logging.INFO, "x.py", 1, "%d", ("no number",), None))
    assert len(odd) == 1
    context.running.set(None)
    say("outside")
    assert not log.unsent


# ---- in the manager -----------------------------------------------------------------------------------------


def test_a_manager_sends_many_lines_in_several_messages() -> None:
    session = SessionV2(Identity("m", "1"), list, 0.5)
    session._open = True
    line = LogLine(0.0, "INFO", "x" * limits.JOB_LOG_LINE_CHARS_MAX)
    session.report([v2.Report(str(n), n, b"", [line] * 100) for n in range(6)])
    sent = [v2.decode(frames[3], v2.Progress) for frames in session.outgoing]
    assert [report.id for body in sent for report in body.reports] == [str(n) for n in range(6)]
    assert len(sent) == 2
    assert all(len(frames[3]) < 2 * limits.BATCH_BYTES for frames in session.outgoing)


# ---- in the Router ------------------------------------------------------------------------------------------


@pytest.fixture
def world() -> World:
    world = World()
    world.join(b"m", credit=5)
    return world


def ask(world: World, command: bytes, **params: Any) -> Any:
    (sent,) = world.turn((ADMINISTRATIVE, [b"admin", *v2.encode(command, v2.Question(1, params))]))
    return v2.decode(sent.frames[3], v2.Answer).answer


def told(world: World, handed: v2.Job, *texts: str, manager: bytes = b"m") -> None:
    lines = [LogLine(5.0, "INFO", text) for text in texts]
    world.manager(manager, b"PROGRESS", v2.Progress([v2.Report(handed.id, handed.lease, b"", lines)]))


def test_lines_of_all_runs_are_read_on_from_where_one_was(world: World) -> None:
    world.enqueue(job("a"))
    (handed,) = world.handed(b"m")
    told(world, handed, "one", "two")
    page = ask(world, b"LOGS", id="a")
    assert page["lines"][1] == {"n": 1, "at": 5.0, "level": "INFO", "attempt": 1, "text": "two"}
    assert (page["next"], page["missed"]) == (2, 0)
    world.finish(b"m", handed, state="interrupted")
    told(world, handed, "of a hand-out that is over")
    again = world.handed(b"m")[-1]
    told(world, again, "three")
    page = ask(world, b"LOGS", id="a", after=2)
    assert [(line["attempt"], line["text"]) for line in page["lines"]] == [(2, "three")]
    world.finish(b"m", again)
    assert len(ask(world, b"LOGS", id="a")["lines"]) == 3, "it has ended, and its log is still there"
    assert ask(world, b"LOGS", id="b") == {"lines": [], "next": 0, "missed": 0}


def test_lines_leave_how_far_a_job_is_alone(world: World) -> None:
    world.enqueue(job("a"))
    (handed,) = world.handed(b"m")
    world.manager(b"m", b"PROGRESS", v2.Progress([v2.Report("a", handed.lease, v2.pack(0.5))]))
    told(world, handed, "one")
    assert ask(world, b"JOB", id="a")["progress"] == 0.5


def test_the_log_of_one_job_and_of_all_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    logs = JobLogs()
    lines = [LogLine(0.0, "INFO", str(n)) for n in range(150)]
    logs.add("a", 1, lines, 0)
    logs.add("a", 1, lines, 3)
    page = logs.read("a", 0)
    assert len(page["lines"]) == limits.JOB_LOG_LINES_MAX
    assert (page["next"], page["missed"]) == (303, 100)
    assert [page["lines"][n]["n"] for n in (49, 50)] == [149, 153]

    monkeypatch.setattr(limits, "JOBS_WITH_LOGS_MAX", 2)
    logs.add("b", 1, lines[:1], 0)
    logs.add("a", 1, lines[:1], 0)
    logs.add("c", 1, lines[:1], 0)
    assert [id for id in "abc" if logs.read(id, 0)["lines"]] == ["a", "c"], "b has been silent for longest"

    long = [LogLine(0.0, "INFO", "x" * 1_000)]
    monkeypatch.setattr(limits, "JOB_LOGS_BYTES_MAX", 5_000)
    logs.add("d", 1, long, 0)
    assert [id for id in "acd" if logs.read(id, 0)["lines"]] == ["c", "d"]
    for id in "efgh":
        logs.add(id, 1, long, 0)
    assert logs._bytes == sum(log.bytes for log in logs._logs.values()) <= 5_000
