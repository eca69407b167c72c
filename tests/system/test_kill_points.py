"""The Router is killed at every step of a small piece of work: before each thing it does to the disk or sends.

Between two such steps nothing that survives it changes, so these are all the moments there are: while it makes a new
store, recovers from an old log, accepts, commits, copies the log, answers. After each kill another Router takes over,
and an outside checker (`histories`) compares what was acknowledged with what ran. The suite takes a sample; `make
faults` takes every one.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from eventmq.client import exchange

from . import strace
from .caller import Caller
from .histories import History, broken, lines
from .processes import Journal, System, until

SAMPLE = 4
"""Kills in each test of the suite, about a second each."""

SHORT_LOG = "from eventmq.store import database; database.LOG_BYTES = 20_000; "
"""The log is copied into the file after every few commits, so that kills meet that, too."""

HOOKED = "import sys; sys.path.insert(0, {folder!r}); from system import hooks; hooks.kill_at({call!r}, {n}); "


class Work:
    """A small piece of work that a Router is killed at, with a manager and a client that outlive it."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.history = History(system.folder / "client")
        self.journal: Journal = system.journal()
        self.caller = Caller(system.frontend, self.history)
        self.acked: list[str] = []
        router = system.start_router()
        system.start_manager(workers=2)
        router.kill()

    def do(self) -> list[str]:
        """One job alone, then a few at a time; returns when all that was acknowledged has ended."""
        acked = self.caller.send("note", [str(self.journal)])
        self.caller.hear(acked)
        acked += self.caller.send("note", [str(self.journal)], 3)
        self.caller.hear(acked)
        return acked

    def under(self, what: str, *around: str, first: str = "") -> bool:
        """Does the work with a Router that is to be killed in the middle of it, and with another one from there on.

        Args:
            what: What kills it.
            around: See `System.start_router_in`.
            first: The same.

        Returns:
            Whether it was killed.
        """
        with ThreadPoolExecutor(1) as thread:
            work = thread.submit(self.do)
            router = self.system.start_router_in(*around, first=first + SHORT_LOG)
            until(lambda: work.done() or not router.running, f"{what}: the work is done, or the Router is dead")
            killed = not router.running
            router.kill()
            assert router.popen.returncode == -9, f"{what}: {router.log}"
            router = self.system.start_router()
            acked = work.result()
        self.caller.hear(acked)  # again: nobody may be told another outcome now
        assert broken(lines(self.history.path), lines(self.journal.path)) == [], what
        status = self.system.ask("STATUS")
        assert (status["jobs"]["waiting"], status["jobs"]["running"]) == (0, 0), what
        assert status["counts"].get("redelivered", 0) == 0, what
        router.kill()
        return killed

    def forget(self) -> None:
        """The next Router makes a new store."""
        for path in self.system.folder.glob("router.db*"):
            path.unlink()


@pytest.fixture
def work(system: System, monkeypatch: pytest.MonkeyPatch) -> Work:
    monkeypatch.setattr(exchange, "RESEND_S", 0.1)
    return Work(system)


def some(points: list[tuple[str, int]], count: int) -> list[tuple[str, int]]:
    """About `count` of them, evenly."""
    return points[:: max(1, len(points) // count)]


@pytest.mark.parametrize("store", ["new", "old"])
@pytest.mark.faults
def test_it_is_killed_at_every_call_of_the_kernel(work: Work, store: str, thorough: bool) -> None:
    """`old`: it starts with the log that the one killed before has left."""
    strace.need()
    trace = work.system.folder / "trace"
    calls = strace.STORES + strace.SENDS
    assert not work.under("nothing", *strace.watch(calls, trace))
    counts = strace.counts(trace)
    assert counts.keys() >= {"pwrite64", "fdatasync", "write", "sendto"}
    points = [(call, n) for call in calls for n in range(1, counts.get(call, 0) + 1)]
    kills = 0
    for call, n in points if thorough else some(points, SAMPLE):
        if store == "new":
            work.forget()
        kills += work.under(f"killed at {call} {n}", *strace.kill_at(call, n))
    print(f"{kills} kills at {len(points)} points of a Router with a{'n old' if store == 'old' else ' new'} store")
    assert kills >= (len(points) // 2 if thorough else 1)  # the work is not the same call by call


@pytest.mark.faults
def test_it_is_killed_at_every_statement_and_message(work: Work, thorough: bool) -> None:
    """The same from inside, where there is no strace: before the n-th statement of SQLite, before the n-th message."""
    points = [("statement", n) for n in range(1, 60)] + [("message", n) for n in range(1, 20)]
    kills = 0
    for call, n in points if thorough else some(points, SAMPLE):
        hook = HOOKED.format(folder=str(Path(__file__).parent.parent), call=call, n=n)
        kills += work.under(f"killed at {call} {n}", first=hook)
    print(f"{kills} kills at {len(points)} points")
    assert kills >= (len(points) // 2 if thorough else 1)
