"""The Router is killed or restarted: nothing that was acknowledged is lost, and nothing runs twice because of it."""

from __future__ import annotations

import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from system_jobs import hold

from eventmq import Client
from eventmq.client.ids import new_id
from eventmq.protocol.calls import pack_call
from eventmq.protocol.v2 import Job

from .processes import System, each_once, until

MANAGERS, WORKERS, CLIENTS = 2, 2, 3

CLIENT = """
import sys, time
from pathlib import Path
import eventmq
from system_jobs import nap
frontend, journal, ids, stop = sys.argv[1:]
eventmq.configure(broker_addr=frontend, enqueue_timeout=20)
handles = []
with open(ids, "w") as out:
    while not Path(stop).exists():
        some = nap.map([(journal, 0.001 * (n % 40)) for n in range(20)])
        some += [nap.delay(journal, 0.4), nap.delay(journal, 0.0)]
        handles += some
        print(*some, sep="\\n", file=out, flush=True)
        while len(handles) - sum(1 for _ in open(journal)) / 3 > 50:
            time.sleep(0.01)
for handle in handles:
    assert handle.result(60) == 1
"""
"""Enqueues one by one and in batches, not much faster than jobs are run, until `stop` is there; then it must get each
result. What was acknowledged stands in the file `ids`."""


def test_it_is_killed_and_restarted_under_load(system: System) -> None:
    """Jobs run, end and are enqueued by several processes all the while; kills come at moments that differ."""
    router = system.start_router()
    for n in range(MANAGERS):
        system.start_manager(f"manager-{n}", workers=WORKERS)
    journal, stop = system.journal(), system.folder / "stop"
    ids = [system.folder / f"ids-{n}" for n in range(CLIENTS)]
    clients = [
        system.start(path.name, [sys.executable, "-c", CLIENT, system.frontend, str(journal), str(path), str(stop)])
        for path in ids
    ]
    for n, number in enumerate([signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, signal.SIGKILL]):
        done = len(journal.runs())
        until(lambda done=done, n=n: len(journal.runs()) > done + 40 + 17 * n, "jobs are run")
        router.signal(number)
        assert router.wait() == (0 if number == signal.SIGTERM else -number)
        router = system.start_router()
    done = len(journal.runs())
    until(lambda: len(journal.runs()) > done + 40, "jobs are run")
    stop.touch()
    for client in clients:
        assert client.wait(60) == 0, client.log
    acknowledged = [id for path in ids for id in path.read_text().split()]
    assert len(acknowledged) > 300
    each_once(journal, acknowledged)
    assert system.count("redelivered") == 0
    assert system.ask("STATUS")["jobs"]["kept"] == len(acknowledged)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_jobs_end_while_it_is_away(system: System, number: int) -> None:
    """Managers keep what ended and report it to the next Router; what still runs goes on, though another manager would
    have room for it; a call that is under way waits for the next Router."""
    router = system.start_router()
    system.start_manager(workers=3)
    journal, first, second = system.journal(), system.folder / "first", system.folder / "second"
    ends = hold.map([(str(journal), str(first))] * 2)
    goes_on = hold.delay(str(journal), str(second))
    for handle in (*ends, goes_on):
        journal.begun(handle)
    system.start_manager("idle", workers=2)
    router.signal(number)
    router.wait()
    with ThreadPoolExecutor() as threads:
        call = threads.submit(hold.delay, str(journal), str(first))
        first.touch()
        until(lambda: len(journal.runs(event="end")) == 2, "they end")
        system.start_router()
        restarted = time.monotonic()
        late = call.result(10)
    assert ends.results() == [1, 1]
    assert late.result() == 1
    assert time.monotonic() - restarted < 5.0  # not only after the time to wait for managers that do not come
    assert goes_on.status == "running"
    second.touch()
    assert goes_on.result() == 1
    each_once(journal, [*ends, goes_on, late])
    assert system.count("redelivered") == 0


def test_a_request_repeated_over_a_restart_is_acknowledged_and_runs_once(system: System) -> None:
    """What a client does that has not seen the ACK: the same ids again, while the job runs and after its end."""
    router = system.start_router()
    system.start_manager(workers=2)
    journal, gate = system.journal(), system.folder / "gate"
    call = pack_call((str(journal), str(gate)), {})
    jobs = [Job(new_id(), "default", "system_jobs.hold", call) for _ in range(4)]
    with Client(system.frontend) as client:
        client.submit(jobs)
        until(lambda: len(journal.runs()) == 2, "two run, two wait")
        for _ in range(2):
            client.submit(jobs)
            router.kill()
            router = system.start_router()
            client.submit(jobs)
            gate.touch()
            assert {result.state for result in client.results([job.id for job in jobs], 20).values()} == {"succeeded"}
        client.submit(jobs)
    each_once(journal, [job.id for job in jobs])
    assert system.count("duplicates") >= len(jobs)


def test_a_second_router_on_its_store_ends_at_once_and_says_who_holds_it(system: System) -> None:
    router = system.start_router()
    elsewhere = {f"EVENTMQ_{name}_ADDR": "tcp://127.0.0.1:*" for name in ("FRONTEND", "BACKEND", "ADMINISTRATIVE")}
    second = system.run("router", **elsewhere)
    assert second.returncode == 1
    assert f"is locked by another Router: pid {router.pid} on " in second.stderr
    assert "Traceback" not in second.stderr
    assert system.answers()
    router.kill()
    system.start_router()  # the lock went with its holder
