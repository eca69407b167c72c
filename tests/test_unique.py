"""Jobs with a key: of those that share one, which is in the way of which, and what becomes of the new one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, Literal

import pytest
from world import World, job

from eventmq import limits
from eventmq.broker.admission import options_of
from eventmq.broker.outbox import BACKEND
from eventmq.protocol import v2
from eventmq.store.open import open_store

Policy = Literal["existing", "replace", "raise"]


@pytest.fixture(params=["memory:", "sqlite:///{}/store.db"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    world = World(open_store(request.param.format(tmp_path), "none"))
    yield world
    world.store.close()


def keyed(id: str, unique: str = "key", delay_s: float = 0.0, **given: Any) -> v2.Job:
    """A job with a key; what are no fields of a job are its options."""
    fields = {name: given.pop(name) for name in ("queue", "name", "priority") if name in given}
    options = v2.pack_options(v2.Options(delay_s=delay_s, **given))
    return job(id, unique=unique, options=options, **fields)


def state(world: World, id: str) -> str:
    info = world.info(id)
    return "unknown" if info is None else str(info["state"])


def states(world: World, ids: str) -> list[str]:
    return [state(world, id) for id in ids]


# ---- in the way ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scope", "where", "in_the_way"),
    [
        ("waiting", "delayed", True),
        ("waiting", "waiting", True),
        ("waiting", "running", False),
        ("waiting", "ended", False),
        ("running", "delayed", True),
        ("running", "waiting", True),
        ("running", "running", True),
        ("running", "ended", False),
    ],
)
@pytest.mark.parametrize("known", ["this turn", "stored"])
def test_who_is_in_the_way(
    world: World, scope: Literal["waiting", "running"], where: str, in_the_way: bool, known: str
) -> None:
    first = keyed("a", delay_s=60.0 if where == "delayed" else 0.0, unique_scope=scope)
    second = keyed("b", unique_scope=scope)
    if where in ("running", "ended"):
        world.join(b"m", credit=1)
    if known == "this turn" and where in ("delayed", "waiting"):
        ack = world.enqueue(first, second)
    else:
        world.enqueue(first)
        if where == "ended":
            world.finish(b"m", *world.handed(b"m"))
        assert state(world, "a") == {"ended": "succeeded"}.get(where, where)
        ack = world.enqueue(second)
    assert ack == v2.Ack(ack.n, [], [("b", "a")] if in_the_way else [])
    assert state(world, "b") == ("unknown" if in_the_way else "waiting")


def test_what_ends_in_the_same_turn_is_in_nobodys_way(world: World) -> None:
    world.join(b"m", credit=1)
    world.enqueue(keyed("a"))
    (handed,) = world.handed(b"m")
    reply = v2.Reply(1, [v2.Outcome("a", handed.lease, "succeeded")], 1)
    request = v2.Request(1, [keyed("b")])
    world.turn((BACKEND, [b"m", *v2.encode(b"REPLY", reply)]), ("frontend", [b"c", *v2.encode(b"REQUEST", request)]))
    assert states(world, "ab") == ["succeeded", "waiting"]


def test_a_key_belongs_to_the_name_and_its_text(world: World) -> None:
    jobs = [keyed("a"), keyed("b", "Key"), keyed("c", name="tasks.sub"), keyed("d", ""), keyed("e", ""), job("f")]
    assert world.enqueue(*jobs).existing == []
    assert world.enqueue(keyed("g", queue="another", priority=5)).existing == [("g", "a")]


def test_retries_crashes_and_restarts_leave_a_job_its_key(world: World) -> None:
    world.join(b"m", credit=1)
    world.enqueue(keyed("a", retries=5, retry_delays_s=(5.0,)))
    world.finish(b"m", *world.handed(b"m"), state="failed", limit=2)
    assert state(world, "a") == "delayed"
    assert world.enqueue(keyed("b")).existing == [("b", "a")]
    world.wait(6)
    world.finish(b"m", world.handed(b"m")[-1], state="crashed")
    assert world.enqueue(keyed("c")).existing == [("c", "a")]
    world.restart()
    assert world.enqueue(keyed("d")).existing == [("d", "a")]


def test_keys_hold_wherever_their_jobs_are(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HEAD_JOBS_MAX", 3)
    monkeypatch.setattr(limits, "TIMERS_MAX", 3)
    waiting = [keyed(f"w{n}", f"w{n}") for n in range(10)]
    delayed = [keyed(f"d{n}", f"d{n}", delay_s=60.0 + n) for n in range(10)]
    again = [keyed(f"again-{each.id}", each.unique) for each in (*waiting, *delayed)]
    expected = [(each.id, each.id.removeprefix("again-")) for each in again]
    assert world.enqueue(*waiting, *delayed, *again).existing == expected, "of this turn"
    fresh = [keyed(f"fresh-{each.id}", each.unique) for each in (*waiting, *delayed)]
    expected = [(each.id, each.id.removeprefix("fresh-")) for each in fresh]
    assert world.enqueue(*fresh).existing == expected, "of the store"
    assert len(world.router.ledger.live) == 6


def test_what_can_only_expire_is_in_nobodys_way(world: World) -> None:
    world.enqueue(keyed("a", expires_s=5.0))
    world.wait(4)
    assert world.enqueue(keyed("b")).existing == [("b", "a")]
    world.wait(2)
    assert world.enqueue(keyed("c")).existing == []
    world.join(b"m", credit=5)
    assert [each.id for each in world.handed(b"m")] == ["c"]
    assert state(world, "a") == "expired"


def test_after_a_restart_what_may_run_is_not_taken_for_waiting(world: World) -> None:
    """A call that comes while the other runs is to get a run of its own: what changed since is not lost."""
    world.join(b"m", credit=1)
    world.enqueue(keyed("a", unique_scope="waiting"))
    (handed,) = world.handed(b"m")
    world.restart()
    assert world.enqueue(keyed("b", unique_scope="waiting")).existing == []
    assert world.enqueue(keyed("c", unique_scope="waiting")).existing == [("c", "b")]
    world.join(b"m", held=[v2.Held("a", handed.lease)])
    assert states(world, "ab") == ["running", "waiting"]


# ---- for a time ------------------------------------------------------------------------------------


def test_for_a_time_also_when_the_other_has_ended_and_over_restarts(world: World) -> None:
    world.join(b"m", credit=9)
    world.enqueue(keyed("a", unique_for_s=7200.0))
    world.finish(b"m", *world.handed(b"m"))
    assert state(world, "a") == "succeeded"
    assert world.enqueue(keyed("b", unique_for_s=7200.0)).existing == [("b", "a")]
    world.restart()
    world.wait(7100, step=5.0)
    assert state(world, "a") == "succeeded", "its row is kept that long"
    assert world.enqueue(keyed("c", unique_for_s=7200.0)).existing == [("c", "a")]
    world.wait(101, step=1.0)
    assert world.enqueue(keyed("d", unique_for_s=7200.0)).existing == []


def test_ended_jobs_whose_time_is_over_are_asked_about_no_more(world: World) -> None:
    for n in range(5):
        assert world.enqueue(keyed(f"a{n}", unique_for_s=1.0)).existing == []
        world.join(b"m", credit=1)
        world.finish(b"m", *world.handed(b"m")[-1:])
        world.wait(2)
        assert state(world, f"a{n}") == "succeeded"
        assert len(world.store.holders("tasks.add", "key")) == 1


def test_a_time_begins_with_the_acceptance_and_ends_though_the_other_runs(world: World) -> None:
    world.enqueue(keyed("a", unique_for_s=10.0))
    world.wait(11)
    assert world.enqueue(keyed("b", unique_for_s=10.0)).existing == []


@pytest.mark.parametrize("end", ["cancelled", "expired", "dead"])
def test_what_never_ran_is_in_the_way_for_no_time(world: World, end: str) -> None:
    world.enqueue(keyed("a", unique_for_s=600.0, expires_s=1.0 if end == "expired" else None))
    if end == "cancelled":
        world.client(b"c", b"CANCEL", v2.Cancel(1, ["a"]))
    world.wait(2)
    world.join(b"m", credit=1)
    if end == "dead":
        world.finish(b"m", *world.handed(b"m"), state="failed")
    assert state(world, "a") == end
    assert world.enqueue(keyed("b", unique_for_s=600.0)).existing == ([("b", "a")] if end == "dead" else [])


# ---- what becomes of the new one ---------------------------------------------------------------------


def test_raise_refuses_and_names_the_other(world: World) -> None:
    world.enqueue(keyed("a"))
    ack = world.enqueue(job("x"), keyed("b", on_conflict="raise"))
    (refusal,) = ack.refusals
    assert (refusal.id, refusal.reason, ack.existing) == ("b", "duplicate", [("b", "a")])
    assert world.router.refusals["duplicate"] == 1
    assert states(world, "xb") == ["waiting", "unknown"]


@pytest.mark.parametrize("where", ["this turn", "delayed", "waiting", "running", "paged", "put off"])
def test_replace_calls_the_other_off_wherever_it_is(world: World, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if where in ("paged", "put off"):
        monkeypatch.setattr(limits, "HEAD_JOBS_MAX", 2)
        monkeypatch.setattr(limits, "TIMERS_MAX", 2)
        world.enqueue(*(job(f"x{n}", options=v2.pack({"delay_s": 50.0} if where == "put off" else {})) for n in "123"))
    if where == "running":
        world.join(b"m", credit=1)
    old = keyed("old", delay_s=60.0 if where in ("delayed", "put off") else 0.0)
    new = keyed("new", on_conflict="replace")
    if where == "this turn":
        assert world.enqueue(old, new).existing == []
    else:
        world.enqueue(old)
        assert ("old" in world.router.ledger.live) == (where not in ("paged", "put off"))
        world.clear()
        assert world.enqueue(new) == v2.Ack(2 + (where in ("paged", "put off")))
    kills = [v2.decode(each.frames[3], v2.Kill).held for each in world.sent if each.frames[2] == b"KILL"]
    assert [[held.id for held in each] for each in kills] == ([["old"]] if where == "running" else [])
    world.restart()
    world.wait(11)
    world.join(b"n", credit=9)
    world.wait(9)
    assert "old" not in [each.id for each in world.handed(b"n")]
    assert "new" in [each.id for each in world.handed(b"n")]
    assert state(world, "old") == "cancelled"


def test_of_quick_calls_the_last_one_runs_after_its_delay(world: World) -> None:
    world.join(b"m", credit=9)
    for n in range(5):
        debounced = keyed(f"call{n}", delay_s=30.0, unique_scope="waiting", on_conflict="replace")
        assert world.enqueue(debounced).existing == []
        for _ in range(20):
            world.manager(b"m", b"HEARTBEAT", v2.Beat(0.0, 9))
            world.turn(after=1.0)
    assert world.handed(b"m") == []
    world.wait(10.2)
    assert [each.id for each in world.handed(b"m")] == ["call4"]
    world.enqueue(keyed("call5", delay_s=30.0, unique_scope="waiting", on_conflict="replace"))
    assert state(world, "call4") == "running", "what runs is not called off"


# ---- once more -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["existing", "raise"])
def test_a_request_that_comes_again_is_answered_as_before_though_the_other_has_ended(
    world: World, policy: Policy
) -> None:
    world.join(b"m", credit=1)
    world.enqueue(keyed("a"))
    first = world.enqueue(keyed("b", on_conflict=policy))
    world.finish(b"m", *world.handed(b"m"))
    again = world.enqueue(keyed("b", on_conflict=policy))
    assert (again.refusals, again.existing) == (first.refusals, first.existing)
    assert state(world, "b") == "unknown"


def test_a_request_that_replaced_changes_nothing_when_it_comes_again(world: World) -> None:
    first, second = keyed("a", on_conflict="replace"), keyed("b", on_conflict="replace")
    world.enqueue(first)
    world.enqueue(second)
    for again in (first, second):
        assert world.enqueue(again) == v2.Ack(3 + (again is second))
    world.restart()
    world.enqueue(first)
    assert states(world, "ab") == ["cancelled", "waiting"]


def test_a_request_may_come_again_in_the_turn_in_which_its_job_was_called_off(world: World) -> None:
    """As after a pause of the Router: everything is there at once."""
    first = [b"c", *v2.encode(b"REQUEST", v2.Request(1, [keyed("a"), keyed("b", "other")]))]
    cancel = [b"c", *v2.encode(b"CANCEL", v2.Cancel(2, ["b"]))]
    second = [b"c", *v2.encode(b"REQUEST", v2.Request(3, [keyed("c", on_conflict="replace")]))]
    world.turn(*(("frontend", frames) for frames in (first, cancel, second, first, cancel, second)))
    assert states(world, "abc") == ["cancelled", "cancelled", "waiting"]


def test_answers_are_forgotten_when_there_are_too_many(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "UNIQUE_ANSWERS_MAX", 3)
    world.enqueue(keyed("a"), *(keyed(f"b{n}") for n in range(9)))
    assert [n for n in range(9) if world.router.ledger.uniques.answer(f"b{n}")] == [6, 7, 8]


# ---- bounds ----------------------------------------------------------------------------------------------


def refused(world: World, *jobs: v2.Job) -> dict[str, str]:
    return {refusal.id: refusal.reason for refusal in world.enqueue(*jobs).refusals}


@pytest.mark.parametrize("where", ["waiting", "delayed", "paged", "put off"])
def test_what_is_replaced_makes_room_in_a_full_queue(world: World, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(world.store, queue_jobs_max=(("default", 4),))
    if where in ("paged", "put off"):
        monkeypatch.setattr(limits, "HEAD_JOBS_MAX", 2)
        monkeypatch.setattr(limits, "TIMERS_MAX", 2)
    delay = {"delay_s": 60.0} if where in ("delayed", "put off") else {}
    world.enqueue(*(job(f"x{n}", options=v2.pack(delay)) for n in "123"), keyed("old", **delay))
    quick = [keyed(f"n{n}", on_conflict="replace") for n in range(3)]
    assert refused(world, *quick, job("y")) == {"y": "queue_full"}
    assert [state(world, id) for id in ("old", "n0", "n1", "n2")] == ["cancelled"] * 3 + ["waiting"]


def test_what_makes_no_room_in_a_full_queue_is_not_replaced(world: World) -> None:
    """One that runs takes no place, one in another queue takes another; a queue that drains takes nothing new."""
    world = World(world.store, queue_jobs_max=(("default", 1),))
    world.join(b"m", credit=1)
    world.enqueue(keyed("running"))
    world.enqueue(keyed("elsewhere", "b", queue="other"), job("x"))
    new = [keyed("a", on_conflict="replace"), keyed("b", "b", on_conflict="replace")]
    assert refused(world, *new) == {"a": "queue_full", "b": "queue_full"}
    world.router.ledger.say("other", draining=True)
    assert refused(world, keyed("c", "b", queue="other", on_conflict="replace")) == {"c": "queue_draining"}
    assert [state(world, id) for id in ("running", "elsewhere", "x")] == ["running", "waiting", "waiting"]


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (keyed("a", "k" * (limits.UNIQUE_CHARS_MAX + 1)), "too_large"),
        (keyed("a", unique_for_s=-1.0), "invalid_job"),
        (keyed("a", unique_for_s=float("inf")), "invalid_job"),
        (job("a", unique="k", options=v2.pack({"unique_scope": "all"})), "invalid_job"),
        (job("a", unique="k", options=v2.pack({"on_conflict": 5})), "invalid_job"),
    ],
)
def test_what_no_key_can_be_is_refused(world: World, wrong: v2.Job, reason: str) -> None:
    assert [refusal.reason for refusal in world.enqueue(wrong).refusals] == [reason]
    assert world.enqueue(keyed("b", "k" * limits.UNIQUE_CHARS_MAX)).refusals == []


# ---- any history -------------------------------------------------------------------------------------------


class Model:
    """Keys as a dictionary: (key) → the jobs that hold it, and the rules in one place."""

    def __init__(self) -> None:
        self.states: dict[str, str] = {}
        self.accepted: dict[str, tuple[str, float]] = {}

    def call(self, new: v2.Job, wall: float) -> str | None:
        """Who is in the way; those replaced are cancelled."""
        options = options_of(new.options)
        wanted = {"waiting", "delayed"} | ({"running"} if options.unique_scope == "running" else set())
        others = [id for id, (key, _) in self.accepted.items() if key == new.unique and self.states[id] in wanted]
        if options.on_conflict == "replace":
            self.states.update(dict.fromkeys(others, "cancelled"))
        elif others:
            return others[-1]
        self.accepted[new.id] = (new.unique, wall)
        self.states[new.id] = "delayed" if options.delay_s else "waiting"
        return None


@pytest.mark.parametrize("seed", range(12))
def test_any_history_goes_as_in_a_dictionary(world: World, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HEAD_JOBS_MAX", 4)
    monkeypatch.setattr(limits, "PAGE_JOBS", 3)
    monkeypatch.setattr(limits, "TIMERS_MAX", 3)
    rng, model = Random(seed), Model()
    world.join(b"m")
    for step in range(150):
        what = rng.random()
        if what < 0.6:
            new = [
                keyed(
                    f"{step}-{n}",
                    rng.choice("abcdef"),
                    delay_s=rng.choice((0.0, 0.0, 500.0)),
                    priority=rng.randint(-1, 1),
                    unique_scope=rng.choice(("waiting", "running")),
                    on_conflict=rng.choice(("existing", "existing", "replace", "raise")),
                )
                for n in range(rng.randint(1, 5))
            ]
            expected = [(each.id, other) for each in new if (other := model.call(each, world.wall)) is not None]
            ack = world.enqueue(*new)
            assert ack.existing == expected
        elif what < 0.75:
            credit = world.router.pool.managers[b"m"].sent + rng.randint(1, 3)
            world.clear()
            world.manager(b"m", b"READY", v2.Ready(credit))
            model.states.update({each.id: "running" for each in world.handed(b"m")})
            limit = world.router.pool.managers[b"m"].sent  # what was not used is withdrawn
            world.manager(b"m", b"READY", v2.Ready(limit))
        elif what < 0.9:
            running = [id for id, now in model.states.items() if now == "running"]
            for id in rng.sample(running, min(2, len(running))):
                end = rng.choice(("succeeded", "failed", "returned"))
                lease = world.router.ledger.leases[id][0]
                limit = world.router.pool.managers[b"m"].sent
                model.states[id] = {"failed": "dead", "returned": "waiting"}.get(end, end)
                world.finish(b"m", lease, state=end, limit=limit)
        else:
            held = [v2.Held(id, lease[0].lease) for id, lease in world.router.ledger.leases.items()]
            world.restart()
            world.join(b"m", held=held)
    assert {id: state(world, id) for id in model.states} == model.states


@pytest.mark.parametrize("seed", range(6))
def test_any_history_of_keys_for_a_time_goes_as_in_a_dictionary(world: World, seed: int) -> None:
    rng, taken = Random(seed), dict[str, tuple[str, float]]()
    world.join(b"m")
    for step in range(150):
        what = rng.random()
        if what < 0.6:
            new = [keyed(f"{step}-{n}", rng.choice("abc"), unique_for_s=20.0) for n in range(rng.randint(1, 4))]
            wall, expected = world.wall + 0.001, []
            for each in new:
                holder, since = taken.get(each.unique, ("", 0.0))
                if holder and wall < since + 20.0:
                    expected.append((each.id, holder))
                else:
                    taken[each.unique] = (each.id, wall)
            assert world.enqueue(*new).existing == expected
        elif what < 0.75:
            world.clear()
            sent = world.router.pool.managers[b"m"].sent
            world.manager(b"m", b"READY", v2.Ready(sent + 3))
            handed, sent = world.handed(b"m"), world.router.pool.managers[b"m"].sent
            world.finish(b"m", *handed, state=rng.choice(("succeeded", "failed")), limit=sent)
        elif what < 0.85:
            id = rng.choice([holder for holder, _ in taken.values()] or ["none"])
            if state(world, id) in ("waiting", "running"):
                world.client(b"c", b"CANCEL", v2.Cancel(1, [id]))
                taken = {key: value for key, value in taken.items() if value[0] != id}
        elif what < 0.95:
            world.turn(after=rng.choice((0.5, 3.0, 8.0)))
            world.manager(b"m", b"HEARTBEAT", v2.Beat(0.0, world.router.pool.managers[b"m"].sent))
        else:
            world.restart()
            world.join(b"m")
