"""What has happened is told after the Router was restarted and killed, with real processes."""

from __future__ import annotations

import time
from typing import Any

import pytest
from system_jobs import complain, falter, rest

from eventmq.client.admin import Admin
from eventmq.errors import JobFailed

from .processes import JOBS, System, until


def told(system: System) -> tuple[dict[str, int], dict[str, dict[str, Any]], list[Any]]:
    """Sums of the last day, job types by name, groups of failures."""
    with Admin(system.administrative) as admin:
        day = admin.history(since=time.time() - 80_000)
        counts = {key: sum(value) for key, value in day.items() if key in ("enqueued", "succeeded", "failed", "dead")}
        return counts, {row["name"]: dict(row) for row in admin.types()}, [dict(each) for each in admin.failures()]


def test_the_past_outlives_the_router_and_failures_name_the_users_line(system: System) -> None:
    router = system.start_router()
    manager = system.start_manager()
    rest.map([(0.05,)] * 20)[-1].result(timeout=20)
    falter.delay().result(timeout=20)
    with pytest.raises(JobFailed):
        complain.delay(3).result(timeout=20)
    until(lambda: told(system)[0]["succeeded"] == 21, "all have ended")

    before = told(system)
    counts, types, (complained, faltered) = before
    assert counts == {"enqueued": 22, "succeeded": 21, "failed": 2, "dead": 1}
    assert types["system_jobs.rest"]["runs"] == 20
    assert 0.04 < types["system_jobs.rest"]["run_p50_s"] < 0.5
    assert (complained["exception"], complained["message"]) == ("builtins.ValueError", "xxx")
    line = (JOBS / "system_jobs.py").read_text().splitlines().index('    raise ValueError("x" * length)') + 1
    assert complained["place"] == f"system_jobs.py:{line} complain"
    assert (faltered["name"], faltered["count"]) == ("system_jobs.falter", 1)

    assert router.terminate() == 0
    router = system.start_router()
    assert told(system) == before
    router.kill()
    system.start_router()
    assert told(system) == before
    assert manager.running, manager.log
