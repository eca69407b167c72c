"""What the Router decides, turn by turn, with a clock of the test's own."""

from __future__ import annotations

from random import Random

import pytest
from world import World, job

from eventmq import limits
from eventmq.broker.outbox import ADMINISTRATIVE, BACKEND, FRONTEND, Send
from eventmq.broker.pool import Manager
from eventmq.errors import StorageFull
from eventmq.protocol import v1, v2
from eventmq.store.base import Changes


@pytest.fixture
def world() -> World:
    return World()


# ---- accepting -------------------------------------------------------------------------------------


def test_a_job_goes_from_client_to_manager_and_its_result_back(world: World) -> None:
    world.join(b"m", credit=1)
    assert world.enqueue(job("a")).refusals == []
    world.client(b"client", b"WAIT", v2.Wait(2, ["a"]))
    (handed,) = world.handed(b"m")
    assert (handed.id, handed.name, handed.attempt) == ("a", "tasks.add", 1)
    world.finish(b"m", handed, value=3)
    (result,) = world.results(b"client")
    assert (result.id, result.state, v2.unpack(result.value)) == ("a", "succeeded", 3)


def test_a_manager_is_sent_its_jobs_before_their_client_hears_of_them(world: World) -> None:
    world.join(b"m", credit=2)
    world.enqueue(job("a"), job("b"))
    ways = [(each.peer, each.frames[2]) for each in world.sent[-2:]]
    assert ways == [(b"m", b"REQUEST"), (b"client", b"ACK")]


def test_what_nobody_waits_for_is_done_when_the_messages_have_left(world: World) -> None:
    class Sockets:
        def wait(self, until: float) -> list[str]:
            return []

        def receive(self, ready: list[str]) -> tuple[list[tuple[str, list[bytes]]], bool]:
            return [], True

        def send(self, messages: list[Send]) -> list[tuple[str, bytes]]:
            done.append("send")
            return []

    done: list[str] = []
    world.store.upkeep = lambda: done.append("upkeep")  # type: ignore[method-assign]
    world.router.sockets = Sockets()  # type: ignore[assignment]
    world.router.loop_once()
    assert done == ["send", "upkeep"]


def test_a_request_is_not_acknowledged_before_it_is_applied(world: World) -> None:
    applied: list[int] = []
    apply = world.store.apply

    def fail(changes: object) -> None:
        applied.append(1)
        raise RuntimeError("power cut")

    world.store.apply = fail  # type: ignore[method-assign,assignment]
    with pytest.raises(RuntimeError):
        world.enqueue(job("a"))
    assert applied
    assert world.sent == []
    world.store.apply = apply  # type: ignore[method-assign]


def test_the_same_id_again_is_acknowledged_and_stored_once(world: World) -> None:
    for _ in range(3):
        assert world.enqueue(job("a")).refusals == []
    assert world.enqueue(job("b"), job("b")).refusals == []
    world.join(b"m", credit=10)
    assert [j.id for j in world.handed(b"m")] == ["a", "b"]
    world.finish(b"m", *world.handed(b"m"))
    assert world.enqueue(job("a")).refusals == []
    world.wait(1)
    assert len(world.handed(b"m")) == 2


def test_a_job_that_was_cancelled_in_this_very_turn_does_not_come_back_with_its_request(world: World) -> None:
    request, cancel = v2.encode(b"REQUEST", v2.Request(1, [job("a")])), v2.encode(b"CANCEL", v2.Cancel(2, ["a"]))
    world.turn(*[(FRONTEND, [b"client", *frames]) for frames in (request, cancel, request)])
    world.join(b"m", credit=1)
    assert world.handed(b"m") == []


def test_the_same_id_for_another_job_is_a_conflict(world: World) -> None:
    world.enqueue(job("a"))
    (refusal,) = world.enqueue(job("a", name="tasks.other")).refusals
    assert (refusal.id, refusal.reason) == ("a", "conflict")


def test_a_conflict_is_seen_with_a_job_that_is_only_in_the_store(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HEAD_JOBS_MAX", 2)
    world.enqueue(*(job(f"j{i}") for i in range(10)))
    assert "j9" not in world.router.ledger.live
    assert world.enqueue(job("j9")).refusals == []
    (refusal,) = world.enqueue(job("j9", name="tasks.other")).refusals
    assert refusal.reason == "conflict"


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (job(""), "invalid_job"),
        (job("x" * 65), "invalid_job"),
        (job("a", queue=""), "invalid_job"),
        (job("a", name="n" * 201), "invalid_job"),
        (job("a", priority=101), "invalid_job"),
        (job("a", options=b"\xff"), "invalid_job"),
        (job("a", options=v2.pack({"no_such_option": 1})), "invalid_job"),
        (job("a", payload=b"x" * (limits.PAYLOAD_BYTES_MAX + 1)), "too_large"),
    ],
)
def test_a_bad_job_is_refused_with_its_reason_and_its_neighbours_are_not(
    world: World, bad: v2.Job, reason: str
) -> None:
    ack = world.enqueue(job("before"), bad, job("after"))
    assert [r.reason for r in ack.refusals] == [reason]
    assert world.router.refusals[reason] == 1
    world.join(b"m", credit=10)
    assert [j.id for j in world.handed(b"m")] == ["before", "after"]


@pytest.mark.parametrize("field", v2.Job.__struct_fields__[7:])
def test_what_a_client_sets_of_the_routers_own_fields_is_overwritten(world: World, field: str) -> None:
    world.enqueue(job("a", **{field: 7}))
    accepted = world.wall
    world.join(b"m", credit=1)
    (handed,) = world.handed(b"m")
    assert handed.lease > 7
    assert handed == job("a", created=accepted, lease=handed.lease, seq=1)


@pytest.mark.parametrize("queues", [1, 5, 40])
def test_memory_holds_as_many_jobs_however_many_queues_they_are_in(
    queues: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, bound in (("HEAD_JOBS_MAX", 100), ("PAGE_JOBS", 10), ("SMALL_PAGE_JOBS", 2)):
        monkeypatch.setattr(limits, name, bound)
    world = World()
    for n in range(0, 800, 20):
        world.enqueue(*(job(f"{i:03}", f"q{i % queues}") for i in range(n, n + 20)))
    for _ in range(2):
        assert len(world.router.ledger.live) <= 100 + max(10, queues * 2)
        world.restart()
    world.join(b"m", queues=[(10, f"q{n}") for n in range(queues)], credit=1_000)
    world.wait(1.0, 0.001)
    ids = [[each.id for each in world.handed(b"m") if each.queue == f"q{n}"] for n in range(queues)]
    assert sum(map(len, ids)) == 800
    assert all(some == sorted(some) for some in ids)
    world.finish(b"m", *world.handed(b"m"))
    assert (world.router.ledger.room.jobs, world.router.ledger.room.bytes) == (0, 0)


def batches(random: Random) -> list[list[v2.Job]]:
    """REQUESTs of many jobs: mostly alike, some that are wrong or there already, more than a head may hold."""
    options = [b"", v2.pack({"timeout_s": 9.0}), v2.pack({"result_ttl_s": 0.0}), v2.pack({"delay_s": 0.002})]
    made = []
    for n in range(40):
        alike = {"queue": random.choice("ab"), "priority": random.choice((0, 0, 5)), "options": random.choice(options)}
        batch = [job(f"{n}-{k}", **alike, attempt=7, due=3.0) for k in range(random.randint(1, 12))]
        odd = [job("", **alike), job("x", name="", **alike), job("0-0", **alike), job(f"{n}-u", unique=f"{n}", **alike)]
        made.append(batch + random.choices([*odd, batch[0], job("y", "c")], k=random.choice((0, 0, 0, 1))))
    return made


@pytest.mark.parametrize("seed", range(8))
def test_jobs_in_bulk_fare_as_each_would_by_itself(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HEAD_JOBS_MAX", 30)
    monkeypatch.setattr(limits, "HEADS_BYTES_MAX", 100 + 10 * seed)
    bulk, single = World(queue_jobs_max=(("a", 20),)), World(queue_jobs_max=(("a", 20),))
    ledger = single.router.ledger
    monkeypatch.setattr(ledger, "_accept_alike", lambda jobs, wall: False)

    def succeed(plain: list[tuple[v2.Job, v2.Outcome]], manager: Manager, wall: float) -> None:
        for each, outcome in plain:
            ledger.leases[each.id] = (each, manager, 0.0)
            ledger._end(each, manager, "succeed", wall, outcome.value, None, outcome.run_s)

    monkeypatch.setattr(ledger, "_succeed", succeed)
    for world in (bulk, single):
        random = Random(seed)
        world.join(b"m", queues=[(10, "a"), (10, "b")], fair=seed % 2 == 0)
        for batch in batches(random):
            request = v2.encode(b"REQUEST", v2.Request(1, batch))
            world.turn(*[(FRONTEND, [b"client", *request])] * random.choice((1, 1, 2)))
            world.manager(b"m", b"READY", v2.Ready(world.router.pool.managers[b"m"].sent + random.randint(0, 9)))
            held = world.router.ledger.held_by(world.router.pool.managers[b"m"])
            world.finish(b"m", *random.sample(held, random.randint(0, len(held))), limit=1)
    assert bulk.sent == single.sent
    assert bulk.router.ledger.counts == single.router.ledger.counts
    assert bulk.router.ledger.room.bytes == single.router.ledger.room.bytes
    assert bulk.router.pool.managers[b"m"].finished == single.router.pool.managers[b"m"].finished
    assert bulk.store.load() == single.store.load()
    ids = [each.id for batch in batches(Random(seed)) for each in batch]
    assert bulk.store.find(ids) == single.store.find(ids)


def test_what_was_looked_up_counts_until_the_next_commit_be_it_in_the_same_turn(world: World) -> None:
    payload = '["run", {"path": "tasks", "callable": "add", "args": [1, 2]}]'
    request = (FRONTEND, [b"old", *v1.encode(b"REQUEST", "a", "default", "", payload)])
    cancel = (FRONTEND, [b"client", *v2.encode(b"CANCEL", v2.Cancel(1, ["a"]))])
    commit = (BACKEND, [b"m", *v2.encode(b"INFORM", v2.Inform(1, "m", "nonce", []))])
    world.turn(request, cancel, commit, request)
    world.manager(b"m", b"READY", v2.Ready(1))
    assert world.handed(b"m") == []


def test_more_queues_than_allowed_are_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "QUEUES_MAX", 2)
    ack = world.enqueue(*(job(f"j{i}", queue=f"q{i}") for i in range(2)))
    assert ack.refusals == []
    (refusal,) = world.enqueue(job("j3", queue="q3")).refusals
    assert refusal.reason == "too_large"


# ---- order and credit ------------------------------------------------------------------------------


def test_order_is_by_priority_then_arrival(world: World) -> None:
    world.enqueue(job("low", priority=-1), job("a"), job("b"), job("high", priority=5), job("c"))
    world.join(b"m", credit=10)
    assert [j.id for j in world.handed(b"m")] == ["high", "a", "b", "c", "low"]


def test_no_more_than_the_credit_is_handed_out(world: World) -> None:
    world.enqueue(*(job(f"j{i}") for i in range(10)))
    world.join(b"m", credit=3)
    assert len(world.handed(b"m")) == 3
    world.wait(2)
    assert len(world.handed(b"m")) == 3
    world.manager(b"m", b"READY", v2.Ready(3))
    assert len(world.handed(b"m")) == 3
    world.finish(b"m", world.handed(b"m")[0], limit=4)
    assert [j.id for j in world.handed(b"m")] == ["j0", "j1", "j2", "j3"]


def test_the_heavier_queue_comes_first_and_equal_ones_take_turns(world: World) -> None:
    for i in range(3):
        world.enqueue(job(f"d{i}"), job(f"e{i}", queue="email"), job(f"x{i}", queue="x"))
    world.join(b"m", queues=[(10, "default"), (15, "email"), (10, "x")])
    for limit in range(1, 10):
        world.manager(b"m", b"READY", v2.Ready(limit))
    assert [j.id for j in world.handed(b"m")] == ["e0", "e1", "e2", "d0", "x0", "d1", "x1", "d2", "x2"]


def test_work_is_shared_between_idle_managers_least_recently_used_first(world: World) -> None:
    for name in (b"m1", b"m2", b"m3"):
        world.join(name, credit=2)
    world.enqueue(*(job(f"j{i}") for i in range(3)))
    assert [[j.id for j in world.handed(m)] for m in (b"m1", b"m2", b"m3")] == [["j0"], ["j1"], ["j2"]]
    world.enqueue(job("j3"))
    assert [j.id for j in world.handed(b"m1")] == ["j0", "j3"]


def test_a_queue_that_nobody_serves_keeps_its_jobs(world: World) -> None:
    world.join(b"m", credit=5)
    world.enqueue(job("a", queue="nobody"))
    world.wait(1)
    assert world.handed(b"m") == []
    world.join(b"n", credit=1, queues=[(10, "nobody")])
    assert [j.id for j in world.handed(b"n")] == ["a"]


def test_a_message_number_tells_a_manager_how_much_was_sent(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BATCH_JOBS_MAX", 4)
    world.join(b"m", credit=100)
    for start in (0, 4, 8):
        world.enqueue(*(job(f"j{i}") for i in range(start, start + 4)))
    numbers = [v2.decode(s.frames[3], v2.Request).n for s in world.sent if s.frames[2] == b"REQUEST"]
    assert numbers == [4, 8, 12]


# ---- leases ----------------------------------------------------------------------------------------


def test_a_stale_outcome_changes_nothing(world: World) -> None:
    world.join(b"m", credit=1)
    world.join(b"n")
    world.enqueue(job("a"))
    (first,) = world.handed(b"m")
    world.turn(gone=[(BACKEND, b"m")])
    world.wait(2)
    world.manager(b"n", b"READY", v2.Ready(1))
    (second,) = world.handed(b"n")
    assert second.lease > first.lease
    assert second.attempt == 2
    world.finish(b"n", first)
    assert world.router.ledger.counts["stale"] == 1
    assert world.info("a")["state"] == "running"  # type: ignore[index]
    world.finish(b"n", second, value=1)
    world.finish(b"n", second, state="failed")
    assert world.info("a")["state"] == "succeeded"  # type: ignore[index]


def test_a_crash_is_redelivered_until_the_limit_and_then_dead_with_its_cause(world: World) -> None:
    world.join(b"m", credit=10)
    world.enqueue(job("a"))
    for attempt in (1, 2, 3):
        handed = world.handed(b"m")[-1]
        assert handed.attempt == attempt
        world.finish(b"m", handed, state="crashed")
        world.turn()
    assert len(world.handed(b"m")) == 3
    info = world.info("a")
    assert info is not None
    assert info["state"] == "dead"
    assert info["crashes"] == 3
    assert "crash 3" in info["failure"]["message"]


def test_a_returned_job_keeps_its_attempt_and_its_place(world: World) -> None:
    world.join(b"m", credit=2)
    world.enqueue(*(job(f"j{i}") for i in range(4)))
    world.finish(b"m", *world.handed(b"m"), state="returned", limit=2)
    world.clear()
    world.manager(b"m", b"READY", v2.Ready(6))
    assert [(j.id, j.attempt) for j in world.handed(b"m")] == [(f"j{i}", 1) for i in range(4)]


def test_a_failed_job_is_dead_and_its_error_is_kept(world: World) -> None:
    world.join(b"m", credit=1)
    world.enqueue(job("a"))
    world.finish(b"m", *world.handed(b"m"), state="failed")
    world.client(b"client", b"WAIT", v2.Wait(1, ["a", "nowhere"]))
    known, unknown = world.results(b"client")
    assert known.state == "dead"
    assert known.failure is not None
    assert known.failure.type == "builtins.ValueError"
    assert unknown.state == "unknown"


def test_a_dead_connection_gives_jobs_back_within_two_seconds(world: World) -> None:
    world.join(b"m", credit=1)
    world.join(b"n", credit=1)
    world.enqueue(job("a"))
    (handed,) = world.handed(b"m")
    before = world.now
    world.turn(gone=[(BACKEND, b"m")])
    while not world.handed(b"n"):
        world.turn(after=0.1)
        assert world.now - before < 2
    assert world.handed(b"n")[0].attempt == handed.attempt + 1


def test_a_manager_that_is_heard_again_in_time_keeps_its_jobs(world: World) -> None:
    world.join(b"m", credit=1)
    world.enqueue(job("a"))
    world.turn(gone=[(BACKEND, b"m")])
    world.wait(0.8)
    world.manager(b"m", b"HEARTBEAT", v2.Beat(0.0, 1))
    world.wait(5)
    assert len(world.handed(b"m")) == 1
    assert world.info("a")["state"] == "running"  # type: ignore[index]


def test_silence_is_judged_only_when_everything_was_read_and_the_router_itself_ran(world: World) -> None:
    world.join(b"m", credit=1)
    world.enqueue(job("a"))
    world.turn(after=3600.0)  # the Router itself was stopped
    assert b"m" in world.router.pool.managers
    for _ in range(200):
        world.now += 0.1
        world.router.turn([], [], world.now, world.wall, drained=False)
    assert b"m" in world.router.pool.managers
    world.turn(after=0.2)
    assert b"m" not in world.router.pool.managers


# ---- restart and reconciliation --------------------------------------------------------------------


def test_after_a_restart_what_runs_is_kept_and_nothing_runs_twice(world: World) -> None:
    world.join(b"m", credit=2)
    world.enqueue(*(job(f"j{i}") for i in range(4)))
    held = world.handed(b"m")
    world.restart()
    world.join(b"other", credit=4)
    world.wait(3)
    assert world.handed(b"other") == [], "jobs are held back while a manager may still run them"
    verdicts = world.join(b"m-again", name="m", held=[v2.Held(j.id, j.lease) for j in held])
    assert [v.verdict for v in verdicts] == ["keep", "keep"]
    world.turn()
    assert [j.id for j in world.handed(b"other")] == ["j2", "j3"]
    world.finish(b"m-again", *held, value=7)
    assert world.info("j0")["state"] == "succeeded"  # type: ignore[index]
    assert world.router.ledger.counts["redelivered"] == 0


def test_after_a_restart_a_manager_that_stays_away_loses_its_jobs(world: World) -> None:
    world.join(b"m", credit=1)
    world.enqueue(job("a"))
    (first,) = world.handed(b"m")
    world.restart()
    world.join(b"n", credit=1)
    world.wait(limits.RECONCILE_S + 1)
    (second,) = world.handed(b"n")
    assert second.lease > first.lease
    assert world.join(b"m", held=[v2.Held("a", first.lease)])[0].verdict == "kill"


def test_a_result_that_was_recorded_before_the_restart_is_done(world: World) -> None:
    world.join(b"m", credit=1)
    world.enqueue(job("a"))
    (handed,) = world.handed(b"m")
    world.finish(b"m", handed)
    world.restart()
    assert world.join(b"m", held=[v2.Held("a", handed.lease)])[0].verdict == "done"


def test_a_job_that_never_arrived_is_given_back_when_the_manager_informs_again(world: World) -> None:
    world.join(b"m", credit=2)
    world.enqueue(job("a"), job("b"))
    a, _ = world.handed(b"m")
    assert [v.verdict for v in world.join(b"m", held=[v2.Held("a", a.lease)])] == ["keep"]
    world.clear()
    world.manager(b"m", b"READY", v2.Ready(1))
    (again,) = world.handed(b"m")
    assert (again.id, again.attempt) == ("b", 1)


def test_a_paged_job_that_runs_over_a_restart_is_kept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HEAD_JOBS_MAX", 2)
    monkeypatch.setattr(limits, "PAGE_JOBS", 2)
    world.join(b"m", credit=6)
    world.enqueue(*(job(f"j{i}") for i in range(10)))
    world.wait(1)
    held = world.handed(b"m")
    assert [j.id for j in held] == [f"j{i}" for i in range(6)]
    world.restart()
    verdicts = world.join(b"m", held=[v2.Held(j.id, j.lease) for j in held])
    assert {v.verdict for v in verdicts} == {"keep"}
    assert world.router.ledger.backlogs["default"].__len__() == 4
    world.manager(b"m", b"READY", v2.Ready(100))
    world.wait(1)
    assert [j.id for j in world.handed(b"m")] == [f"j{i}" for i in range(6, 10)]


def test_an_unknown_manager_is_told_to_inform(world: World) -> None:
    (sent,) = world.manager(b"stranger", b"HEARTBEAT", v2.Beat(0.0))
    refused = v2.decode(sent.frames[3], v2.Refused)
    assert refused.reason == "unknown_peer"


# ---- memory ----------------------------------------------------------------------------------------


def test_a_backlog_is_paged_and_keeps_its_order(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HEAD_JOBS_MAX", 10)
    monkeypatch.setattr(limits, "PAGE_JOBS", 5)
    for start in range(0, 100, 20):
        world.enqueue(*(job(f"j{i:03}", priority=i % 3) for i in range(start, start + 20)))
        assert len(world.router.ledger.live) <= 10
    world.join(b"m", credit=7)
    done: list[str] = []
    while batch := world.handed(b"m"):
        done += [j.id for j in batch]
        world.clear()
        world.finish(b"m", *batch, limit=len(done) + 7)
        world.wait(0.3)
        assert len(world.router.ledger.live) <= 10 + 7 + 5
    assert done == sorted((f"j{i:03}" for i in range(100)), key=lambda id: (-(int(id[1:]) % 3), id))
    assert world.router.ledger.live == {}


# ---- a full disk -----------------------------------------------------------------------------------


def test_a_store_without_any_room_stops_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs counts as waiting then, and memory has no room for all of that; nor can the store be told."""
    monkeypatch.setattr(limits, "HEAD_JOBS_MAX", 10)
    world.enqueue(*(job(f"{n:02}") for n in range(10)))
    world.join(b"m", credit=5)
    world.enqueue(*(job(f"{n:02}") for n in range(10, 30)))
    apply = world.store.apply

    def full(changes: Changes) -> None:
        raise StorageFull("no room")

    world.store.apply = full  # type: ignore[method-assign]
    world.finish(b"m", *world.handed(b"m"))
    world.turn()
    assert world.now < world.router.next_deadline() <= world.now + 0.1
    world.store.apply = apply  # type: ignore[method-assign]
    world.clear()
    world.wait(limits.RECONCILE_S + 1)
    world.join(b"n", credit=30)
    world.wait(1.0)
    assert [each.id for each in world.handed(b"n")] == [f"{n:02}" for n in range(30)]


def test_a_full_store_refuses_new_jobs_and_goes_on_with_the_old_ones(world: World) -> None:
    world.join(b"m", credit=1)
    world.enqueue(job("old"), job("next"))
    (old,) = world.handed(b"m")
    apply, info = world.store.apply, world.store.info
    room = False

    def full(changes: Changes) -> None:
        if (changes.added or changes.spilled) and not room:
            raise StorageFull("no room")
        apply(changes)

    world.store.apply = full  # type: ignore[method-assign]
    world.store.info = lambda: {**info(), "room": room}  # type: ignore[method-assign]
    assert world.client(b"client", b"REQUEST", v2.Request(7, [job("new")])) == [], "nothing of that turn is told"
    (sent,) = world.client(b"client", b"REQUEST", v2.Request(7, [job("new")]))
    assert v2.decode(sent.frames[3], v2.Refused).reason == "storage_full"
    (told,) = world.manager(b"m", b"HEARTBEAT", v2.Beat(0.0, 1))
    assert v2.decode(told.frames[3], v2.Refused).reason == "unknown_peer"
    assert [v.verdict for v in world.join(b"m", held=[v2.Held("old", old.lease)])] == ["keep"]
    world.finish(b"m", old, limit=1, value=1)
    world.turn()
    assert [j.id for j in world.handed(b"m")] == ["old", "next"]
    room = True
    world.wait(0.3)
    assert world.enqueue(job("new")).refusals == []
    assert world.router.ledger.counts["redelivered"] == 0


def test_a_store_without_room_for_anything_loses_nothing(world: World) -> None:
    """Not even a new epoch can be written when memory is made anew: leases grow all the same."""
    world.join(b"m", credit=2)
    world.enqueue(job("a"), job("b"))
    old = world.handed(b"m")
    apply, load, epoch = world.store.apply, world.store.load, world.router.ledger.epoch
    room = False

    def full(changes: Changes) -> None:
        if not room:
            raise StorageFull("no room")
        apply(changes)

    world.store.apply = full  # type: ignore[method-assign]
    world.store.load = lambda: load()._replace(epoch=epoch)  # type: ignore[method-assign]
    world.client(b"client", b"REQUEST", v2.Request(7, [job("new")]))
    held = [v2.Held(each.id, each.lease) for each in old]
    for _ in range(3):
        assert world.manager(b"m", b"INFORM", v2.Inform(1, "m", "nonce", [], held)) == [], "nothing of a turn is told"
    room = True
    verdicts = world.join(b"m", credit=2, held=held)
    assert [verdict.verdict for verdict in verdicts] == ["keep", "keep"]
    world.finish(b"m", old[0])
    world.finish(b"m", old[1], state="returned")
    world.turn()
    (again,) = [each for each in world.handed(b"m") if each.id == "b" and each not in old]
    assert again.lease > max(each.lease for each in old)
    assert world.router.ledger.counts["redelivered"] == 0


# ---- the end ---------------------------------------------------------------------------------------


def test_a_draining_router_accepts_and_hands_out_nothing(world: World) -> None:
    world.enqueue(job("a"))
    world.router.on_disconnect("", [])
    (sent,) = world.client(b"client", b"REQUEST", v2.Request(9, [job("b")]))
    assert v2.decode(sent.frames[3], v2.Refused).reason == "draining"
    world.join(b"m", credit=1)
    world.wait(1)
    assert world.handed(b"m") == []


# ---- questions -------------------------------------------------------------------------------------


def test_a_question_about_many_jobs_is_answered_over_several_turns(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "TURN_ANSWERS", 10)
    world.join(b"m", credit=100)
    world.enqueue(*(job(f"j{i}") for i in range(35)))
    world.finish(b"m", *world.handed(b"m"))
    world.client(b"client", b"WAIT", v2.Wait(1, [f"j{i}" for i in range(35)]))
    seen = [len(world.results(b"client"))]
    while seen[-1] < 35:
        assert world.router.next_deadline() == world.router.now
        world.turn()
        seen.append(len(world.results(b"client")))
    assert seen == [10, 20, 30, 35]
    world.turn()
    assert world.router.next_deadline() > world.router.now


def test_questions_that_wait_are_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "QUESTIONS_MAX", 3)
    asked = [(FRONTEND, [b"c", *v2.encode(b"INFO", v2.Info(n, "a"))]) for n in range(5)]
    sent = world.turn(*asked, (ADMINISTRATIVE, [b"o", *v2.encode(b"STATUS", v2.Question(1))]))
    assert sorted(each.frames[2] for each in sent) == [b"REFUSED"] * 3 + [b"REPLY"] * 3
    assert world.router.refusals == {"too_large": 3}
    assert world.info("a") is None, "those that come later are answered"


# ---- garbage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("socket", [FRONTEND, BACKEND, ADMINISTRATIVE])
@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        ([], "malformed"),
        ([b""], "malformed"),
        ([b"x", b"eMQP/2.0", b"REQUEST", b""], "malformed"),
        ([b"", b"eMQP/9.9", b"REQUEST", b""], "unsupported_version"),
        ([b"", b"\xff\xfe", b"REQUEST", b""], "unsupported_version"),
        ([b"", b"eMQP/2.0", b"\xff\xfe", b""], "unknown_command"),
        ([b"", b"eMQP/1.0", b"__init__", b"id"], "unknown_command"),
        ([b"", b"eMQP/1.0", b"REQUEST"], None),
        ([b"", b"eMQP/2.0", b"REQUEST", b"\xc1"], None),
        ([b"", b"eMQP/2.0", b"STATUS", b"\x90"], None),
        ([b"", b"eMQP/1.0", b"INFORM", b"\xff\xff", b"", b"worker"], None),
        ([b"", b"eMQP/1.0", b"INFORM", b"id", b"[[", b"worker"], None),
        ([b""] * 17, "malformed"),
    ],
)
def test_garbage_is_refused_and_counted(world: World, socket: str, frames: list[bytes], reason: str | None) -> None:
    world.turn((socket, [b"\x00\xff", *frames]))
    assert sum(world.router.refusals.values()) == 1
    if reason:
        assert world.router.refusals[reason] == 1
    assert world.enqueue(job("a")).refusals == []
