"""A worker process is killed: its job runs again at once, the cause is known, nobody else pays."""

from __future__ import annotations

import signal

import pytest
from system_jobs import die, hold, note

from eventmq import JobCrashed

from .processes import System, alive, each_once, kill_pid, until


def test_its_job_runs_again_elsewhere_within_100_ms(system: System) -> None:
    system.start_router()
    system.start_manager(workers=3)
    journal, gate = system.journal(), system.folder / "gate"
    neighbour = hold.delay(str(journal), str(gate))
    victim = hold.options(crash_limit=4).delay(str(journal), str(gate))
    journal.begun(neighbour)
    took_s = []
    for kills in (1, 2, 3):
        run = journal.begun(victim, kills)
        until(lambda: system.free_slots("manager") >= 1, "the third worker is ready")
        killed_at = kill_pid(run.pid)
        again = journal.begun(victim, kills + 1)
        took_s.append(again.at - killed_at)
        assert again.pid != run.pid
        assert again.attempt == kills + 1
        assert not alive(run.pid)
        assert victim.info()["crashes"] == kills
        assert system.count("redelivered") == kills
    assert min(took_s) < 0.1, took_s
    gate.touch()
    assert victim.result() == 4
    assert neighbour.result() == 1
    assert journal.counts() == {victim: 4, neighbour: 1}
    assert len(journal.runs(event="end")) == 2


@pytest.mark.parametrize(
    ("number", "name"), [(signal.SIGKILL, "signal 9 (SIGKILL)"), (signal.SIGSEGV, "SIGSEGV"), (0, "exit code 3")]
)
def test_a_job_that_kills_its_workers_is_dead_and_the_cause_is_named(system: System, number: int, name: str) -> None:
    system.start_router()
    system.start_manager(workers=2)
    journal = system.journal()
    poison = die.delay(str(journal), 1, 1, int(number))
    with pytest.raises(JobCrashed, match=r"crash 3 of this job") as caught:
        poison.result()
    assert name in str(caught.value)
    assert [run.attempt for run in journal.runs(poison)] == [1, 2, 3]
    assert note.delay(str(journal)).result() == 1


def test_neighbours_in_the_same_worker_are_neither_lost_nor_run_again(system: System) -> None:
    """Tiny jobs travel and run in batches; the one that kills the worker has others before and behind it."""
    system.start_router()
    system.start_manager(workers=2)
    warm, journal = system.journal(), system.journal()
    die.map([(str(warm), n, -1, 0) for n in range(500)]).results()
    jobs = die.options(crash_limit=1).map([(str(journal), n, 777, int(signal.SIGKILL)) for n in range(1500)])
    doomed = jobs.pop(777)
    assert sum(jobs.results()) == sum(range(1500)) - 777
    with pytest.raises(JobCrashed):
        doomed.result()
    each_once(journal, [*jobs, doomed])
