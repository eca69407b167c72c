"""What an operator should look at, turn by turn with a clock of the test's own; and the alarm, with a broken Router."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from schedule_world import ScheduleWorld
from test_operators import ask
from world import World, job

from eventmq import limits
from eventmq.broker.outbox import BACKEND, FRONTEND
from eventmq.broker.problems import CRITICAL, OLD_S, WARNING
from eventmq.broker.turns import Ranked
from eventmq.broker.watch import RECENT_S
from eventmq.protocol import v2
from eventmq.schedules.rule import Rule


def problems(world: World) -> dict[str, dict[str, Any]]:
    """By key, one of each; STATUS tells how many."""
    told = ask(world, "PROBLEMS")
    assert ask(world, "STATUS")["problems"] == len(told)
    assert [each["level"] for each in told] == sorted((each["level"] for each in told), key=[CRITICAL, WARNING].index)
    return {each["key"]: each for each in told}


@pytest.fixture
def world() -> World:
    return World()


def test_all_is_well(world: World) -> None:
    world.join(b"m", credit=9)
    world.enqueue(job("a"), job("b"))
    world.finish(b"m", *world.handed(b"m"))
    assert problems(world) == {}


def test_a_queue_that_nobody_serves(world: World) -> None:
    world.enqueue(job("a", queue="mail"), job("b", queue="mail"))
    assert problems(world) == {
        "no_worker": {
            "key": "no_worker",
            "level": "critical",
            "text": "queue 'mail' has 2 waiting jobs and no worker",
            "about": {"queue": "mail"},
        }
    }
    world.join(b"m", credit=9, queues=[(1, "mail")])
    assert problems(world) == {}


def test_what_operators_have_forgotten(world: World) -> None:
    world.join(b"m", credit=1)
    ask(world, "PAUSE", queue="default")
    assert problems(world) == {}, "an empty paused queue holds nobody up"
    world.enqueue(job("a"), job("b"))
    assert problems(world)["paused"]["text"] == "queue 'default' has 2 waiting jobs and is paused"
    ask(world, "LIMIT", queue="default", jobs_max=2)
    assert "has reached its bound of 2" in problems(world)["queue_full"]["text"]
    ask(world, "DRAIN", queue="default")
    assert set(problems(world)) == {"paused", "queue_full", "draining"}


def test_a_job_that_has_waited_long(world: World) -> None:
    world.join(b"m", credit=1)
    world.enqueue(job("a"))
    world.enqueue(job("b"), job("later", options=v2.pack({"delay_s": 350.0})))
    world.wait(OLD_S - 10, step=5)
    world.manager(b"m", b"READY", v2.Ready(1))
    assert problems(world) == {}
    for _ in range(6):
        world.wait(5, step=5)
        world.manager(b"m", b"READY", v2.Ready(1))
    assert problems(world)["waiting_long"]["text"] == (
        "queue 'default' has 1 waiting job; the oldest has waited for 5 m 20 s"
    )
    ask(world, "CANCEL", ids=["b"])
    world.wait(60, step=5)
    world.manager(b"m", b"READY", v2.Ready(1))
    assert "waiting_long" not in problems(world), "the other one waits since its time came"


def test_managers_that_are_silent_lost_or_expected(world: World) -> None:
    world.join(b"m", credit=2, name="web-1")
    world.enqueue(job("a"), job("b"))
    world.wait(6)
    assert problems(world)["manager_silent"]["text"].startswith("job manager web-1 was last heard 6.")
    world.turn(gone=[("backend", b"m")])
    world.wait(2)
    told = problems(world)["manager_lost"]
    assert told["text"].startswith("job manager web-1 was lost 1.")
    assert told["text"].endswith(" s ago with 2 jobs, and is not back")
    assert told["about"] == {"manager": "web-1"}
    world.join(b"m2", credit=2, name="web-1", nonce="again")
    assert problems(world) == {}
    world.restart()
    assert problems(world)["managers_expected"]["text"].endswith("the Router has restarted and waits for web-1")
    world.wait(11)
    assert set(problems(world)) == {"manager_lost", "no_worker"}
    world.wait(RECENT_S + 10, step=5)
    assert set(problems(world)) == {"no_worker"}


def test_a_lost_manager_whose_successor_came_first_is_no_problem(world: World) -> None:
    world.join(b"m", credit=2, name="web-1")
    world.restart()
    world.join(b"m2", credit=2, name="web-1", nonce="started while the Router was down")
    world.wait(11)
    assert "manager_lost" not in problems(world)


def test_a_manager_that_says_goodbye_is_no_problem(world: World) -> None:
    world.join(b"m", credit=2, name="web-1")
    world.manager(b"m", b"KBYE", v2.Empty())
    assert problems(world) == {}


def test_a_full_store(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    left = {"free_bytes": 100 << 20}
    info = world.store.info
    monkeypatch.setattr(world.store, "info", lambda: info() | left)
    assert problems(world)["store_low"]["text"].startswith("the store's disk has 100 MiB free")
    world.router.storage_full = True
    left["room"] = False
    assert problems(world)["store_full"]["level"] == "critical"


def test_schedules_that_nobody_ticks_or_that_do_not_succeed() -> None:
    world = ScheduleWorld()
    world.schedule("nightly", Rule(interval_s=60.0))
    assert problems(world)["no_scheduler"]["text"] == "1 schedule will not run: no scheduler is connected"
    world.wait(400, step=10)
    assert problems(world)["schedule_overdue"]["text"] == "schedule 'nightly' is overdue: no success for 3 periods"


def test_dead_letters_and_refusals_that_grow(world: World) -> None:
    world.join(b"m", credit=100)
    world.wait(6)
    world.enqueue(*(job(f"d{n}") for n in range(9)), *(job(f"g{n}") for n in range(9)))
    handed = world.handed(b"m")
    world.finish(b"m", *handed[:9], state="failed")
    world.finish(b"m", *handed[9:])
    assert "dead_growing" not in problems(world)
    world.enqueue(job("d9"))
    world.finish(b"m", world.handed(b"m")[-1], state="failed")
    assert problems(world)["dead_growing"]["text"] == (
        "10 jobs failed for good or were lost in the last 10 minutes, 53 % of those that ended"
    )
    for _ in range(10):
        world.enqueue(job("x" * 65))
    assert problems(world)["refusals_rising"]["text"].endswith("in the last 10 minutes: 10 invalid_job")
    for _ in range(70):
        world.wait(10, step=10)
        world.manager(b"m", b"READY", v2.Ready(100))
    assert problems(world) == {}, "that is long ago"


def test_work_that_could_move_and_does_not_is_an_alarm(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Router forgets that a queue has work, as a defect of ours would."""
    monkeypatch.setattr(Ranked, "has_work", lambda self, queue: None)
    world.join(b"m", credit=2)
    world.enqueue(job("a"))
    assert ask(world, "WHY", id="a")["reason"] == "next"
    for _ in range(4):
        world.wait(5)
        world.manager(b"m", b"READY", v2.Ready(2))
    told = problems(world)["stalled"]
    assert (told["level"], told["about"]) == ("critical", {"queue": "default"})
    assert "1 waiting job, job managers with free slots, and nothing has moved for 1" in told["text"]
    assert ask(world, "WHY", id="a")["reason"] == "stalled"
    assert [note.text for note in world.router.notes if note.key.startswith("stalled")] == [
        "queue 'default': jobs could be handed out, and nothing moves"
    ], "told once"
    monkeypatch.undo()
    ask(world, "RESUME", queue="default")
    world.wait(4)
    world.manager(b"m", b"READY", v2.Ready(2))
    world.wait(2)
    assert problems(world) == {}


def test_no_alarm_while_work_moves_or_nobody_has_credit(world: World) -> None:
    world.join(b"m", credit=1)
    for n in range(8):
        world.enqueue(job(f"a{n}"), job(f"b{n}"))
        world.wait(4)
        world.finish(b"m", world.handed(b"m")[-1], limit=n + 2)
        assert "stalled" not in problems(world)


def _stalled(world: World) -> list[str]:
    return [note.text for note in world.router.notes if note.key.startswith("stalled")]


def test_no_alarm_while_every_survey_finds_jobs_that_have_just_come(world: World) -> None:
    world.join(b"m", credit=100)
    for n in range(8):
        request = v2.encode(b"REQUEST", v2.Request(n, [job(f"j{n}")]))
        world.turn((FRONTEND, [b"client", *request]), (BACKEND, [b"m", *v2.encode(b"READY", v2.Ready(100))]), after=5.0)
    assert (len(world.handed(b"m")), _stalled(world)) == (8, [])


@pytest.mark.parametrize("why", ["paused", "ending"])
def test_no_alarm_where_nothing_is_to_move(world: World, why: str) -> None:
    world.join(b"m", credit=2)
    ask(world, "PAUSE", queue="default")
    world.enqueue(job("a"))
    if why == "ending":
        world.router.on_disconnect("", [])
        world.router.ledger.say("default", paused=False)
    for _ in range(6):
        world.wait(5)
        world.manager(b"m", b"READY", v2.Ready(2))
    assert _stalled(world) == []


def test_every_problem_is_documented() -> None:
    root = Path(__file__).parent.parent
    said = set(re.findall(r'_problem\("(\w+)"', (root / "src/eventmq/broker/problems.py").read_text()))
    text = (root / "docs/protocol.md").read_text()
    section = text[text.index("PROBLEMS tells") : text.index("### 3.5")]
    documented = set(re.findall(r"`([a-z_]+)`(?=[^|]*\| (?:critical|warning))", section))
    assert said == documented


def test_there_are_never_too_many(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PROBLEMS_MAX", 3)
    world.enqueue(*(job(f"j{n}", queue=f"q{n}") for n in range(9)))
    assert len(ask(world, "PROBLEMS")) == 3
