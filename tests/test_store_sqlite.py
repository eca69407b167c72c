"""What only the store in a file has to do: the lock, files that are not right, a full disk, kill -9, and its size."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eventmq.errors import StorageFull, StoreError
from eventmq.protocol.v2 import Job
from eventmq.store import database, journal, tables
from eventmq.store.base import Changes, Ended, Record, Snapshot
from eventmq.store.open import open_store
from eventmq.store.sqlite import SqliteStore

Start = Callable[[str], "subprocess.Popen[str]"]


@pytest.fixture(autouse=True)
def rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each job has a row of its own; those that share one are `test_store_journal`'s."""
    monkeypatch.setattr(journal, "PLAIN_BYTES", 0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def start(path: Path) -> Iterator[Start]:
    """Starts a second process that has `store`, opened and loaded, and runs the given lines."""
    children: list[subprocess.Popen[str]] = []

    def start_child(lines: str) -> subprocess.Popen[str]:
        head = f"""
            import os, resource, signal, sys
            from eventmq.errors import StoreError
            from eventmq.protocol.v2 import Job
            from eventmq.store.base import Changes
            from eventmq.store.sqlite import SqliteStore
            store = SqliteStore({str(path)!r}, sys.argv[1] if len(sys.argv) > 1 else "full")
            store.load()
            """
        code = textwrap.dedent(head) + textwrap.dedent(lines)
        child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        children.append(child)
        return child

    yield start_child
    for child in children:
        child.kill()
        child.communicate()


def job(seq: int, payload: bytes = b"payload", **fields: Any) -> Job:
    return Job(f"id-{seq}", "default", "tasks.add", payload, seq=seq, **fields)


def end(seq: int, expires: float = 100.5) -> Ended:
    return Ended(seq, "succeeded", 10.5, expires, 1, 0, 0.25, "host-1", b"value", b"")


def open_loaded(path: Path) -> SqliteStore:
    store = SqliteStore(str(path), "full")
    store.load()
    return store


def fill(path: Path, count: int = 200) -> None:
    """A closed store with jobs of each kind."""
    store = open_loaded(path)
    jobs = [job(seq, payload=b"x" * (seq * 17 % 300)) for seq in range(1, count + 1)]
    store.apply(Changes(added=jobs[: count // 2], spilled=jobs[count // 2 :], facts={"a": b"1"}))
    store.apply(Changes(ended=[end(seq) for seq in range(1, count, 3)]))
    store.close()


def read(path: Path, count: int = 200) -> tuple[Snapshot, list[Job], dict[str, Record]]:
    """Everything that can be read from a store, and the epoch taken out."""
    store = SqliteStore(str(path), "full")
    try:
        snapshot = store.load()._replace(epoch=0)
        found = store.find([f"id-{seq}" for seq in range(1, count + 1)])
        return snapshot, store.page("default", (-101, 0), 10 * count), {record.job.id: record for record in found}
    finally:
        store.close()


# ---- the lock --------------------------------------------------------------------------------------------


def test_a_second_router_is_told_who_holds_the_store_and_gets_it_after_kill_9(path: Path, start: Start) -> None:
    holder = start("print('ready', flush=True); sys.stdin.read()")
    assert holder.stdout is not None
    assert holder.stdout.readline() == "ready\n"
    with pytest.raises(
        StoreError, match=rf"locked by another Router: pid {holder.pid} on {socket.gethostname()} since"
    ):
        SqliteStore(str(path), "full")
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    store = SqliteStore(str(path), "full")
    assert store.load().epoch == 2
    store.close()


def test_the_lock_holds_from_open_to_close_within_one_process_too(path: Path) -> None:
    store = SqliteStore(str(path), "full")
    for _ in range(2):
        with pytest.raises(StoreError, match=f"locked by another Router: pid {os.getpid()} "):
            SqliteStore(str(path), "full")
    store.load()
    store.apply(Changes(added=[job(1)]))
    store.close()
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    open_loaded(path).close()


def test_a_lock_without_a_name_is_a_lock(path: Path) -> None:
    store = open_loaded(path)
    owner = Path(f"{path}.owner")
    for text in ("", "{}", "[]", "\x00"):
        owner.write_text(text)
        with pytest.raises(StoreError, match="a process that has not left its name"):
            SqliteStore(str(path), "full")
    store.close()


# ---- places ----------------------------------------------------------------------------------------------


def test_files_are_for_their_owner_only(path: Path) -> None:
    umask = os.umask(0)
    try:
        store = open_loaded(path)
        store.apply(Changes(added=[job(1)]))
        modes = {entry.name: entry.stat().st_mode & 0o777 for entry in path.parent.iterdir()}
        store.close()
    finally:
        os.umask(umask)
    assert modes == {"store.db": 0o600, "store.db-wal": 0o600, "store.db.owner": 0o600, "store.db.commits": 0o600}


def test_a_planted_owner_link_is_not_followed(path: Path) -> None:
    victim = path.with_name("victim")
    victim.write_text("precious")
    Path(f"{path}.owner").symlink_to(victim)
    open_loaded(path).close()
    assert victim.read_text() == "precious"


def test_relative_absolute_and_linked_paths(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    path.with_name("link.db").symlink_to(path)
    epochs = []
    for url in ("sqlite:///store.db", f"sqlite:///{path}", "sqlite:///link.db"):
        store = open_store(url, "full")
        epochs.append(store.load().epoch)
        store.apply(Changes(facts={"a": b"1"}))
        assert store.info()["url"] == url
        store.close()
    assert epochs == [1, 2, 3]


def test_a_store_stays_where_it_was_opened(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    store = open_store("sqlite:///store.db", "full")
    store.load()
    monkeypatch.chdir("/")
    store.apply(Changes(added=[job(1)]))
    store.close()
    assert len(read(path)[2]) == 1


@pytest.mark.parametrize(
    ("place", "says"), [("none/store.db", "no folder"), (".", "not a file"), ("file/store.db", "no folder")]
)
def test_a_place_that_cannot_be_is_refused(tmp_path: Path, place: str, says: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=says):
        SqliteStore(str(tmp_path / place), "full")


# ---- files that are not right ------------------------------------------------------------------------------


def test_a_text_file_is_refused_and_stays_as_it_is(path: Path) -> None:
    path.write_text("Dear diary, " * 1000)
    with pytest.raises(StoreError, match="not a SQLite file"):
        SqliteStore(str(path), "full")
    assert path.read_text() == "Dear diary, " * 1000


@pytest.mark.parametrize("log", ["delete", "wal"])
def test_somebody_elses_database_is_refused_and_stays_as_it_is(path: Path, log: str) -> None:
    other = sqlite3.connect(path)
    other.execute(f"PRAGMA journal_mode = {log}")
    other.execute("CREATE TABLE contacts (name)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="not a store of EventMQ"):
        SqliteStore(str(path), "full")
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_newer_schema_is_refused_by_name(path: Path) -> None:
    fill(path)
    newer = sqlite3.connect(path)
    newer.execute(f"PRAGMA user_version = {tables.SCHEMA + 1}")
    newer.close()
    with pytest.raises(
        StoreError, match=f"has schema {tables.SCHEMA + 1}, this release .* knows schema {tables.SCHEMA};"
    ):
        SqliteStore(str(path), "full")


def test_an_empty_file_becomes_a_store(path: Path) -> None:
    path.touch()
    open_loaded(path).close()


def test_a_damaged_page_is_refused_or_does_not_matter(path: Path) -> None:
    fill(path)
    right, whole = read(path), path.read_bytes()
    refused = 0
    for start in range(0, len(whole), database.PAGE_BYTES):
        path.write_bytes(whole[:start] + bytes(database.PAGE_BYTES) + whole[start + database.PAGE_BYTES :])
        try:
            assert read(path) == right
        except StoreError:
            refused += 1
    assert refused >= len(whole) // database.PAGE_BYTES - 2  # all but pages that only writing would meet


@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_a_file_cut_short_is_refused(path: Path, part: float) -> None:
    fill(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(StoreError):
        read(path)


def test_damage_that_is_met_late_ends_all_use(path: Path) -> None:
    fill(path, 4_000)
    store = open_loaded(path)
    store._db.execute("PRAGMA cache_size = 0")  # so that it reads the file again
    size = path.stat().st_size
    with path.open("r+b") as file:  # ends the lock, which nobody needs here
        file.seek(size // 2)
        file.write(bytes(size // 4))
    ids = [f"id-{seq}" for seq in range(1, 4_001)]
    with pytest.raises(StoreError, match="is damaged"):
        store.find(ids)
    for use in (lambda: store.find(ids[:1]), lambda: store.apply(Changes(facts={"a": b"2"})), lambda: store.info()):
        with pytest.raises(StoreError, match=r"cannot be used any more: .* is damaged"):
            use()
    store.close()


def test_a_log_taken_away_ends_all_use(path: Path) -> None:
    store = open_loaded(path)
    Path(f"{path}-wal").unlink()
    with pytest.raises(StoreError, match="-wal"):
        store.apply(Changes(added=[job(1)]))
    with pytest.raises(StoreError, match="cannot be used any more"):
        store.apply(Changes(added=[job(2)]))
    store.close()


def test_an_old_log_is_in_the_file_before_anything_is_promised(path: Path, tmp_path: Path) -> None:
    """It may have been read from the kernel's cache after a sync that failed."""
    store, copy = open_loaded(path), tmp_path / "copy"
    store.apply(Changes(added=[job(1)]))
    copy.mkdir()
    for each in path.parent.glob("store.db*"):
        shutil.copy(each, copy)
    store.close()
    again, alone = SqliteStore(str(copy / "store.db"), "full"), copy / "alone.db"
    shutil.copy(copy / "store.db", alone)
    again.close()
    assert [record.job.id for record in read(alone)[2].values()] == ["id-1"]


# ---- no room ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("room", [4, 2_500])  # pages; the second is more than the cache holds
def test_a_full_disk_refuses_the_turn_and_nothing_else(path: Path, room: int) -> None:
    store = open_loaded(path)
    store.apply(Changes(added=[job(1)], spilled=[job(2)]))
    pages = store._database.number("PRAGMA page_count")
    store._db.execute(f"PRAGMA max_page_count = {pages + room}")
    large = [job(seq, payload=b"x" * (1 << 20)) for seq in range(3, 33)]
    for _ in range(2):
        with pytest.raises(StorageFull, match="no room"):
            store.apply(Changes(added=large, ended=[end(1)], facts={"a": b"1"}))
    assert store.find([job.id for job in large]) == []
    assert store.find(["id-1"])[0].state == "waiting"
    store.apply(Changes(ended=[end(1)], added=[job(3)]))
    store._db.execute("PRAGMA max_page_count = 1000000")
    store.apply(Changes(added=large[1:]))
    store.close()
    snapshot, paged, records = read(path, 40)
    assert (len(snapshot.jobs), len(paged), snapshot.facts) == (30, 1, {})
    assert len(records) == 32


def test_the_last_of_the_disk_is_for_outcomes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_loaded(path)
    store.apply(Changes(added=[job(1)]))
    monkeypatch.setattr(database, "RESERVE_BYTES", 1 << 60)
    for new in (Changes(added=[job(2)]), Changes(spilled=[job(2)])):
        with pytest.raises(StorageFull, match="disk space free"):
            store.apply(replace(new, ended=[end(1)]))
    store.apply(Changes(ended=[end(1)], facts={"a": b"1"}))
    assert not store.info()["room"]
    monkeypatch.undo()
    assert store.info()["room"]
    store.apply(Changes(added=[job(2)]))
    store.close()
    assert read(path)[0].jobs == [job(2)]


def test_free_pages_of_the_file_are_room(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_loaded(path)
    store.apply(Changes(facts={"large": bytes(4 << 20)}))
    full_disk = list(os.statvfs(path.parent))
    full_disk[4] = 0  # f_bavail
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result(full_disk))
    monkeypatch.setattr(database, "RESERVE_BYTES", 3 << 20)
    with pytest.raises(StorageFull):
        store.apply(Changes(added=[job(1)]))
    store.apply(Changes(facts={"large": None}))
    store.apply(Changes(added=[job(1)]))
    store.close()


def test_an_io_error_ends_all_use_and_keeps_what_was_applied(path: Path, start: Start) -> None:
    child = start(
        """
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))  # writing beyond is an I/O error to SQLite
        seq = 0
        try:
            while True:
                store.apply(Changes(added=[Job(f"id-{seq + 1}", "default", "n", b"x" * 9000, seq=seq + 1)]))
                seq += 1
        except StoreError as error:
            first = str(error)
        try:
            store.find(["id-1"])
        except StoreError as error:
            print(seq, "|", first, "|", error, flush=True)
        """
    )
    seq, first, second = child.communicate()[0].split(" | ")
    assert int(seq) > 10
    assert "SQLITE_IOERR" in first
    assert "cannot be used any more" in second
    found = read(path)[2].keys()
    assert {f"id-{n}" for n in range(1, int(seq) + 1)} <= found  # the one that failed may be there or not
    assert len(found) <= int(seq) + 1


# ---- kill -9 ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("durability", ["full", "process"])
def test_what_was_applied_survives_kill_9(path: Path, start: Start, durability: str) -> None:
    child = start(
        f"""
        store.close()
        store = SqliteStore({str(path)!r}, {durability!r})
        store.load()
        seq = 0
        while True:
            jobs = [Job(f"id-{{seq + n}}", "default", "n", b"x" * 500, seq=seq + n) for n in (1, 2, 3)]
            store.apply(Changes(added=jobs[:2], spilled=jobs[2:], facts={{"last": str(seq + 3).encode()}}))
            seq += 3
            print(seq, flush=True)
        """
    )
    assert child.stdout is not None
    for _ in range(2_500):  # long enough to have copied the log once
        applied = int(child.stdout.readline())
    child.send_signal(signal.SIGKILL)
    rest = child.stdout.read().split("\n")[:-1]  # not `communicate`: it knows nothing of what was read ahead
    applied = int(rest[-1]) if rest else applied
    snapshot, paged, _ = read(path, applied)
    last = int(snapshot.facts["last"])
    assert last in (applied, applied + 3)
    assert len(snapshot.jobs) == 2 * last // 3
    assert len(paged) == last // 3
    assert snapshot.next_seq == last + 1


@pytest.mark.parametrize(("durability", "level"), [("full", 2), ("process", 1), ("none", 0)])
def test_how_much_is_synced(path: Path, durability: Any, level: int) -> None:
    store = SqliteStore(str(path), durability)
    assert store._database.number("PRAGMA synchronous") == 2  # the epoch is synced whatever was asked for
    store.load()
    assert store._database.number("PRAGMA synchronous") == level
    assert store._database.number("PRAGMA wal_autocheckpoint") == 0  # it would hide what fails in it
    store.close()


# ---- size and speed ----------------------------------------------------------------------------------------


def test_a_log_that_is_synced_is_written_over_from_the_first_commit_on(path: Path) -> None:
    store = open_loaded(path)
    for seq in range(1, 20):
        assert store.info()["log_bytes"] == database.LOG_BYTES
        store.apply(Changes(added=[job(seq)]))
    again = shutil.copytree(path.parent, path.parent / "killed") / path.name
    store.close()
    assert [each.seq for each in open_loaded(again).load().jobs] == list(range(1, 20))


def test_the_log_is_bounded_and_the_file_settles(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "VACUUM_FREE_PAGES", 100)
    store = open_loaded(path)
    largest_log = 0
    for first in range(1, 20_001, 500):
        jobs = [job(seq, payload=b"x" * 400) for seq in range(first, first + 500)]
        store.apply(Changes(added=jobs))
        store.apply(Changes(ended=[end(job.seq) for job in jobs]))
        store.upkeep()
        largest_log = max(largest_log, store.info()["log_bytes"])
    assert largest_log < 2 * database.LOG_BYTES
    full = store.info()["bytes"]
    store.apply(Changes(added=[job(20_001)], facts={"large": bytes(4 << 20)}))
    assert store.info()["log_bytes"] > 2 * database.LOG_BYTES
    store.upkeep()
    store.apply(Changes(facts={"large": None}))
    assert store.info()["log_bytes"] == database.LOG_BYTES
    forgotten = 0
    for _ in range(60):
        forgotten += store.forget(200.0, 2_000, 1 << 30, 1 << 30)
        store.upkeep()
        assert store.info()["log_bytes"] < 2 * database.LOG_BYTES
    assert forgotten == 20_000
    assert full > 10 << 20
    assert store.info()["bytes"] < 4 << 20
    assert store.find(["id-20001"])[0].state == "waiting"
    store.close()
    assert path.stat().st_size < 1 << 20


@pytest.mark.parametrize(
    ("sql", "plan"),
    [
        (tables.PAGE_SAME_RANK, "SEARCH job USING INDEX job_paged (queue=? AND rank=? AND seq>?)"),
        (tables.PAGE_LOWER_RANKS, "SEARCH job USING INDEX job_paged (queue=? AND rank>?)"),
        (tables.DUE_SAME_TIME, "SEARCH job USING INDEX job_due (due=? AND seq>?)"),
        (tables.DUE_LATER, "SEARCH job USING INDEX job_due (due>?)"),
        (tables.FIND[16], "SEARCH job USING INDEX job_id (id=?)"),
        (tables.END, "SEARCH job USING INTEGER PRIMARY KEY (rowid=?)"),
        (tables.COUNT_PAGED, "SCAN job USING INDEX job_paged"),
        (tables.COUNT_ALL, "SCAN job USING INDEX job_id"),
    ],
)
def test_nothing_reads_more_than_it_needs(path: Path, sql: str, plan: str) -> None:
    store = open_loaded(path)
    values = [0] * sql.count("?")
    rows = store._db.execute(f"EXPLAIN QUERY PLAN {sql}", values).fetchall()
    assert [row[3].replace("COVERING ", "") for row in rows] == [plan]  # releases of SQLite say it differently
    store.close()
