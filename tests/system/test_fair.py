"""Fair managers: long jobs leave short ones their part."""

from __future__ import annotations

from system_jobs import hold, note

from .processes import System, until


def test_short_jobs_pass_long_ones_that_came_before(system: System) -> None:
    """Two workers, two queues of equal weight: the long jobs get one worker while the others have work."""
    system.start_router()
    long, short, gate = system.journal(), system.journal(), system.folder / "gate"
    slow = hold.options(queue="long").map([(str(long), str(gate))] * 4)
    fast = note.options(queue="short").map([(str(short),)] * 300)
    system.start_manager(workers=2, EVENTMQ_QUEUES="long:10,short:10", EVENTMQ_FAIR="true")
    assert sum(fast.results(20)) == 300
    until(lambda: len(long.runs()) == 2, "a lone queue uses everything")
    assert long.runs()[1].at > short.runs()[-1].at
    gate.touch()
    assert slow.results(20) == [1] * 4
