"""Jobs with `redeliver=False`: whatever is killed under them, they begin once, and their journal is the witness."""

from __future__ import annotations

import pytest
from system_jobs import hold

from eventmq import JobLost
from eventmq.client.admin import Admin

from .processes import System, kill_pid

RECONCILE_S = 3.0
"""A Router that was restarted waits for managers so long here."""

LOST_WITHIN_S = 30.0
"""That, and a busy machine."""


@pytest.mark.parametrize("killed", ["worker", "manager", "router", "router and manager"])
def test_it_begins_once_whatever_is_killed(system: System, killed: str) -> None:
    system.limits["RECONCILE_S"] = RECONCILE_S
    router = system.start_router()
    manager = system.start_manager()
    journal, gate = system.journal(), system.folder / "gate"
    job = hold.options(redeliver=False).delay(str(journal), str(gate))
    run = journal.begun(job)
    if killed == "worker":
        kill_pid(run.pid)
    if "router" in killed:
        router.kill()
    if "manager" in killed:
        manager.kill()
    if "router" in killed:
        system.start_router()
    system.start_manager("heir")
    if killed == "router":
        gate.touch()
        assert job.result(LOST_WITHIN_S) == 1, "its manager has it still"
    else:
        with pytest.raises(JobLost, match="begin only once"):
            job.result(LOST_WITHIN_S)
        gate.touch()
    assert hold.delay(str(journal), str(gate)).result() == 1, "others run"
    assert len(journal.runs(job)) == 1


def test_a_manager_told_by_the_router_to_leave_finishes_what_it_runs(system: System) -> None:
    system.start_router()
    leaving = system.start_manager("leaving", workers=1)
    journal, gate = system.journal(), system.folder / "gate"
    runs = hold.delay(str(journal), str(gate))
    journal.begun(runs)
    with Admin(system.administrative) as admin:
        assert list(admin.ask("DRAIN_MANAGER", manager="leaving").values()) == [1]
        nobody = system.run("manager", "drain", "nobody", "-a", system.administrative)
        assert (nobody.returncode, "eventmq manager list" in nobody.stderr) == (3, True)
        again = system.run("manager", "drain", "leaving", "-a", system.administrative)
        assert again.stdout == "leaving: told to leave; it has 1 job.\n", "again: that is no hurry"
    waits = hold.delay(str(journal), str(gate))
    system.start_manager("heir", workers=1)
    journal.begun(waits)
    assert leaving.running
    gate.touch()
    assert (runs.result(), waits.result()) == (1, 1)
    assert leaving.wait() == 0
    assert journal.counts() == {runs: 1, waits: 1}
