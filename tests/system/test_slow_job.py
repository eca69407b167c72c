"""A slow job holds up no fast one, whatever is known of its kind before."""

from __future__ import annotations

import time
from collections import Counter

import pytest
from system_jobs import hold, hold_one, nap, note, rest

from .processes import System, each_once, until


def test_fast_jobs_pass_a_slow_one(system: System) -> None:
    """Two workers, one of them busy for long: batches and single jobs alike go through the other one."""
    system.start_router()
    system.start_manager(workers=2)
    journal, gate = system.journal(), system.folder / "gate"
    note.map([(str(journal),)] * 500).results()  # known to be tiny: handed out ahead from now on
    slow = hold.delay(str(journal), str(gate))
    journal.begun(slow)
    fast = note.map([(str(journal),)] * 2000)
    assert sum(fast.results(10)) == 2000
    longest_s = 0.0
    for _ in range(20):
        began = time.monotonic()
        single = note.delay(str(journal))
        longest_s = max(longest_s, journal.begun(single).at - began)
    assert longest_s < 0.5
    assert slow.status == "running"
    gate.touch()
    assert slow.result() == 1
    assert set(journal.counts().values()) == {1}


def test_jobs_behind_one_that_turns_out_slow_go_to_others(system: System) -> None:
    """The slow one has the name of tiny ones, so others were handed to the same worker behind it. Two managers with one
    worker each: what was handed out comes back and goes to the other machine."""
    system.start_router()
    for name in ("one", "two"):
        system.start_manager(name, workers=1)
    warm, journal, gate = system.journal(), system.journal(), system.folder / "gate"
    hold_one.map([(str(warm), str(gate), n, -1) for n in range(1000)]).results()
    jobs = hold_one.map([(str(journal), str(gate), n, 100) for n in range(1000)])
    slow = jobs.pop(100)
    began = time.monotonic()
    assert sum(jobs.results(10)) == sum(range(1000)) - 100
    assert time.monotonic() - began < 3.0
    assert slow.status == "running"
    gate.touch()
    assert slow.result() == 1
    each_once(journal, [*jobs, slow])
    assert system.count("redelivered") == 0


def test_what_one_manager_has_not_begun_is_recalled_for_another_that_is_idle(system: System) -> None:
    """Jobs that were tiny are slow now, though none for so long that it counts as stuck: all lie ready at the first
    manager's only worker when the second manager comes."""
    system.start_router()
    system.start_manager("one", workers=1)
    rest.map([(0.0,)] * 1000).results()
    until(lambda: system.free_slots("one") > 200, "jobs of this kind go ahead")
    jobs = rest.map([(0.006,)] * 200)
    until(lambda: system.slots("one", ["running"]) > 150, "all of them are at the first manager")
    system.start_manager("two", workers=1)
    workers = Counter(jobs.results(20))
    assert len(workers) == 2, workers
    assert system.count("redelivered") == 0


@pytest.mark.load
def test_a_long_job_leaves_the_latency_of_short_ones_as_it_is(system: System, thorough: bool) -> None:
    """Two managers with two workers each; the long job would run for an hour. `test_recall` has it without noise."""
    system.start_router()
    for name in ("one", "two"):
        system.start_manager(name)
    journal = system.journal()

    def p99_s(jobs: int) -> float:
        called = {}
        for _ in range(jobs):
            began = time.monotonic()
            called[nap.delay(str(journal), 0.001)] = began
            time.sleep(0.001)
        until(lambda: called.keys() <= journal.counts().keys(), "all have begun")
        took = sorted(run.at - called[run.id] for run in journal.runs() if run.id in called)
        return took[len(took) * 99 // 100]

    jobs = 10_000 if thorough else 100
    alone = p99_s(jobs)
    slow = nap.options(timeout=0).delay(str(journal), 3600.0)
    journal.begun(slow)
    beside = p99_s(jobs)
    assert slow.status == "running"
    assert slow.cancel(grace=0) == "killed"
    print(f"{jobs:,} jobs of 1 ms: p99 {1e3 * alone:.2f} ms, beside a long one {1e3 * beside:.2f} ms")
    assert beside < 1.1 * alone + 0.2
