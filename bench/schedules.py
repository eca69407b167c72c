"""How late schedules run, and what they cost: many of them, their due times spread over a minute.

    python bench/schedules.py --schedules 10000 --seconds 60

A Router with its store synced to disk and one scheduler, both as processes; no job manager, so that only they work. The
time between a due time and the durable acceptance of its job is read from the jobs that then wait.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta

import psutil

from eventmq import Every
from eventmq.client.admin import Admin
from eventmq.client.client import Client
from eventmq.errors import BrokerUnavailable
from eventmq.protocol import calls, v2
from eventmq.protocol.administration import Selection
from eventmq.protocol.scheduling import Arrange, Schedule

PERIOD_S = 60


def addresses() -> dict[str, str]:
    """Three free ports of this machine."""
    taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    names = ("EVENTMQ_FRONTEND_ADDR", "EVENTMQ_BACKEND_ADDR", "EVENTMQ_ADMINISTRATIVE_ADDR")
    found = {name: f"tcp://127.0.0.1:{each.getsockname()[1]}" for name, each in zip(names, taken, strict=True)}
    for each in taken:
        each.close()
    return found


def start(verb: str, environ: dict[str, str]) -> psutil.Process:
    command = [sys.executable, "-m", "eventmq", verb]
    return psutil.Process(subprocess.Popen(command, env={**os.environ, **environ, "EVENTMQ_LOG_LEVEL": "WARNING"}).pid)


def arrange(client: Client, count: int) -> None:
    """The schedules; the first run of each comes within the next minute but one."""
    first = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=PERIOD_S)
    for number in range(count):
        rule = Every(PERIOD_S, start=first + timedelta(seconds=number * PERIOD_S / count))
        job = v2.Job("run", "default", "tasks.tick", calls.pack_call((number,), {}))
        schedule = Schedule(f"schedule-{number}", "bench", rule, job)
        client.query(b"SCHEDULE", lambda n, schedule=schedule: Arrange(n, schedule))
    time.sleep(max(0.0, (first - datetime.now(UTC)).total_seconds()))


def cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def main() -> int:
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("--schedules", type=int, default=10_000)
    given.add_argument("--seconds", type=int, default=PERIOD_S)
    options = given.parse_args()
    where = addresses()
    with tempfile.TemporaryDirectory() as folder:
        router = start("router", {**where, "EVENTMQ_STORE": f"sqlite:///{folder}/bench.db"})
        scheduler = start("scheduler", {"EVENTMQ_SCHEDULER_ADDR": where["EVENTMQ_FRONTEND_ADDR"]})
        try:
            with Client(where["EVENTMQ_FRONTEND_ADDR"], enqueue_timeout=30) as client:
                arrange(client, options.schedules)
            before = cpu_s(router), cpu_s(scheduler)
            time.sleep(options.seconds)
            used = cpu_s(router) - before[0], cpu_s(scheduler) - before[1]
            show(where["EVENTMQ_ADMINISTRATIVE_ADDR"], options.schedules, options.seconds, used)
        finally:
            for process in (scheduler, router):
                process.terminate()
                process.wait(20)
    return 0


def show(administrative_addr: str, schedules: int, seconds: int, used: tuple[float, float]) -> None:
    try:
        with Admin(administrative_addr, timeout_s=30) as admin:
            late = sorted(each["created"] - int(each["id"][:12], 16) / 1000 for each in admin.jobs(Selection()))
    except BrokerUnavailable as error:
        sys.exit(str(error))
    print(f"{schedules:,} schedules, {len(late):,} runs in {seconds} s")
    for share in (0.5, 0.99, 1.0):
        print(f"  {share:4.0%} at most {1e3 * late[min(len(late) - 1, int(share * len(late)))]:.1f} ms late")
    print(f"  of a core: Router {used[0] / seconds:.1%}, scheduler {used[1] / seconds:.1%}")


if __name__ == "__main__":
    sys.exit(main())
