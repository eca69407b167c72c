"""What has happened, as operators are told: counted turn by turn, kept by minutes, read in bounded answers."""

from __future__ import annotations

import json
import math
import random
import sysconfig
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from world import World, job

from eventmq import limits
from eventmq.broker import charts, sketch
from eventmq.broker.history import NOTED_MAX
from eventmq.broker.outbox import ADMINISTRATIVE, BACKEND
from eventmq.broker.sketch import Sketch
from eventmq.broker.tally import COUNTS, Tally, packed, unpacked
from eventmq.errors import StorageFull
from eventmq.protocol import v2
from eventmq.store.base import Point
from eventmq.workers import execute


def ask(world: World, command: bytes, **params: Any) -> Any:
    """The answer to a question."""
    sent = world.turn((ADMINISTRATIVE, [b"admin", *v2.encode(command, v2.Question(1, params))]))
    (answer,) = [each for each in sent if each.peer == b"admin"]
    assert answer.frames[2] == b"REPLY", answer
    return v2.decode(answer.frames[3], v2.Answer).answer


def whole(world: World, **params: Any) -> dict[str, Any]:
    """HISTORY to its end."""
    answer: dict[str, Any] = ask(world, b"HISTORY", **params)
    while (after := answer.pop("next")) is not None:
        more = ask(world, b"HISTORY", **params | {"since": after, "step_s": answer["step_s"]})
        answer |= {key: value + more[key] for key, value in answer.items() if isinstance(value, list)}
        answer["next"] = more["next"]
    return answer


def run(world: World, *jobs: v2.Job, state: str = "succeeded", failure: v2.Failure | None = None) -> None:
    """Jobs are enqueued, handed out a second later, and end two seconds after that."""
    world.clear()
    world.enqueue(*jobs)
    world.turn(after=1.0)
    world.manager(b"m", b"READY", v2.Ready(10_000))
    done = [v2.Outcome(j.id, j.lease, state, b"", failure, 2.0) for j in world.handed(b"m")]
    assert len(done) == len(jobs)
    world.turn((BACKEND, [b"m", *v2.encode(b"REPLY", v2.Reply(1, done, 0))]), after=2.0)


@pytest.fixture
def world() -> World:
    world = World()
    world.wall = 1_790_000_040.0  # a minute begins
    world.restart()
    world.join(b"m", queues=[(1, "default"), (1, "mail")])
    return world


def about(seconds: float) -> Any:
    """As a sketch tells it."""
    return pytest.approx(seconds, sketch.ERROR * 1.001)


# ---- sketches --------------------------------------------------------------------------------------------


@given(st.lists(st.floats(sketch.SHORTEST_S, sketch.LONGEST_S), min_size=1), st.floats(0, 1))
def test_a_quantile_is_as_right_as_is_said(durations: list[float], part: float) -> None:
    counted: Sketch = Counter()
    sketch.add(counted, durations)
    true = sorted(durations)[math.floor(part * (len(durations) - 1))]
    assert sketch.quantiles(counted, [part]) == [about(true)]


@given(st.lists(st.lists(st.floats(0, 1e6)), max_size=5))
def test_merged_sketches_are_the_sketch_of_everything(parts: list[list[float]]) -> None:
    merged: Sketch = Counter()
    for part in parts:
        sketch.add(merged, part)
    whole: Sketch = Counter()
    sketch.add(whole, [duration for part in parts for duration in part])
    assert merged == whole


@given(st.lists(st.floats()))
def test_whatever_is_called_a_duration_is_counted_once(durations: list[float]) -> None:
    counted: Sketch = Counter()
    sketch.add(counted, durations)
    assert counted.total() == len(durations)
    assert sketch.cumulative([counted], (sketch.LONGEST_S * 2,)) == [len(durations)] * 2


def test_a_packed_sketch_is_the_same_one() -> None:
    counted: Sketch = Counter()
    sketch.add(counted, [1.5**n for n in range(-10, 10)] * 1000)
    assert sketch.unpacked(sketch.packed(counted)) == counted


def test_a_sketch_that_is_spread_wide_is_packed_more_coarsely() -> None:
    counted: Sketch = Counter()
    sketch.add(counted, [1.01**n for n in range(-900, 1400)])
    again = sketch.unpacked(sketch.packed(counted))
    assert len(counted) > 2 * sketch.BUCKETS_MAX
    assert len(again) <= sketch.BUCKETS_MAX
    assert again.total() == counted.total()
    (median,) = sketch.quantiles(again, [0.5])
    assert median == pytest.approx(1.01**250, 0.3)


def test_no_tally_is_longer_than_is_said() -> None:
    tally = Tally()
    tally.counts.update(dict.fromkeys(COUNTS, 1 << 31))
    tally.wait = tally.run = Counter(dict.fromkeys(range(100, 100 + sketch.BUCKETS_MAX), 1 << 31))
    assert 700 < len(packed(tally)) < 900
    assert packed(unpacked(packed(tally))) == packed(tally)


def test_durations_up_to_a_bound_are_counted() -> None:
    counted: Sketch = Counter()
    sketch.add(counted, [0.001, 0.2, 0.2, 40.0])
    bounds = (0.005, 0.1, 0.5, 60.0, 1800.0)
    assert sketch.cumulative([counted], bounds) == [1, 1, 3, 4, 4, 4]
    assert sketch.cumulative([counted, counted], bounds) == [2, 2, 6, 8, 8, 8]
    assert sketch.cumulative([], bounds) == [0] * 6


# ---- counting --------------------------------------------------------------------------------------------


def test_what_happens_is_counted_by_queue_and_name(world: World) -> None:
    run(world, job("a"), job("b", "mail", "shop.send"))
    for params in ({}, {"queue": "mail"}, {"name": "shop.send"}, {"queue": "mail", "name": "shop.send"}):
        answer = ask(world, b"HISTORY", since=world.wall - 120, **params)
        assert (answer["step_s"], answer["since"]) == (60, 1_790_000_040 - 120)
        assert answer["enqueued"] == answer["succeeded"] == [0, 0, 1 if params else 2]
        assert answer["wait_p50_s"] == [None, None, about(1.0)]
        assert answer["run_p99_s"] == [None, None, about(2.0)]
    assert ask(world, b"HISTORY", queue="mail", name="tasks.add", since=world.wall)["enqueued"] == [0]


def test_each_end_is_counted_by_its_word(world: World) -> None:
    run(world, job("dies"), state="failed")
    run(world, job("lost", options=v2.pack({"redeliver": False})), state="interrupted")
    run(world, job("crashes"), state="crashed")
    world.enqueue(job("expires", options=v2.pack({"expires_s": 0.5})), job("off", "quiet"))
    world.manager(b"m", b"READY", v2.Ready(0))
    world.client(b"c", b"CANCEL", v2.Cancel(1, ["off", "crashes"]))
    world.turn(after=1.0)
    world.manager(b"m", b"READY", v2.Ready(10_000))
    answer = ask(world, b"HISTORY", since=world.wall)
    assert {word: sum(answer[word]) for word in COUNTS} == {
        "enqueued": 5, "succeeded": 0, "failed": 2, "dead": 1, "cancelled": 2, "expired": 1, "lost": 1,
    }  # fmt: skip


def test_attempts_that_are_tried_again_have_failed_too(world: World) -> None:
    run(world, job("again", options=v2.pack({"retries": 1})), state="failed")
    world.manager(b"m", b"READY", v2.Ready(10_000))
    world.finish(b"m", world.handed(b"m")[-1])
    (row,) = ask(world, b"TYPES")["types"]
    assert (row["runs"], row["failed"], row["dead"], row["succeeded"]) == (2, 1, 0, 1)
    assert sum(each.wait.total() for each in world.router.history.since_start()["default", "tasks.add"]) == 1


def test_of_attempts_that_fail_over_and_over_a_bounded_number_is_noted_one_by_one(world: World) -> None:
    world.enqueue(job("again", options=v2.pack({"retries": 1000})))
    for n in range(1, 2 * NOTED_MAX + 1):
        world.manager(b"m", b"READY", v2.Ready(n))
        world.finish(b"m", world.handed(b"m")[-1], state="failed")
    assert len(world.router.history.present["default", "tasks.add"].failed) <= NOTED_MAX + 1
    assert sum(ask(world, b"HISTORY")["failed"]) == 2 * NOTED_MAX


def test_a_run_of_which_nobody_says_how_long_it_was_is_not_one_of_no_time(world: World) -> None:
    world.enqueue(job("a"))
    world.manager(b"m", b"READY", v2.Ready(1))
    (handed,) = world.handed(b"m")
    world.manager(b"m", b"REPLY", v2.Reply(1, [v2.Outcome(handed.id, handed.lease, "succeeded")], 1))
    (row,) = ask(world, b"TYPES")["types"]
    assert (row["runs"], row["run_p50_s"]) == (1, None)


def test_a_delayed_job_waits_from_when_it_is_due(world: World) -> None:
    world.enqueue(job("late", options=v2.pack({"delay_s": 40.0})))
    world.turn(after=40.0)
    world.turn(after=5.0)
    world.manager(b"m", b"READY", v2.Ready(1))
    assert ask(world, b"HISTORY", since=world.wall)["wait_p50_s"] == [about(5.0)]


def test_jobs_of_two_queues_that_one_manager_gets_at_once_are_counted_once_each(world: World) -> None:
    world.join(b"both", credit=0, queues=[(15, "mail"), (10, "news")])
    world.enqueue(job("a", "mail"), job("b", "news", "shop.news"))
    after = ask(world, b"EVENTS")["next"]
    world.turn(after=1.0)
    world.manager(b"both", b"READY", v2.Ready(9))
    assert [each.id for each in world.handed(b"both")] == ["a", "b"]
    started = [each["id"] for each in ask(world, b"EVENTS", after=after)["events"] if each["event"] == "started"]
    assert started == ["a", "b"]
    assert {row["name"]: row["queues"] for row in ask(world, b"TYPES")["types"]} == {
        "shop.news": ["news"],
        "tasks.add": ["mail"],
    }


def test_nothing_is_counted_of_a_turn_that_was_undone(world: World) -> None:
    def full(changes: Any) -> None:
        raise StorageFull("full")

    apply, world.store.apply = world.store.apply, full  # type: ignore[method-assign]
    world.client(b"c", b"REQUEST", v2.Request(1, [job("a")]))
    world.store.apply = apply  # type: ignore[method-assign]
    assert ask(world, b"HISTORY", since=world.wall)["enqueued"] == [0]


def test_how_many_wait_is_told_for_the_end_of_each_step(world: World) -> None:
    world.enqueue(*[job(f"j{n}", "quiet") for n in range(3)])
    world.turn(after=60.0)
    world.wait(1.0)
    world.enqueue(job("more", "quiet"), job("else", "still"))
    assert ask(world, b"HISTORY", since=world.wall - 60)["waiting"] == [3, 5]
    assert ask(world, b"HISTORY", since=world.wall - 60, queue="quiet")["waiting"] == [3, 4]
    assert ask(world, b"HISTORY", since=world.wall - 60, name="tasks.add")["waiting"] == [None, None]
    world.turn(after=60.0)
    world.wait(1.0)
    hours = world.store.past.read(("quiet", ""), 3600, int(world.wall) - 3600, int(world.wall))
    assert [unpacked(data).waiting for _, data in hours] == [4]


def test_what_a_lying_manager_says_of_durations_poisons_nothing(world: World) -> None:
    run(world, job("true"))
    world.manager(b"m", b"READY", v2.Ready(10_000))
    for number, lie in enumerate((math.nan, math.inf, -math.inf, -5.0)):
        world.clear()
        world.enqueue(job(f"j{number}"))
        (handed,) = world.handed(b"m")
        outcome = v2.Outcome(handed.id, handed.lease, "succeeded", b"", None, lie)
        world.manager(b"m", b"REPLY", v2.Reply(1, [outcome], 10_000))
    world.turn(after=60.0)
    world.wait(1.0)
    (total,) = [each for each in world.router.history.since_start()["default", "tasks.add"] if each.run]
    assert (total.counts["succeeded"], total.run.total()) == (5, 1)
    assert total.run_s == 2.0
    assert sum(whole(world)["succeeded"]) == 5


# ---- keeping ---------------------------------------------------------------------------------------------


def test_a_killed_router_loses_the_present_minute_at_most(world: World) -> None:
    run(world, job("a"))
    world.turn(after=60.0)
    world.wait(1.0)
    run(world, job("b"))
    before = ask(world, b"HISTORY")
    assert sum(before["succeeded"]) == 2
    world.restart()
    answer = ask(world, b"HISTORY")
    assert sum(answer["succeeded"]) == sum(answer["enqueued"]) == 1
    assert answer["run_p50_s"].count(None) == len(answer["run_p50_s"]) - 1


def test_a_router_that_ends_in_order_loses_nothing(world: World) -> None:
    run(world, job("a"))
    world.router.say_goodbye()
    world.restart()
    assert sum(ask(world, b"HISTORY")["succeeded"]) == 1
    run_after = ask(world, b"HISTORY", step_s=60)
    assert run_after["run_p50_s"].count(None) == len(run_after["run_p50_s"]) - 1


def test_a_minute_that_the_clock_brings_twice_is_one(world: World) -> None:
    run(world, job("a"))
    world.turn(after=60.0)
    world.wait(1.0)
    world.wall -= 61.0
    world.turn()
    world.join(b"m", queues=[(1, "default")])
    run(world, job("b"))
    world.turn(after=60.0)
    world.wait(1.0)
    answer = ask(world, b"HISTORY", since=1_790_000_040)
    assert answer["succeeded"][0] == 2


def test_a_minute_goes_to_the_store_in_slices(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventmq.broker.history.HISTORY_SLICE", 5)
    world.enqueue(*[job(f"j{n}", f"q{n % 7}", f"name{n}") for n in range(21)])
    written: list[list[Point]] = []
    write = world.store.past.write
    monkeypatch.setattr(world.store.past, "write", lambda points: (written.append(points), write(points)))
    world.turn(after=60.0)
    summed = []
    while (history := world.router.history).busy:
        summed.append(21 - sum(len(minute.notes) for minute in history.over))
        assert world.router.next_deadline() <= world.router.now
        assert sum(ask(world, b"HISTORY", since=world.wall - 60)["enqueued"]) == 21  # at any time
        assert sum(each.counts["enqueued"] for parts in history.since_start().values() for each in parts) == 21
    assert summed[:5] == [5, 10, 15, 20, 21]
    assert max(map(len, written)) == 5 * len(limits.HISTORY_STEPS)
    assert sum(map(len, written)) == (1 + 7 + 21 + 21) * len(limits.HISTORY_STEPS)


def test_queues_and_names_beyond_the_bound_are_counted_as_others(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventmq.broker.history.HISTORY_SERIES_MAX", 3)
    world.enqueue(*[job(f"j{n}", "default", f"name{n}") for n in range(9)], *[job(f"q{n}", f"q{n}") for n in range(9)])
    world.turn(after=60.0)
    world.wait(1.0)
    assert len(world.store.past.series()) <= 3 * (3 + 1) + 1
    assert sum(ask(world, b"HISTORY")["enqueued"]) == 18
    assert sum(ask(world, b"HISTORY", queue="default")["enqueued"]) == 9
    rows = {row["name"]: row["enqueued"] for row in ask(world, b"TYPES")["types"]}
    assert rows == {"name0": 1, "name1": 1, "name2": 1, "other": 15}
    world.restart()
    world.enqueue(job("new", "default", "name5"))
    assert {row["name"]: row["enqueued"] for row in ask(world, b"TYPES")["types"]}["other"] == 16


def test_pairs_beyond_those_of_one_minute_keep_their_names(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventmq.broker.history.HISTORY_PRESENT_MAX", 3)
    world.enqueue(*[job(f"j{n}", f"q{n % 4}", f"name{n % 2}") for n in range(12)])
    assert len(world.router.history.present) <= 3 + 2
    assert [row["enqueued"] for row in ask(world, b"TYPES")["types"]] == [6, 6]
    assert sum(ask(world, b"HISTORY")["enqueued"]) == 12
    assert sum(ask(world, b"HISTORY", queue="other")["enqueued"]) == 3


def test_a_series_that_has_nothing_left_makes_room(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventmq.broker.history.HISTORY_SERIES_MAX", 1)
    run(world, job("old", "default", "old"))
    for _ in range(20):
        world.turn(after=60.0)
    for _ in range(10):
        world.turn(after=limits.HISTORY_S / 5)
    assert world.store.past.series() == []
    world.enqueue(job("new", "default", "new"))
    assert [row["name"] for row in ask(world, b"TYPES")["types"]] == ["new"]


# ---- reading ---------------------------------------------------------------------------------------------


def test_an_answer_reads_a_bounded_number_of_points(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    points = [Point(("", ""), 60, int(world.wall) - 60 * n, _point(n)) for n in range(1, 400)]
    world.store.past.write(points)
    read: list[int] = []
    monkeypatch.setattr("eventmq.broker.history.unpacked", lambda data: (read.append(1), unpacked(data))[1])
    answer = ask(world, b"HISTORY", since=world.wall - 399 * 60, step_s=60)
    assert len(read) == len(answer["enqueued"]) == limits.HISTORY_POINTS
    assert whole(world, since=world.wall - 399 * 60, step_s=60)["enqueued"] == [*range(399, 0, -1), 0]
    read.clear()
    answer = ask(world, b"HISTORY", since=world.wall - 399 * 60, step_s=600)
    assert limits.HISTORY_POINTS - 10 <= len(read) <= limits.HISTORY_POINTS


def _point(enqueued: int) -> bytes:
    tally = Tally()
    tally.counts["enqueued"] = enqueued
    return packed(tally)


def test_job_types_come_in_slices(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charts, "HISTORY_POINTS", 8)
    world.enqueue(*[job(f"j{n}", "mail" if n % 2 else "default", f"name{n}") for n in range(9)])
    names, after = [], ""
    while after is not None:
        answer = ask(world, b"TYPES", after=after)
        assert len(answer["types"]) <= 4
        names += [row["name"] for row in answer["types"]]
        after = answer["next"]
    assert names == [f"name{n}" for n in range(9)]
    assert [row["queues"] for row in ask(world, b"TYPES", queue="mail")["types"]] == [["mail"]] * 4


def test_a_job_type_of_which_nothing_happened_in_the_time_is_left_out(world: World) -> None:
    world.enqueue(job("old", name="old"))
    world.turn(after=3 * 3600.0)
    world.enqueue(job("new", name="new"))
    assert [row["name"] for row in ask(world, b"TYPES")["types"]] == ["new", "old"]
    assert [row["name"] for row in ask(world, b"TYPES", since=world.wall - 3600)["types"]] == ["new"]


@pytest.mark.parametrize("seed", range(5))
def test_any_past_is_told_as_it_was(seed: int) -> None:
    """Compared with a list of everything that happened, over days, restarts, and steps of any length."""
    chance, world = random.Random(seed), World(heartbeat_s=1e6, silence_s=1e9)
    world.join(b"m", queues=[(1, "a"), (1, "b")])
    happened: list[tuple[float, str, str, str]] = []
    for number in range(60):
        queue, name, state = chance.choice("ab"), chance.choice("xyz"), chance.choice(("succeeded", "failed"))
        happened.append((world.wall + 0.002, queue, name, "enqueued"))
        run(world, job(f"j{number}", queue, name), state=state)
        words = ("succeeded",) if state == "succeeded" else ("failed", "dead")
        happened += [(world.wall, queue, name, word) for word in words]
        world.turn(after=chance.choice((1.0, 70.0, 4000.0, 30_000.0)))
        if chance.random() < 0.2:
            world.turn(after=60.0)
            while world.router.history.busy:
                world.turn()
            world.restart()
            world.join(b"m", queues=[(1, "a"), (1, "b")])
        age = chance.uniform(0, min(world.wall - happened[0][0], 29 * 86_400))
        params = {"queue": chance.choice(("", "a", "b")), "name": chance.choice(("", "x", "y"))}
        step_s = chance.choice((0, 60, 150, 900, 3600, 10_000, 86_400))
        told = whole(world, since=world.wall - age, step_s=step_s, **params)
        for word in ("enqueued", "succeeded", "failed", "dead"):
            true = [0] * len(told[word])
            for at, in_queue, of_name, what in happened:
                step = int(at - told["since"]) // told["step_s"] if at >= told["since"] else -1
                if what == word and params["queue"] in ("", in_queue) and params["name"] in ("", of_name) and step >= 0:
                    true[step] += 1
            assert told[word] == true, (number, word, params, told["step_s"])


# ---- failures --------------------------------------------------------------------------------------------

DECLINED = v2.Failure("shop.Declined", "no money", "…", (), "shop/pay.py:41 charge")


def test_failures_are_grouped_by_exception_place_and_name(world: World) -> None:
    run(world, job("a", name="shop.pay"), job("b", name="shop.pay"), state="failed", failure=DECLINED)
    run(world, job("c", name="shop.renew"), state="failed", failure=DECLINED)
    elsewhere = v2.Failure("shop.Declined", "no card", "…", (), "shop/pay.py:77 refund")
    run(world, job("d", name="shop.pay", options=v2.pack({"retries": 1})), state="failed", failure=elsewhere)
    last, second, first = ask(world, b"FAILURES")
    assert [each["count"] for each in (first, second, last)] == [2, 1, 1]
    assert first == {
        "exception": "shop.Declined", "place": "shop/pay.py:41 charge", "name": "shop.pay", "count": 2,
        "first": pytest.approx(world.wall, abs=20), "last": first["first"], "sample": "b", "message": "no money",
    }  # fmt: skip
    assert second["name"] == "shop.renew"
    assert (last["place"], last["sample"]) == ("shop/pay.py:77 refund", "d")
    assert ask(world, b"FAILURES", since=last["last"]) == [last]


def test_groups_of_failures_survive_a_restart(world: World) -> None:
    run(world, job("a"), state="failed", failure=DECLINED)
    world.turn(after=60.0)
    world.turn()
    before = ask(world, b"FAILURES")
    world.restart()
    assert ask(world, b"FAILURES") == before != []
    world.join(b"m", queues=[(1, "default")])
    run(world, job("b"), state="failed", failure=DECLINED)
    (group,) = ask(world, b"FAILURES")
    assert (group["count"], group["sample"], group["first"]) == (2, "b", before[0]["first"])


def test_there_are_so_many_groups_and_the_one_not_seen_for_longest_goes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventmq.broker.failures.FAILURES_MAX", 3)
    for number in (1, 2, 3, 1, 4, 5):
        failure = v2.Failure(f"Error{number}", "x" * 5000)
        run(world, job(f"j{world.now}"), state="failed", failure=failure)
        world.turn(after=60.0)
        world.turn()
    assert [group["exception"] for group in ask(world, b"FAILURES")] == ["Error5", "Error4", "Error1"]
    world.restart()
    groups = ask(world, b"FAILURES")
    assert [group["exception"] for group in groups] == ["Error5", "Error4", "Error1"]
    assert {len(group["message"]) for group in groups} == {limits.ERROR_CHARS_MAX}
    facts = [fact for fact in world.store.load().facts if fact.startswith("failure:")]
    assert len(facts) == 3


def test_a_group_that_made_room_before_it_was_kept_is_not_kept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventmq.broker.failures.FAILURES_MAX", 1)
    for number in (1, 2):
        run(world, job(f"j{number}"), state="failed", failure=v2.Failure(f"Error{number}", ""))
    world.turn(after=60.0)
    world.turn()
    world.restart()
    assert [group["exception"] for group in ask(world, b"FAILURES")] == ["Error2"]


def test_what_failed_last_a_month_ago_begins_anew(world: World) -> None:
    run(world, job("a"), state="failed", failure=DECLINED)
    world.turn(after=limits.HISTORY_S)
    world.turn(after=60.0)
    assert ask(world, b"FAILURES") == []
    world.join(b"m", queues=[(1, "default")])
    run(world, job("b"), state="failed", failure=DECLINED)
    assert [group["count"] for group in ask(world, b"FAILURES")] == [1]


OWN = """
import json
class Till:
    def charge(self, text):
        return decode(text)
def refund(text, decode):
    globals()["decode"] = decode
    return Till().charge(text)
"""
INSTALLED = f"{sysconfig.get_path('purelib')}/shop/pay.py"


@pytest.mark.parametrize(
    ("file", "module", "place"),
    [
        ("/srv/app/shop/pay.py", "shop.pay", "shop/pay.py:5 Till.charge"),
        ("/srv/app/shop/__init__.py", "shop", "shop/__init__.py:5 Till.charge"),
        ("/srv/app/main.py", "__main__", "main.py:5 Till.charge"),
        (INSTALLED, "shop.pay", "shop/pay.py:5 Till.charge"),
    ],
)
def test_the_place_of_a_failure_is_the_last_line_of_the_users_own_code(file: str, module: str, place: str) -> None:
    assert place_of(json.loads, file, module) == place


def test_own_code_is_what_is_not_installed_too() -> None:
    billing: dict[str, Any] = {"__name__": "billing.core", "json": json}
    exec(compile("def parse(text): return json.loads(text)", "/srv/app/billing/core.py", "exec"), billing)
    assert place_of(billing["parse"], "/srv/app/shop/pay.py", "shop.pay") == "billing/core.py:1 parse"


def place_of(decode: Any, file: str, module: str) -> str:
    """Where a job in that module failed, which has called `decode`."""
    names: dict[str, Any] = {"__name__": module}
    exec(compile(OWN, file, "exec"), names)
    with pytest.raises(ValueError, match="property name") as caught:
        names["refund"]("{", decode)
    caught.value.__traceback__ = caught.tb.tb_next  # from the job on
    return execute.failure_of(caught.value).place
