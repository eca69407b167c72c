"""`SoftTimeout` is raised in a job at its time, wherever the job is, and never anywhere else."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import system_jobs

import eventmq

from .processes import System


@pytest.mark.parametrize(
    ("job", "way"),
    [
        (system_jobs.outrun, "sleep"),
        (system_jobs.outrun, "read"),
        (system_jobs.outrun, "spin"),
        (system_jobs.outrun, "loop"),
        (system_jobs.outrun_await, "await"),
        (system_jobs.outrun_await, "group"),
        (system_jobs.outrun_await, "block"),
    ],
    ids=str,
)
def test_it_reaches_the_job_where_it_is(system: System, job: Any, way: str) -> None:
    system.start_router()
    system.start_manager(workers=1)
    journal = system.journal()
    handles = [job.delay(str(journal), way) for _ in range(2)]  # the second one in what the first has left
    assert [handle.result() for handle in handles] == ["ran longer than its soft_timeout of 0.2 s"] * 2
    assert len({run.pid for run in journal}) == 1, "in the same worker process"


def test_one_that_lets_it_out_timed_out(system: System) -> None:
    system.start_router()
    system.start_manager(workers=1)
    journal = system.journal()
    handle = system_jobs.let_out.delay(str(journal))
    with pytest.raises(eventmq.JobTimeout, match=r"soft_timeout of 0\.1 s"):
        handle.result()
    retried = system_jobs.let_out.options(retries=eventmq.Retry(1, base=0)).delay(str(journal))
    with pytest.raises(eventmq.JobTimeout):
        retried.result()
    assert len(journal.runs(retried)) == 2, "a timeout is tried again"
    once = system_jobs.let_out.options(retries=eventmq.Retry(1, base=0, not_on=(eventmq.SoftTimeout,)))
    with pytest.raises(eventmq.JobTimeout):
        (handle := once.delay(str(journal))).result()
    assert len(journal.runs(handle)) == 1


def test_none_is_hit_outside_of_its_own_code(system: System) -> None:
    system.start_router()
    system.start_manager(workers=2)
    handles = system_jobs.close_race.map([(0.02 + 0.0001 * n,) for n in range(300)])
    assert Counter(handles.results()).keys() == {"done", "soft"}
    assert system.count("crashes") == 0
