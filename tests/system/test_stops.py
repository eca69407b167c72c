"""Processes that stand still for long and go on, and a Router that is told to end at any moment."""

from __future__ import annotations

import random
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from system_jobs import hold

from eventmq import JobHandle

from .histories import History, broken, lines
from .processes import Journal, Process, System, until

GRACE_S = 5.0
"""A Router that is told to end has ended by then: nothing here keeps it that could not be reported to the next one."""


@contextmanager
def load(system: System, clients: int = 2) -> Iterator[tuple[Path, Journal]]:
    """Jobs come and go all the while; afterwards everything has to add up."""
    journal, stop, history = system.journal(), system.folder / "stop", system.folder / "clients"
    arguments = [system.frontend, str(history), str(journal), str(stop)]
    environ = system.environ({"PYTHONPATH": str(Path(__file__).parent.parent)})
    callers = [
        system.start(f"caller-{n}", [sys.executable, "-m", "system.caller", *arguments], environ)
        for n in range(clients)
    ]
    until(lambda: len(journal.runs()) > 20, "jobs are run")
    yield history, journal
    stop.touch()
    for caller in callers:
        assert caller.wait(90) == 0, caller.log
    assert broken(lines(history), lines(journal.path)) == []


@pytest.mark.soak
def test_a_router_told_to_end_at_any_moment_ends_in_time_and_loses_nothing(system: System, thorough: bool) -> None:
    chance = random.Random(2020)
    router = system.start_router()
    for name in ("one", "two"):
        system.start_manager(name, workers=2)
    times, longest_s = 200 if thorough else 6, 0.0
    with load(system) as (history, journal):
        for _ in range(times):
            time.sleep(chance.uniform(0, 0.3))
            told = time.monotonic()
            assert router.terminate(GRACE_S) == 0, router.log
            longest_s = max(longest_s, time.monotonic() - told)
            router = system.start_router()
    acked = sum(line["event"] == "acked" for line in lines(history))
    print(f"told to end {times} times, ended within {longest_s:.2f} s; {acked} jobs, {len(journal.runs())} runs")
    assert acked >= times
    assert system.count("redelivered") == 0


def stop(process: Process, seconds: float) -> None:
    """It stands still for so long."""
    process.signal(signal.SIGSTOP)
    time.sleep(seconds)
    process.signal(signal.SIGCONT)


@pytest.mark.soak
def test_a_router_that_stands_still_blames_nobody(system: System, thorough: bool) -> None:
    """Jobs run on and end meanwhile; nobody is declared dead, nothing runs twice."""
    quick = {} if thorough else {"EVENTMQ_HEARTBEAT_TIMEOUT": "1"}
    router = system.start_router(**quick)
    system.start_manager(workers=3)
    with load(system) as (_, journal):
        stop(router, 60.0 if thorough else 2.5)
        runs = len(journal.runs())
        until(lambda: len(journal.runs()) > runs + 20, "jobs are run again")
    assert "the Router's loop stood still for" in router.log
    assert "gone" not in router.log
    assert system.count("redelivered") == 0


@pytest.mark.soak
def test_a_manager_that_stands_still_is_given_up_and_its_late_word_does_not_count(
    system: System, thorough: bool
) -> None:
    """Its jobs run elsewhere once it has been silent for long enough, and each has one outcome: that of the later run.
    Afterwards it works again."""
    router = system.start_router(**({} if thorough else {"EVENTMQ_HEARTBEAT_TIMEOUT": "1"}))
    still = system.start_manager("still", workers=2)
    journal, gate = system.journal(), system.folder / "gate"
    jobs = hold.map([(str(journal), str(gate))] * 2)
    for handle in jobs:
        journal.begun(handle)
    history = History(system.folder / "client")
    for run in journal.runs():
        history.note("cause", pid=run.pid)
    system.start_manager("heir", workers=2)
    still.signal(signal.SIGSTOP)
    stopped = time.monotonic()
    again = [journal.begun(handle, 2) for handle in jobs]
    assert {run.attempt for run in again} == {2}
    gate.touch()
    assert jobs.results() == [2, 2]
    time.sleep(max(0.0, stopped + (60.0 if thorough else 2.0) - time.monotonic()))
    still.signal(signal.SIGCONT)
    until(lambda: system.free_slots("still") == 2, "it is back and asks for jobs")
    more = hold.map([(str(journal), str(gate))] * 4)
    assert more.results() == [1] * 4
    for handle in (*jobs, *more):
        history.note("sent", id=handle)
        history.note("acked", id=handle)
        info = JobHandle(str(handle)).info()
        history.note("ended", id=handle, state=info["state"], attempt=info["attempt"])
    assert broken(lines(history.path), lines(journal.path)) == []
    assert system.count("redelivered") == 2
    assert router.running
