"""Of calls that share a key one runs, whoever makes them and whatever dies in between."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from system_jobs import hold, note

from .processes import System, until


def test_one_job_for_many_callers_over_a_dead_router(system: System) -> None:
    """Sixteen threads call at once; the Router is killed while the job runs; then all call again."""
    router = system.start_router()
    system.start_manager(workers=2)
    journal, gate = system.journal(), system.folder / "gate"
    only = hold.options(unique="{journal}")
    with ThreadPoolExecutor(16) as threads:
        first = list(threads.map(lambda _: only.delay(str(journal), str(gate)), range(64)))
        journal.begun(first[0])
        router.kill()
        calls = threads.map(lambda _: only.delay(str(journal), str(gate)), range(64))
        system.start_router()
        again = list(calls)
    assert set(first) == set(again) == {first[0]}
    assert [handle.created for handle in first].count(True) == 1
    assert not any(handle.created for handle in again)
    gate.touch()
    assert {handle.result(20) for handle in (*first, *again)} == {1}
    assert only.delay(str(journal), str(gate)).created
    until(lambda: len(journal.runs(event="end")) == 2, "the next one runs, too")
    assert len(journal.runs()) == 2


def test_of_quick_calls_the_last_one_runs(system: System) -> None:
    system.start_router()
    system.start_manager(workers=1)
    journal = system.journal()
    handles = [note.options(debounce=2).delay(str(journal)) for _ in range(20)]
    assert handles[-1].result(20) == 1
    assert {handle.status for handle in handles[:-1]} == {"cancelled"}
    assert [run.id for run in journal.runs()] == [handles[-1]]
