"""A slow job holds up no fast one, whatever is known of its kind before."""

from __future__ import annotations

import time

from system_jobs import hold, hold_one, note

from .processes import System, each_once


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
