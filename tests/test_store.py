"""What every store has to do. One suite over all of them, and a random comparison with the model."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from model_store import ModelStore, id_of
from msgspec import structs

from eventmq.errors import StoreError
from eventmq.limits import ACT_JOBS_MAX
from eventmq.protocol.calls import pack_call
from eventmq.protocol.v2 import Job
from eventmq.store import archive, journal, segments
from eventmq.store.base import Changes, Ended, Holder, Moved, Record, Requeued, Snapshot, Store, Wanted
from eventmq.store.open import open_store

START = (-101, 0)
"""Before the first job of any queue."""

ALL = 1 << 40
"""A bound that nothing reaches."""


def job(seq: int, priority: int = 0, queue: str = "default", **fields: Any) -> Job:
    payload = fields.pop("payload", b"payload")
    return Job(f"id-{seq}", queue, "tasks.add", payload, priority, seq=seq, created=seq + 0.5, **fields)


def end(seq: int, expires: float = 100.5, **fields: Any) -> Ended:
    return structs.replace(Ended(seq, "succeeded", 10.5, expires, 1, 0, 0.25, "host-1", b"value", b""), **fields)


def seqs(jobs: list[Job]) -> list[int]:
    return [job.seq for job in jobs]


class Kept:
    """A store that can be restarted, as the Router would be."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.store: Store = ModelStore() if url == "model:" else open_store(url, "full")
        self.snapshot = self.store.load()

    def restart(self) -> Snapshot:
        if self.url.startswith("sqlite:"):
            self.store.close()
            self.store = open_store(self.url, "full")
        self.snapshot = self.store.load()
        return self.snapshot


@pytest.fixture(autouse=True)
def rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each job has a row of its own; those that share one are `test_store_journal`'s."""
    monkeypatch.setattr(journal, "PLAIN_BYTES", 0)


@pytest.fixture(params=["model:", "memory:", "sqlite:///{}/store.db"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kept]:
    kept = Kept(request.param.format(tmp_path))
    yield kept
    kept.store.close()


@pytest.fixture
def store(kept: Kept) -> Store:
    return kept.store


def page(store: Store, queue: str = "default", after: tuple[int, int] = START, limit: int = 100) -> list[int]:
    return seqs(store.page(queue, after, limit))


def state(store: Store, seq: int) -> str:
    return store.find([f"id-{seq}"])[0].state


def counts(store: Store) -> tuple[int, int]:
    """Results and dead jobs that are kept."""
    info = store.info()
    return info["results"], info["dead"]


# ---- jobs come back as they went in --------------------------------------------------------------------


def test_a_new_store_is_empty(kept: Kept) -> None:
    assert kept.snapshot == Snapshot(epoch=1, next_seq=1, jobs=[], paged={}, delayed={}, facts={})


def test_an_added_job_comes_back_whole(kept: Kept) -> None:
    whole = Job("é" * 36, "mail", "pkg.mod:Class.run", b"\x00\xff", -7, b"\x81", "key", 1.25, 3, 0, 2, 41, 5, 7.5, 8, 9)
    kept.store.apply(Changes(added=[whole]))
    assert [record.job for record in kept.store.find([whole.id])] == [whole]
    snapshot = kept.restart()
    assert snapshot.jobs == [whole]
    assert snapshot.next_seq == 42
    assert type(snapshot.jobs[0].created) is float


def test_a_live_job_comes_back_without_its_lease(kept: Kept) -> None:
    kept.store.apply(Changes(added=[job(1, lease=9)], spilled=[job(2, lease=9)]))
    assert [record.job.lease for record in kept.store.find(["id-1", "id-2"])] == [0, 0]
    assert kept.store.page("default", START, 9)[0].lease == 0
    assert kept.restart().jobs[0].lease == 0


def test_what_the_caller_does_to_its_jobs_later_is_not_stored(kept: Kept) -> None:
    mine = job(1)
    kept.store.apply(Changes(added=[mine]))
    mine.attempt = 5
    kept.store.find(["id-1"])[0].job.attempt = 6
    assert kept.store.find(["id-1"])[0].job.attempt == 1


def test_a_live_job_is_waiting(store: Store) -> None:
    store.apply(Changes(added=[job(1)]))
    record = store.find(["id-1"])[0]
    assert record[1:] == ("waiting", 0.0, 0.0, 0.0, "", b"", b"")


def test_an_ended_job_tells_how(kept: Kept) -> None:
    ended = Ended(1, "dead", 10.5, 99.5, 4, 2, 0.125, "host-1", b"", b"failure")
    kept.store.apply(Changes(added=[job(1)]))
    kept.store.apply(Changes(ended=[ended]))
    for _ in range(2):
        record = kept.store.find(["id-1"])[0]
        assert record[1:] == ("dead", 10.5, 99.5, 0.125, "host-1", b"", b"failure")
        assert (record.job.attempt, record.job.crashes, record.job.payload) == (4, 2, b"payload")
        assert kept.restart().jobs == []
        assert counts(kept.store) == (0, 1)


def test_that_a_job_has_started_is_stored_and_memory_holds_it(kept: Kept) -> None:
    kept.store.apply(Changes(added=[job(1)], spilled=[job(2)]))
    kept.store.apply(Changes(moved=[Moved(1, 1, 0, started=7 << 32), Moved(2, 1, 0, settled=8, started=9)]))
    assert page(kept.store) == []
    assert [(j.settled, j.started) for j in kept.restart().jobs] == [(0, 7 << 32), (8, 9)]
    kept.store.apply(Changes(moved=[Moved(1, 1, 0, settled=7 << 32, started=7 << 32)], paged_out=[1]))
    kept.restart()
    assert [(j.settled, j.started) for j in kept.store.page("default", START, 9)] == [(7 << 32, 7 << 32)]


def test_moved_counters_last(kept: Kept) -> None:
    kept.store.apply(Changes(added=[job(1)], spilled=[job(2)], moved=[Moved(1, 2, 1), Moved(2, 3, 0)]))
    moved = {record.job.id: (record.job.attempt, record.job.crashes) for record in kept.store.find(["id-1", "id-2"])}
    assert moved == {"id-1": (2, 1), "id-2": (3, 0)}
    assert page(kept.store) == [], "memory holds it again"
    assert [(j.seq, j.attempt) for j in kept.restart().jobs] == [(1, 2), (2, 3)]


def test_a_job_that_failed_keeps_its_last_failure_and_its_time(kept: Kept) -> None:
    kept.store.apply(Changes(added=[job(1)]))
    kept.store.apply(Changes(moved=[Moved(1, 2, 0, 1, 60.5, b"why", 7)]))
    kept.store.apply(Changes(moved=[Moved(1, 3, 1, 1, 0.0, b"", 8)]))
    record = kept.store.find(["id-1"])[0]
    assert (record.failure, record.job.failures, record.job.due, record.job.settled) == (b"why", 1, 0.0, 8)
    kept.store.apply(Changes(moved=[Moved(1, 4, 1, 2, 70.5, b"again")]))
    assert kept.restart().jobs[0].due == 70.5
    assert kept.store.find(["id-1"])[0].failure == b"again"


# ---- delayed -------------------------------------------------------------------------------------------


def test_delayed_jobs_come_back_by_their_time(kept: Kept) -> None:
    dues = {1: 30.0, 2: 10.0, 3: 20.0, 4: 10.0}
    kept.store.apply(Changes(delayed=[job(seq, due=due) for seq, due in dues.items()]))
    for _ in range(2):
        assert seqs(kept.store.due((0.0, 0), 9)) == [2, 4, 3, 1]
        assert seqs(kept.store.due((10.0, 2), 2)) == [4, 3]
        assert kept.store.due((30.0, 1), 9) == []
        assert page(kept.store) == []
        snapshot = kept.restart()
        assert (snapshot.delayed, snapshot.jobs, snapshot.paged) == ({"default": 4}, [], {})


def test_a_job_moves_between_memory_the_queue_and_its_time(kept: Kept) -> None:
    kept.store.apply(Changes(added=[job(1)], delayed=[job(2, due=9.0)]))
    kept.store.apply(Changes(moved=[Moved(1, 2, 0, 1, 5.0)], put_off=[1]))
    assert seqs(kept.store.due((0.0, 0), 9)) == [1, 2]
    kept.store.apply(Changes(moved=[Moved(1, 2, 0, 1, 0.0)], paged_out=[1]))
    assert (seqs(kept.store.due((0.0, 0), 9)), page(kept.store)) == ([2], [1])
    kept.store.apply(Changes(paged_in=[1, 2]))
    assert (kept.store.due((0.0, 0), 9), page(kept.store)) == ([], [])
    kept.store.apply(Changes(put_off=[2]))
    kept.store.apply(Changes(ended=[end(2)]))
    assert kept.store.due((0.0, 0), 9) == []
    assert (seqs(kept.restart().jobs), kept.snapshot.delayed) == ([1], {})


# ---- find ----------------------------------------------------------------------------------------------


def test_find_leaves_out_what_is_unknown(store: Store) -> None:
    store.apply(Changes(added=[job(seq) for seq in range(1, 2001)]))
    ids = [f"id-{n}" for n in range(1501, 3501)]
    assert {record.job.seq for record in store.find(ids)} == set(range(1501, 2001))
    assert store.find(ids[1000:]) == []
    assert store.find([]) == []


def test_find_answers_once_for_each_id(store: Store) -> None:
    store.apply(Changes(added=[job(1)]))
    assert len(store.find(["id-1", "id-1", "x"])) == 1
    assert len(store.find(["id-1", *map(str, range(5_000)), "id-1"])) == 1


@pytest.mark.parametrize("odd", ["a\x00b", "a", "'; DROP TABLE job", "%", "💥", ""])
def test_ids_are_compared_whole(store: Store, odd: str) -> None:
    store.apply(Changes(added=[Job("a\x00c", "q", "n", b"", seq=1)]))
    assert store.find([odd]) == []
    store.apply(Changes(added=[Job(odd, "q", "n", b"", seq=2)]))
    assert seqs([record.job for record in store.find([odd])]) == [2]


# ---- pages ---------------------------------------------------------------------------------------------


def test_pages_come_in_dispatch_order(store: Store) -> None:
    priorities = [0, 5, -3, 5, 0, 100, -100]
    store.apply(Changes(spilled=[job(seq, priority) for seq, priority in enumerate(priorities, 1)]))
    assert page(store) == [6, 2, 4, 1, 5, 3, 7]


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
def test_pages_follow_each_other_without_gap(store: Store, limit: int) -> None:
    store.apply(Changes(spilled=[job(seq, seq % 3) for seq in range(1, 12)]))
    whole, after = page(store), START
    got: list[int] = []
    while jobs := store.page("default", after, limit):
        assert len(jobs) <= limit
        got += seqs(jobs)
        after = (-jobs[-1].priority, jobs[-1].seq)
    assert got == whole
    assert len(got) == 11


def test_a_page_has_jobs_of_its_queue_only(store: Store) -> None:
    store.apply(Changes(spilled=[job(1), job(2, queue="mail"), job(3)]))
    assert page(store) == [1, 3]
    assert page(store, "mail") == [2]
    assert page(store, "none") == []


def test_added_jobs_are_not_paged_and_spilled_ones_are(kept: Kept) -> None:
    kept.store.apply(Changes(added=[job(1), job(4)], spilled=[job(2), job(3, queue="mail")]))
    assert page(kept.store) == [2]
    snapshot = kept.restart()
    assert seqs(snapshot.jobs) == [1, 4]
    assert snapshot.paged == {"default": 1, "mail": 1}
    assert page(kept.store) == [2]


def test_jobs_go_out_and_in(kept: Kept) -> None:
    kept.store.apply(Changes(added=[job(1), job(2)], paged_out=[2]))
    assert page(kept.store) == [2]
    kept.store.apply(Changes(paged_out=[1, 2], paged_in=[2]))
    assert page(kept.store) == [1]
    snapshot = kept.restart()
    assert seqs(snapshot.jobs) == [2]
    assert snapshot.paged == {"default": 1}


def test_an_ended_job_is_paged_no_more(kept: Kept) -> None:
    kept.store.apply(Changes(spilled=[job(1), job(2)]))
    kept.store.apply(Changes(ended=[end(1)]))
    assert page(kept.store) == [2]
    assert kept.restart().paged == {"default": 1}


def test_a_page_writes_nothing(kept: Kept) -> None:
    kept.store.apply(Changes(spilled=[job(1)]))
    assert page(kept.store) == page(kept.store) == [1]
    assert kept.restart().paged == {"default": 1}


# ---- keys ----------------------------------------------------------------------------------------------


def holding(store: Store, unique: str = "key", name: str = "tasks.add") -> list[tuple[int, bool]]:
    return [(holder.seq, bool(holder.ended)) for holder in store.holders(name, unique)]


def test_who_holds_a_key_newest_first(kept: Kept) -> None:
    keyed = job(1, unique="key", options=b"\x80")
    kept.store.apply(Changes(added=[keyed, job(2), job(4, unique="other")], spilled=[job(3, unique="key")]))
    kept.store.apply(Changes(delayed=[job(5, unique="key", due=9.0)]))
    for _ in range(2):
        assert holding(kept.store) == [(5, False), (3, False), (1, False)]
        assert holding(kept.store, "other") == [(4, False)]
        assert kept.store.holders("tasks.sub", "key") == kept.store.holders("tasks.add", "") == []
        assert kept.store.holders("tasks.add", "key")[0] == Holder("id-5", 5, 5.5, 9.0, b"", False, "default")
        assert kept.store.holders("tasks.add", "key")[-1] == Holder("id-1", 1, 1.5, 0.0, b"\x80", False, "default")
        kept.restart()


def test_an_ended_job_holds_its_key_until_it_is_released_or_forgotten(kept: Kept) -> None:
    kept.store.apply(Changes(added=[job(seq, unique="key") for seq in (1, 2, 3)]))
    kept.store.apply(Changes(ended=[end(1), end(2, expires=300.0)], released=[1]))
    assert holding(kept.store) == [(3, False), (2, True)]
    kept.restart()
    kept.store.apply(Changes(released=[2], ended=[end(3)]))
    kept.store.apply(Changes(released=[1, 2]))
    assert holding(kept.store) == [(3, True)]
    assert kept.store.find(["id-1"])[0].job.unique == "key"
    assert kept.store.forget(200.0, 1000, 1000, ALL) == 2
    assert holding(kept.store) == []


# ---- facts and epochs ----------------------------------------------------------------------------------


def test_facts_are_set_replaced_and_removed(kept: Kept) -> None:
    kept.store.apply(Changes(facts={"a": b"1", "b": b"2", "c": b""}))
    kept.store.apply(Changes(facts={"a": b"3", "b": None, "never": None}))
    assert kept.restart().facts == {"a": b"3", "c": b""}


def test_each_start_has_its_epoch(kept: Kept) -> None:
    assert [kept.snapshot.epoch, kept.restart().epoch, kept.restart().epoch] == [1, 2, 3]


# ---- all or nothing ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        Changes(added=[job(1)]),
        Changes(added=[Job("id-1", "q", "n", b"p", seq=9)]),
        Changes(spilled=[job(8), job(8)]),
        Changes(ended=[end(2)]),
        Changes(ended=[end(77)]),
        Changes(ended=[end(1), end(1)]),
        Changes(moved=[Moved(2, 2, 0)]),
        Changes(paged_out=[77]),
        Changes(paged_in=[2]),
        Changes(released=[1]),
        Changes(released=[77]),
        Changes(requeued=[Requeued(1, "waiting", 2, 0.0, 0)]),
        Changes(requeued=[Requeued(2, "dead", 2, 0.0, 0)]),
        Changes(requeued=[Requeued(2, "succeeded", 2, 0.0, 0), Requeued(2, "succeeded", 2, 0.0, 0)]),
        Changes(forgotten=[(1, "waiting")]),
        Changes(forgotten=[(2, "dead")]),
        Changes(forgotten=[(77, "succeeded")]),
    ],
)
def test_a_change_that_cannot_be_is_refused_as_a_whole(kept: Kept, wrong: Changes) -> None:
    kept.store.apply(Changes(added=[job(1), job(2)], ended=[end(2)], facts={"a": b"1"}))
    with pytest.raises(StoreError):
        kept.store.apply(replace(wrong, added=[*wrong.added, job(5)], facts={"a": b"2"}))
    if kept.url == "memory:":  # not to be used any more, and there is nothing to open again
        return
    snapshot = kept.restart()
    assert (seqs(snapshot.jobs), counts(kept.store), snapshot.facts) == ([1], (1, 0), {"a": b"1"})
    assert kept.store.find(["id-5", "id-8"]) == []
    assert state(kept.store, 1) == "waiting"


# ---- forgetting ----------------------------------------------------------------------------------------


def fill(store: Store, count: int, live: frozenset[int] = frozenset(), expires: float = 100.5) -> None:
    everyone = range(1, count + 1)
    store.apply(Changes(added=[job(seq) for seq in everyone]))
    store.apply(Changes(ended=[end(seq, expires) for seq in everyone if seq not in live]))


def remaining(store: Store, count: int) -> list[int]:
    return sorted(record.job.seq for record in store.find([f"id-{seq}" for seq in range(1, count + 1)]))


def test_only_ended_jobs_whose_time_is_over_are_forgotten(kept: Kept) -> None:
    store = kept.store
    fill(store, 6, live=frozenset({2}))
    store.apply(Changes(spilled=[job(7)], added=[job(8)], ended=[end(8, expires=300.0)]))
    assert store.forget(100.25, 1000, 1000, ALL) == 0
    assert store.forget(100.5, 1000, 1000, ALL) == 5
    assert remaining(store, 8) == [2, 7, 8]
    snapshot = kept.restart()
    assert (seqs(snapshot.jobs), snapshot.paged, counts(kept.store)) == ([2], {"default": 1}, (1, 0))


def test_forgetting_goes_round_and_round_in_slices(store: Store) -> None:
    fill(store, 10, live=frozenset({1, 2}))
    assert [store.forget(200.0, 4, 1000, ALL) for _ in range(3)] == [2, 4, 2]
    store.apply(Changes(ended=[end(1)]))
    assert sum(store.forget(200.0, 4, 1000, ALL) for _ in range(2)) == 1
    assert remaining(store, 10) == [2]


def test_the_oldest_beyond_the_bound_are_forgotten(kept: Kept) -> None:
    fill(kept.store, 10, live=frozenset({1, 4}), expires=9e9)
    assert kept.store.forget(0.0, 1000, 5, ALL) == 3
    assert remaining(kept.store, 10) == [1, 4, 6, 7, 8, 9, 10]
    assert kept.store.forget(0.0, 1000, 5, ALL) == 0
    kept.restart()
    assert counts(kept.store) == (5, 0)


def test_the_bound_is_reached_in_small_steps(store: Store) -> None:
    fill(store, 20, live=frozenset(range(1, 8)), expires=9e9)
    steps = [store.forget(0.0, 3, 2, ALL) for _ in range(20)]
    assert max(steps) <= 3
    assert sum(steps) == 11
    assert remaining(store, 20)[-2:] == [19, 20]


def test_an_old_job_that_ends_late_is_the_oldest(store: Store) -> None:
    fill(store, 10, live=frozenset({1, 2}), expires=9e9)
    assert store.forget(0.0, 1000, 4, ALL) == 4
    store.apply(Changes(ended=[end(2, expires=9e9)]))
    assert store.forget(0.0, 1000, 4, ALL) == 1
    assert remaining(store, 10) == [1, 7, 8, 9, 10]


def test_a_late_job_whose_time_was_over_first_does_not_count_for_another(store: Store) -> None:
    fill(store, 10, live=frozenset({1, 2, 3}), expires=9e9)
    assert store.forget(0.0, 1000, 0, ALL) == 7
    store.apply(Changes(ended=[end(1, expires=50.0), end(2, expires=9e9), end(3, expires=9e9)]))
    assert store.forget(60.0, 1, 1000, ALL) == 1
    assert store.forget(0.0, 1000, 0, ALL) == 2
    assert remaining(store, 10) == []


def test_a_forgotten_id_may_come_again(store: Store) -> None:
    fill(store, 1)
    assert store.forget(200.0, 10, 10, ALL) == 1
    store.apply(Changes(added=[Job("id-1", "q", "n", b"", seq=2)]))
    assert state(store, 1) == "waiting"


@pytest.mark.parametrize("state", ["dead", "lost"])
def test_dead_letters_are_kept_apart_from_other_ended_jobs(kept: Kept, state: str) -> None:
    store = kept.store
    fill(store, 6, live=frozenset({1, 3, 5, 6}), expires=9e9)
    store.apply(Changes(ended=[end(seq, 9e9, state=state) for seq in (1, 3, 5)]))
    assert counts(store) == (2, 3)
    assert store.forget(0.0, 1000, 0, 2) == 3, "all results, and the oldest of the dead letters"
    assert remaining(store, 6) == [3, 5, 6]
    assert counts(store) == (0, 2)
    store.apply(Changes(ended=[end(6, 50.0)]))
    assert store.forget(60.0, 1000, 10, 10) == 1
    kept.restart()
    assert (remaining(kept.store, 6), counts(kept.store)) == ([3, 5], (0, 2))


def test_dead_letters_are_forgotten_when_their_time_is_over(store: Store) -> None:
    fill(store, 3, expires=50.0, live=frozenset({2}))
    store.apply(Changes(ended=[end(2, 70.0, state="dead")]))
    assert store.forget(60.0, 1000, ALL, ALL) == 2
    assert counts(store) == (0, 1)
    assert store.forget(70.0, 1000, ALL, ALL) == 1
    assert counts(store) == (0, 0)


def test_the_bound_of_dead_letters_is_reached_in_small_steps(store: Store) -> None:
    count = 2 * ACT_JOBS_MAX + 10
    store.apply(Changes(added=[job(seq) for seq in range(1, count + 1)]))
    states = ["dead", "lost"]
    store.apply(Changes(ended=[end(seq, 9e9, state=states[seq % 3 == 0]) for seq in range(1, count + 1)]))
    assert [store.forget(0.0, 6, 0, 4) for _ in range(4)] == [ACT_JOBS_MAX, ACT_JOBS_MAX, 6, 0]
    assert remaining(store, count) == [count - 3, count - 2, count - 1, count]


def test_an_expired_job_that_was_requeued_and_died_is_no_result_any_more(store: Store) -> None:
    fill(store, 3, expires=9e9, live=frozenset({1}))
    assert store.forget(0.0, 1000, 0, ALL) == 2
    store.apply(Changes(ended=[end(1, 9e9, state="expired")]))
    store.apply(Changes(requeued=[Requeued(1, "expired", 2, 5.0, 0)]))
    store.apply(Changes(ended=[end(1, 9e9, state="dead")]))
    store.apply(Changes(added=[job(4)]))
    store.apply(Changes(ended=[end(4, 9e9)]))
    assert store.forget(0.0, 1000, 0, ALL) == 1
    assert remaining(store, 4) == [1]


# ---- requeued and purged -------------------------------------------------------------------------------


def test_a_requeued_job_is_live_with_new_counters_and_its_last_failure(kept: Kept) -> None:
    kept.store.apply(Changes(added=[job(1, crashes=1, failures=2)]))
    kept.store.apply(Changes(ended=[end(1, state="dead", failure=b"why", error="E: no", attempt=4, crashes=3)]))
    kept.store.apply(Changes(requeued=[Requeued(1, "dead", 5, 77.5, 9)]))
    for _ in range(2):
        record = kept.store.find(["id-1"])[0]
        assert record[1:] == ("waiting", 0.0, 0.0, 0.0, "", b"", b"why")
        again = record.job
        assert (again.attempt, again.crashes, again.failures, again.due) == (5, 0, 0, 0.0)
        assert (again.created, again.settled) == (77.5, 9)
        assert counts(kept.store) == (0, 0)
        (line,) = kept.store.browse(Wanted(), ALL, 0.0, 9, 9).lines
        assert line.error == "E: no"
        assert kept.restart().jobs == [again]


def test_a_requeued_job_may_leave_memory_in_the_same_turn(kept: Kept) -> None:
    fill(kept.store, 2)
    moved = Moved(1, 2, 0)
    again = [Requeued(seq, "succeeded", 2, 7.5, 9) for seq in (1, 2)]
    kept.store.apply(Changes(requeued=again, moved=[moved], paged_out=[1, 2]))
    assert page(kept.store) == [1, 2]
    kept.store.apply(Changes(paged_in=[2], ended=[end(2)]))
    assert (page(kept.store), kept.restart().paged, counts(kept.store)) == ([1], {"default": 1}, (1, 0))


def test_a_requeued_job_holds_its_key_again(kept: Kept) -> None:
    kept.store.apply(Changes(added=[job(1, unique="key"), job(2)]))
    kept.store.apply(Changes(ended=[end(1, state="dead"), end(2)], released=[1]))
    assert holding(kept.store) == []
    kept.store.apply(Changes(requeued=[Requeued(1, "dead", 2, 5.0, 0), Requeued(2, "succeeded", 2, 5.0, 0)]))
    kept.restart()
    assert holding(kept.store) == [(1, False)]
    assert holding(kept.store, "") == []


def test_forgotten_jobs_are_gone_at_once(kept: Kept) -> None:
    fill(kept.store, 4, live=frozenset({1, 2}))
    kept.store.apply(Changes(ended=[end(2, state="dead")]))
    kept.store.apply(Changes(forgotten=[(2, "dead"), (3, "succeeded")]))
    assert (remaining(kept.store, 4), counts(kept.store)) == ([1, 4], (1, 0))
    kept.restart()
    assert counts(kept.store) == (1, 0)


# ---- lists ---------------------------------------------------------------------------------------------


def browse(
    store: Store, before: int = ALL, now: float = 0.0, rows: int = 100, limit: int = 100, **wanted: Any
) -> tuple[list[int], int]:
    found = store.browse(Wanted(**wanted), before, now, rows, limit)
    return [line.seq for line in found.lines], found.before


def various(store: Store) -> None:
    """1 to 8 of queue a, 9 to 12 of queue mail: 3, 6, 9 dead, 4 succeeded, 5 cancelled, 12 due at 50."""
    new = [
        job(
            seq,
            queue="mail" if seq > 8 else "a",
            due=50.0 if seq == 12 else 0.0,
            payload=pack_call((seq, "x"), {"user": {"id": f"n{seq}"}}),
        )
        for seq in range(1, 13)
    ]
    store.apply(Changes(added=new[:6], spilled=new[6:11], delayed=new[11:]))
    dead = [end(seq, state="dead", error=f"builtins.ValueError: no {seq}") for seq in (3, 6, 9)]
    store.apply(Changes(ended=[*dead, end(4), end(5, state="cancelled")]))


def test_a_list_is_newest_first_and_told_without_payload(store: Store) -> None:
    store.apply(Changes(added=[job(1, -7, attempt=3, failures=2, crashes=1), job(2)]))
    store.apply(Changes(moved=[Moved(1, 4, 1, 3, 60.5, b"why", 0, "E: last")]))
    store.apply(Changes(ended=[end(2, state="dead", error="E: no", value=b"")]))
    two, one = store.browse(Wanted(), ALL, 0.0, 9, 9).lines
    assert one == (
        1, "id-1", "default", "tasks.add", -7, 4, 3, 1, 1.5, 60.5, "delayed", 0.0, 0.0, "", "E: last", 7,
    )  # fmt: skip
    assert two[9:] == (0.0, "dead", 10.5, 0.25, "host-1", "E: no", 7)
    assert store.browse(Wanted(), ALL, 60.5, 9, 9).lines[1].state == "waiting"


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, [12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1]),
        ({"states": ("dead",)}, [9, 6, 3]),
        ({"states": ("waiting",)}, [11, 10, 8, 7, 2, 1]),
        ({"states": ("delayed",)}, [12]),
        ({"states": ("succeeded",)}, [4]),
        ({"states": ("lost",)}, []),
        ({"states": ("cancelled", "lost", "dead")}, [9, 6, 5, 3]),
        ({"states": ("dead", "delayed", "succeeded")}, [12, 9, 6, 4, 3]),
        ({"states": ("dead", "cancelled"), "queue": "a"}, [6, 5, 3]),
        ({"queue": "mail"}, [12, 11, 10, 9]),
        ({"queue": "mail", "states": ("dead",)}, [9]),
        ({"name": "tasks.add", "states": ("cancelled",)}, [5]),
        ({"name": "tasks"}, []),
        ({"error": "ValueError: no 6"}, [6]),
        ({"error": "no", "states": ("dead",), "queue": "a"}, [6, 3]),
        ({"worker": "host-1"}, [9, 6, 5, 4, 3]),
        ({"worker": "host-1", "states": ("succeeded", "dead"), "error": "no 9"}, [9]),
        ({"worker": "host"}, []),
        ({"since": 4.5, "until": 7.5}, [6, 5, 4]),
        ({"since": 4.5, "states": ("dead", "lost")}, [9, 6]),
        ({"until": 1.5}, []),
        ({"arguments": (("0", "7"),)}, [7]),
        ({"arguments": (("user.id", "n9"), ("0", "9"))}, [9]),
        ({"arguments": (("user.id", "n9"), ("0", "8"))}, []),
        ({"arguments": (("user.id", "n6"),), "states": ("dead", "lost")}, [6]),
        ({"arguments": (("user.id", "n6"),), "ids": ("id-6", "id-7")}, [6]),
        ({"error": "%"}, []),
        ({"ids": ("id-9", "id-1", "id-1", "x")}, [9, 1]),
        ({"ids": ("id-9", "id-1"), "states": ("dead",)}, [9]),
        ({"ids": ()}, []),
    ],
)
def test_filters_combine(store: Store, wanted: dict[str, Any], found: list[int]) -> None:
    various(store)
    assert browse(store, **wanted) == (found, 0)


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"states": ("dead",)},
        {"states": ("dead", "cancelled", "lost")},
        {"states": ("waiting",)},
        {"queue": "a"},
        {"error": "no 3"},
        {"ids": ("id-1", "id-9", "id-5")},
        {"arguments": (("user.id", "n9"),)},
        {"since": 3.0, "stop": 3.0},
    ],
)
@pytest.mark.parametrize(("rows", "limit"), [(1, 1), (2, 9), (3, 2), (100, 1), (100, 2)])
def test_pages_of_a_list_follow_each_other_and_look_at_few_rows(
    store: Store, wanted: dict[str, Any], rows: int, limit: int
) -> None:
    various(store)
    whole, _ = browse(store, **wanted)
    got: list[int] = []
    before = ALL
    for _ in range(20):
        found, before = browse(store, before, rows=rows, limit=limit, **wanted)
        assert len(found) <= (limit if "ids" in wanted else min(rows, limit))
        got += found
        if not before:
            break
    assert got == whole


def test_any_text_may_be_searched_for(store: Store) -> None:
    various(store)
    for odd in ("'; DROP TABLE job", "a\x00b", "💥", "no\x00"):
        assert browse(store, error=odd, queue=odd, ids=(odd,)) == ([], 0)
        assert browse(store, arguments=((odd, odd),), worker=odd) == ([], 0)
    named = job(13)
    named.id = "a\x00b"
    store.apply(Changes(delayed=[named]))
    assert browse(store, ids=("a\x00b",)) == ([13], 0)
    assert browse(store, ids=("a", "a\x00", "a\x00c")) == browse(store, ids=()) == ([], 0)


# ---- the end -------------------------------------------------------------------------------------------


def test_info_tells_what_it_is(kept: Kept) -> None:
    info = kept.store.info()
    assert info["url"] == kept.url
    assert info["durability"] == ("full" if kept.url.startswith("sqlite:") else "none")
    assert info["bytes"] >= 0
    assert isinstance(info["schema"], int)


@pytest.mark.parametrize(
    "use",
    [
        lambda store: store.load(),
        lambda store: store.apply(Changes(added=[job(1)])),
        lambda store: store.page("default", START, 1),
        lambda store: store.due((0.0, 0), 1),
        lambda store: store.find(["id-1"]),
        lambda store: store.holders("tasks.add", "key"),
        lambda store: store.browse(Wanted(), ALL, 0.0, 1, 1),
        lambda store: store.forget(0.0, 1, 1, ALL),
        lambda store: store.info(),
    ],
)
def test_a_closed_store_refuses(store: Store, use: Callable[[Store], object]) -> None:
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        use(store)


@pytest.mark.parametrize(
    "url", ["", "sqlite", "sqlite:", "sqlite://x", "sqlite:///", "memory", "redis://x", "postgresql://x"]
)
def test_a_url_of_no_store_is_refused_and_told_what_there_is(url: str) -> None:
    with pytest.raises(StoreError, match=r"memory:.*sqlite:////absolute"):
        open_store(url, "full")


def test_an_unknown_durability_is_refused() -> None:
    with pytest.raises(StoreError, match="full, process, none"):
        open_store("memory:", "sometimes")  # type: ignore[arg-type]


# ---- any history: the file says the same as the model --------------------------------------------------


SMALL_BOUNDS = (
    (journal, "JOBS_MAX", 6), (journal, "TURNS_MAX", 4), (journal, "SLICE_TURNS", 2), (journal, "SLICE_JOBS", 3),
    (journal, "PLAIN_BYTES", 9), (archive, "BLOCK_SEQS", 16), (segments, "SEGMENT_JOBS_MIN", 2),
)  # fmt: skip


class SameAsModel(RuleBasedStateMachine):
    """Drives a file and the model with the same random changes. Half of the jobs are plain: they go through the journal
    and the archive, strays or not, whose bounds are so small that each is crossed all the time."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        for module, bound, small in SMALL_BOUNDS:
            self.patch.setattr(module, bound, small)
        self.folder = tempfile.TemporaryDirectory()
        self.url = f"sqlite:///{self.folder.name}/store.db"
        self.model: Store = ModelStore()
        self.file: Any = open_store(self.url, "none")
        self.next_seq = 1
        self.ids: dict[int, str] = {}
        self.now = 1000.0
        self.live: list[int] = []
        self.requeued_at = -math.inf

    @initialize()
    def start(self) -> None:
        self.load()

    def load(self) -> None:
        old, new = self.file.load(), self.model.load()
        assert old._replace(next_seq=0) == new._replace(next_seq=0)
        assert old.next_seq >= new.next_seq
        self.next_seq = old.next_seq

    @rule(data=st.data())
    def apply(self, data: st.DataObject) -> None:
        changes = Changes()
        for _ in range(data.draw(st.integers(0, 6))):
            new = job(
                self.next_seq,
                data.draw(st.sampled_from([-1, 0, 0, 2])),
                data.draw(st.sampled_from(["a", "b"])),
                attempt=data.draw(st.integers(1, 3)),
                due=data.draw(st.sampled_from([0.0, 5.0, 9.0])),
                unique=data.draw(st.sampled_from(["", "", "k", "l"])),
                payload=bytes(data.draw(st.sampled_from([7, 7, 70]))),
            )
            if data.draw(st.booleans()):
                new.id = id_of(new.created, self.next_seq)
            self.ids[self.next_seq] = new.id
            data.draw(st.sampled_from([changes.added, changes.spilled, changes.delayed])).append(new)
            self.live.append(self.next_seq)
            self.next_seq += 1
        ending = some = st.lists(st.sampled_from(self.live), unique=True, max_size=4) if self.live else st.just([])
        if data.draw(st.booleans()):  # so that jobs stay plain
            some = st.just([])
        times, leases = st.sampled_from([0.0, 7.0]), st.integers(0, 1 << 40)
        counts = (st.just(0), st.integers(1, 9), st.just(1), st.just(2))
        moves = st.builds(Moved, *counts, times, settled=leases, started=leases)
        changes.moved = [data.draw(moves)._replace(seq=seq, failure=b"f" * (seq % 2)) for seq in data.draw(some)]
        changes.paged_out, changes.put_off, changes.paged_in = data.draw(some), data.draw(some), data.draw(some)
        for seq in data.draw(ending):
            state = data.draw(st.sampled_from(["succeeded", "succeeded", "dead", "lost", "expired"]))
            error = "" if state == "succeeded" and data.draw(st.booleans()) else f"E: {seq}"
            fields = {"attempt": data.draw(st.integers(1, 9)), "state": state, "error": error}
            changes.ended.append(end(seq, self.now + data.draw(st.integers(0, 50)), **fields))
            self.live.remove(seq)
        over = [end.seq for end in changes.ended]
        changes.released = data.draw(st.lists(st.sampled_from(over), max_size=3)) if over else []
        changes.facts = data.draw(
            st.dictionaries(st.sampled_from("xyz"), st.none() | st.binary(max_size=3), max_size=2)
        )
        self.file.apply(changes)
        self.model.apply(changes)

    @rule(data=st.data())
    def requeue_and_purge(self, data: st.DataObject) -> None:
        lines = self.model.browse(Wanted(), ALL, 9e9, ALL, ALL).lines
        ended = [line for line in lines if line.state != "waiting"]
        if not ended:
            return
        some = data.draw(st.lists(st.sampled_from(ended), unique=True, max_size=3))
        changes = Changes()
        for line in some:
            if data.draw(st.booleans()):
                changes.requeued.append(Requeued(line.seq, line.state, line.attempt + 1, self.now, 7))
                self.live.append(line.seq)
            else:
                changes.forgotten.append((line.seq, line.state))
        if changes.requeued and data.draw(st.booleans()):
            changes.paged_out.append(changes.requeued[0].seq)
        self.requeued_at = max([self.requeued_at, *(each.created for each in changes.requeued)])
        self.file.apply(changes)
        self.model.apply(changes)

    @rule(
        states=st.lists(
            st.sampled_from(["waiting", "delayed", "succeeded", "dead", "expired"]), unique=True, max_size=3
        ),
        filters=st.fixed_dictionaries(
            {},
            optional={
                "queue": st.just("a"),
                "error": st.just("1"),
                "worker": st.just("host-1"),
                "since": st.floats(0, 60),
                "until": st.floats(0, 60),
                "stop": st.floats(0, 60),
                "arguments": st.just((("0", "1"),)),
            },
        ),
        before=st.integers(0, 60),
        rows=st.integers(1, 9),
        limit=st.integers(1, 9),
    )
    def browse(self, states: list[str], filters: dict[str, Any], before: int, rows: int, limit: int) -> None:
        if filters.get("stop", 0.0) <= self.requeued_at:
            filters = {name: value for name, value in filters.items() if name != "stop"}  # as who asks has to see to
        which = (Wanted(tuple(states), **filters), before, 6.0, rows, limit)
        page = self.file.browse(*which)
        lines = self.model.browse(which[0]._replace(stop=-math.inf), before, 6.0, ALL, ALL).lines
        told, behind = lines[: len(page.lines)], lines[len(page.lines) :]
        assert page.lines == told
        assert all(line.seq < page.before if page.before else line.created < which[0].stop for line in behind)
        assert 0 <= page.before < max(1, before)
        assert len(told) <= limit

    @rule(rows=st.integers(1, 8), later=st.integers(0, 30))
    def forget_what_is_over(self, rows: int, later: int) -> None:
        self.now += later
        gone = self.follow(self.file.forget(self.now, rows, ALL, ALL))
        assert all(record.expires <= self.now for record in gone)

    @precondition(lambda self: self.next_seq > 1)
    @rule(keep=st.integers(0, 10), dead=st.integers(0, 5))
    def forget_what_is_too_much(self, keep: int, dead: int) -> None:
        results, _ = counts(self.model)
        forgotten = self.file.forget(0.0, 1 << 20, keep, dead)
        gone = self.follow(forgotten - self.model.forget(0.0, 1 << 20, ALL, dead))
        in_rows = results - len(self.file._journal.ends)
        assert len(gone) == max(0, min(results - keep, in_rows))

    @rule()
    def all_is_over(self) -> None:
        for _ in range(40):
            self.now += 10
            self.follow(self.file.forget(self.now, 8, ALL, ALL))
        assert all(record.state == "waiting" for record in self.model.find([*self.ids.values()]))

    def follow(self, forgotten: int) -> list[Record]:
        """The model forgets what the file has forgotten."""
        known = self.model.find([*self.ids.values()])
        left = {record.job.id for record in self.file.find([*self.ids.values()])}
        gone = [record for record in known if record.job.id not in left]
        assert len(gone) == forgotten
        self.model.apply(Changes(forgotten=[(record.job.seq, record.state) for record in gone]))
        return gone

    @rule()
    def restart(self) -> None:
        self.file.close()
        self.file = open_store(self.url, "none")
        self.load()

    @rule()
    def crash(self) -> None:
        """What the Router leaves that is killed."""
        files = {file: file.read_bytes() for file in Path(self.folder.name).iterdir()}
        self.file.close()
        for file, content in files.items():
            file.write_bytes(content)
        self.file = open_store(self.url, "none")
        self.load()

    @rule(rank=st.integers(-3, 3), seq=st.integers(0, 60), limit=st.integers(1, 9))
    def read_a_page(self, rank: int, seq: int, limit: int) -> None:
        for queue in "ab":
            assert self.file.page(queue, (rank, seq), limit) == self.model.page(queue, (rank, seq), limit)

    @invariant()
    def same_jobs(self) -> None:
        ids = [*self.ids.values(), "unknown"]
        file, model = ({record.job.id: record for record in store.find(ids)} for store in (self.file, self.model))
        assert file == model
        assert counts(self.file) == counts(self.model)
        everything = (Wanted(), ALL, 6.0, ALL, ALL)
        assert self.file.browse(*everything).lines == self.model.browse(*everything).lines
        for queue in "ab":
            assert self.file.page(queue, START, 1000) == self.model.page(queue, START, 1000)
        for after in ((0.0, 0), (5.0, 3), (7.0, 9)):
            assert self.file.due(after, 5) == self.model.due(after, 5)
        for unique in ("k", "l", "m"):
            assert self.file.holders("tasks.add", unique) == self.model.holders("tasks.add", unique)

    def teardown(self) -> None:
        self.file.close()
        self.folder.cleanup()
        self.patch.undo()


SameAsModel.TestCase.settings = settings(
    max_examples=settings.default.max_examples * 2 // 5,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
test_any_history_reads_the_same_as_in_the_model = pytest.mark.fuzz(SameAsModel.TestCase)
