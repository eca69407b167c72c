"""The outside checker sees each promise broken. A checker that misses one proves nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from . import histories
from .histories import History, Line, broken


def said(event: str, id: str = "a", **facts: Any) -> Line:
    return {"event": event, "id": id, **facts}


def run(attempt: int = 1, pid: int = 7, at: float = 1.0, id: str = "a") -> Line:
    return {"event": "begin", "id": id, "attempt": attempt, "pid": pid, "at": at}


SENT, ACKED = said("sent"), said("acked")
ENDED = said("ended", state="succeeded", attempt=1)
AGAIN = said("ended", state="succeeded", attempt=2)
KILLED: Line = {"event": "cause", "pid": 7}


@pytest.mark.parametrize(
    ("client", "jobs"),
    [
        ([], []),
        ([SENT, ACKED, ENDED], [run()]),
        ([SENT, ACKED, ENDED, ENDED], [run()]),
        ([SENT], []),
        ([SENT], [run()]),
        ([SENT, ACKED, KILLED, AGAIN], [run(), run(2, 8, 2.0)]),
        ([SENT, ACKED, said("ended", state="expired", attempt=1)], []),
    ],
)
def test_what_may_be(client: list[Line], jobs: list[Line]) -> None:
    assert broken(client, jobs) == []


@pytest.mark.parametrize(
    ("client", "jobs", "says"),
    [
        ([SENT, ACKED], [run()], "a was acknowledged and has no end"),
        ([SENT, ACKED, ENDED], [], "a succeeded and never ran"),
        ([SENT, ACKED, ENDED, AGAIN], [run()], "a ended more than once: [('succeeded', 1), ('succeeded', 2)]"),
        ([SENT, ACKED, ENDED], [run(), run(2, 8, 2.0)], "a ran again, and process 7, where it had run, was well"),
        ([SENT, ACKED, KILLED, ENDED], [run(), run(1, 8, 2.0)], "a ran again as attempt 1 after 1"),
        ([SENT, ACKED, KILLED, ENDED], [run(2, 8, 2.0), run(2, 7, 1.0)], "a ran again as attempt 2 after 2"),
        ([SENT, ACKED, ENDED], [run(), run(id="b")], "b ran and nobody sent it"),
        ([SENT, ACKED, ENDED, said("ended", "b", state="dead", attempt=1)], [run()], "b ended and nobody sent it"),
    ],
)
def test_what_may_not_be(client: list[Line], jobs: list[Line], says: str) -> None:
    assert broken(client, jobs) == [says]


def test_it_needs_nothing_but_two_files(tmp_path: Path) -> None:
    for name, noted in (("client", [SENT, ACKED]), ("jobs", [])):
        history = History(tmp_path / name)
        for line in noted:
            history.note(**line)
        history.close()
    files = [str(tmp_path / name) for name in ("client", "jobs")]
    told = subprocess.run([sys.executable, "-I", histories.__file__, *files], capture_output=True, text=True)
    assert (told.stdout, told.returncode) == ("a was acknowledged and has no end\n", 1)
