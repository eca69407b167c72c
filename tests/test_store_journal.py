"""The journal and the archive: whoever asks the store is answered as if each job had its own row."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import pytest
from model_store import ModelStore, id_of
from msgspec.structs import replace

from eventmq.errors import StorageFull, StoreError
from eventmq.protocol.v2 import Job
from eventmq.store import archive, database, journal, retention, segments
from eventmq.store.base import Changes, Ended, Moved, Requeued, Wanted
from eventmq.store.sqlite import AGED_S, SqliteStore

ALL = 1 << 40
START = 1_700_000_000.0
SMALL = (
    (journal, "JOBS_MAX", 12), (journal, "TURNS_MAX", 6), (journal, "SLICE_TURNS", 3), (journal, "SLICE_JOBS", 5),
    (archive, "BLOCK_SEQS", 16), (segments, "SEGMENT_JOBS_MIN", 2),
)  # fmt: skip
"""Bounds that a few turns cross."""


def job(seq: int, made: float = START, **fields: Any) -> Job:
    fields = {"created": made, "queue": "default", "payload": b"payload", **fields}
    return Job(fields.pop("id", id_of(made, seq)), name="tasks.add", seq=seq, **fields)


def end(seq: int, expires: float = START + 3_600, **fields: Any) -> Ended:
    return replace(Ended(seq, "succeeded", START, expires, 1, 0, 0.25, "host-1", b"value", b""), **fields)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, bound in SMALL:
        monkeypatch.setattr(module, name, bound)


Open = Callable[[], SqliteStore]


@pytest.fixture
def reopen(tmp_path: Path) -> Iterator[Open]:
    """Opens the store, as a Router does that starts; the one before is killed."""
    opened: list[SqliteStore] = []

    def open_again() -> SqliteStore:
        if opened:
            killed(opened[-1], tmp_path)
        opened.append(SqliteStore(str(tmp_path / "store.db"), "full"))
        opened[-1].load()
        return opened[-1]

    yield open_again
    opened[-1].close()


def killed(store: SqliteStore, folder: Path) -> None:
    """Leaves the files as kill -9 of the Router does: nothing is copied out of the log."""
    files = {file: file.read_bytes() for file in folder.iterdir()}
    store.close()
    for file, content in files.items():
        file.write_bytes(content)


def settle(store: SqliteStore, now: float = START) -> None:
    """Lets everything be retired."""
    for n in range(2, 200):
        store.forget(now + n * AGED_S, 1, ALL, ALL)


def places(store: SqliteStore) -> tuple[int, int, int, int]:
    """Jobs in the journal, in rows, in segments, in the archive."""
    kept = sum(segment.left.bit_count() for segment in store._segments._segments.values())
    return len(store._journal._jobs), store._database.number("SELECT count(*) FROM job"), kept, store._archive.count


def listed(store: SqliteStore, rows: int = 1_000, limit: int = 1_000, **wanted: Any) -> list[int]:
    """The seqs of all pages of a list."""
    found, before = [], ALL
    while before:
        page = store.browse(Wanted(**wanted), before, START, rows, limit)
        assert page.before < before
        assert len(page.lines) <= limit
        found += [line.seq for line in page.lines]
        before = page.before
    return found


def test_the_job_that_was_made_last_is_found_wherever_it_is(reopen: Open) -> None:
    store = reopen()
    store.apply(Changes(added=[job(1), job(2)]))
    store.apply(Changes(ended=[end(1), end(2)]))
    assert places(store) == (2, 0, 0, 0)
    settle(store)
    assert places(store) == (0, 0, 0, 2)
    for _ in range(2):
        assert [record.job.seq for record in store.find([id_of(START, 2), id_of(START, 3)])] == [2]
        store = reopen()


# ---- any history ----------------------------------------------------------------------------------------


class History:
    """Tells a file and the model the same, and asks them the same."""

    def __init__(self, folder: Path, rng: Random) -> None:
        self.folder, self.rng = folder, rng
        self.strays = rng.choice((0.1, 0.5, 1.0))
        self.model = ModelStore()
        self.file = SqliteStore(str(folder / "store.db"), "none")
        self.now = START
        self.ids: dict[int, str] = {}
        self.seq = 0
        self.load()

    def load(self) -> None:
        old, new = self.file.load(), self.model.load()
        assert old._replace(next_seq=0) == new._replace(next_seq=0)
        assert old.next_seq >= new.next_seq

    def restart(self) -> None:
        if self.rng.random() < 0.5:
            self.file.close()
        else:
            killed(self.file, self.folder)
        self.file = SqliteStore(str(self.folder / "store.db"), "none")
        self.load()

    def new(self) -> Job:
        self.seq += self.rng.choice((1, 1, 1, 3))
        made = self.now - self.rng.choice((0, 0, 0, 0, 0.3, 5, 3_600, -1_000))
        stray = self.rng.choice((f"odd-{self.seq}", f"{self.rng.getrandbits(128):032x}"))
        fields: dict[str, Any] = {"id": stray if self.rng.random() < self.strays else id_of(made, self.seq)}
        fields["unique"] = self.rng.choice(("", "", "", "", "key"))
        fields["payload"] = bytes(self.rng.choice((5, 5, 100, 5_000)))
        fields["due"] = self.rng.choice((0.0, 0.0, self.now + 5))
        self.ids[self.seq] = fields["id"]
        return job(self.seq, self.now, lease=self.seq, queue=self.rng.choice("aaab"), **fields)

    def some(self, seqs: list[int], share: float = 0.5) -> list[int]:
        return [seq for seq in seqs if self.rng.random() < share]

    def turn(self) -> None:
        """Mostly new jobs and such that succeed; sometimes something else."""
        rng, changes = self.rng, Changes()
        changes.added = [self.new() for _ in range(rng.choice((0, 1, 2, 5)))]
        if rng.random() < 0.2:
            changes.spilled = [self.new() for _ in range(rng.choice((1, 9, 30)))]
            changes.delayed = [self.new()]
        ids = [*self.ids.values()]
        live = [record.job.seq for record in self.model.find(ids) if record.state == "waiting"]
        live += [job.seq for job in changes.added + changes.spilled]
        for seq in self.some(live, rng.choice((0.1, 0.5, 0.9))):
            state = rng.choice(("succeeded",) * 9 + ("dead", "expired"))
            error = "" if state == "succeeded" else "E: no"
            expires = self.now + rng.choice((60, 60, 60, 600))
            changes.ended.append(end(seq, expires, state=state, error=error, attempt=2, run_s=0.5))
        if rng.random() < 0.2:
            touched = self.some(live, 0.2)
            changes.moved = [Moved(seq, 2, 1, 1, self.now, b"why", 7, "E: last") for seq in touched[::2]]
            rng.choice((changes.paged_out, changes.put_off, changes.paged_in)).extend(touched)
        ended = [end.seq for end in changes.ended]
        changes.released = self.some(ended) if rng.random() < 0.1 else []
        if rng.random() < 0.15:
            over = [(record.job.seq, record.state) for record in self.model.find(ids) if record.state != "waiting"]
            for seq, state in rng.sample(over, min(len(over), 4)):
                if rng.random() < 0.5:
                    changes.requeued.append(Requeued(seq, state, 3, self.now, 8))
                else:
                    changes.forgotten.append((seq, state))
        self.file.apply(changes)
        self.model.apply(changes)

    def forget(self) -> None:
        self.now += self.rng.choice((0.1, 1, 10))
        keep = self.rng.choice((ALL, ALL, 20))
        before = self.model.info()["results"]
        forgotten = self.file.forget(self.now, 8, keep, ALL)
        known = self.model.find([*self.ids.values()])
        left = {record.job.id for record in self.file.find([*self.ids.values()])}
        gone = [record for record in known if record.job.id not in left]
        early = [record for record in gone if record.expires > self.now]
        assert len(gone) == forgotten
        assert all(record.state != "waiting" for record in gone)
        dead = sum(record.state == "dead" for record in gone)
        assert not early or before - (forgotten - dead) >= keep
        self.model.apply(Changes(forgotten=[(record.job.seq, record.state) for record in gone]))
        for record in gone:
            del self.ids[record.job.seq]

    def compare(self) -> None:
        ids = [*self.ids.values(), "unknown", id_of(self.now, 0)]
        file, model = ({record.job.id: record for record in store.find(ids)} for store in (self.file, self.model))
        assert file == model
        for name in ("results", "dead"):
            assert self.file.info()[name] == self.model.info()[name]
        for queue in "ab":
            assert self.file.page(queue, (-101, 0), 1000) == self.model.page(queue, (-101, 0), 1000)
        assert self.file.due((0.0, 0), 1000) == self.model.due((0.0, 0), 1000)
        assert self.file.holders("tasks.add", "key") == self.model.holders("tasks.add", "key")
        for state, rows, limit in (
            ("", 3, 50),
            ("succeeded", 50, 3),
            ("waiting", 9, 9),
            ("delayed", 50, 50),
            ("expired", 9, 9),
        ):
            wanted, lines, before = Wanted((state,) if state else (), "ab"[rows % 2]), [], ALL
            while before:
                page = self.file.browse(wanted, before, self.now, rows, limit)
                lines += page.lines
                before = page.before
            assert lines == self.model.browse(wanted, ALL, self.now, ALL, ALL).lines
        count = self.file._database.number("SELECT ifnull(sum(count), 0) FROM archive")
        assert self.file._archive.count == count
        some = Wanted(ids=tuple(self.rng.sample(ids, len(ids) // 2)))
        assert self.file.browse(some, ALL, self.now, 1, 1_000) == self.model.browse(some, ALL, self.now, 1, 1_000)


@pytest.mark.parametrize("seed", range(6))
def test_any_history_reads_as_if_each_job_had_its_row(tmp_path: Path, small: None, seed: int, thorough: bool) -> None:
    history = History(tmp_path, Random(seed))
    seen = [0] * 4
    for _ in range(2_000 if thorough else 100):
        step = history.rng.choices((history.turn, history.forget, history.restart), (8, 2, 1))[0]
        step()
        history.compare()
        seen = [max(pair) for pair in zip(seen, places(history.file), strict=True)]
    assert min(seen) > 3
    history.now += 10_000
    for _ in range(history.model.info()["results"] // 8 + 8):
        history.now += AGED_S
        history.forget()
    assert history.model.info()["results"] == 0
    assert not history.file._archive.ids._strays
    history.file.close()


# ---- bounds ---------------------------------------------------------------------------------------------


def said(store: SqliteStore) -> tuple[int, int]:
    """Rows of the journal that say something, and their bytes."""
    rows, size = store._db.execute(
        "SELECT count(*), ifnull(sum(length(turn)), 0) FROM journal WHERE turn <> x''"
    ).fetchone()
    return int(rows), int(size)


def test_jobs_that_leave_the_journal_still_count_as_long_as_its_rows_stay(
    reopen: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs that all die are rows at once; what said that they were new has to go, too."""
    monkeypatch.setattr(journal, "JOBS_MAX", 50)
    store, old = reopen(), list[Job]()
    for turn in range(60):
        new = [job(seq) for seq in range(turn * 5 + 1, turn * 5 + 6)]
        store.apply(Changes(added=new, ended=[end(each.seq, state="dead", failure=b"why") for each in old]))
        old = new
        if turn == 30:
            store = reopen()
    assert len(store._journal._jobs) == 5
    assert said(store)[0] <= 12
    monkeypatch.setattr(journal, "BYTES_MAX", 1_000)
    store.apply(Changes(ended=[end(each.seq, state="dead", failure=b"why") for each in old]))
    assert said(store)[1] <= 2_000


def test_a_turn_that_is_larger_than_a_slice_lets_as_much_go(reopen: Open, small: None) -> None:
    store, seq = reopen(), 0
    for jobs in (1,) * 6 + (20,) * 6:
        store.apply(Changes(added=[job(seq := seq + 1) for _ in range(jobs)]))
        assert len(store._journal._jobs) <= journal.JOBS_MAX + 20
    assert places(store)[2] > 100


# ---- which jobs, and where they are ------------------------------------------------------------------------


def test_a_plain_job_has_no_row_and_is_archived_when_it_has_succeeded(reopen: Open) -> None:
    store = reopen()
    store.apply(Changes(added=[job(1), job(2)]))
    store.apply(Changes(ended=[end(1)]))
    assert places(store) == (2, 0, 0, 0)
    store = reopen()
    assert places(store) == (2, 0, 0, 0)
    settle(store)
    assert places(store) == (0, 1, 0, 1)
    assert [job.seq for job in reopen().load().jobs] == [2]


def test_what_a_router_finds_when_it_starts_is_old_when_it_first_forgets(reopen: Open) -> None:
    store = reopen()
    store.apply(Changes(added=[job(seq) for seq in range(1, 11)]))
    store.apply(Changes(ended=[end(seq) for seq in range(1, 11)]))
    store.forget(START, 1, ALL, ALL)
    assert places(store) == (10, 0, 0, 0)
    store = reopen()
    store.apply(Changes(added=[job(11)]))
    store.forget(START, 1, ALL, ALL)
    assert places(store) == (1, 0, 0, 10)


@pytest.mark.parametrize(
    "fields",
    [
        {"unique": "key"}, {"payload": bytes(journal.PLAIN_BYTES + 1)},
    ],
)  # fmt: skip
def test_what_is_not_plain_is_a_row(reopen: Open, fields: dict[str, Any]) -> None:
    store = reopen()
    store.apply(Changes(added=[job(1, **fields)]))
    assert places(store) == (0, 1, 0, 0)


@pytest.mark.parametrize(
    "fields", [{"state": "dead"}, {"failure": b"f"}, {"error": "E: no"}, {"value": bytes(journal.PLAIN_BYTES + 1)}]
)
def test_what_does_not_end_plainly_becomes_a_row(reopen: Open, fields: dict[str, Any]) -> None:
    store = reopen()
    store.apply(Changes(added=[job(1), job(2)]))
    store.apply(Changes(ended=[end(1, **fields)]))
    assert places(store) == (1, 1, 0, 0)
    store = reopen()
    assert places(store) == (1, 1, 0, 0)
    assert len(store.load().jobs) == 1


def test_jobs_are_retired_in_slices_when_there_are_too_many(reopen: Open, small: None) -> None:
    store = reopen()
    for seq in range(1, 100):
        before = places(store)
        store.apply(Changes(added=[job(seq)], ended=[end(seq)] if seq % 2 else []))
        kept, *retired = places(store)
        assert kept <= 13
        assert sum(retired) - sum(before[1:]) <= 5
    assert min(retired[0] + retired[1], retired[2]) > 40
    assert store._database.number("SELECT count(*) FROM journal") <= 7


# ---- the archive ---------------------------------------------------------------------------------------


def archived(store: SqliteStore, count: int = 600, **fields: Any) -> None:
    """Jobs from 1 on, all in the archive."""
    store.apply(Changes(added=[job(seq, START + seq / 1e4) for seq in range(1, count + 1)]))
    store.apply(Changes(ended=[end(seq, **fields) for seq in range(1, count + 1)]))
    settle(store)
    assert places(store) == (0, 0, 0, count)


def test_a_job_that_was_archived_hours_ago_is_still_known(reopen: Open) -> None:
    archived(reopen())
    store = reopen()
    ids = [id_of(START + seq / 1e4, seq) for seq in range(1, 601)]
    assert {record.job.id for record in store.find(ids)} == set(ids)
    assert [record.job.seq for record in store.find([ids[300], id_of(START + 0.03, 9), "x"])] == [301]
    assert store.load().next_seq == 601


def test_archived_jobs_are_requeued_and_purged_one_by_one(reopen: Open) -> None:
    store = reopen()
    archived(store)
    again = Requeued(7, "succeeded", 2, START + 9, 3)
    store.apply(Changes(requeued=[again], forgotten=[(8, "succeeded"), (599, "succeeded")]))
    assert places(store) == (0, 1, 0, 597)
    assert store.info()["results"] == 597
    (live,) = reopen().load().jobs
    assert (live.seq, live.attempt, live.created) == (7, 2, START + 9)


def test_archived_jobs_go_together_when_the_last_ones_time_is_over(reopen: Open) -> None:
    store = reopen()
    store.apply(Changes(added=[job(seq) for seq in range(1, 13)]))
    store.apply(Changes(ended=[end(seq, START + 64_000 + 10 * seq) for seq in range(1, 13)]))
    settle(store)
    over = [store.forget(START + 64_000 + late, 100, ALL, ALL) for late in (0, 59, 60, 119, 120)]
    assert over == [0, 0, 6, 0, 6]  # six of them in each stretch of 64 s


def test_the_oldest_results_go_first_wherever_they_are(reopen: Open) -> None:
    store = reopen()
    archived(store, 30)
    store.apply(Changes(added=[job(seq, START + 1) for seq in range(31, 41)]))
    store.apply(Changes(ended=[end(seq, state="expired" if seq % 2 else "succeeded") for seq in range(31, 41)]))
    settle(store)
    assert places(store) == (0, 5, 0, 35)
    for most, oldest in ((33, 8), (12, 29), (9, 32)):
        assert store.forget(0.0, 1_000, most, ALL) > 0
        assert min(listed(store)) == oldest
        assert store.info()["results"] == most


def test_no_page_of_a_list_opens_all_of_the_archive(reopen: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    store = reopen()
    archived(store, 5_000)
    opened: list[int] = []
    real = archive._opened
    monkeypatch.setattr(archive, "_opened", lambda row: opened.append(1) or real(row))
    page = store.browse(Wanted(queue="none"), ALL, START, 2_000, 100)
    assert page.lines == []
    assert 5_000 - 2_000 < page.before < 5_000
    assert len(opened) <= 8
    assert listed(store, rows=100, limit=7) == [*range(5_000, 0, -1)]


def test_a_full_disk_leaves_the_journal_as_it_was(reopen: Open) -> None:
    store = reopen()
    store.apply(Changes(added=[job(seq) for seq in range(1, 4)]))
    pages = store._database.number("PRAGMA page_count")
    store._db.execute(f"PRAGMA max_page_count = {pages + 4}")
    large = [job(seq, payload=bytes(4_000)) for seq in range(4, 300)]
    for _ in range(2):
        with pytest.raises(StorageFull):
            store.apply(Changes(added=large, ended=[end(1), end(2, state="dead")]))
        records = store.find([job(seq).id for seq in range(1, 9)])
        assert [(record.job.seq, record.state) for record in records] == [(seq, "waiting") for seq in (1, 2, 3)]
    store._db.execute("PRAGMA max_page_count = 1000000")
    store.apply(Changes(added=large, ended=[end(1), end(2, state="dead")]))
    assert places(reopen()) == (298, 1, 0, 0)


@pytest.mark.parametrize("odd", ["\0abc", "", "\uffff", "\U00010000", "'\"\\u0000", " "])
def test_ids_that_only_begin_like_others_are_found_in_the_archive(reopen: Open, odd: str) -> None:
    store, id = reopen(), f"{int(START * 1e3):012x}"[:8] + "5" + odd
    store.apply(Changes(added=[job(1), job(2, id=id), job(3)]))
    store.apply(Changes(ended=[end(1), end(2), end(3)]))
    settle(store)
    assert places(store) == (0, 0, 0, 3)
    assert [record.job.seq for record in store.find([id])] == [2]


@pytest.mark.parametrize("kept", ["added", "spilled"])
def test_ids_between_two_that_begin_alike_are_found(reopen: Open, kept: str) -> None:
    store, begin = reopen(), f"{int(START * 1e3):012x}"[:9]
    ids = [f"{begin}{odd}{number}" for number, odd in enumerate("\0\0\1\1\5\x1f ")]
    created = int(begin, 16) * 4.096 + 2  # made so that all of them are of about its time
    store.apply(Changes(**{kept: [job(seq, created, id=id) for seq, id in enumerate(ids, 1)]}))
    store.apply(Changes(ended=[end(seq) for seq in range(1, 8)]))
    for _ in range(2):
        assert [len(store.find([id])) for id in ids] == [1] * 7
        settle(store)
    assert store._archive.count >= 4


# ---- ids that do not begin with the time -----------------------------------------------------------------


STRAYS = [str(UUID(int=Random(seq).getrandbits(128), version=4)) for seq in range(1, 301)]


def stray(store: SqliteStore, spilled: bool = False) -> None:
    """Jobs from 1 on with the ids of a client of 2020."""
    jobs = [job(seq, id=id) for seq, id in enumerate(STRAYS, 1)]
    store.apply(Changes(spilled=jobs) if spilled else Changes(added=jobs))


def found(store: SqliteStore, ids: list[str]) -> list[int]:
    return sorted(record.job.seq for record in store.find(ids))


@pytest.mark.parametrize("spilled", [False, True])
def test_strays_share_rows_and_each_is_found_wherever_it_is(reopen: Open, spilled: bool) -> None:
    store = reopen()
    stray(store, spilled)
    store.apply(Changes(added=[job(301), job(302)]))  # of clients of ours
    store.apply(Changes(ended=[end(seq) for seq in (*range(1, 101), 301, 302)]))
    for late in (0, 1):
        for id in (*STRAYS, id_of(START, 301)):
            assert found(store, [id, "unknown", id_of(START, 303)]) == [STRAYS.index(id) + 1 if id in STRAYS else 301]
        assert found(store, STRAYS) == [*range(1, 301)]
        if not late:
            settle(store)
            assert places(store) == (0, 0, 200, 102)
        store = reopen()
    assert store._database.number("SELECT count(*) FROM archive") == 2  # one of strays, one of ours
    assert store._database.number("SELECT count(*) FROM segment") == 2


def test_memory_forgets_strays_with_their_rows(reopen: Open) -> None:
    store = reopen()
    stray(store)
    store.apply(Changes(ended=[end(seq) for seq in range(1, 301)]))
    settle(store)
    store.apply(Changes(requeued=[Requeued(7, "succeeded", 2, START + 9, 3)], forgotten=[(8, "succeeded")]))
    assert sum(map(len, store._archive.ids._strays.values())) == 298
    assert found(store, STRAYS[5:9]) == [6, 7, 9]
    assert store.forget(START, 1_000, 40, ALL) == 258
    assert sum(map(len, store._archive.ids._strays.values())) == 40
    assert found(store, STRAYS) == [7, *range(261, 301)]
    assert store.forget(START + 4_000, 1_000, ALL, ALL) == 40
    assert not store._archive.ids._strays
    assert found(store, STRAYS) == [7]


def test_clocks_that_are_off_by_hours_make_no_strays(reopen: Open) -> None:
    store = reopen()
    late = [job(seq, id=id_of(START - 80_000, seq)) for seq in range(1, 9)]
    early = [job(seq, id=id_of(START + 80_000, seq)) for seq in range(9, 17)]
    store.apply(Changes(added=late + early))
    store.apply(Changes(ended=[end(seq) for seq in range(1, 17)]))
    settle(store)
    assert places(store) == (0, 0, 0, 16)
    assert not store._archive.ids._strays
    assert found(store, [each.id for each in late + early]) == [*range(1, 17)]


@pytest.mark.parametrize(
    "change",
    [
        "marks = substr(marks, 2)", "marks = marks || x'00'", "marks = x''", "marks = zeroblob(length(marks))",
        "jobs = replace(CAST(jobs AS TEXT), 'tasks.add', 'tasks.odd')", "count = 4",
    ],
)  # fmt: skip
def test_damage_to_the_archive_is_seen_when_it_is_read(
    reopen: Open, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """A large file is not checked when it is opened, and most jobs are looked for without opening a row."""
    archived(reopen(), 3)
    monkeypatch.setattr(database, "CHECK_BYTES_MAX", 0)
    store = reopen()
    name, value = change.split(" = ")
    store._db.execute(f"UPDATE archive SET {name} = CAST({value} AS {'INTEGER' if name == 'count' else 'BLOB'})")
    with pytest.raises(StoreError, match="is damaged"):
        store.find([id_of(START + 1e-4, 1)])


def test_damage_to_the_archive_is_seen_when_it_is_listed(reopen: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    archived(reopen(), 3)
    monkeypatch.setattr(database, "CHECK_BYTES_MAX", 0)
    store = reopen()
    store._db.execute("UPDATE archive SET seq_last = 4")
    with pytest.raises(StoreError, match="is damaged"):
        listed(store)


@pytest.mark.parametrize("column", ["seq_last", "count"])
def test_a_number_of_the_archive_that_is_none_is_damage(
    reopen: Open, monkeypatch: pytest.MonkeyPatch, column: str
) -> None:
    monkeypatch.setattr(database, "CHECK_BYTES_MAX", 0)
    store = reopen()
    archived(store)
    store._db.execute(f"UPDATE archive SET {column} = 'none' WHERE n = 1")
    with pytest.raises(StoreError, match="is damaged"):
        reopen()


def test_few_rows_of_the_archive_are_forgotten_at_once(reopen: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them may have a single job."""
    monkeypatch.setattr(archive, "BLOCK_SEQS", 1)
    monkeypatch.setattr(retention, "ARCHIVE_ROWS", 8)
    store = reopen()
    archived(store, 20)
    assert [store.forget(0.0, 1_000, 2, ALL) for _ in range(4)] == [8, 8, 2, 0]
    assert listed(store) == [20, 19]


def test_new_jobs_may_be_told_in_any_order(reopen: Open) -> None:
    store = reopen()
    store.apply(Changes(added=[job(3), job(1)]))
    store.apply(Changes(added=[job(2), job(4)], ended=[end(3)]))
    assert listed(store) == [4, 3, 2, 1]
    settle(store)
    assert listed(store) == [4, 3, 2, 1]
    assert [each.seq for each in reopen()._journal.live()] == []


@pytest.mark.parametrize("again", ["succeeded", "dead"])
def test_a_job_of_the_journal_ends_once(reopen: Open, again: str) -> None:
    store = reopen()
    store.apply(Changes(added=[job(1)], ended=[end(1)]))
    with pytest.raises(StoreError, match="not as they should be"):
        store.apply(Changes(ended=[end(1, state=again)]))


def test_a_job_of_the_journal_is_not_added_again(reopen: Open) -> None:
    store = reopen()
    store.apply(Changes(added=[job(1)]))
    for again in [job(2, id=job(1).id)], [job(2), job(3, id=job(2).id)]:
        with pytest.raises(StoreError, match="already"):
            store.apply(Changes(added=again))
        store = reopen()
        assert [each.id for each in store._journal.live()] == [job(1).id]


def test_a_list_of_the_archive_ends_where_what_is_older_was_accepted_too_early(reopen: Open) -> None:
    store = reopen()
    archived(store)
    found = listed(store, rows=100, stop=START + 0.05)
    assert found == [*range(600, found[-1] - 1, -1)]
    assert 450 < found[-1] <= 500


def test_what_a_full_disk_has_kept_is_forgotten_later(reopen: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    store = reopen()
    store.apply(Changes(added=[job(seq, payload=bytes(5_000)) for seq in range(1, 21)]))
    store.apply(Changes(ended=[end(seq) for seq in range(1, 21)]))
    real = store._retention.forget

    def full(*args: Any) -> Any:
        real(*args)
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    monkeypatch.setattr(store._retention, "forget", full)
    assert store.forget(0.0, 1_000, 5, ALL) == 0
    assert len(listed(store)) == 20
    monkeypatch.setattr(store._retention, "forget", real)
    assert store.forget(0.0, 1_000, 5, ALL) == 15
    assert listed(store) == [20, 19, 18, 17, 16]


# ---- segments ------------------------------------------------------------------------------------------


def waiting(store: SqliteStore, count: int = 600, **fields: Any) -> None:
    """Jobs from 1 on, all in segments and only there."""
    store.apply(Changes(spilled=[job(seq, START + seq / 1e4, **fields) for seq in range(1, count + 1)]))
    assert places(store) == (0, 0, count, 0)


def paged(store: SqliteStore, after: tuple[int, int] = (-101, 0), limit: int = 1_000) -> list[int]:
    return [job.seq for job in store.page("default", after, limit)]


def test_jobs_that_wait_in_segments_come_in_pages_and_are_archived_as_they_are(reopen: Open) -> None:
    store = reopen()
    waiting(store)
    assert paged(store, (0, 254), 3) == [255, 256, 257]
    store.apply(Changes(ended=[end(seq) for seq in range(1, 301)]))
    for _ in range(2):
        assert paged(store) == [*range(301, 601)]
        assert store.info()["results"] == 300
        assert [record.state for record in store.find([id_of(START + 0.03, 300)])] == ["succeeded"]
        assert listed(store, rows=100, limit=7, states=("succeeded",)) == [*range(300, 0, -1)]
        store = reopen()
        assert store.load().paged == {"default": 300}
    settle(store)
    assert places(store) == (0, 0, 300, 300)
    assert store._database.number("SELECT count(*) FROM archive") == 2  # blocks
    assert paged(reopen()) == [*range(301, 601)]


def test_what_is_retired_while_it_waits_is_in_memory_again_after_a_start(reopen: Open) -> None:
    store = reopen()
    store.apply(Changes(added=[job(seq) for seq in range(1, 41)]))
    settle(store)
    assert places(store) == (0, 0, 40, 0)
    snapshot = reopen().load()
    assert [each.seq for each in snapshot.jobs] == [*range(1, 41)]
    assert (snapshot.paged, snapshot.next_seq) == ({}, 41)


def test_whatever_else_happens_to_a_job_of_a_segment_makes_a_row_of_it(reopen: Open) -> None:
    store = reopen()
    waiting(store)
    store.apply(Changes(ended=[end(seq) for seq in range(10, 20)]))
    store.apply(
        Changes(
            moved=[Moved(1, 2, 1)],
            paged_in=[2],
            ended=[end(3, state="cancelled"), end(4, state="expired")],
            requeued=[Requeued(10, "succeeded", 2, START + 9, 3)],
            forgotten=[(11, "succeeded")],
        )
    )
    for _ in range(2):
        assert places(store) == (0, 5, 594, 0)
        assert paged(store) == [5, 6, 7, 8, 9, *range(20, 601)]
        assert store.info()["results"] == 10
        store = reopen()
        assert [each.seq for each in store.load().jobs] == [1, 2, 10]


@pytest.mark.parametrize(
    "fields", [{"queue": "other"}, {"priority": 3}, {"unique": "key"}, {"id": "odd"}, {"payload": bytes(5_000)}]
)
def test_one_that_is_not_like_the_others_is_in_its_place_all_the_same(reopen: Open, fields: dict[str, Any]) -> None:
    store = reopen()
    jobs = [job(seq, **(fields if seq == 7 else {})) for seq in range(1, 21)]
    store.apply(Changes(spilled=jobs))
    assert places(store) == (0, 1, 19, 0)
    queues = (store.page(queue, (-101, 0), 100) for queue in ("default", "other"))
    want = sorted(jobs, key=lambda job: (job.queue, -job.priority, job.seq))
    assert [each for page in queues for each in page] == want


def test_segments_that_ended_here_and_there_are_opened_once_for_all(
    reopen: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many queues that are served in turn: the journal's oldest turn has one end of each segment."""
    store = reopen()
    for queue in range(4):
        store.apply(Changes(spilled=[job(queue * 100 + n, queue=f"q{queue}") for n in range(1, 51)]))
    for n in range(1, 51):
        store.apply(Changes(ended=[end(queue * 100 + n) for queue in range(4)]))
    opened: list[int] = []
    real = segments.Segments._read
    monkeypatch.setattr(segments.Segments, "_read", lambda self, each: opened.append(each.n) or real(self, each))
    settle(store)
    assert places(store) == (0, 0, 0, 200)
    assert len(opened) == store._database.number("SELECT count(*) FROM archive") <= 6


def test_a_seq_does_not_come_again_as_long_as_the_journal_says_that_it_ended(reopen: Open) -> None:
    store = reopen()
    waiting(store, 8)
    for n in range(2):  # the second turn is not old, but its jobs go with those of the first
        store.apply(Changes(ended=[end(seq) for seq in range(n * 4 + 1, n * 4 + 5)]))
        store.forget(START + n * AGED_S, 1, ALL, ALL)
    assert places(store) == (0, 0, 0, 8)
    store.apply(Changes(forgotten=[(seq, "succeeded") for seq in range(1, 9)]))
    store = reopen()
    new = range(store.load().next_seq, store.load().next_seq + 8)
    store.apply(Changes(spilled=[job(seq) for seq in new]))
    assert paged(store) == paged(reopen()) == [*new]


def test_what_has_gone_with_others_is_no_part_of_a_slice(reopen: Open) -> None:
    """Eight segments are served in turn, so the oldest of these turns take all of them along."""
    store = reopen()
    waiting(store, 2_559)
    for n in range(1, 129):
        store.apply(Changes(ended=[end(seq) for seq in range(n, 2_048, 128)]))
    store.apply(Changes(ended=[end(seq) for seq in range(2_048, 2_560)]))
    for n in range(3):  # nothing is old yet, a slice, all others
        store.forget(START + n * AGED_S, 1, ALL, ALL)
    assert places(store) == (0, 0, 0, 2_559)
    assert store._database.number("SELECT count(*) FROM archive") == 10  # blocks


@pytest.mark.parametrize(
    "change",
    ["segment_jobs SET marks = zeroblob(length(marks))", "segment_jobs SET jobs = substr(jobs, 1, length(jobs) - 1)",
     "segment_jobs SET seqs = zeroblob(32)", "segment SET left = zeroblob(32)", "segment SET paged = 0",
     "segment SET queue = 'other'"],
)  # fmt: skip
def test_damage_to_a_segment_is_seen(reopen: Open, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    store = reopen()
    waiting(store, 20)
    monkeypatch.setattr(database, "CHECK_BYTES_MAX", 0)
    store._db.execute(f"UPDATE {change}")
    with pytest.raises(StoreError, match="is damaged"):
        reopen().find([id_of(START + 1e-4, 1)])
