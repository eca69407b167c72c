"""A running job is cancelled: asked, terminated, killed, each where the one before was not enough, and the answer says
which; it harms no other job, and holds over a restart of the Router."""

from __future__ import annotations

import signal
import threading
from typing import Any

import pytest
import system_jobs

import eventmq

from .processes import Journal, System, until


def run_of(system: System, job: Any, *args: Any) -> tuple[eventmq.JobHandle[Any], Journal, int]:
    """A job that has begun, its journal, and the process in which it runs."""
    journal = system.journal()
    handle = job.delay(str(journal), *args)
    return handle, journal, journal.begun(handle).pid


@pytest.mark.parametrize(
    ("job", "args", "grace", "word", "events", "worker_lives"),
    [
        (system_jobs.heed, (), 10, "stopped", ["heeded"], True),
        (system_jobs.await_long, (), 10, "stopped", ["CancelledError"], True),
        (system_jobs.sleep_long, (), 0.6, "terminated", ["Terminated", "finally"], True),
        (system_jobs.ignore, (int(signal.SIGTERM),), 0.6, "killed", [], False),
        (system_jobs.sleep_long, (), 0, "killed", [], False),
    ],
    ids=["asked", "coroutine", "terminated", "killed", "at-once"],
)
def test_each_stage_does_what_it_says(
    system: System, job: Any, args: tuple[Any, ...], grace: float, word: str, events: list[str], worker_lives: bool
) -> None:
    system.start_router()
    system.start_manager(workers=1)
    handle, journal, pid = run_of(system, job, *args)
    assert handle.cancel(grace) == word
    assert [run.event for run in journal][1:] == events
    assert handle.status == "cancelled"
    with pytest.raises(eventmq.JobCancelled):
        handle.result()
    _, _, next_pid = run_of(system, system_jobs.note)
    assert (next_pid == pid) == worker_lives
    assert system.count("crashes") == system.count("stale") == 0


def test_who_waits_behind_it_or_runs_beside_it_is_not_touched(system: System) -> None:
    system.start_router()
    system.start_manager(workers=2)
    gate = system.folder / "gate"
    beside, beside_journal, _ = run_of(system, system_jobs.hold, str(gate))
    journal = system.journal()
    for handle in system_jobs.note.map([(str(journal),)] * 20):
        assert handle.result() == 1  # tiny, as the manager has learned now: it gives them out ahead
    doomed, _, _ = run_of(system, system_jobs.ignore, int(signal.SIGTERM))
    behind = system_jobs.note.map([(str(journal),)] * 50)
    assert doomed.cancel(grace=0) == "killed"
    assert behind.results() == [1] * 50
    assert {run.attempt for run in journal} == {1}, "not charged"
    gate.touch()
    assert beside.result() == 1
    assert len(beside_journal.runs()) == 1


def test_it_holds_though_the_router_restarts_meanwhile(system: System) -> None:
    router = system.start_router()
    system.start_manager(workers=1)
    handle, journal, _ = run_of(system, system_jobs.sleep_long)
    answer: list[str] = []
    asking = threading.Thread(target=lambda: answer.append(handle.cancel(grace=3)))
    asking.start()
    until(lambda: system.count("cancelled") == 1, "the CANCEL is durable")
    router.kill()
    system.start_router()
    asking.join(20)
    assert answer == ["cancelled"], "nobody remembers who waited; that it is cancelled is durable"
    until(lambda: system.free_slots("manager") == 1, "the run is stopped")
    assert handle.status == "cancelled"
    assert len(journal.runs()) == 1


def test_a_manager_that_drains_says_so_and_the_job_may_move(system: System) -> None:
    system.start_router()
    first = system.start_manager("first", workers=1)
    handle, journal, _ = run_of(system, system_jobs.step_aside)
    first.signal(signal.SIGTERM)
    assert first.wait() == 0
    system.start_manager("second", workers=1)
    assert handle.result() == "done elsewhere"
    assert [run.attempt for run in journal] == [1, 2], "it had begun; and that uses up no retry:"
    assert handle.info()["failures"] == 0


def test_progress_is_seen_while_it_runs(system: System) -> None:
    system.start_router()
    system.start_manager(workers=1)
    gate = system.folder / "gate"
    handle, _, _ = run_of(system, system_jobs.advance, str(gate))
    until(lambda: handle.info()["progress"] == {"done": 999, "of": 1000}, "the latest progress")
    gate.touch()
    handle.result()
    assert handle.info()["progress"] is None
