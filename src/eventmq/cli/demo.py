"""`eventmq demo`: real work through a whole system, with a murder half-way, and an account that must add up.

One job for each `.py` file of the running Python's standard library counts its lines, functions and classes. Half-way
one worker process is killed with SIGKILL in the middle of its job. Then this process counts the same files by itself:
both must agree. Store, ports and processes are for this run only and gone afterwards, however it ends.
"""

from __future__ import annotations

import os
import signal
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click

from eventmq import configure
from eventmq.cli import system
from eventmq.cli.children import Children, Ended, Stopped, patience
from eventmq.cli.demo_jobs import count, count_under_fire
from eventmq.cli.ending import FAILED, INTERRUPTED, OK
from eventmq.client.admin import Admin
from eventmq.client.handles import JobHandles
from eventmq.errors import EventMQError
from eventmq.machine import cores

POLL_S = 0.05
"""How often the demo asks how far the Router is."""

PATIENCE_S = 300.0
"""The slowest machine imaginable is done by then."""

LOG_LINES = 20
"""Lines of the processes' log shown when something went wrong."""


class Totals(NamedTuple):
    """What was counted."""

    files: int
    lines: int
    functions: int
    classes: int
    unparsable: int


class Run(NamedTuple):
    """What the system did: its totals, the time it took, the worker killed, the jobs that ran again."""

    totals: Totals
    seconds: float
    killed: int
    redelivered: int


def demo(workers: int | None = None, files: Sequence[str] | None = None) -> int:
    """Runs the demo.

    Args:
        workers: Worker processes; one per core by default, and at least two.
        files: What to count; the standard library by default.

    Returns:
        0 only if a worker was killed and its job redelivered, every job has a result, and both counts agree.
    """
    files = standard_library() if files is None else files
    print(f"EventMQ demo: {len(files):,} files of Python {sys.version.split()[0]}'s standard library, one job each.")
    with tempfile.TemporaryDirectory(prefix="eventmq-demo-") as scratch:
        log = Path(scratch, "log")
        try:
            run = _through_the_system(files, workers or max(2, cores()), Path(scratch), log)
        except Stopped:
            print("eventmq demo: stopped", file=sys.stderr)
            return INTERRUPTED
        except (EventMQError, TimeoutError) as error:
            print(f"eventmq demo: {error}. The end of the log:\n{_tail(log)}", file=sys.stderr)
            return FAILED
    began = time.monotonic()
    alone = totals(_counted_here(files))
    return _report(run, alone, time.monotonic() - began)


def standard_library() -> list[str]:
    """The `.py` files of the running Python's standard library, without what was installed beside it."""
    root = Path(sysconfig.get_path("stdlib"))
    outside = {"site-packages", "dist-packages"}
    return sorted(str(path) for path in root.rglob("*.py") if not outside.intersection(path.parts) and path.is_file())


def totals(counts: Iterable[Sequence[int]]) -> Totals:
    """The sum of what `count` returned for each file."""
    rows = list(counts)
    lines, functions, classes, unparsable = (sum(column) for column in zip(*rows, strict=True))
    return Totals(len(rows), lines, functions, classes, unparsable)


# ---- the run -----------------------------------------------------------------------------------------------


def _through_the_system(files: Sequence[str], workers: int, scratch: Path, log: Path) -> Run:
    addresses = system.scratch_addresses()
    environ = system.environ_of(
        _clean_environment(),
        addresses,
        store=f"sqlite:///{scratch / 'demo.db'}",
        concurrent_jobs=workers,
        name="demo",
        modules=count.__module__,
    )
    with (
        Children(patience(0.0), say=lambda _: None, log=log, environ=environ) as children,
        Admin(addresses["administrative_addr"]) as admin,
    ):
        system.start_router(children, addresses)
        system.start_manager(children, addresses)
        print(f"A Router, its store synced to disk, and a job manager with {workers} workers are up.")
        configure(broker_addr=addresses["frontend_addr"])
        began = time.monotonic()
        note = scratch / "pid"
        handles = _enqueue(files, note)
        killed = _watch(children, admin, len(files), note)
        found = totals(handles.results())
        seconds = time.monotonic() - began
        return Run(found, seconds, killed, admin.ask("STATUS")["counts"].get("redelivered", 0))


def _enqueue(files: Sequence[str], note: Path) -> JobHandles[list[int]]:
    """One job for each file; the worker that gets the middle one is to die under it."""
    middle = len(files) // 2
    handles = count.map([(file,) for file in files[:middle]])
    handles.append(count_under_fire.delay(files[middle], str(note)))
    handles.extend(count.map([(file,) for file in files[middle + 1 :]]))
    return handles


def _watch(children: Children, admin: Admin, jobs: int, note: Path) -> int:
    """Shows how far the jobs are, until all have ended; kills the worker that left a note of its process id."""
    killed = 0
    deadline = time.monotonic() + PATIENCE_S
    with click.progressbar(length=jobs, label="jobs", show_pos=True) as bar:
        while (ended := _ended(admin.ask("STATUS"))) < jobs:
            bar.update(ended - bar.pos)
            if not killed and (pid := _noted(note)):
                os.kill(pid, signal.SIGKILL)
                killed = pid
                click.echo(f"\nHalf-way: worker process {pid} killed with SIGKILL.")
            if time.monotonic() > deadline:
                raise Ended(f"{jobs - ended} of {jobs} jobs have no outcome after {PATIENCE_S:g} s")
            children.pause(POLL_S)
        bar.update(jobs - bar.pos)
    return killed


def _noted(note: Path) -> int:
    """The process id in the note; 0 while it is not there in full."""
    text = note.read_text() if note.exists() else ""
    return int(text) if text.endswith("\n") else 0


def _ended(status: dict[str, Any]) -> int:
    counts = status["counts"]
    return int(counts.get("succeeded", 0) + counts.get("dead", 0))


def _clean_environment() -> dict[str, str]:
    """Ours without EventMQ's variables, which are about the user's own system."""
    return {name: text for name, text in os.environ.items() if not name.startswith(("EVENTMQ_", "EMQ_"))}


def _counted_here(files: Sequence[str]) -> Iterable[Sequence[int]]:
    with click.progressbar(files, label="the same in one process", show_pos=True) as shown:
        yield from map(count, shown)


# ---- the account -------------------------------------------------------------------------------------------


def _report(run: Run, alone: Totals, alone_s: float) -> int:
    print(f"\n{'':>12}{'EventMQ':>14}{'one process':>14}")
    for name, ours, theirs in zip(Totals._fields, run.totals, alone, strict=True):
        print(f"{name:>12}{ours:>14,}{theirs:>14,}{'' if ours == theirs else '   DIFFERENT'}")
    print(f"{'seconds':>12}{run.seconds:>14.1f}{alone_s:>14.1f}")
    print(f"{'jobs/s':>12}{run.totals.files / run.seconds:>14,.0f}{alone.files / alone_s:>14,.0f}\n")
    lost = alone.files - run.totals.files
    print(f"Worker {run.killed} was killed; jobs redelivered: {run.redelivered}; jobs lost: {lost}.")
    if run.totals != alone:
        print("The counts do NOT agree.")
    elif not run.redelivered:
        print("The counts agree, but the job of the killed worker was NOT redelivered.")
    else:
        print("Both counts agree.")
        return OK
    return FAILED


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return "\n".join(f"  {line}" for line in lines[-LOG_LINES:])
