"""One real system for one test: processes on free ports and a scratch store, waited for with deadlines, ended by pid.

`System` starts and ends processes and asks the Router; it knows nothing of what a test wants to show. What jobs did is
read from journals (`system_jobs`), files to which each run appends one line.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from ports import free_ports

from eventmq.client.admin import Admin
from eventmq.errors import BrokerUnavailable

from .histories import lines

JOBS = Path(__file__).parent / "jobs"
"""The folder of `system_jobs`: managers start there, tests import from it."""

WITHIN_S = 20.0
"""Deadline of waits that are not themselves what a test measures."""

LATER = "import time; now = time.time; time.time = lambda: now() + {seconds}; "
LIMIT = "from eventmq import limits; limits.{} = {}; "
RUN = "from eventmq.cli.main import {0}; {0}()"
"""What runs a command in a process whose wall clock may be ahead, and whose limits may be others."""

ROUTERS = ("EVENTMQ_STORE", "EVENTMQ_FRONTEND_ADDR", "EVENTMQ_BACKEND_ADDR", "EVENTMQ_ADMINISTRATIVE_ADDR")
"""What the Router is told through its environment, unless a test gives it a file."""


def until(condition: Callable[[], Any], what: str, within_s: float = WITHIN_S) -> Any:
    """Waits until `condition()` is true and returns its value; fails with `what` at the deadline."""
    deadline = time.monotonic() + within_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {within_s:g} s: {what}"
        time.sleep(0.005)
    return value


class Run(NamedTuple):
    """One line of a journal: a job said `event` at monotonic time `at`. The clock is the machine's, so times of
    different processes compare."""

    event: str
    id: str
    attempt: int
    pid: int
    at: float


class Journal:
    """What the jobs of a test wrote."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def __str__(self) -> str:
        return str(self.path)

    def __iter__(self) -> Iterator[Run]:
        for line in lines(self.path):
            yield Run(**line)

    def runs(self, id: str | None = None, event: str = "begin") -> list[Run]:
        return [run for run in self if run.event == event and id in (None, run.id)]

    def begun(self, id: str, count: int = 1, within_s: float = WITHIN_S) -> Run:
        """The newest run of a job, when it has begun `count` times."""
        runs: list[Run] = until(
            lambda: len(found := self.runs(id)) >= count and found, f"run {count} of {id}", within_s
        )
        return runs[-1]

    def counts(self) -> Counter[str]:
        """How often each job began."""
        return Counter(run.id for run in self.runs())


class Process:
    """A started process, its output in a file."""

    def __init__(self, name: str, command: list[str], folder: Path, environ: dict[str, str]) -> None:
        self.log_file = folder / f"{name}.log"
        with self.log_file.open("ab") as log:
            self.popen = subprocess.Popen(
                command, cwd=JOBS, env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        self.pid = self.popen.pid
        self.name = name

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    @property
    def running(self) -> bool:
        return self.popen.poll() is None

    @property
    def rss(self) -> int:
        """Bytes of memory that it has."""
        return int(psutil.Process(self.pid).memory_info().rss)

    def signal(self, number: int) -> None:
        self.popen.send_signal(number)

    def kill(self) -> float:
        """SIGKILL; the monotonic time just before."""
        now = time.monotonic()
        self.popen.kill()
        self.popen.wait(WITHIN_S)
        return now

    def terminate(self, within_s: float = WITHIN_S) -> int:
        """SIGTERM; its exit code."""
        self.popen.terminate()
        return self.wait(within_s)

    def wait(self, within_s: float = WITHIN_S) -> int:
        """Its exit code."""
        try:
            return self.popen.wait(within_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} did not end within {within_s:g} s:\n{self.log[-3000:]}") from None

    def children(self) -> set[int]:
        """Process ids of its children."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return {child.pid for child in psutil.Process(self.pid).children()}
        return set()


class System:
    """Addresses, a scratch folder, and the processes that were started here.

    Args:
        folder: Scratch.

    Attributes:
        limits: Those of `eventmq.limits` that are others in the Router and in managers: so that a test need not wait as
            long as people do.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.limits: dict[str, float] = {}
        self.frontend, self.backend, self.administrative = (f"tcp://127.0.0.1:{port}" for port in free_ports(3))
        self.store = folder / "router.db"
        self.processes: list[Process] = []
        self._journals = 0

    # ---- processes -----------------------------------------------------------------------------------

    def start_router(self, later_s: float = 0.0, file: Path | None = None, **settings: str) -> Process:
        """A Router that answers.

        Args:
            later_s: How far its wall clock is ahead.
            file: Its settings, in the place of ours.
            settings: More of them.
        """
        ahead = self._first() + (LATER.format(seconds=later_s) if later_s else "")
        environ = self.environ(settings)
        if file:
            environ = {key: value for key, value in environ.items() if key not in ROUTERS}
            environ["EVENTMQ_CONFIG_FILE"] = str(file)
        router = self.start("router", [sys.executable, "-c", ahead + RUN.format("main"), "router"], environ)
        until(lambda: self.answers() or not router.running, "the Router answers")
        assert router.running, router.log
        return router

    def start_router_in(self, *around: str, first: str = "") -> Process:
        """A Router that may not live long enough to answer.

        Args:
            around: The command that runs it, as `strace` and its arguments; it must leave the process what it is.
            first: Python that runs in it before anything else.
        """
        return self.start("router", [*around, sys.executable, "-c", first + RUN.format("main"), "router"])

    def start_manager(self, name: str = "manager", workers: int = 2, **settings: str) -> Process:
        """A job manager whose workers are all ready."""
        ask = {"EVENTMQ_NAME": name, "EVENTMQ_CONCURRENT_JOBS": str(workers), **settings}
        command = [sys.executable, "-c", self._first() + RUN.format("main"), "jobmanager", "system_jobs"]
        manager = self.start(name, command, self.environ(ask))
        until(lambda: self.slots(name) >= workers or not manager.running, f"{name} has {workers} workers ready")
        assert manager.running, manager.log
        return manager

    def start_scheduler(self, name: str = "scheduler", **settings: str) -> Process:
        """A scheduler that the Router knows."""
        command = [sys.executable, "-c", RUN.format("main"), "scheduler"]
        ask = {"EVENTMQ_SCHEDULER_ADDR": self.frontend, "EVENTMQ_NAME": name, **settings}
        scheduler = self.start(name, command, self.environ(ask))
        until(lambda: name in self.schedulers(), f"the Router knows {name}")
        return scheduler

    def schedulers(self) -> dict[str, int]:
        """How many schedules each connected scheduler ticks, by its name."""
        found = self.ask("SCHEDULERS")["connected_schedulers"].values()
        return {each["name"]: each["schedules"] for each in found}

    def _first(self) -> str:
        return "".join(LIMIT.format(*limit) for limit in self.limits.items())

    def start(self, name: str, command: list[str], environ: dict[str, str] | None = None) -> Process:
        """Any process; its environment is this system's unless told otherwise."""
        process = Process(name, command, self.folder, environ or self.environ({}))
        self.processes.append(process)
        return process

    def run(self, *arguments: str, program: str = "main", **settings: str) -> subprocess.CompletedProcess[str]:
        """A command with these arguments, to its end: `eventmq`, or another one of `cli.main`."""
        command = [sys.executable, "-c", RUN.format(program), *arguments]
        environ = self.environ(settings)
        return subprocess.run(command, cwd=JOBS, env=environ, capture_output=True, text=True, timeout=WITHIN_S)

    def environ(self, settings: dict[str, str]) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("EVENTMQ_", "EMQ_"))}
        ours = {
            **dict(zip(ROUTERS, (f"sqlite:///{self.store}", *self.addresses), strict=True)),
            "EVENTMQ_WORKER_ADDR": self.backend,
            "EMQ_BROKER_ADDR": self.frontend,
        }
        return {**kept, **ours, **settings}

    def close(self) -> None:
        """Kills what still runs; workers go with their managers."""
        for process in self.processes:
            orphans = process.children()
            process.kill()
            until(lambda orphans=orphans: not any(map(alive, orphans)), "workers go with their manager")

    @property
    def addresses(self) -> tuple[str, str, str]:
        """Where the Router listens: frontend, backend, administrative."""
        return self.frontend, self.backend, self.administrative

    # ---- what can be seen ----------------------------------------------------------------------------

    def journal(self) -> Journal:
        """A new one."""
        self._journals += 1
        return Journal(self.folder / f"journal-{self._journals}")

    def ask(self, command: str, timeout_s: float = 5.0, **params: Any) -> Any:
        """What the Router answers on its administrative socket."""
        with Admin(self.administrative, timeout_s) as admin:
            return admin.ask(command, **params)

    def answers(self) -> bool:
        try:
            return bool(self.ask("STATUS", 0.5))
        except BrokerUnavailable:
            return False

    def count(self, name: str) -> int:
        """One of the Router's counters."""
        return int(self.ask("STATUS")["counts"].get(name, 0))

    def slots(self, manager: str, of: Iterable[str] = ("running", "available_slots")) -> int:
        """Jobs that a manager runs, and more that it asks for; -1 while the Router does not know it."""
        workers = self.ask("WORKERS")["connected_workers"].values()
        return max((sum(each[key] for key in of) for each in workers if each["name"] == manager), default=-1)

    def free_slots(self, manager: str) -> int:
        """Jobs that it asks for."""
        return self.slots(manager, ["available_slots"])


def alive(pid: int) -> bool:
    """Whether there is such a process, and not only its corpse."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def kill_pid(pid: int) -> float:
    """SIGKILL to one process; the monotonic time just before."""
    now = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    return now


def each_once(journal: Journal, ids: Iterable[str]) -> None:
    """Every one of these jobs ran exactly once, as attempt 1, and no other job ran."""
    runs = journal.runs()
    wanted, counts = set(ids), Counter(run.id for run in runs)
    assert not {id: count for id, count in counts.items() if count > 1}, "some ran more than once"
    assert counts.keys() == wanted, (
        f"{len(wanted - counts.keys())} never ran, {len(counts.keys() - wanted)} unknown ran"
    )
    assert {run.attempt for run in runs} <= {1}
