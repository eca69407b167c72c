"""What a job logs while it runs reaches whoever asks, with real processes: while it runs, at its end, after a crash."""

from __future__ import annotations

import pytest
from system_jobs import recount

from eventmq import limits
from eventmq.client.admin import Admin

from .processes import System, kill_pid, until


@pytest.fixture
def admin(system: System) -> Admin:
    system.start_router()
    return Admin(system.administrative)


def test_a_log_is_read_while_the_job_runs_after_its_worker_died_and_when_it_has_ended(
    system: System, admin: Admin
) -> None:
    manager = system.start_manager(workers=1)
    gate = system.folder / "gate"
    lines = limits.JOB_LOG_LINES_MAX + 50
    with admin:
        handle = recount.delay(str(gate), lines)
        page = until(lambda: (told := admin.logs(handle)).next >= lines and told, "its lines")
        assert page.lines[-1]["text"] == f"line {lines - 1} of 1"
        assert page.missed == lines - len(page.lines) == 50
        assert handle.info()["progress"] == {"done": lines, "total": 2 * lines, "text": "counting"}

        (worker,) = manager.children()
        kill_pid(worker)
        page = until(lambda: (told := admin.logs(handle, page.next)).lines and told, "lines of the second run")
        assert {line["attempt"] for line in page.lines} == {2}
        gate.touch()
        assert handle.result(timeout=20) == lines
        page = admin.logs(handle, page.next)
        assert [(line["level"], line["text"]) for line in page.lines][-1] == ("WARNING", "the end")
        assert "the end" in manager.log, "and on stderr, as ever"

        quick = recount.delay(str(gate), 1)
        assert quick.result(timeout=20) == 1
        assert [line["text"] for line in admin.logs(quick).lines] == ["line 0 of 1", "the end"]
