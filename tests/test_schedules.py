"""Schedules between Router and schedulers: each due time once, whoever dies, sleeps, repeats itself or is told late."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from msgspec.structs import replace
from schedule_world import ScheduleWorld
from world import job

from eventmq import limits
from eventmq.broker.outbox import FRONTEND
from eventmq.protocol import calls, scheduling, v1, v2
from eventmq.schedules.due import run_id
from eventmq.schedules.rule import Cron, Every, Rule

CALL = (
    '["run", {"path": "tasks", "callable": "add", "args": [1, 2], "kwargs": {}, "class_args": [], "class_kwargs": {}}]'
)


BY_HAND = run_id("by hand", 0.0)


@pytest.fixture
def world() -> ScheduleWorld:
    return ScheduleWorld()


def every_second(world: ScheduleWorld, *ids: str, **timing: Any) -> None:
    for id in ids:
        world.schedule(id, Every(1, **timing))


def complete(world: ScheduleWorld, id: str, until: float | None = None) -> None:
    """Nothing is missing between the first run and now, and nothing ran twice."""
    world.each_once()
    dues = world.dues(id)
    assert dues == [pytest.approx(dues[0] + n) for n in range(len(dues))], dues
    assert dues[-1] >= (world.wall if until is None else until) - 1.2


# ---- one scheduler ------------------------------------------------------------------------------------------


def test_a_schedule_runs_at_once_and_then_at_its_times(world: ScheduleWorld) -> None:
    world.start(b"s")
    world.run(1)
    accepted = world.wall
    assert world.schedule("a", Every(1)) == "a"
    world.run(10)
    complete(world, "a")
    assert len(world.dues("a")) in (10, 11)
    assert world.dues("a")[0] == pytest.approx(accepted, abs=0.01)
    assert world.late() < 0.25
    assert world.shown("a")["last_run"]["state"] == "succeeded"
    assert world.shown("a")["next"] > world.wall - 0.1


def test_cron_runs_when_the_router_says_that_it_is_time(world: ScheduleWorld) -> None:
    world.start(b"s")
    world.schedule("a", Cron("*/5 * * * * *"))
    world.run(21)
    assert [due % 5 for due in world.dues("a")] == [0.0] * 4
    assert 0 <= world.late() < 0.25


def test_what_runs_is_what_was_scheduled(world: ScheduleWorld) -> None:
    world.start(b"s")
    options = v2.pack_options(v2.Options(retries=3))
    world.schedule("a", Every(60), queue="default", priority=7, options=options, payload=calls.pack_call(("x",), {}))
    world.run(1)
    (run,) = world.handed(b"manager")
    assert (run.name, run.priority, run.payload) == ("tasks.add", 7, calls.pack_call(("x",), {}))
    assert v2.decode(run.options, v2.Options) == v2.Options(retries=3, schedule="a")
    assert run.id == run_id("a", world.dues("a")[0])


def test_with_no_scheduler_connected_a_schedule_is_kept_and_made_up_for_within_its_grace(world: ScheduleWorld) -> None:
    every_second(world, "a")
    world.run(20)
    assert world.ran == []
    world.start(b"s")
    world.run(3)
    complete(world, "a")
    assert len(world.dues("a")) > 20


@pytest.mark.parametrize(("misfire", "late_s"), [("skip", 4), ("once", 5), ("all", None)])
def test_what_was_missed_for_longer_than_the_grace(world: ScheduleWorld, misfire: str, late_s: int | None) -> None:
    world.start(b"s")
    every_second(world, "a", misfire=misfire, grace=5)
    world.run(3)
    world.kill(b"s")
    world.run(60)
    world.start(b"s2")
    world.run(5)
    world.each_once()
    assert world.dues("a")[-1] > world.wall - 1.2
    gaps = [(due, at) for (_, before, _), (_, due, at) in pairwise(world.ran) if due - before > 1.5]
    assert [int(at - due) for due, at in gaps] == ([] if late_s is None else [late_s]), "how late the first one was"


# ---- several schedulers ----------------------------------------------------------------------------------------


def test_each_schedule_has_one_scheduler_and_they_share(world: ScheduleWorld) -> None:
    world.start(b"s1")
    world.start(b"s2")
    world.run(1)
    every_second(world, *"abcdef")
    world.run(5)
    assert sorted(map(str, world.holders().values())) == ["b's1'"] * 3 + ["b's2'"] * 3
    for id in "abcdef":
        complete(world, id)


@pytest.mark.parametrize("how", ["killed", "drained", "stopped"])
def test_another_one_takes_over_and_nothing_is_lost_or_doubled(world: ScheduleWorld, how: str) -> None:
    first = world.start(b"s1")
    world.start(b"s2")
    world.run(1)
    every_second(world, *"abcd")
    world.run(5)
    if how == "killed":
        world.kill(b"s1")
    elif how == "drained":
        first.session.leave()
        first.session.goodbye()
    else:
        first.awake = False
    world.run(limits.SILENCE_S + 5)
    assert set(world.holders().values()) == {b"s2"}
    for id in "abcd":
        complete(world, id)
    if how == "stopped":
        first.awake = True  # it wakes up and believes that all of its ticks are due
        world.run(5)
        for id in "abcd":
            complete(world, id)


def test_one_that_wakes_up_long_after_all_is_forgotten_runs_nothing(world: ScheduleWorld) -> None:
    first = world.start(b"s1")
    world.run(1)
    every_second(world, "a")
    world.run(2)
    world.start(b"s2")
    first.awake = False
    world.run(30)
    late = [world.dues("a")[n] for n in range(-5, 0)]
    for _, row in list(world.store._rows.items()):  # as `forget` does when their time is over
        if row.end is not None:
            world.router.ledger.changes.forgotten.append((row.job.seq, row.end.state))
    world.run(1)
    assert not world.router.ledger.find([run_id("a", due) for due in late])
    token = world.router.schedules.entries["a"].schedule.token
    ticks = [scheduling.Tick("a", token, due, [due + 1]) for due in late]
    for peer in (b"s1", b"s2"):
        world.turn((FRONTEND, [peer, *v2.encode(b"REQUEST", scheduling.Request(99, [], ticks))]))
    world.run(2)
    world.each_once()
    assert world.router.ledger.counts["stale_ticks"] == 5


def test_a_repeated_tick_and_a_lost_answer_run_nothing_twice(world: ScheduleWorld) -> None:
    peer = world.start(b"s")
    world.run(1)
    every_second(world, "a")
    for n in range(200):
        if n % 7 == 0:
            peer.deaf = 1
        if n % 11 == 0:
            world.deaf_router = 1
        world.step()
    world.run(3)
    complete(world, "a")


def test_a_message_lost_on_the_way_to_a_scheduler_is_noticed(world: ScheduleWorld) -> None:
    peer = world.start(b"s")
    world.run(1)
    peer.deaf = 1
    every_second(world, "a")
    world.run(3)
    complete(world, "a")


def test_the_router_restarts(world: ScheduleWorld) -> None:
    world.start(b"s")
    world.run(1)
    every_second(world, "a", "b")
    world.run(3.02)
    for _ in range(3):
        world.restart()
        world.run(12)
    complete(world, "a")
    complete(world, "b")


def test_a_tick_from_a_stranger_or_for_another_ones_schedule_is_void(world: ScheduleWorld) -> None:
    world.start(b"s1")
    world.run(1)
    every_second(world, "a")
    world.start(b"s2")
    world.run(1)
    counts, token = world.router.ledger.counts, world.router.schedules.entries["a"].schedule.token
    count = counts["accepted"]
    tick = scheduling.Tick("a", token, world.wall + 0.5, [])
    world.turn((FRONTEND, [b"s2", *v2.encode(b"REQUEST", scheduling.Request(9, [], [tick]))]))
    (refused,) = world.turn((FRONTEND, [b"nobody", *v2.encode(b"REQUEST", scheduling.Request(9, [], [tick]))]))
    assert v2.decode(refused.frames[3], v2.Refused).reason == "unknown_peer"
    assert counts["accepted"] == count


def test_a_tick_is_not_accepted_before_its_time(world: ScheduleWorld) -> None:
    world.start(b"s")
    world.run(1)
    world.schedule("a", Every(3600))
    world.run(1)
    token = world.router.schedules.entries["a"].schedule.token
    tick = scheduling.Tick("a", token, world.dues("a")[0] + 3600, [])
    sent = world.turn((FRONTEND, [b"s", *v2.encode(b"REQUEST", scheduling.Request(9, [], [tick]))]))
    (ack,) = [v2.decode(each.frames[3], v2.Ack) for each in sent if each.frames[2] == b"ACK"]
    assert [refusal.reason for refusal in ack.refusals] == ["too_early"]
    assert len(world.ran) == 1


# ---- clocks ---------------------------------------------------------------------------------------------------


def test_a_router_whose_clock_is_set_back_runs_nothing_twice(world: ScheduleWorld) -> None:
    world.start(b"s")
    world.run(1)
    every_second(world, "a")
    world.run(5)
    count = len(world.ran)
    world.step(clock=-10.0)
    world.run(5)
    assert len(world.ran) <= count + 1
    world.run(8)
    complete(world, "a")


def test_a_router_whose_clock_is_set_forward_treats_it_as_a_misfire(world: ScheduleWorld) -> None:
    world.start(b"s")
    world.run(1)
    world.schedule("a", Every(1, misfire="skip", grace=5))
    world.run(5)
    world.step(clock=3600.0)
    world.run(5)
    world.each_once()
    gaps = [b - a for a, b in pairwise(world.dues("a")) if b - a > 1.5]
    assert len(gaps) == 1
    assert 3590 < gaps[0] < 3600
    complete_since = [due for due in world.dues("a") if due > world.wall - 60]
    assert len(complete_since) >= 9


# ---- one schedule after another ---------------------------------------------------------------------------------


def test_a_message_that_comes_twice_schedules_once(world: ScheduleWorld) -> None:
    world.start(b"s")
    world.run(1)
    world.schedule("a", Every(60, run_count=1), token="t")
    world.run(1)
    assert world.shown("a")["runs_left"] == 0
    world.schedule("a", Every(60, run_count=1), token="t")
    world.run(1)
    assert len(world.ran) == 1
    world.schedule("a", Every(60, run_count=1), token="another call")
    world.run(1)
    assert len(world.ran) == 2


def test_the_same_call_goes_on_and_another_rule_begins_anew(world: ScheduleWorld) -> None:
    world.start(b"s")
    world.run(1)
    world.schedule("a", Every(60))
    world.run(1)
    world.schedule("a", Every(60))
    world.schedule("a", Every(60), priority=5)
    world.run(1)
    assert len(world.ran) == 1, "the same rule: it does not run at once again"
    world.schedule("a", Every(30))
    world.run(31)
    assert len(world.ran) == 3
    assert {each.priority for each in world.handed(b"manager")} == {0}


def test_it_ends_after_its_run_count_and_is_forgotten_in_time(world: ScheduleWorld) -> None:
    world.start(b"s")
    world.run(1)
    every_second(world, "a", run_count=3)
    world.run(10)
    assert len(world.ran) == 3
    assert world.router.schedules.listed() == []
    assert len(world.peers[b"s"].session.agenda) == 0
    world.now += limits.DEDUPE_S
    world.wall += limits.DEDUPE_S
    world.run(10)
    assert world.router.schedules.entries == {}
    assert not [fact for fact in world.store._facts if fact.startswith(("schedule:", "tick:"))]


def test_it_ends_at_its_end(world: ScheduleWorld) -> None:
    world.start(b"s")
    world.run(1)
    end = datetime.fromtimestamp(world.wall + 3.5, UTC)
    every_second(world, "a", end=end)
    every_second(world, "b", end=end, misfire="skip", grace=1)
    world.run(2)
    assert world.router.schedules.listed() == ["a", "b"]
    world.run(10)
    assert len(world.dues("a")) == len(world.dues("b")) == 4
    assert world.router.schedules.listed() == []


def test_an_end_that_passes_with_nobody_there_ends_it_too(world: ScheduleWorld) -> None:
    every_second(world, "a", end=datetime.fromtimestamp(world.wall + 3, UTC), misfire="skip", grace=1)
    world.run(12)
    assert world.router.schedules.listed() == []


def test_unscheduled_it_runs_no_more_and_what_runs_goes_on(world: ScheduleWorld) -> None:
    world.outcome = ""
    world.start(b"s")
    world.run(1)
    every_second(world, "a")
    world.run(1)
    assert world.unschedule("a") is True
    assert world.unschedule("a") is False
    count = len(world.ran)
    world.run(5)
    assert len(world.ran) == count
    assert len(world.router.ledger.leases) == count
    assert len(world.peers[b"s"].session.agenda) == 0


def test_paused_it_waits_and_resumed_it_goes_on_without_what_it_missed(world: ScheduleWorld) -> None:
    world.start(b"s")
    world.run(1)
    every_second(world, "a")
    world.run(3)
    world.router.schedules.pause(world.router.schedules.entries["a"], True, world.wall)
    world.run(1)
    count = len(world.ran)
    world.run(10)
    world.restart()
    world.run(5)
    assert len(world.ran) == count, "also over a restart"
    assert world.shown("a")["paused"]
    assert world.shown("a")["next"] is None
    world.schedule("a", Every(1))
    assert world.shown("a")["paused"], "an operator's word stands until an operator takes it back"
    world.router.schedules.pause(world.router.schedules.entries["a"], False, world.wall)
    world.run(3.5)
    assert len(world.ran) == count + 3


# ---- the run before has not ended -----------------------------------------------------------------------------


@pytest.mark.parametrize(("overlap", "live"), [("allow", 10), ("skip", 1), ("queue", 2), ("replace", 1)])
def test_what_overlaps(world: ScheduleWorld, overlap: str, live: int) -> None:
    world.outcome = ""
    world.limit = 1 if overlap == "queue" else world.limit
    world.start(b"s")
    world.run(1)
    every_second(world, "a", overlap=overlap)
    world.run(9.5)
    assert len(world.router.ledger.live) == live
    runs = world.shown("a")["runs"]
    assert runs == {"allow": 10, "skip": 1, "queue": 2, "replace": 10}[overlap]
    if overlap == "replace":
        assert world.router.ledger.counts["cancelled"] == 9


# ---- the alarm ------------------------------------------------------------------------------------------------


def alarms(world: ScheduleWorld) -> list[str]:
    return [note.text for note in world.router.notes if note.key.startswith("overdue")]


def test_the_router_says_that_a_schedule_fails_again_and_again(world: ScheduleWorld) -> None:
    world.outcome = "failed"
    world.start(b"s")
    world.run(1)
    every_second(world, "a")
    world.run(2.5)
    assert not world.shown("a")["overdue"]
    world.run(1)
    assert world.shown("a")["overdue"]
    assert world.shown("a")["last_run"]["state"] == "dead"
    world.run(3)
    assert alarms(world) == ["schedules overdue: a"]
    world.outcome = "succeeded"
    world.run(2)
    assert not world.shown("a")["overdue"]
    assert alarms(world)[1:] == ["schedules not overdue any more: a"]


def test_the_router_says_that_nobody_ticks(world: ScheduleWorld) -> None:
    world.schedule("a", Every(60, grace=1, overdue=2))
    world.schedule("quiet", Every(60, grace=1, overdue=0))
    world.run(110)
    assert not world.shown("a")["overdue"]
    world.run(20)
    assert world.shown("a")["overdue"]
    assert not world.shown("quiet")["overdue"]
    world.start(b"s")
    world.run(2)
    assert not world.shown("a")["overdue"]


def test_a_run_that_takes_too_long_is_no_success(world: ScheduleWorld) -> None:
    world.outcome = ""
    world.start(b"s")
    world.run(1)
    every_second(world, "a", overlap="skip")
    world.run(4)
    assert world.shown("a")["overdue"]


# ---- by hand -----------------------------------------------------------------------------------------------------


def test_a_run_by_hand_leaves_the_rule_alone(world: ScheduleWorld) -> None:
    world.start(b"s")
    world.run(1)
    world.schedule("a", Every(3600))
    world.run(1)
    entry = world.router.schedules.entries["a"]
    before = (entry.state.last, entry.state.ahead, entry.state.runs)
    for _ in range(2):
        assert world.router.schedules.run_now(entry, BY_HAND, world.wall, False) == BY_HAND
    world.run(1)
    assert len(world.handed(b"manager")) == 2
    assert (entry.state.last, entry.state.ahead, entry.state.runs) == before
    assert world.shown("a")["last_run"]["id"] == BY_HAND
    assert world.shown("a")["last_run"]["state"] == "succeeded"


# ---- declared in code ---------------------------------------------------------------------------------------------


def declared(*ids: str, rule: Rule | None = None) -> list[scheduling.Schedule]:
    rule = rule or Every(1)
    return [scheduling.Schedule(id, f"token of {id}", rule, job("", name=f"shop.{id}")) for id in ids]


def test_what_a_module_declares_is_added_changed_and_removed(world: ScheduleWorld) -> None:
    schedules = world.router.schedules
    world.schedule("made at run time", Every(1))
    assert schedules.declare("shop", 100.0, declared("a", "b"), world.wall) == []
    assert schedules.declare("other", 100.0, declared("c"), world.wall) == []
    entry = schedules.entries["a"]
    assert schedules.declare("shop", 101.0, declared("a", "b"), world.wall) == []
    assert schedules.entries["a"] is entry, "nothing new: it goes on"
    assert schedules.declare("shop", 102.0, declared("a", rule=Every(5)), world.wall) == []
    assert schedules.entries["a"].schedule.rule == Every(5)
    assert schedules.listed() == ["a", "c", "made at run time"]


def test_a_manager_with_old_code_changes_nothing(world: ScheduleWorld) -> None:
    schedules = world.router.schedules
    schedules.declare("shop", 200.0, declared("new"), world.wall)
    world.run(0.1)
    world.restart()
    schedules = world.router.schedules
    assert schedules.declare("shop", 100.0, declared("old"), world.wall) == []
    assert schedules.listed() == ["new"]
    schedules.declare("shop", 300.0, declared("old"), world.wall)
    assert schedules.listed() == ["old"], "rolled back: the newest announcement wins"


def test_a_declaration_that_cannot_be_is_told_and_the_others_stand(world: ScheduleWorld) -> None:
    wrong = replace(declared("b")[0], rule=Rule(cron="0 0 31 4 *"))
    (text,) = world.router.schedules.declare("shop", 1.0, [*declared("a"), wrong], world.wall)
    assert "module shop declares schedule 'b'" in text
    assert "never due" in text
    assert world.router.schedules.listed() == ["a"]


# ---- what cannot be -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("id", "rule", "fields", "reason", "said"),
    [
        ("", Every(1), {}, "invalid_schedule", "id has 1 to 200 characters"),
        ("x" * 201, Every(1), {}, "invalid_schedule", "id has 1 to 200 characters"),
        ("a", Rule(), {}, "invalid_schedule", "the interval is 0 s"),
        ("a", Rule(cron="0 0 31 4 *"), {}, "invalid_schedule", "never due"),
        ("a", Rule(cron="* * * * *", tz="Nowhere"), {}, "invalid_schedule", "no time zone"),
        ("a", Every(1, end=datetime(2020, 1, 1, tzinfo=UTC)), {}, "invalid_schedule", "never due from now on"),
        ("a", Every(1), {"payload": b"\xff"}, "invalid_schedule", ""),
        ("a", Every(1), {"priority": 101}, "invalid_schedule", "priority is 101"),
        ("a", Every(1), {"options": b"\xff"}, "invalid_schedule", ""),
        ("a", Every(1, overlap="skip"), {"unique": "key"}, "invalid_schedule", "exclude each other"),
        ("a", Every(1), {"payload": calls.pack_call(("x" * 20_000,), {})}, "too_large", "16384 bytes"),
    ],
)
def test_a_wrong_schedule_is_refused(
    world: ScheduleWorld, id: str, rule: Rule, fields: dict[str, Any], reason: str, said: str
) -> None:
    refused = world.schedule(id, rule, **fields)
    assert refused.reason == reason
    assert said in refused.text
    assert world.router.refusals[reason] == 1
    assert world.router.schedules.entries == {}


def test_there_are_only_so_many(world: ScheduleWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SCHEDULES_MAX", 2)
    every_second(world, "a", "b")
    assert world.schedule("c", Every(1)).reason == "too_large"
    assert world.schedule("b", Every(2)) == "b", "another form of one that there is"


def test_a_queue_that_is_full_puts_a_tick_off(world: ScheduleWorld) -> None:
    world.start(b"s")
    world.run(1)
    world.router.ledger.say("default", jobs_max=0)
    world.schedule("a", Every(60))
    world.run(5)
    assert world.ran == []
    world.router.ledger.say("default", jobs_max=None)
    world.run(2)
    assert len(world.ran) == 1


# ---- the 2020 release ------------------------------------------------------------------------------------------------


def schedule_1_0(world: ScheduleWorld, command: bytes, headers: str = "", interval: str = "60", cron: str = "") -> None:
    world.turn((FRONTEND, [b"c", *v1.encode(command, f"m{world.now}", "default", headers, interval, CALL, cron)]))


def test_what_a_2020_client_schedules_is_kept_and_run(world: ScheduleWorld) -> None:
    world.start(b"s")
    world.run(1)
    schedule_1_0(world, b"SCHEDULE", "nohaste,run_count:2", "2")
    key = calls.call_key("tasks.add", calls.pack_call((1, 2), {}))
    assert world.router.schedules.listed() == [key]
    world.run(1)
    assert world.ran == []
    world.run(5)
    assert len(world.ran) == 2
    schedule_1_0(world, b"SCHEDULE", interval="-1", cron="* * * * *")
    assert world.router.schedules.entries[key].schedule.rule == Cron("* * * * *")
    schedule_1_0(world, b"UNSCHEDULE", interval="-1", cron="")
    assert world.router.schedules.listed() == []


def test_a_2020_scheduler_gets_what_it_can_do_and_its_requests_are_runs(world: ScheduleWorld) -> None:
    world.turn((FRONTEND, [b"old", *v1.encode(b"INFORM", "i", "", "scheduler")]))
    world.schedule("a", Every(60, run_count=3), queue="mail", priority=3)
    world.schedule("b", Cron("0 9 * * *", tz="Europe/Prague"))
    assert world.holders() == {"a": b"old", "b": None}
    (frames,) = world.frames_1_0(b"old", b"SCHEDULE")
    assert frames == [b"mail", b"guarantee,run_count:3", b"60", CALL.replace(" ", "").encode(), b""]
    world.clear()
    for n in range(4):
        world.turn((FRONTEND, [b"old", *v1.encode(b"REQUEST", f"r{n}", "default", "guarantee", CALL)]))
    assert world.frames_1_0(b"old", b"REPLY") == [[f"r{n}".encode()] for n in range(4)]
    jobs = list(world.router.ledger.live.values())
    assert [(each.id, each.queue, each.priority) for each in jobs] == [(f"r{n}", "mail", 3) for n in range(3)]
    assert world.shown("a")["last_run"]["id"] == "r2"
    assert len(world.frames_1_0(b"old", b"UNSCHEDULE")) == 1, "its count is used up"
    world.start(b"new")
    world.run(1)
    assert world.holders()["b"] == b"new"


def test_what_a_2020_scheduler_took_over_does_not_run_at_once_again(world: ScheduleWorld) -> None:
    world.start(b"s")
    world.run(1)
    world.schedule("a", Every(60))
    world.run(1)
    world.kill(b"s")
    world.run(1)
    world.turn((FRONTEND, [b"old", *v1.encode(b"INFORM", "i", "", "scheduler")]))
    assert world.frames_1_0(b"old", b"SCHEDULE")[0][1] == b"guarantee,nohaste"
