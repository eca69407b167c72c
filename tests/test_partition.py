"""A manager and its Router out of each other's sight: what each does meanwhile, with the time as an argument."""

from __future__ import annotations

import pytest
from test_manager import Manager
from world import World, job

from eventmq import limits
from eventmq.broker.outbox import ADMINISTRATIVE, BACKEND, Send
from eventmq.protocol import v1, v2

STOP = v2.pack_options(v2.Options(on_partition="stop"))
WHOLE_S = limits.LEASE_S + limits.LEASE_MARGIN_S


# ---- the manager -----------------------------------------------------------------------------------


@pytest.fixture
def manager() -> Manager:
    made = Manager()
    made.ready(1, 2)
    made.accept()
    return made


def clocks(manager: Manager) -> list[float]:
    """Of the beats that it has sent."""
    return [v2.decode(frames[3], v2.Beat).clock for frames in manager.all_frames if frames[2] == b"HEARTBEAT"]


def hear(manager: Manager, clock: float) -> None:
    """A beat of the Router, which has last heard a beat of this time."""
    manager.hears(b"HEARTBEAT", v2.Beat(0.0, manager.sent, clock))


@pytest.mark.parametrize("one_way", [False, True])
def test_it_kills_what_is_to_stop_when_the_router_has_not_heard_it_for_the_lease(
    manager: Manager, one_way: bool
) -> None:
    (stop, other) = (manager.request(1, options=STOP), manager.request(1))
    (mine, *_), (theirs, *_) = stop, other
    given = {job.lease: worker for worker, jobs in manager.given().items() for job in jobs}
    for each in (mine, theirs):
        manager.begin(given[each.lease], each)
    manager.turn(0.6)
    last = clocks(manager)[-1]
    hear(manager, last)
    while manager.now < last + limits.LEASE_S - 0.2:
        manager.turn(0.1)
        if one_way:
            hear(manager, last)  # it hears the Router well, and is not heard
    assert manager.killed == []
    manager.pass_time(0.3)
    assert manager.killed == [given[mine.lease]]
    assert any("cut off" in text for text in manager.reports)
    manager.dies(given[mine.lease], running=mine)
    if one_way:
        assert manager.outcomes()[mine.lease].state == "interrupted"
    else:
        assert mine.lease in {held.lease for held in manager.accept().held}, "told when the connection is back"
    assert theirs in manager.foreman.held()


def test_it_goes_on_while_it_is_heard(manager: Manager) -> None:
    (mine,) = manager.request(1, options=STOP)
    ((worker, _),) = manager.given().items()
    manager.begin(worker, mine)
    for _ in range(400):
        manager.turn(0.1)
        hear(manager, clocks(manager)[-1])
    assert manager.killed == []


def test_what_has_not_begun_is_given_back(manager: Manager) -> None:
    manager.request(2)
    (third,) = manager.request(1, options=STOP)
    manager.foreman._pool.returns = False  # else it would have gone back long before
    manager.pass_time(limits.LEASE_S + 0.3)
    assert third not in manager.foreman.held()


def test_it_is_alone_in_its_worker(manager: Manager) -> None:
    manager.train()
    manager.request(1, options=STOP)
    manager.request(6)
    by_worker = [[bool(job.options) for job in jobs] for jobs in manager.given().values()]
    assert sorted(by_worker, key=len)[0] == [True]


def test_the_routers_order_to_leave_is_no_hurry_when_repeated(manager: Manager) -> None:
    (mine,) = manager.request(1)
    manager.begin(1, mine)
    for _ in range(3):
        manager.hears(b"DISCONNECT", v2.Empty())
    manager.turn(1.0)
    assert manager.killed == []


# ---- the Router ------------------------------------------------------------------------------------


@pytest.fixture
def world() -> World:
    return World()


def state(world: World) -> str:
    info = world.info("a")
    return "" if info is None else str(info["state"])


def test_the_router_repeats_the_clock_that_it_heard(world: World) -> None:
    world.join(b"m", credit=1)
    world.manager(b"m", b"HEARTBEAT", v2.Beat(0.0, 1, 77.5))
    sent = [each for _ in range(8) for each in world.turn(after=0.1)]
    assert [v2.decode(each.frames[3], v2.Beat).clock for each in sent if each.frames[2] == b"HEARTBEAT"][-1] == 77.5


def test_it_beats_also_when_it_hands_out_all_the_time(world: World) -> None:
    world.join(b"m", credit=1000)
    sent: list[Send] = []
    for n in range(12):
        world.enqueue(job(f"j{n}"))
        sent += world.turn(after=0.1)
    assert any(each.peer == b"m" and each.frames[2] == b"HEARTBEAT" for each in sent)


def test_a_wall_clock_that_is_set_forward_stops_no_run(world: World) -> None:
    world.join(b"m", credit=1)
    world.enqueue(job("a", options=STOP))
    heard = world.now
    world.join(b"n", credit=1)
    world.turn(gone=[(BACKEND, b"m")])
    world.wait(limits.SUSPECT_GRACE_S + 0.2)
    world.wall += 3600.0
    while not world.handed(b"n"):
        world.turn((BACKEND, [b"n", *v2.encode(b"HEARTBEAT", v2.Beat(0.0, 1))]), after=0.1)
        assert world.now < heard + WHOLE_S + 1.0
    assert world.now >= heard + WHOLE_S - 0.1


@pytest.mark.parametrize("restart", [False, True])
def test_others_get_it_when_the_manager_has_stopped_it_and_not_before(world: World, restart: bool) -> None:
    world.join(b"m", credit=1)
    world.enqueue(job("a", options=STOP))
    heard = world.now
    world.join(b"n", credit=1)
    world.turn(gone=[(BACKEND, b"m")])
    world.wait(limits.SUSPECT_GRACE_S + 0.2)
    assert state(world) == "delayed"
    if restart:
        world.restart()
        world.join(b"n2", credit=1, name="n")
    while not (world.handed(b"n") or world.handed(b"n2")):
        world.turn((BACKEND, [b"n2" if restart else b"n", *v2.encode(b"HEARTBEAT", v2.Beat(0.0, 1))]), after=0.1)
        assert world.now < heard + WHOLE_S + 1.0
    assert world.now >= heard + WHOLE_S - 0.1


def test_one_that_was_stopped_and_told_waits_at_once_and_has_not_failed(world: World) -> None:
    world.join(b"m", credit=9)
    world.enqueue(job("a", options=v2.pack_options(v2.Options(on_partition="stop", retries=1))))
    world.finish(b"m", *world.handed(b"m"), state="interrupted")
    world.turn()
    assert [(j.attempt, j.failures) for j in world.handed(b"m")] == [(1, 0), (2, 0)]


# ---- neither a crash nor a lost manager nor a drain uses up a retry ------------------------------------


def test_a_lost_manager_and_a_drain_use_up_no_retry(world: World) -> None:
    world.enqueue(job("a", options=v2.pack_options(v2.Options(retries=1))))
    world.join(b"m", credit=1)
    world.turn(gone=[(BACKEND, b"m")])
    world.wait(limits.SUSPECT_GRACE_S + 0.2)
    world.join(b"n", credit=9)
    world.finish(b"n", world.handed(b"n")[-1], state="interrupted")
    world.turn()
    world.finish(b"n", world.handed(b"n")[-1], state="failed")
    world.turn()
    assert [(j.attempt, j.failures) for j in world.handed(b"n")] == [(2, 0), (3, 0), (4, 1)]


# ---- told to leave ---------------------------------------------------------------------------------


def drain(world: World, name: str) -> dict[str, int]:
    body = v2.Question(1, {"manager": name})
    sent = world.turn((ADMINISTRATIVE, [b"o", *v2.encode(b"DRAIN_MANAGER", body)]))
    (answer,) = [v2.decode(each.frames[3], v2.Answer).answer for each in sent if each.peer == b"o"]
    told: dict[str, int] = answer
    return told


def orders(world: World, peer: bytes) -> int:
    return sum(each.peer == peer and each.frames[2] == b"DISCONNECT" for each in world.sent)


def test_a_manager_that_is_to_leave_gets_no_more_and_hears_of_it_again_when_it_is_back(world: World) -> None:
    world.join(b"m", credit=5)
    world.enqueue(job("a"))
    assert drain(world, "m") == {"m": 1}
    assert drain(world, "nobody") == {}
    world.enqueue(job("b"))
    assert [j.id for j in world.handed(b"m")] == ["a"]
    world.clear()
    world.join(b"m2", credit=5, name="m", held=[v2.Held("a", 1 + (1 << 32))])
    assert orders(world, b"m2") == 1
    assert world.handed(b"m2") == []


def test_a_1_0_manager_is_told_in_its_own_words(world: World) -> None:
    world.turn((BACKEND, [b"old", *v1.encode(b"INFORM", "i", "", "worker")]))
    world.turn((BACKEND, [b"old", *v1.encode(b"READY", "r")]))
    drain(world, "old")
    world.enqueue(job("a"))
    assert len(world.frames_1_0(b"old", b"DISCONNECT")) == 1
    assert world.frames_1_0(b"old", b"REQUEST") == []


@pytest.mark.parametrize("wire", ["2.0", "1.0"])
def test_the_retries_of_a_2020_client_are_honoured(world: World, wire: str) -> None:
    """A 1.0 manager's REPLY cannot tell an exception from a value; of a timeout it can."""
    payload = b'["run", {"path": "tasks", "callable": "add"}]'
    headers = v1.format_headers(v1.Headers(retry_count=1))
    world.turn(("frontend", [b"c", *v1.encode(b"REQUEST", "a", "default", headers, payload)]))
    if wire == "2.0":
        world.join(b"m", credit=9)
        for _ in range(2):
            world.finish(b"m", world.handed(b"m")[-1], state="failed")
            world.turn()
        assert len(world.handed(b"m")) == 2
    else:
        world.turn((BACKEND, [b"old", *v1.encode(b"INFORM", "i", "", "worker")]))
        for _ in range(3):
            world.turn((BACKEND, [b"old", *v1.encode(b"READY", "r")]))
        for _ in range(2):
            reply = v1.encode(b"REPLY", "x", v1.format_value(v1.TIMEOUT_VALUE), "a")
            world.turn((BACKEND, [b"old", *reply]))
        assert len(world.frames_1_0(b"old", b"REQUEST")) == 2
    assert state(world) == "dead"


def test_a_manager_that_is_back_in_time_holds_nothing_back_any_more() -> None:
    """What it then says of the job is known, so a retry comes when its options say."""
    world = World()
    again = v2.pack_options(v2.Options(on_partition="stop", retries=1, retry_delays_s=(1.0,)))
    world.join(b"m", credit=1)
    world.enqueue(job("a", options=again))
    (handed,) = world.handed(b"m")
    world.turn(gone=[(BACKEND, b"m")])
    world.wait(limits.SUSPECT_GRACE_S + 0.2)
    (verdict,) = world.join(b"m2", credit=2, name="m", held=[v2.Held("a", handed.lease)])
    assert verdict.verdict == "keep"
    world.finish(b"m2", handed, state="failed")
    world.wait(1.5)
    assert [each.id for each in world.handed(b"m2")] == ["a"]
