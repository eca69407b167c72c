"""SIGTERM ends a Router or a manager in order, a second one at once; SIGHUP moves the Router; DISCONNECT from afar."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from system_jobs import double, hold, note

import eventmq
from eventmq import BrokerUnavailable, Client, JobHandle

from .processes import System, alive, each_once, free_ports, until


def test_a_manager_told_to_end_finishes_what_runs_and_gives_back_the_rest(system: System) -> None:
    system.start_router()
    leaver = system.start_manager("leaver", workers=2)
    journal, gate = system.journal(), system.folder / "gate"
    runs = hold.map([(str(journal), str(gate))] * 2)
    for handle in runs:
        journal.begun(handle)
    waits = note.map([(str(journal),)] * 20)
    leaver.signal(signal.SIGTERM)
    until(lambda: any(w["draining"] for w in system.ask("WORKERS")["connected_workers"].values()), "it says so")
    assert {run.id for run in journal} == {*runs}
    system.start_manager("heir", workers=1)
    assert sum(waits.results()) == 20
    assert leaver.running
    gate.touch()
    assert leaver.wait() == 0
    assert runs.results() == [1, 1]
    each_once(journal, [*runs, *waits])
    assert system.count("redelivered") == 0


def test_a_manager_told_twice_ends_at_once_and_its_jobs_run_elsewhere(system: System) -> None:
    system.start_router()
    leaver = system.start_manager("leaver", workers=2)
    journal, gate = system.journal(), system.folder / "gate"
    job = hold.delay(str(journal), str(gate))
    journal.begun(job)
    workers = leaver.children()
    leaver.signal(signal.SIGTERM)
    until(lambda: any(w["draining"] for w in system.ask("WORKERS")["connected_workers"].values()), "it drains")
    told = time.monotonic()
    assert leaver.terminate() == 0
    assert time.monotonic() - told < 2.0
    assert not any(map(alive, workers))
    system.start_manager("heir", workers=1)
    journal.begun(job, 2)
    gate.touch()
    job.result()
    assert journal.counts() == {job: 2}
    assert job.info()["crashes"] == 0


def test_a_manager_that_may_drain_for_a_time_only_gives_back_what_still_runs(system: System) -> None:
    system.start_router()
    leaver = system.start_manager("leaver", workers=1, EVENTMQ_DRAIN_S="0.3")
    journal, gate = system.journal(), system.folder / "gate"
    job = hold.delay(str(journal), str(gate))
    journal.begun(job)
    assert leaver.terminate(5.0) == 0
    assert job.status == "waiting"


def test_a_router_told_twice_ends_at_once(system: System) -> None:
    router = system.start_router()
    system.start_manager(workers=1)
    journal, gate = system.journal(), system.folder / "gate"
    job = hold.delay(str(journal), str(gate))
    journal.begun(job)
    router.signal(signal.SIGTERM)
    router.signal(signal.SIGTERM)
    assert router.wait(2.0) == 0
    system.start_router()
    gate.touch()
    assert job.result() == 1
    assert journal.counts() == {job: 1}


def test_disconnect_from_the_command_line_ends_the_router_in_order(system: System) -> None:
    router = system.start_router()
    system.start_manager(workers=1)
    assert double.delay(1).result() == 2
    told = system.run("-a", system.administrative, "shutdown", program="emq_cli")
    assert told.returncode == 0, told.stderr
    assert router.wait(5.0) == 0
    again = system.run("-a", system.administrative, "--timeout", "1", "status", program="emq_cli")
    assert again.returncode == 69
    assert "no Router listens on" in again.stderr
    system.start_router()
    assert double.delay(2).result() == 4


def write(file: Path, system: System, addresses: Sequence[str], more: str = "") -> None:
    """A settings file of the Router."""
    names = ("frontend_addr", "backend_addr", "administrative_addr")
    lines = [f"{name} = {address}" for name, address in zip(names, addresses, strict=True)]
    file.write_text("\n".join(["[router]", f"store = sqlite:///{system.store}", *lines, more, ""]))


def test_sighup_moves_the_router_and_cuts_nobody_off(system: System) -> None:
    """Every address changes. Who is connected stays so, also the manager, whose jobs run on; who comes finds the new
    addresses; the old ones serve until the Router ends."""
    file = system.folder / "eventmq.ini"
    new = [f"tcp://127.0.0.1:{port}" for port in free_ports(3)]
    write(file, system, system.addresses)
    router = system.start_router(file=file)
    system.start_manager(workers=2)
    journal, gate = system.journal(), system.folder / "gate"
    job = hold.delay(str(journal), str(gate))
    journal.begun(job)
    router.signal(signal.SIGHUP)
    until(lambda: "reloaded; moved: nothing" in router.log, "the same settings move nothing")
    write(file, system, new)
    router.signal(signal.SIGHUP)
    until(lambda: "reloaded; moved: frontend, backend, administrative" in router.log, "it has moved")
    with Client(new[0]) as client:
        assert client.info(job)["state"] == "running"
        assert double.delay(1).result() == 2  # over the connection that was there before
    system.frontend, system.backend, system.administrative = new
    system.start_manager("newcomer", workers=1)
    assert len(system.ask("WORKERS")["connected_workers"]) == 2
    eventmq.configure(broker_addr=new[0])
    assert double.delay(2).result() == 4
    gate.touch()
    assert JobHandle(str(job)).result() == 1
    assert journal.counts() == {job: 1}
    assert system.count("redelivered") == 0


def test_sighup_with_settings_that_are_wrong_changes_nothing(system: System) -> None:
    file = system.folder / "eventmq.ini"
    write(file, system, system.addresses)
    router = system.start_router(file=file)
    system.start_manager(workers=1)
    write(file, system, system.addresses, "frontent_addr = tcp://127.0.0.1:1")
    router.signal(signal.SIGHUP)
    until(lambda: "did you mean frontend_addr?" in router.log, "it says what is wrong")
    assert "The Router goes on as before." in router.log
    assert double.delay(1).result() == 2


def test_a_client_without_a_router_is_told_within_its_time(system: System) -> None:
    eventmq.configure(broker_addr=system.frontend, enqueue_timeout=0.5)
    began = time.monotonic()
    with pytest.raises(BrokerUnavailable, match=system.frontend):
        double.delay(1)
    assert 0.4 < time.monotonic() - began < 1.5
    system.start_router()
    system.start_manager(workers=1)
    assert double.delay(2).result() == 4
    assert system.ask("STATUS")["jobs"]["kept"] == 1  # the one that was given up did not turn up later
