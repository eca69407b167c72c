"""Messages of eMQP/1.0 that a turn handles together: they must come to what each alone would."""

from __future__ import annotations

from itertools import count
from random import Random

import pytest
from world import World

from eventmq.broker.handlers import Handlers
from eventmq.broker.outbox import BACKEND, FRONTEND, Send
from eventmq.protocol import v1

CALL = '["run", {"path": "tasks", "callable": "add", "args": [1, 2]}]'
OTHER = '["run", {"path": "tasks", "callable": "other"}]'
MANAGERS = [b"m1", b"m2"]


def messages(random: Random, world: World, ids: list[str]) -> list[tuple[str, list[bytes]]]:
    """What a turn receives: mostly what peers of 2020 say, some of it wrong, come twice, or of somebody unknown."""
    turn = []
    for _ in range(random.choice((0, 1, 12))):
        ids.append(f"job-{len(ids)}" if random.random() < 0.9 else "x" * 300)
        id = random.choice([ids[-1]] * 9 + ids)
        headers = random.choice(("", "", "reply-requested", "timeout:9,retry-count:1", "timeout:x"))
        frames = random.choice([("a", headers, CALL)] * 6 + [("b", headers, OTHER), ("a", "", "{"), ("a",)])
        turn.append((FRONTEND, [b"client", *v1.encode(b"REQUEST", id, *frames)]))
    numbers = map(str, count())
    told = []
    for job, manager, _ in list(world.router.ledger.leases.values()):
        if random.random() < 0.7:
            value = random.choice(['{"value": 1}'] * 6 + ['{"value": "TimeoutError"}', '{"value": NaN}', "{"])
            sender = manager.id if random.random() < 0.9 else random.choice([*MANAGERS, b"nobody"])
            assert isinstance(sender, bytes)
            told += [(sender, b"REPLY", (value, job.id)), (sender, b"READY", ())]
    some = [
        (b"READY", ()),
        (b"REPLY", ('{"value": 1}', "job-0")),
        (b"HEARTBEAT", ("1.0",)),
        (b"REPLY", ()),
        (b"NO", ()),
    ]
    for _ in range(random.choice((0, 0, 3))):
        told.append((random.choice([*MANAGERS, b"nobody"]), *random.choice(some)))  # type: ignore[arg-type]
    if random.random() < 0.1:
        gone = random.choice(MANAGERS)
        told += [(gone, b"KBYE", ()), (gone, b"INFORM", ('[[10, "a"], [5, "b"]]', "worker")), (gone, b"READY", ())]
    for sender, command, more in told:
        turn.append((BACKEND, [sender, *v1.encode(command, next(numbers), *more)]))
    return turn


def said(sent: Send) -> tuple[str, str, list[bytes]]:
    """A message without an id of the Router's own: failures come before results where several jobs end together."""
    return sent.socket, str(sent.peer), [frame for frame in sent.frames if not frame.startswith(b"router-")]


@pytest.mark.parametrize("seed", range(12))
def test_what_is_handled_together_fares_as_each_would_by_itself(seed: int) -> None:
    together, alone = World(queue_jobs_max=(("a", 4),)), World(queue_jobs_max=(("a", 4),))
    tables: dict[str, Handlers] = {
        socket: {key: handler._replace(many="") for key, handler in table.items()}
        for socket, table in alone.router.handlers.items()
    }
    alone.router.handlers = tables  # type: ignore[misc]
    for world in (together, alone):
        random, ids = Random(seed), [""]
        world.turn(*[(BACKEND, [m, *v1.encode(b"INFORM", "i", '[[10, "a"], [5, "b"]]', "worker")]) for m in MANAGERS])
        world.turn(*[(BACKEND, [m, *v1.encode(b"READY", "r")]) for m in MANAGERS * 8])
        for _ in range(40):
            world.turn(*messages(random, world, ids))
    for manager in MANAGERS:
        assert together.frames_1_0(manager, b"REQUEST") == alone.frames_1_0(manager, b"REQUEST")
    assert sorted(map(said, together.sent)) == sorted(map(said, alone.sent))
    for one, other in zip(*((world.router, world.router.ledger) for world in (together, alone)), strict=True):
        assert vars(one).get("refusals") == vars(other).get("refusals")
        assert vars(one).get("understood") == vars(other).get("understood")
        assert vars(one).get("counts") == vars(other).get("counts")
    assert together.router.refusals.keys() > {"malformed", "invalid_job", "conflict", "queue_full", "unknown_peer"}
    assert together.router.ledger.counts.keys() > {"succeeded", "stale", "duplicates"}
    assert together.store.load() == alone.store.load()
    assert together.store.find(ids) == alone.store.find(ids)


def test_what_comes_together_costs_one_query_and_one_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    asked: list[list[str]] = []
    find, apply, applied = world.store.find, world.store.apply, []
    monkeypatch.setattr(world.store, "find", lambda ids: asked.append(ids) or find(ids))
    monkeypatch.setattr(world.store, "apply", lambda changes: applied.append(changes) or apply(changes))
    world.turn(*[(FRONTEND, [b"old", *v1.encode(b"REQUEST", id, "default", "", CALL)]) for id in "abc"])
    assert (asked, len(applied)) == ([["a", "b", "c"]], 1)
    assert [frames[0] for frames in world.frames_1_0(b"old", b"REPLY")] == [b"a", b"b", b"c"]


def test_a_manager_that_leaves_has_said_before_what_it_said_before() -> None:
    """What is handled together ends where something else comes: else its last job would run again."""
    world = World()
    world.turn((FRONTEND, [b"old", *v1.encode(b"REQUEST", "a", "default", "", CALL)]))
    world.turn(
        (BACKEND, [b"m1", *v1.encode(b"INFORM", "i", "", "worker")]), (BACKEND, [b"m1", *v1.encode(b"READY", "r")])
    )
    assert len(world.frames_1_0(b"m1", b"REQUEST")) == 1
    last = [(b"REPLY", ('{"value": 1}', "a")), (b"READY", ()), (b"KBYE", ())]
    world.turn(*[(BACKEND, [b"m1", *v1.encode(command, "n", *more)]) for command, more in last])
    assert world.router.ledger.counts["succeeded"] == 1
    assert not world.router.ledger.counts["redelivered"]
