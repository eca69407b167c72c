"""kill -9 of a worker, a manager, the Router: what was acknowledged ends, nothing runs twice without a cause."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter

import deeds
import psutil
import pytest
from running import System, until

from eventmq import JobCrashed

ROUNDS = 3


def test_a_killed_worker_is_noticed_at_once_and_only_its_job_runs_again(system: System) -> None:
    system.router()
    system.manager(jobs=4)
    times = []
    for round in range(1, ROUNDS + 1):
        neighbour = deeds.hold.delay(system.record, 1.0)
        victim = deeds.hold.delay(system.record, 0.6)
        line = until(lambda v=victim: next((e for e in system.lines() if e.id == v), None), "the victim runs")
        killed = time.monotonic()
        os.kill(line.pid, signal.SIGKILL)
        assert victim.result(20) == victim
        assert neighbour.result(20) == neighbour
        again = [e for e in system.lines("begin") if e.id == victim]
        assert [e.attempt for e in again] == [1, 2]
        times.append(again[1].at - killed)
        assert victim.info()["crashes"] == 1
        assert [e.attempt for e in system.lines("begin") if e.id == neighbour] == [1]
        assert system.count("redelivered") == round
    assert min(times) < 0.1, f"killed workers' jobs began again after {times} s"


def test_a_job_that_kills_its_workers_is_dead_and_the_signal_is_named(system: System) -> None:
    system.router()
    system.manager(jobs=1)
    handle = deeds.hold.options(crash_limit=2).delay(system.record, 60.0)
    for attempt in (1, 2):
        line = until(lambda n=attempt: next((e for e in system.lines() if e.attempt == n), None), "it runs")
        os.kill(line.pid, signal.SIGKILL)
    with pytest.raises(JobCrashed, match="SIGKILL"):
        handle.result(20)
    assert deeds.add.delay(2, 3).result(20) == 5


def test_a_killed_managers_jobs_run_elsewhere_within_two_seconds(system: System) -> None:
    system.router()
    system.manager("m1")
    handles = deeds.hold.map([(system.record, 2.5)] * 4)
    until(lambda: len(system.lines("begin")) == 2, "two run at the first manager")
    workers = {line.pid for line in system.lines("begin")}
    system.manager("m2", jobs=4)
    until(lambda: len(system.lines("begin")) == 4, "the others run at the second one")
    killed = system.kill("m1")
    until(lambda: len(system.lines("begin")) == 6, "the first manager's jobs run again", 5)
    again = [line for line in system.lines("begin") if line.attempt == 2]
    assert len(again) == 2
    assert max(line.at for line in again) - killed < 2.0
    until(lambda: not any(map(psutil.pid_exists, workers)), "the killed manager's workers are gone")
    assert sorted(handles.results(20)) == sorted(handles)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_restarting_the_router_loses_nothing_and_reruns_nothing(system: System, how: signal.Signals) -> None:
    """Under load: jobs run, end and are enqueued all the time while the Router is ended and started again."""
    system.router()
    system.manager(jobs=4)
    handles, stop = [], threading.Event()

    def enqueue() -> None:
        while not stop.is_set():
            handles.append(deeds.hold.delay(system.record, 0.05 if len(handles) % 20 else 1.5))
            stop.wait(0.1)

    callers = [threading.Thread(target=enqueue) for _ in range(3)]
    for caller in callers:
        caller.start()
    try:
        for _ in range(ROUNDS):
            before = len(system.lines("end"))
            until(lambda n=before: len(system.lines("end")) > n + 10, "jobs end")
            system.processes["router"].send_signal(how)
            assert system.processes["router"].wait(10) == (0 if how == signal.SIGTERM else -how)
            time.sleep(0.3)  # the fault itself: a Router that is away for a while
            system.router()
    finally:
        stop.set()
        for caller in callers:
            caller.join()
    for handle in handles:
        assert handle.result(60) == handle
    begun = Counter(line.id for line in system.lines("begin"))
    assert begun == Counter(map(str, handles))
    assert system.count("redelivered") == 0


def test_a_second_router_on_the_same_store_says_who_holds_it(system: System) -> None:
    first = system.router()
    system.addresses = dict.fromkeys(system.addresses, "tcp://127.0.0.1:*")
    flags = [word for name, at in system.addresses.items() for word in (f"--{name.replace('_', '-')}", at)]
    store = f"sqlite:///{system.folder}/jobs.db"
    second = system.start("second", "router", "--store", store, *flags)
    assert second.wait(20) == 1
    assert f"pid {first.pid}" in system.log("second")
    assert "Traceback" not in system.log("second")


def test_the_ports_move_on_sighup_and_open_connections_stay(system: System) -> None:
    settings = system.folder / "eventmq.ini"
    new = system.addresses["frontend_addr"]
    system.addresses["frontend_addr"] = f"ipc://{system.folder}/first"
    settings.write_text("[router]\n" + "".join(f"{name} = {at}\n" for name, at in system.addresses.items()))
    store = f"sqlite:///{system.folder}/jobs.db"
    router = system.start("router", "router", "-C", str(settings), "--store", store)
    until(system.status, "the Router answers")
    system.manager()
    from eventmq import Client, configure

    configure(broker_addr=system.addresses["frontend_addr"])
    running = deeds.hold.delay(system.record, 1.0)
    settings.write_text(settings.read_text().replace(system.addresses["frontend_addr"], new))
    router.send_signal(signal.SIGHUP)
    until(lambda: "reloaded" in system.log("router"), "the Router has reloaded")
    with Client(new) as client:
        assert client.info(running) is not None
    assert running.result(20) == running
    assert [line.attempt for line in system.lines("begin")] == [1]


def test_a_slow_job_holds_up_no_fast_one(system: System) -> None:
    system.router()
    system.manager(jobs=2)
    deeds.add.map([(1, 1)] * 2_000).results(30)
    slow = deeds.hold.delay(system.record, 5.0)
    until(lambda: system.lines("begin"), "the slow one runs")
    began = time.monotonic()
    deeds.add.map([(1, 1)] * 2_000).results(30)
    assert time.monotonic() - began < 4.0
    assert slow.status == "running"
