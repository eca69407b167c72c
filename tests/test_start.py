"""How soon a process is there.

Times are those of the clock, less the time in which the process could have gone on and others had the cores (Linux
tells that); and a promise is kept when the best of some tries keeps it.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from eventmq.cli import system
from eventmq.client.admin import Admin
from eventmq.net import address

TRIES = 10


def best(measure: Callable[[], float], within_s: float) -> None:
    """One of the first tries takes less than so many seconds."""
    took: list[float] = []
    while not took or (min(took) >= within_s and len(took) < TRIES):
        took.append(measure())
    assert min(took) < within_s, took


def kept_waiting_s(pid: int | str) -> float:
    """How long a process was ready to run and did not."""
    stat = Path(f"/proc/{pid}/schedstat")
    return int(stat.read_text().split()[1]) / 1e9 if stat.exists() else 0.0


@pytest.mark.parametrize("code", ["import eventmq", "from eventmq import Retry, current_job, job"])
def test_an_import_takes_less_than_100_ms(code: str) -> None:
    """That it loads no ZeroMQ and starts nothing is in `test_jobs`."""
    waited = (
        "int(open('/proc/self/schedstat').read().split()[1]) / 1e9" if Path("/proc/self/schedstat").exists() else "0"
    )
    timed = (
        f"import time; began = time.perf_counter() - {waited}; {code}; print(time.perf_counter() - {waited} - began)"
    )
    best(lambda: float(subprocess.check_output([sys.executable, "-c", timed], text=True)), 0.1)


def test_help_takes_less_than_200_ms() -> None:
    def measure() -> float:
        began = time.perf_counter()
        command = [sys.executable, "-m", "eventmq", "--help"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and can still be asked
            return time.perf_counter() - began - kept_waiting_s(process.pid)

    best(measure, 0.2)


def test_a_router_on_an_empty_store_is_ready_in_less_than_300_ms(tmp_path: Path) -> None:
    """From the start of its process to a connection on its last port. Then it answers."""
    tries = count()

    def measure() -> float:
        addresses = system.scratch_addresses()
        flags = [f"--{name.replace('_', '-')}={at}" for name, at in addresses.items()]
        store = f"--store=sqlite:///{tmp_path}/{next(tries)}.db"
        port = address.parse(addresses["administrative_addr"]).port
        with (tmp_path / "log").open("wb") as log:
            began = time.perf_counter()
            router = subprocess.Popen([sys.executable, "-m", "eventmq", "router", store, *flags], stderr=log)
            try:
                while not listens(port):
                    assert router.poll() is None, (tmp_path / "log").read_text()
                    assert time.perf_counter() < began + 20
                    time.sleep(0.002)
                took = time.perf_counter() - began - kept_waiting_s(router.pid)
                with Admin(addresses["administrative_addr"]) as admin:
                    assert admin.ask("STATUS")["jobs"]["waiting"] == 0
            finally:
                router.terminate()
                router.wait(20)
        return took

    best(measure, 0.3)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
