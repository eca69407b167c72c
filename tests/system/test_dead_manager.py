"""A job manager is killed: what it had runs elsewhere within two seconds, and it leaves nothing behind."""

from __future__ import annotations

from system_jobs import hold, nap

from .processes import System, alive, until


def test_its_jobs_run_again_within_2_s_and_its_workers_are_gone(system: System) -> None:
    system.start_router()
    doomed = system.start_manager("doomed", workers=2)
    journal, gate = system.journal(), system.folder / "gate"
    running = hold.map([(str(journal), str(gate))] * 2)
    for handle in running:
        journal.begun(handle)
    waiting = hold.delay(str(journal), str(gate))
    workers = doomed.children()
    assert len(workers) == 2
    system.start_manager("heir", workers=3)
    journal.begun(waiting)
    killed_at = doomed.kill()
    again = [journal.begun(handle, 2) for handle in running]
    assert max(run.at for run in again) - killed_at < 2.0
    assert {run.attempt for run in again} == {2}
    until(lambda: not any(map(alive, workers)), "workers go with their manager", 2.0)
    gate.touch()
    assert running.results() == [2, 2]
    assert waiting.result() == 1
    assert journal.counts() == {running[0]: 2, running[1]: 2, waiting: 1}
    assert system.count("redelivered") == 2


def test_no_job_is_lost_when_it_dies_under_load(system: System) -> None:
    """Some of its jobs had ended and not been reported: those run twice, with the next attempt, and no others."""
    system.start_router()
    system.start_manager("heir", workers=2)
    doomed = system.start_manager("doomed", workers=2)
    workers = doomed.children()
    journal = system.journal()
    jobs = nap.map([(str(journal), 0.0005)] * 4000)
    until(lambda: sum(run.pid in workers for run in journal) >= 500, "it has done a part")
    doomed.kill()
    assert sum(jobs.results()) == 4000
    twice = {id for id, count in journal.counts().items() if count > 1}
    assert journal.counts().keys() == set(jobs)
    for id in twice:
        runs = journal.runs(id)
        assert [run.attempt for run in runs] == [1, 2]
        assert runs[0].pid in workers
        assert runs[1].pid not in workers
    assert len(twice) <= system.count("redelivered")
