"""What those who watch are told, turn by turn with a clock of the test's own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from test_operators import ask
from world import World, job

from eventmq import limits
from eventmq.broker.events import EVENTS, Events
from eventmq.broker.ledger import Ledger
from eventmq.protocol import v2


class Watcher:
    """Somebody who watches."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.missed = 0
        self.next = ask(world, "EVENTS")["next"]

    def read(self, **params: Any) -> list[dict[str, Any]]:
        page = ask(self.world, "EVENTS", after=self.next, **params)
        self.missed, self.next = page["missed"], page["next"]
        events: list[dict[str, Any]] = page["events"]
        return events

    def words(self) -> list[str]:
        return [f"{each['event']} {each.get('id', '')}".strip() for each in self.read()]


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def watcher(world: World) -> Watcher:
    return Watcher(world)


def test_a_job_is_followed_from_its_acceptance_to_its_end(world: World, watcher: Watcher) -> None:
    world.join(b"m", credit=1, name="web-1")
    world.enqueue(job("a", options=v2.pack({"retries": 1})))
    world.finish(b"m", *world.handed(b"m"), state="failed", limit=2)
    world.finish(b"m", world.handed(b"m")[-1], limit=2)
    events = watcher.read()
    assert [each["event"] for each in events] == [
        "manager_joined", "enqueued", "started", "failed", "started", "succeeded",
    ]  # fmt: skip
    told = {"id": "a", "queue": "default", "name": "tasks.add"}
    at = {"at": pytest.approx(world.wall, abs=1), "n": events[-1]["n"]}
    assert events[3] | at == {
        **at, "event": "failed", **told, "attempt": 2, "error": "builtins.ValueError: no", "run_s": 0.001,
    }  # fmt: skip
    assert events[-1] == {**at, "event": "succeeded", **told, "attempt": 2, "worker": "web-1", "run_s": 0.001}
    assert (watcher.read(), watcher.missed) == ([], 0)


def test_every_end_and_every_order_is_told(world: World, watcher: Watcher) -> None:
    world.join(b"m", credit=3)
    once = v2.pack({"redeliver": False})
    world.enqueue(job("bad"), job("once", options=once), job("runs"), job("late", options=v2.pack({"expires_s": 1.0})))
    bad, lost, _ = world.handed(b"m")
    world.finish(b"m", bad, state="failed", limit=3)
    world.finish(b"m", lost, state="crashed", limit=3)
    watcher.read()
    ask(world, "PAUSE", queue="default")
    world.wait(2)
    ask(world, "CANCEL", ids=["runs"])
    ask(world, "REQUEUE", ids=["bad", "runs"])
    ask(world, "PURGE", states=["lost"])
    ask(world, "RESUME", queue="default")
    ask(world, "LIMIT", queue="default", jobs_max=9)
    ask(world, "DRAIN", queue="default")
    world.manager(b"m", b"KBYE", v2.Empty())
    world.join(b"n")
    world.turn(gone=[("backend", b"n")])
    world.wait(2)
    assert watcher.words() == [
        "queue_paused", "expired late", "cancelled runs", "requeued bad", "purged once", "queue_resumed",
        "queue_limited", "queue_drained", "manager_left", "manager_joined", "manager_lost",
    ]  # fmt: skip


def test_nothing_is_noted_while_nobody_watches(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    observed = []
    monkeypatch.setattr(Events, "observe", lambda self, ledger, wall: observed.append(wall))
    world.enqueue(job("a"))
    world.router.tell("manager_joined")
    assert (observed, len(world.router.events._ring)) == ([], 0)
    ask(world, "EVENTS")
    world.enqueue(job("b"))
    assert observed
    world.wait(limits.EVENTS_KEEP_S + 1, step=1)
    observed.clear()
    world.enqueue(job("c"))
    assert observed == []


def test_who_asks_too_late_learns_that_there_is_a_gap(world: World, watcher: Watcher) -> None:
    world.wait(limits.EVENTS_KEEP_S + 1, step=1)
    world.enqueue(job("a"))
    assert (watcher.words(), watcher.missed) == ([], 1)
    world.enqueue(job("b"))
    assert (watcher.words(), watcher.missed) == (["enqueued b"], 0)


def test_the_ring_forgets_the_oldest_and_says_how_many(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "EVENTS_MAX", 5)
    watcher = Watcher(world := World())
    for n in range(9):
        world.enqueue(job(f"j{n}"))
    assert (watcher.words(), watcher.missed) == ([f"enqueued j{n}" for n in range(4, 9)], 4)


def test_pages_follow_each_other(world: World, watcher: Watcher) -> None:
    world.enqueue(*(job(f"j{n}") for n in range(7)))
    pages = [[each["id"] for each in watcher.read(limit=3)] for _ in range(4)]
    assert pages == [["j0", "j1", "j2"], ["j3", "j4", "j5"], ["j6"], []]
    assert watcher.missed == 0


def test_of_a_busy_router_only_some_is_told(world: World, watcher: Watcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "EVENTS_AT_ONCE", 10)
    world.enqueue(*(job(f"j{n}") for n in range(50)))
    assert (len(watcher.read()), watcher.missed) == (10, 40)
    world.enqueue(job("x"))
    assert (watcher.words(), watcher.missed) == (["enqueued x"], 0)


def test_a_restart_is_a_gap_and_numbers_go_on(world: World, watcher: Watcher) -> None:
    world.enqueue(job("a"))
    before = watcher.next
    world.restart()
    assert (watcher.words(), watcher.next > before) == ([], True)
    assert 0 < watcher.missed <= 2, "how many were lost nobody knows"
    world.enqueue(job("b"))
    assert (watcher.words(), watcher.missed) == (["enqueued b"], 0)


def test_a_number_of_the_future_is_taken_for_now(world: World, watcher: Watcher) -> None:
    page = ask(world, "EVENTS", after=1 << 62)
    assert (page["events"], page["missed"], page["next"]) == ([], 0, watcher.next)


def test_two_who_watch_are_told_the_same(world: World, watcher: Watcher) -> None:
    other = Watcher(world)
    world.enqueue(job("a"))
    assert watcher.words() == other.words() == ["enqueued a"]


def test_what_is_undone_is_not_told(world: World, watcher: Watcher, monkeypatch: pytest.MonkeyPatch) -> None:
    noted: list[Ledger] = []
    monkeypatch.setattr(Events, "observe", lambda self, ledger, wall: noted.append(ledger))
    monkeypatch.setattr(world.store, "apply", _full(world.store.apply))
    assert world.client(b"c", b"REQUEST", v2.Request(1, [job("a")])) == []
    assert not any(ledger.changes.added for ledger in noted)


def _full(right: Any) -> Any:
    from eventmq.errors import StorageFull

    def apply(changes: Any) -> None:
        if changes.added:
            raise StorageFull("no room")
        right(changes)

    return apply


def test_every_event_is_documented() -> None:
    text = (Path(__file__).parent.parent / "docs/protocol.md").read_text()
    section = text[text.index("EVENTS tells") : text.index("PROBLEMS tells")]
    heads = "".join(re.findall(r"^\| (`[^|]*) \|", section, re.MULTILINE))
    assert set(re.findall(r"`(\w+)`", heads)) == EVENTS
