"""A disk that is full and has room again, and one that cannot keep what it is given."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from system_jobs import double, hold

import eventmq
from eventmq.store.database import RESERVE_BYTES

from . import strace
from .caller import Caller
from .histories import History, broken, lines
from .processes import System, each_once, until

IMPATIENT_S = 2.5
"""A refused turn is dropped as a whole, so the client learns of it when it has sent once more, after a second."""

COUNT = 40_000
"""Jobs whose outcomes are more than the log of the store has room for."""

DISK_BYTES = RESERVE_BYTES + (16 << 20)

SAYS = """
import os
from pathlib import Path
asked = os.statvfs
def told(path):
    disk = list(asked(path))
    disk[4] = ({bytes} - Path({filler!r}).stat().st_size) // disk[1]
    return os.statvfs_result(disk)
os.statvfs = told
"""
"""A disk that is not there: it says how much of it is free, but never refuses a write."""


class Disk:
    """A small file system of its own; where this process may not mount one, a folder that says it is small.

    Attributes:
        first: Python that a process runs to see it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "eventmq-test", str(folder)]
        try:
            self.is_mounted = subprocess.run(mount, capture_output=True).returncode == 0
        except FileNotFoundError:
            self.is_mounted = False
        self._filler = folder / "filler"
        self._filler.touch()
        self.first = "" if self.is_mounted else SAYS.format(bytes=DISK_BYTES, filler=str(self._filler))

    def leave(self, count: int) -> None:
        """Fills it until `count` bytes are free."""
        disk = os.statvfs(self.folder)
        free = disk.f_bavail * disk.f_frsize if self.is_mounted else DISK_BYTES - self._filler.stat().st_size
        with self._filler.open("ab") as file:
            if self.is_mounted:
                os.posix_fallocate(file.fileno(), file.tell(), max(1, free - count))
            else:
                file.truncate(max(1, free - count))

    def empty(self) -> None:
        self._filler.write_bytes(b"")

    def close(self) -> None:
        if self.is_mounted:
            subprocess.run(["umount", str(self.folder)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    disk = Disk(tmp_path / "disk")
    yield disk
    disk.close()


@pytest.fixture
def system(disk: Disk, tmp_path: Path) -> Iterator[System]:
    """Its store is on the small disk."""
    system = System(tmp_path)
    system.store = disk.folder / "router.db"
    eventmq.configure(broker_addr=system.frontend, enqueue_timeout=20)
    try:
        yield system
    finally:
        system.close()
        eventmq.configure()


@pytest.fixture
def history(system: System) -> History:
    return History(system.folder / "client")


def refused(system: System, history: History) -> bool:
    """Whether a new job is refused because there is no room."""
    caller = Caller(system.frontend, history, IMPATIENT_S)
    acked = caller.send("double", [1])
    caller.close()
    return not acked and "storage_full" in lines(history.path)[-1]["why"]


@pytest.mark.faults
def test_a_full_disk_refuses_new_jobs_and_ends_old_ones(system: System, disk: Disk, history: History) -> None:
    router = system.start_router_in(first=disk.first)
    system.start_manager(workers=2)
    journal, gate = system.journal(), system.folder / "gate"
    jobs = hold.map([(str(journal), str(gate))] * 4)
    journal.begun(jobs[1])
    disk.leave(RESERVE_BYTES // 2)
    assert refused(system, history)
    assert system.ask("STATUS")["store"]["room"] is False
    gate.touch()
    assert jobs.results() == [1] * 4
    disk.empty()
    until(lambda: system.ask("STATUS")["store"]["room"], "there is room")
    assert double.delay(2).result() == 4
    each_once(journal, jobs)
    assert router.running
    assert "new jobs are refused, accepted ones go on" in router.log
    assert "there is room again" in router.log


@pytest.mark.faults
def test_a_disk_without_a_single_free_byte_loses_nothing(system: System, disk: Disk, history: History) -> None:
    """Outcomes that find no room wait with their manager until there is some."""
    if not disk.is_mounted:
        pytest.skip("a disk of its own needs the right to mount: run this as root")
    router = system.start_router()
    system.start_manager(workers=2)
    journal, gate = system.journal(), system.folder / "gate"
    jobs = hold.map([(str(journal), str(gate))] * 2)
    for handle in jobs:
        journal.begun(handle)
    more = double.map([(n,) for n in range(COUNT)])
    disk.leave(0)
    gate.touch()
    assert refused(system, history)
    assert system.ask("STATUS")["jobs"]["kept"] < COUNT, "the disk is too full for that"
    disk.empty()
    assert jobs.results() == [1, 1]
    assert sum(more.results()) == (COUNT - 1) * COUNT
    each_once(journal, jobs)
    assert router.running


@pytest.mark.parametrize("n", [3, 6, 9])
@pytest.mark.faults
def test_a_sync_that_fails_ends_the_router_and_nothing_unsynced_was_acknowledged(
    system: System, history: History, n: int
) -> None:
    """It says why and is gone. It never syncs again: the kernel may have thrown away what it could not write, and call
    the next sync a success. What is in the log stays there for the next Router."""
    strace.need()
    journal, trace = system.journal(), system.folder / "trace"
    system.start_router().terminate()
    fails = ("-e", f"inject=fdatasync,fsync:error=EIO:when={n}")
    router = system.start_router_in(*strace.watch(("fdatasync", "fsync", *strace.STORES), trace, *fails))
    caller = Caller(system.frontend, history, 1.0)
    while router.running:
        caller.send("note", [str(journal)])
    assert router.wait() == 1
    assert "SQLITE_IOERR_FSYNC" in router.log
    assert "Traceback" not in router.log
    until(lambda: "+++ exited" in trace.read_text(), "the trace is whole")
    _, _, after = trace.read_text().partition("EIO")
    assert re.findall(r"^\d+ +(\w+)\((?!.*owner)", after, re.MULTILINE) == [], after
    system.start_router()
    system.start_manager(workers=1)
    caller = Caller(system.frontend, history)
    told = lines(history.path)
    caller.hear(line["id"] for line in told if line["event"] == "acked")
    assert broken(lines(history.path), lines(journal.path)) == []
    caller.close()
