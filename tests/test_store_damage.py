"""A store whose file or log has changed behind its back: the same state is read, or it is refused and the damage named;
never a wrong state. One byte at a time, anywhere; and a log that ends anywhere, as a power cut may leave it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import astuple

from eventmq.protocol.v2 import Job
from eventmq.store import sums
from eventmq.store.base import Changes, Ended, Moved
from eventmq.store.database import PAGE_BYTES
from eventmq.store.sqlite import SqliteStore

PROBE = Path(__file__).parent / "probe_damage.py"

SAMPLE = 250
"""Bytes in each test of the suite, about 4 ms each."""

LOG_HEAD_BYTES, FRAME_BYTES = 32, 24 + PAGE_BYTES
"""SQLite's write-ahead log: its head, and a page with its own."""

Copy = Callable[[], int]


def job(seq: int, queue: str = "a", **fields: object) -> Job:
    """Those from 40 on have the ids of their time, the others are strays."""
    payload = bytes([seq]) * (seq * 37 % 200)
    id = f"id-{seq}" if seq < 40 or seq >= 80 else f"{seq * 1_000:012x}7{seq:019x}"
    return Job(id, queue, "tasks.add", payload, seq % 3, b"\x80", created=seq + 0.25, seq=seq, **fields)


def end(seq: int, state: str = "succeeded") -> Ended:
    failure = b"" if state == "succeeded" else b"why"
    return Ended(seq, state, 10.5, 1e9, 1, 0, 0.25, "host-1", b"value", failure, "E: why" if failure else "")


def history(store: SqliteStore, kept: Copy) -> list[int]:
    """A life of few jobs of every kind; `kept` is called after each commit. Returns what it returned."""
    kept()
    changes = [
        Changes(added=[job(seq) for seq in range(1, 12)], facts={"manager:m": b"1", "queue:a": b"{}"}),
        Changes(spilled=[job(seq, "ab"[seq % 2]) for seq in range(12, 24)]),
        Changes(delayed=[job(seq, due=100.0 + seq) for seq in range(24, 30)], added=[job(30, unique="key")]),
        Changes(moved=[Moved(1, 2, 1, 1, 50.5, b"why", 7, "E: no"), Moved(2, 2, 1)], paged_out=[3, 4]),
        Changes(ended=[end(5), end(6, "dead"), end(12), end(7, "cancelled")], facts={"queue:a": None}),
        Changes(ended=[end(30)]),
        Changes(added=[job(31), *map(job, range(40, 50))]),
        Changes(ended=[end(seq) for seq in range(40, 48)], spilled=[job(seq) for seq in range(60, 76)]),
        Changes(ended=[end(60), end(63), end(8)], moved=[Moved(61, 2, 1)]),
        Changes(spilled=[job(seq) for seq in range(80, 92)]),
    ]
    later = [
        Changes(added=[job(seq) for seq in range(50, 58)], ended=[end(49, "dead")]),
        Changes(ended=[end(seq) for seq in (50, 51, 53)], moved=[Moved(52, 2, 1)]),
    ]
    sizes = []
    for each in changes:
        store.apply(each)
        sizes.append(kept())
    for now in range(10, 40, 10):
        store.forget(now, 100, 1_000, 1_000)
    sizes.append(kept())
    for each in later:
        store.apply(each)
        sizes.append(kept())
    return sizes


def keep(path: Path, folder: Path) -> int:
    """A copy of the store as it is on the disk, without what is behind the log; returns its length."""
    place = folder / str(len(list(folder.iterdir())))
    place.mkdir()
    for file in path.parent.glob("store.db*"):
        shutil.copy(file, place)
    log = place / "store.db-wal"
    frames = -(-(len(log.read_bytes().rstrip(b"\0")) - LOG_HEAD_BYTES) // FRAME_BYTES)
    with log.open("r+b") as file:
        return file.truncate(LOG_HEAD_BYTES + frames * FRAME_BYTES)


@pytest.fixture
def copies(tmp_path: Path) -> Path:
    """The folder of copies after each commit, none of them closed, so each has all its log."""
    path, folder = tmp_path / "store.db", tmp_path / "copies"
    folder.mkdir()
    store = SqliteStore(str(path), "full")
    store.load()
    history(store, lambda: keep(path, folder))
    store.close()
    return folder


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    """The folder of one copy that was closed, so all is in the file."""
    path, folder = tmp_path / "store.db", tmp_path / "closed" / "0"
    folder.mkdir(parents=True)
    store = SqliteStore(str(path), "full")
    store.load()
    history(store, lambda: 0)
    store.close()
    shutil.copy(path, folder)
    return folder.parent


def probes(folder: Path, orders: list[str]) -> list[str]:
    """What became of each."""
    command = [sys.executable, str(PROBE), str(folder)]
    done = subprocess.run(command, input="\n".join(orders), capture_output=True, text=True, check=True)
    _, *answers = done.stdout.removesuffix("\n").split("\n")  # an answer may quote other line ends
    assert len(answers) == len(orders)
    return answers


def newest(folder: Path, name: str) -> int:
    """The size of a file of the newest copy."""
    return max(folder.iterdir(), key=lambda each: int(each.name)).joinpath(name).stat().st_size


def some(size: int, thorough: bool) -> range:
    """Offsets in a file: all, or some that are not all alike."""
    step = 1 if thorough else max(1, size // SAMPLE) | 1
    return range(0, size, step)


def expect_same_or_refused(orders: list[str], answers: list[str], at_least: int) -> None:
    """And so many are refused."""
    said = Counter(answer.split()[0] for answer in answers)
    wrong = [
        f"{order}: {answer}"
        for order, answer in zip(orders, answers, strict=True)
        if answer[:4] not in ("same", "refu")
    ]
    assert wrong == []
    assert all("damaged" in answer or "store.db" in answer for answer in answers if answer.startswith("refused"))
    print(f"{len(orders)} bytes flipped: {dict(said)}")
    assert said["refused"] >= at_least


@pytest.mark.faults
def test_a_flipped_byte_of_the_file_is_seen_or_does_not_matter(closed: Path, thorough: bool) -> None:
    flips = [1 << bit for bit in range(8)] if thorough else [1, 128]
    orders = [f"store.db {at} {flips[at % len(flips)]}" for at in some(newest(closed, "store.db"), thorough)]
    expect_same_or_refused(orders, probes(closed, orders), at_least=len(orders) // 20)


@pytest.mark.parametrize(("failures", "failure"), [(None, b""), (0, "")])
def test_nothing_of_another_type_is_not_what_was_written(failures: object, failure: object) -> None:
    """The type of a column is a byte of the file, too."""
    new = job(1)
    row = (*astuple(new), "waiting", 0.0, 0.0, 0.0, "", b"", b"", "", sums.of_job(new), 0, 0, 0)
    assert sums.record_of(row).job == new
    fields = [failures if value is new.failures and n == 12 else value for n, value in enumerate(row)]
    fields[-6] = failure
    with pytest.raises(sums.Damaged):
        sums.record_of(tuple(fields))


@pytest.mark.faults
def test_a_flipped_byte_of_the_log_is_seen_or_does_not_matter(copies: Path, thorough: bool) -> None:
    """SQLite would go on from what stands before it, and forget what was acknowledged."""
    orders = [f"store.db-wal {at} {1 << at % 8}" for at in some(newest(copies, "store.db-wal"), thorough)]
    expect_same_or_refused(orders, probes(copies, orders), at_least=len(orders) // 2)


@pytest.mark.faults
def test_a_flipped_byte_of_the_rest_does_not_matter(copies: Path) -> None:
    orders = [f"store.db.commits {at} 1" for at in range(newest(copies, "store.db.commits"))]
    assert set(probes(copies, orders)) == {"same"}
    orders = [f"store.db {at} 255" for at in range(0, newest(copies, "store.db"), 997)]
    expect_same_or_refused(orders, probes(copies, orders), at_least=0)  # the log has newer pages


@pytest.mark.faults
def test_a_log_that_ends_anywhere_is_a_state_that_was(copies: Path, thorough: bool) -> None:
    """A power cut took the end of the log, and what remembers how far it had come was not on the disk yet: nothing is
    lost of the commits that are whole."""
    sizes = [Path(each / "store.db-wal").stat().st_size for each in sorted(copies.iterdir(), key=lambda p: int(p.name))]
    for each in copies.iterdir():
        (each / "store.db.commits").unlink()
    cuts = range(sizes[-3] if thorough else sizes[-2], sizes[-1], 1 if thorough else 67)
    answers = probes(copies, [f"store.db-wal {at} cut" for at in cuts])
    whole = [sum(size > at for size in sizes) for at in cuts]
    assert answers == [str(behind) if behind else "same" for behind in whole]
