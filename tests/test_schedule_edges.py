"""Schedules where something else is in the way: a clock, another job, a peer of 2020, too many of anything."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from schedule_world import ScheduleWorld
from world import job

from eventmq import limits
from eventmq.broker.outbox import FRONTEND
from eventmq.protocol import calls, scheduling, v1, v2
from eventmq.protocol.scheduling import Assignment, Schedule
from eventmq.schedules.agenda import Agenda
from eventmq.schedules.rule import Cron, Every
from eventmq.schedules.session import SchedulerSession

CALL = (
    '["run", {"path": "tasks", "callable": "add", "args": [1, 2], "kwargs": {}, "class_args": [], "class_kwargs": {}}]'
)


@pytest.fixture
def world() -> ScheduleWorld:
    return ScheduleWorld()


# ---- clocks -------------------------------------------------------------------------------------------------


def test_a_clock_that_is_set_back_a_little_makes_no_run_early() -> None:
    session = SchedulerSession("s", "nonce", 0.5)
    session.connect(0.0)
    session.tick(0.0, 0.0)
    session.receive(v2.encode(b"ACK", v2.Ack(1)), 0.0)
    rule = Cron("* * * * * *")
    session.receive(v2.encode(b"SCHEDULE", scheduling.Assign(1, [Assignment("a", "t", rule, 1e9, 1e9 + 9)])), 0.0)
    for now, wall in ((0.0, 1e9), (0.5, 1e9 + 0.46), (1.0, 1e9 + 0.96), (1.5, 1e9 + 1.46)):
        session.receive(v2.encode(b"HEARTBEAT", v2.Beat(wall, 1)), now)
    session.tick(9.9, 0.0)
    assert session.next_time() == pytest.approx(10.04)


def test_a_due_time_that_ran_with_other_arguments_is_not_asked_for_again(world: ScheduleWorld) -> None:
    world.start(b"s")
    world.run(1)
    world.schedule("a", Cron("*/20 * * * * *"), payload=calls.pack_call((1,), {}))
    world.run(20)
    (due,) = world.dues("a")
    world.step(clock=due - world.wall - 3)
    world.unschedule("a")
    world.schedule("a", Cron("*/20 * * * * *"), payload=calls.pack_call((2,), {}))
    world.run(27)
    world.each_once()
    assert world.dues("a") == [due, due + 20]
    assert world.router.refusals["conflict"] == 0


def test_the_router_says_that_a_clock_set_back_far_keeps_a_schedule_waiting(world: ScheduleWorld) -> None:
    world.start(b"s")
    world.schedule("a", Every(2))
    world.schedule("b", Every(60))
    world.run(3)
    world.step(clock=-70.0)
    world.run(limits.SWEEP_S + 1)
    assert world.shown("a")["overdue"]
    assert not world.shown("b")["overdue"]
    world.run(80)
    assert not world.shown("a")["overdue"]


# ---- what is in the way --------------------------------------------------------------------------------------


def test_a_key_that_is_taken_leaves_a_run_out_whatever_it_says_of_a_conflict(world: ScheduleWorld) -> None:
    world.start(b"s")
    world.run(1)
    world.outcome = ""
    world.enqueue(job("in the way", unique="key"))
    options = v2.pack_options(v2.Options(unique_scope="running", on_conflict="raise"))
    world.schedule("a", Every(2), unique="key", options=options)
    world.run(5)
    assert world.router.refusals["duplicate"] == 0
    assert world.shown("a")["last"] > world.wall - 2.2
    assert world.dues("a") == []


def test_an_end_that_passes_while_it_is_paused_ends_it_when_it_is_resumed(world: ScheduleWorld) -> None:
    world.start(b"s")
    world.schedule("a", Every(1, end=datetime.fromtimestamp(world.wall + 3, UTC)))
    world.run(1)
    schedules = world.router.schedules
    schedules.pause(schedules.entries["a"], True, world.wall)
    world.run(5)
    schedules.pause(schedules.entries["a"], False, world.wall)
    world.run(1)
    assert schedules.listed() == []


# ---- the 2020 release ------------------------------------------------------------------------------------------


def test_a_2020_scheduler_that_forgets_nothing_is_not_believed_as_long_as_it_lives(world: ScheduleWorld) -> None:
    world.turn((FRONTEND, [b"old", *v1.encode(b"INFORM", "i", "", "scheduler")]))
    world.schedule("a", Cron("* * * * *"))
    world.unschedule("a")
    for n in range(int(4 * limits.DEDUPE_S / 60)):
        for _ in range(6):
            world.turn((FRONTEND, [b"old", *v1.encode(b"HEARTBEAT", "h", "0")]), after=10.0)
        world.turn((FRONTEND, [b"old", *v1.encode(b"REQUEST", f"r{n}", "default", "guarantee", CALL)]))
    assert world.router.ledger.counts["accepted"] == 0, "its UNSCHEDULE leaves a cron schedule in its memory"
    world.turn((FRONTEND, [b"old", *v1.encode(b"KBYE", "k")]))
    world.wait(2 * limits.SWEEP_S, 1.0)
    assert world.router.schedules.entries == {}


# ---- too many ----------------------------------------------------------------------------------------------------


def test_schedules_that_are_over_leave_room_for_new_ones(world: ScheduleWorld, monkeypatch: Any) -> None:
    monkeypatch.setattr(limits, "SCHEDULES_MAX", 3)
    for n in range(10):
        world.run(0.1)
        assert world.schedule(f"{n}", Every(1)) == f"{n}"
        world.unschedule(f"{n}")
    assert len(world.router.schedules.entries) == 3
    world.restart()
    assert set(world.router.schedules.entries) == {"7", "8", "9"}


def test_modules_that_are_heard_of_once_do_not_pile_up(world: ScheduleWorld, monkeypatch: Any) -> None:
    monkeypatch.setattr(limits, "MODULES_MAX", 3)
    for n in range(10):
        declared = Schedule("a", "", Every(1), job("", name=f"shop{n}.a"))
        world.router.schedules.declare(f"shop{n}", 100.0 + n, [declared], world.wall)
        world.turn()
    facts = [fact for fact in world.store.load().facts if fact.startswith("module:")]
    assert sorted(facts) == ["module:shop0", "module:shop1", "module:shop9"]
    world.router.schedules.declare("shop9", 1.0, [], world.wall)
    assert world.router.schedules.listed() == ["a"], "of those that are known the newest counts"


def test_what_is_scheduled_again_and_again_does_not_pile_up_at_a_scheduler() -> None:
    agenda = Agenda()
    for n in range(20_000):
        agenda.put(Assignment(f"{n % 10}", f"{n}", Cron("0 0 1 1 *"), 1e9, 1e9), 1e9)
        agenda.put(Assignment(f"gone {n}", f"{n}", Cron("0 0 1 1 *"), 1e9, 1e9), 1e9)
        agenda.remove(f"gone {n}")
    assert len(agenda) == 10
    assert len(agenda._order) <= 20_000
