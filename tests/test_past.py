"""What every store has to do with what has happened: points of series, kept for a time. See `store.base.Past`."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from model_store import ModelStore

from eventmq.errors import StoreError
from eventmq.limits import HISTORY_STEPS
from eventmq.store import database
from eventmq.store.base import Past, Point, Series, Store
from eventmq.store.open import open_store

ALL: Series = ("", "")
MAIL: Series = ("mail", "shop.sénd")


@pytest.fixture(params=["model:", "memory:", "sqlite:///{}/store.db"])
def past(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Past]:
    store: Store = ModelStore() if request.param == "model:" else open_store(request.param.format(tmp_path), "full")
    store.load()
    yield store.past
    store.close()


def test_points_come_back_in_order_of_time(past: Past) -> None:
    past.write([Point(MAIL, 60, 120, b"two"), Point(MAIL, 60, 60, b"one"), Point(MAIL, 900, 0, b"long")])
    past.write([Point(ALL, 60, 60, b"all"), Point(MAIL, 60, 180, b"three")])
    assert past.read(MAIL, 60, 60, 180) == [(60, b"one"), (120, b"two")]
    assert past.read(MAIL, 900, 0, 1) == [(0, b"long")]
    assert past.read(("nobody", ""), 60, 0, 999) == []
    assert sorted(past.series()) == [ALL, MAIL]


def test_a_point_takes_the_place_of_the_one_before(past: Past) -> None:
    past.write([Point(MAIL, 60, 60, b"one")])
    past.write([Point(MAIL, 60, 60, b"other")])
    assert past.read(MAIL, 60, 0, 999) == [(60, b"other")]


def test_points_are_forgotten_the_sooner_the_shorter_they_are(past: Past) -> None:
    past.write([Point(series, length_s, 0, b"x") for series in (ALL, MAIL) for length_s, _ in HISTORY_STEPS])
    for age in [length_s + kept_s + 1 for length_s, kept_s in HISTORY_STEPS]:
        gone = [series for _ in range(4) for series in past.forget(age)]
        left = [length_s for length_s, _ in HISTORY_STEPS if past.read(MAIL, length_s, 0, 1)]
        assert left == [length_s for length_s, kept_s in HISTORY_STEPS if length_s + kept_s >= age]
        assert sorted(gone) == ([] if left else [ALL, MAIL])
    assert past.series() == past.forget(1e9) == []
    past.write([Point(MAIL, 60, 60, b"again")])
    assert past.read(MAIL, 60, 0, 999) == [(60, b"again")]


@pytest.mark.parametrize("seed", range(3))
def test_any_past_reads_the_same_as_in_the_model_after_a_restart_too(seed: int, tmp_path: Path) -> None:
    chance, url = random.Random(seed), f"sqlite:///{tmp_path}/store.db"
    names, lengths = [ALL, ("a", ""), ("", "n"), ("a", "n"), ("b", "n")], [step.length_s for step in HISTORY_STEPS]
    store, model = open_store(url, "process"), ModelStore().past
    for number in range(200):
        if chance.random() < 0.8:
            keys = {(chance.choice(names), chance.choice(lengths), chance.randrange(9)) for _ in range(5)}
            points = [Point(series, length, number * 9_000 + n * length, bytes([n])) for series, length, n in keys]
            store.past.write(points)
            model.write(points)
        elif chance.random() < 0.8:
            now = number * 20_000
            gone = [sorted(each for _ in names for each in past.forget(now)) for past in (store.past, model)]
            assert gone[0] == gone[1]
        else:
            store.close()
            store = open_store(url, "process")
        assert sorted(store.past.series()) == sorted(model.series())
    for series in names:
        for length_s in lengths:
            assert store.past.read(series, length_s, 0, 1 << 40) == model.read(series, length_s, 0, 1 << 40)
    store.close()


def test_a_disk_without_room_keeps_no_more_and_stops_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(f"sqlite:///{tmp_path}/store.db", "full")
    monkeypatch.setattr(database, "RESERVE_BYTES", 1 << 60)
    store.past.write([Point(MAIL, 60, 60, b"one")])
    assert store.past.series() == []
    monkeypatch.undo()
    store.past.write([Point(MAIL, 60, 60, b"one")])
    assert store.past.read(MAIL, 60, 0, 999) == [(60, b"one")]
    store.close()


@pytest.mark.parametrize("change", ["past SET data = x'00'", "past SET start = 61", "series SET name = 'x'"])
def test_a_changed_point_is_not_believed(change: str, tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    store = open_store(f"sqlite:///{path}", "full")
    store.past.write([Point(MAIL, 60, 60, b"one")])
    store.close()
    with sqlite3.connect(path) as db:
        db.execute(f"UPDATE {change}")
    db.close()
    with pytest.raises(StoreError, match="is damaged"):
        open_store(f"sqlite:///{path}", "full")
