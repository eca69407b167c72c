"""What was handed out and has not begun goes to whoever is free, and a long job holds up no short ones. No sleeps: a
clock of the test's own, or simulated time."""

from __future__ import annotations

import pytest
from sim import mixture
from test_manager import Manager
from world import World, job

from eventmq.broker.outbox import BACKEND
from eventmq.protocol import v2
from eventmq.workers import messages


def recalls(world: World) -> list[object]:
    """Who was asked to give back, since last asked."""
    asked = [each.peer for each in world.sent if each.socket == BACKEND and each.frames[2] == b"RECALL"]
    world.sent = [each for each in world.sent if each.frames[2] != b"RECALL"]
    return asked


@pytest.fixture
def world() -> World:
    """`full` has four jobs and no credit left; `free` has credit and nothing to do."""
    world = World()
    world.join(b"full", credit=4)
    world.enqueue(*(job(str(n)) for n in range(4)))
    world.join(b"free", credit=2)
    return world


# ---- the Router --------------------------------------------------------------------------------------------


def test_a_full_manager_is_asked_once_while_another_is_idle(world: World) -> None:
    world.wait(2.0)
    assert recalls(world) == [b"full"]
    world.manager(b"free", b"READY", v2.Ready(0))
    world.finish(b"full", world.handed(b"full")[0], limit=5)
    world.enqueue(job("more"))
    assert world.handed(b"full")[-1].id == "more"
    world.wait(1.0)
    assert recalls(world) == []
    world.manager(b"free", b"READY", v2.Ready(2))
    world.wait(2.0)
    assert recalls(world) == [b"full"], "once for what is new"


def test_what_is_given_back_goes_to_the_idle_one_and_its_old_hand_out_is_void(world: World) -> None:
    world.wait(0.2)
    began, *rest = world.handed(b"full")
    world.finish(b"full", *rest[:2], state="returned")
    again = world.handed(b"free")
    assert [each.id for each in again] == [each.id for each in rest[:2]]
    assert all(new.lease > old.lease and new.attempt == 1 for new, old in zip(again, rest[:2], strict=True))
    world.finish(b"full", rest[0])
    assert world.router.ledger.counts["stale"] == 1
    assert world.info(rest[0].id)["state"] == "running"  # type: ignore[index]
    world.finish(b"full", began, rest[2])
    world.finish(b"free", *again)
    assert world.router.ledger.counts["succeeded"] == 4
    assert world.router.ledger.counts["redelivered"] == 0


@pytest.mark.parametrize("why", ["nobody is idle", "another queue", "eMQP/1.0", "shutting down"])
def test_nobody_is_asked_in_vain(why: str) -> None:
    world = World()
    if why == "eMQP/1.0":
        world.router.add_worker(b"old")
        world.router.requeue_worker(b"old")
    else:
        world.join(b"full", credit=2)
    world.enqueue(job("1"), job("2"))
    if why == "another queue":
        world.join(b"free", credit=2, queues=[(10, "other")])
    elif why != "nobody is idle":
        world.join(b"free", credit=2)
    if why == "shutting down":
        world.router.on_disconnect("", [])
    world.wait(1.0)
    assert recalls(world) == []


def test_credit_decides_how_a_few_jobs_are_shared() -> None:
    """One with one worker free gets a third of what one with three gets, and at least one when there is any."""
    world = World()
    world.join(b"busy", credit=10)
    world.join(b"free", credit=30)
    world.enqueue(*(job(str(n)) for n in range(12)))
    assert (len(world.handed(b"busy")), len(world.handed(b"free"))) == (4, 8)
    world.router.pool.remove(world.router.pool.managers[b"free"])
    world.enqueue(*(job(f"more{n}") for n in range(12)))
    assert len(world.handed(b"busy")) == 10


# ---- the manager -------------------------------------------------------------------------------------------


@pytest.fixture
def manager() -> Manager:
    made = Manager(2)
    made.ready(1, 2)
    made.accept()
    made.train()
    return made


def test_a_recall_empties_the_manager_but_for_what_has_begun(manager: Manager) -> None:
    manager.request(6)
    given = manager.given()
    assert [len(jobs) for jobs in given.values()] == [3, 3]
    manager.hears(b"RECALL", v2.Empty())
    assert [told for told in manager.told if told[1] == messages.Return()] == [
        (1, messages.Return()),
        (2, messages.Return()),
    ]
    manager.returned(1, *given[1][1:])
    assert {lease: each.state for lease, each in manager.outcomes().items()} == {
        each.lease: "returned" for each in given[1][1:]
    }
    manager.done(2, *given[2])  # it had begun them all
    manager.done(1, given[1][0])
    assert {each.state for each in manager.outcomes().values()} == {"succeeded"}


def test_what_a_stuck_worker_gives_back_after_a_recall_is_over_stays_here(manager: Manager) -> None:
    manager.request(4)
    given = manager.given()
    manager.hears(b"RECALL", v2.Empty())  # and they begin before they read it
    manager.done(1, *given[1])
    manager.done(2, *given[2])
    manager.outcomes()
    manager.request(4)
    given = manager.given()
    manager.returned(1, given[1][1])
    assert manager.outcomes() == {}
    assert manager.given() == {2: [given[1][1]]}


def test_a_worker_seen_on_one_job_for_long_gets_nothing_behind_it(manager: Manager) -> None:
    (slow,) = manager.request(1)
    ((worker, _),) = manager.given().items()
    manager.begin(worker, slow, ago=0.1)
    manager.turn()
    manager.request(4)
    assert worker not in manager.given()


# ---- all of them, on simulated time ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("managers", "arrivals"),
    [((2, 2), [(n * 0.002, 1) for n in range(500)]), ((8, 8), [(0.0, 500)])],
    ids=["one every 2 ms", "all at once"],
)
def test_a_long_job_leaves_the_latency_of_short_ones_as_it_is(
    managers: tuple[int, ...], arrivals: mixture.Arrivals
) -> None:
    """A job of 60 s among jobs of 1 ms and of its own name: their p99 grows by less than 10 %."""
    alone, beside = (mixture.p99(managers, arrivals, long) for long in (False, True))
    assert beside < 1.1 * alone
