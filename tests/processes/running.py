"""A system of real processes for one test: on free ports, with a store of its own, ended by process id."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from eventmq import configure
from eventmq.cli.system import scratch_addresses
from eventmq.client.admin import Admin
from eventmq.errors import BrokerUnavailable

T = TypeVar("T")

DEADLINE_S = 30.0
"""Nothing here takes that long; a machine that is busy may."""


def until(condition: Callable[[], T], what: str, seconds: float = DEADLINE_S) -> T:
    """The first true value of `condition`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.005)
    raise AssertionError(f"not within {seconds:g} s: {what}")


class Line(NamedTuple):
    """One line that a `hold` job wrote."""

    what: str
    id: str
    attempt: int
    pid: int
    at: float


class System:
    """Router and managers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.addresses = scratch_addresses()
        self.record = str(folder / "record")
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.admin = Admin(self.addresses["administrative_addr"], timeout_s=5)
        configure(broker_addr=self.addresses["frontend_addr"], enqueue_timeout=20)

    def start(self, name: str, *arguments: str, ready: bool = True, **environ: str) -> subprocess.Popen[bytes]:
        """`eventmq` with these arguments."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("EVENTMQ_", "EMQ_"))}
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "eventmq", *arguments],
                stderr=log,
                stdout=log,
                stdin=subprocess.DEVNULL,
                env=kept | {"PYTHONPATH": str(Path(__file__).parent)} | environ,
                process_group=0,
            )
        return self.processes[name]

    def router(self, **environ: str) -> subprocess.Popen[bytes]:
        """Starts the Router, on the same store and ports as before, and waits until it answers."""
        store = f"sqlite:///{self.folder}/jobs.db"
        flags = [word for name, at in self.addresses.items() for word in (f"--{name.replace('_', '-')}", at)]
        process = self.start("router", "router", "--store", store, *flags, **environ)
        until(lambda: process.poll() is not None or self.status(), "the Router answers")
        assert process.poll() is None, self.log("router")
        return process

    def manager(self, name: str = "m1", jobs: int = 2, **environ: str) -> subprocess.Popen[bytes]:
        """Starts a manager and waits until the Router knows it."""
        backend = self.addresses["backend_addr"]
        process = self.start(name, "jobmanager", "-B", backend, "-J", str(jobs), "-n", name, "deeds", **environ)
        until(lambda: process.poll() is not None or name in self.managers(), f"{name} is known")
        assert process.poll() is None, self.log(name)
        return process

    def status(self) -> dict[str, Any]:
        """STATUS; empty while nobody answers."""
        try:
            with Admin(self.addresses["administrative_addr"], timeout_s=0.5) as admin:
                answer: dict[str, Any] = admin.ask("STATUS")
                return answer
        except BrokerUnavailable:
            return {}

    def managers(self) -> list[str]:
        return [each["name"] for each in self.admin.ask("WORKERS")["connected_workers"].values()]

    def count(self, name: str) -> int:
        return int(self.admin.ask("STATUS")["counts"].get(name, 0))

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def lines(self, what: str = "") -> list[Line]:
        """What `hold` jobs have written so far."""
        if not Path(self.record).exists():
            return []
        fields = [line.split() for line in Path(self.record).read_text().splitlines()]
        lines = [Line(f[0], f[1], int(f[2]), int(f[3]), float(f[4])) for f in fields]
        return [line for line in lines if not what or line.what == what]

    def kill(self, name: str) -> float:
        """kill -9; returns when that was."""
        at = time.monotonic()
        self.processes[name].kill()
        self.processes[name].wait()
        return at

    def stop(self) -> None:
        """Ends everything."""
        self.admin.close()
        for process in reversed(self.processes.values()):
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait()
