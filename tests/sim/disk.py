"""The store in a world where disks fill and the Router dies around a commit.

What `apply` has returned from is there after every crash; of an `apply` in which the Router dies, all or nothing is.
A `ModelStore` is the model of what is durable; when a world has a real SQLite file too, both are told the same and
must answer the same, and after a crash, of the process or of the machine (`torn`), the file must hold one of the two.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from random import Random
from typing import Any, NamedTuple

import pytest
from model_store import ModelStore

from eventmq.errors import StorageFull
from eventmq.protocol.v2 import Job
from eventmq.store import journal, segments
from eventmq.store.base import DEAD_LETTERS, Changes, Ended, Holder, Page, Past, Point, Record, Series, Snapshot, Wanted
from eventmq.store.sqlite import SqliteStore
from sim import torn
from sim.timeline import Violation

SMALL_BOUNDS = (
    (journal, "JOBS_MAX", 30), (journal, "TURNS_MAX", 20), (journal, "SLICE_TURNS", 5), (journal, "SLICE_JOBS", 8),
    (segments, "SEGMENT_JOBS_MIN", 2),
)  # fmt: skip
"""Of a real store, so that the jobs of one world go through all of it."""


class Row(NamedTuple):
    """A job as it is stored: only here as a waiting or as a delayed one, or held in memory too; its end if it has."""

    job: Job
    paged: bool
    put_off: bool
    end: Ended | None


class Killed(BaseException):
    """The Router's process dies here and now."""


class PastOfBoth:
    """What has happened, in the model and in the real file, which may forget in another order."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    def series(self) -> list[Series]:
        return self._disk.model.past.series()

    def read(self, series: Series, length_s: int, since: int, until: int) -> list[tuple[int, bytes]]:
        return self._disk.model.past.read(series, length_s, since, until)

    def write(self, points: list[Point]) -> None:
        for past in self._both():
            past.write(points)
            for series, length_s, start, data in points:
                if past.read(series, length_s, start, start + 1) != [(start, data)]:
                    raise Violation(f"{series} at {start} for {length_s} s is not what was written")

    def forget(self, now: float) -> list[Series]:
        if self._disk._real is not None:
            self._disk._real.past.forget(now)
        return self._disk.model.past.forget(now)

    def _both(self) -> Iterator[Past]:
        yield self._disk.model.past
        if self._disk._real is not None:
            yield self._disk._real.past


class Disk:
    """A `store.base.Store`.

    Attributes:
        model: What is durable.
        full: There is no room.
        kill: The Router dies in the next `apply`: `nothing` or `all` of it is durable then, or one of the two
            (`torn`); "" = it does not.
        applied: Number of times that something became durable.
        requeued: Jobs that wait again, by id, with their terminal state; whoever looks takes them away.
        purged: Jobs that an operator had forgotten, by id, as they were; the same.
        forgotten: Jobs that were forgotten because their time was over or there were too many; the same.
    """

    def __init__(self, rng: Random, sqlite_path: str = "") -> None:
        self.model = ModelStore()
        self.past = PastOfBoth(self)
        self.full = False
        self.kill = ""
        self.applied = 0
        self.requeued: dict[str, str] = {}
        self.purged: dict[str, tuple[Job, str]] = {}
        self.forgotten: set[str] = set()
        self._rng = rng
        self._path = sqlite_path
        self._patch = pytest.MonkeyPatch()
        self._real: SqliteStore | None = None

    # ---- for the world -------------------------------------------------------------------------------

    def open(self) -> None:
        """A new Router process opens the store."""
        if self._path:
            for module, name, bound in SMALL_BOUNDS:
                self._patch.setattr(module, name, bound)
            self._real = SqliteStore(self._path, "full")

    def crash(self) -> None:
        """The Router's process is gone, and what it had open with it; its files stay as they are."""
        if self._real is not None:
            image = torn.read(self._path)
            self.drop()
            torn.write(self._path, image)
            self._look_for(self.model)

    def drop(self) -> None:
        """The world is over."""
        if self._real is not None:
            self._real.close()
            self._real = None
            self._patch.undo()

    def rows(self) -> Iterator[Row]:
        """Every job that is there, in order of acceptance."""
        rows = self.model._rows
        return (Row(row.job, row.paged, row.put_off, row.end) for row in map(rows.__getitem__, self.model._seqs))

    def id_of(self, seq: int) -> str:
        return self.model._rows[seq].job.id

    def job_of(self, id: str) -> Job:
        return self.model._rows[self.model._ids[id]].job

    def seq_of(self, id: str) -> int:
        return self.model._ids[id]

    def created(self, id: str) -> float:
        """Wall time at which a job was accepted."""
        return self.model._rows[self.model._ids[id]].job.created

    def started(self, id: str) -> int:
        """Lease of the last hand-out of a job that may begin only once."""
        return self.model._rows[self.model._ids[id]].job.started

    def record(self, id: str) -> Record | None:
        """All that is durable of a job."""
        return next(iter(self.model.find([id])), None)

    def has(self, id: str) -> bool:
        return id in self.model._ids

    def facts(self) -> dict[str, bytes]:
        return self.model._facts

    def replay(self) -> ModelStore:
        """A copy that another Router may load."""
        return deepcopy(self.model)

    # ---- the contract ----------------------------------------------------------------------------------

    def load(self) -> Snapshot:
        snapshot = self.model.load()
        if self._real is not None:
            loaded = self._real.load()  # its journal may still know of jobs that are forgotten
            snapshot = snapshot._replace(next_seq=max(snapshot.next_seq, loaded.next_seq))
            self._compare("load", snapshot, loaded)
        return snapshot

    def apply(self, changes: Changes) -> None:
        if self.full and (changes.added or changes.spilled or changes.delayed):
            raise StorageFull("the simulated disk has no room")
        point, self.kill = self.kill, ""
        if point == "torn":
            point = self._tear(changes)
        if point == "nothing":
            raise Killed(point)
        self.requeued |= {self.id_of(again.seq): again.state for again in changes.requeued}
        self.purged |= {self.id_of(seq): (self.model._rows[seq].job, state) for seq, state in changes.forgotten}
        self.model.apply(changes)
        self.applied += 1
        if self._real is not None:
            self._real.apply(changes)
        if point:
            raise Killed(point)

    def _tear(self, changes: Changes) -> str:
        """The machine goes down in this commit. Returns how much of it is there: `nothing` or `all`."""
        if self._real is None:
            return self._rng.choice(("nothing", "all"))
        before, image = self.model, torn.read(self._path)
        after = deepcopy(before)
        after.apply(changes)
        self._real.apply(changes)
        image = torn.torn(image, torn.read(self._path), self._rng)
        self.drop()
        torn.write(self._path, image)
        return "all" if self._look_for(before, after) is after else "nothing"

    def _look_for(self, *models: ModelStore) -> ModelStore:
        """Which of these the file holds."""
        found = torn.content(self._path)
        for model in models:
            if found == torn.content_of(model):
                return model
        raise Violation(f"the file holds {found}, and should hold one of {[torn.content_of(each) for each in models]}")

    def page(self, queue: str, after: tuple[int, int], limit: int) -> list[Job]:
        jobs = self.model.page(queue, after, limit)
        if self._real is not None:
            self._compare("page", jobs, self._real.page(queue, after, limit))
        return jobs

    def due(self, after: tuple[float, int], limit: int) -> list[Job]:
        jobs = self.model.due(after, limit)
        if self._real is not None:
            self._compare("due", jobs, self._real.due(after, limit))
        return jobs

    def find(self, ids: list[str]) -> list[Record]:
        records = self.model.find(ids)
        if self._real is not None:
            real = {record.job.id: record for record in self._real.find(ids)}
            self._compare("find", {record.job.id: record for record in records}, real)
        return records

    def holders(self, name: str, unique: str) -> list[Holder]:
        holders = self.model.holders(name, unique)
        if self._real is not None:
            self._compare("holders", holders, self._real.holders(name, unique))
        return holders

    def browse(self, wanted: Wanted, before: int, now: float, rows: int, limit: int) -> Page:
        page = self.model.browse(wanted, before, now, rows, limit)
        if self._real is not None:
            self._compare("browse", page, self._real.browse(wanted, before, now, rows, limit))
        return page

    def forget(self, now: float, rows: int, results_max: int, dead_max: int) -> int:
        before = list(self.rows())
        if self._real is None:
            forgotten = self.model.forget(now, rows, results_max, dead_max)
        else:
            forgotten = self._real.forget(now, rows, results_max, dead_max)
            left = {record.job.id for record in self._real.find([row.job.id for row in before])}
            over = [(row.job.seq, row.end.state) for row in before if row.end and row.job.id not in left]
            self.model.apply(Changes(forgotten=over))
        gone = [row for row in before if not self.has(row.job.id)]
        if len(gone) != forgotten:
            raise Violation(f"{forgotten} jobs are said to be forgotten, and these are: {gone}")
        if gone:
            self._judge_forgotten(before, gone, now, results_max, dead_max)
            self.forgotten |= {row.job.id for row in gone}
        return forgotten

    def upkeep(self) -> None:
        if self._real is not None:
            self._real.upkeep()

    def _judge_forgotten(self, before: list[Row], gone: list[Row], now: float, results_max: int, dead_max: int) -> None:
        """Only what has ended and whose time is over, or the oldest of too many; dead ones count apart."""
        for most, dead in ((results_max, False), (dead_max, True)):
            kind = [row for row in before if row.end is not None and (row.end.state in DEAD_LETTERS) == dead]
            left = [row for row in kind if self.has(row.job.id)]
            early = [row for row in kind if not self.has(row.job.id) and row.end is not None and row.end.expires > now]
            older = [row for row in left if early and row.job.seq < max(each.job.seq for each in early)]
            older = older if dead or self._real is None else []  # those kept together go together
            if early and (len(left) < most or older):
                raise Violation(f"forgotten too early: {early}; of {len(kind)}, at most {most}, these are left: {left}")
        if any(row.end is None for row in gone):
            raise Violation(f"forgotten, and had not ended: {gone}")

    def info(self) -> dict[str, Any]:
        return {**self.model.info(), "room": not self.full}

    def close(self) -> None:
        """The Router ends in order; the model stays for the next one."""
        if self._real is not None:
            self.drop()
            self._look_for(self.model)

    def _compare(self, what: str, expected: object, got: object) -> None:
        if expected != got:
            raise Violation(f"{what}: SQLite says {got}, the model {expected}")
