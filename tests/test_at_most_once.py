"""Jobs that may begin only once (`redeliver=False`): what is stored before they leave, how they end when in doubt."""

from __future__ import annotations

from typing import Any

import pytest
from world import World, job

from eventmq import limits
from eventmq.broker.outbox import BACKEND
from eventmq.protocol import v1, v2
from eventmq.store.base import Changes

ONCE = v2.pack_options(v2.Options(redeliver=False))


def once(id: str, **fields: Any) -> v2.Job:
    return job(id, options=ONCE, **fields)


def state(world: World, id: str = "a") -> str:
    info = world.info(id)
    return "unknown" if info is None else str(info["state"])


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def handed(world: World) -> v2.Job:
    """A job `a` that the manager `m` has."""
    world.join(b"m", credit=1)
    world.enqueue(once("a"))
    (handed,) = world.handed(b"m")
    return handed


# ---- what is stored --------------------------------------------------------------------------------


def test_it_is_marked_before_it_leaves_and_others_are_not(world: World) -> None:
    marks: list[tuple[int, int]] = []
    apply = world.store.apply

    def watch(changes: Changes) -> None:
        assert not world.handed(b"m")
        marks.extend((each.seq, each.started) for each in changes.moved)
        apply(changes)

    world.enqueue(once("a"), job("b"))
    world.store.apply = watch  # type: ignore[method-assign]
    world.join(b"m", credit=2)
    a, b = world.handed(b"m")
    assert marks == [(a.seq, a.lease)]
    assert (a.started, b.started) == (a.lease, 0)


def test_a_commit_that_fails_hands_out_nothing(world: World) -> None:
    world.enqueue(once("a"))
    world.join(b"m")

    def fail(changes: Changes) -> None:
        raise RuntimeError("power cut")

    world.store.apply = fail  # type: ignore[method-assign]
    with pytest.raises(RuntimeError):
        world.manager(b"m", b"READY", v2.Ready(1))
    assert world.handed(b"m") == []


def test_retries_and_once_exclude_each_other(world: World) -> None:
    both = v2.pack_options(v2.Options(redeliver=False, retries=1))
    (refusal,) = world.enqueue(job("a", options=both)).refusals
    assert refusal.reason == "invalid_job"
    assert "redeliver" in refusal.text


# ---- the end of its run is known -------------------------------------------------------------------


@pytest.mark.parametrize(("how", "end"), [("succeeded", "succeeded"), ("failed", "dead"), ("timeout", "dead")])
def test_a_run_whose_end_is_known_ends_it(world: World, handed: v2.Job, how: str, end: str) -> None:
    world.finish(b"m", handed, state=how)
    assert state(world) == end


@pytest.mark.parametrize("how", ["crashed", "interrupted"])
def test_a_run_that_was_cut_loses_it_with_the_cause(world: World, handed: v2.Job, how: str) -> None:
    world.client(b"client", b"WAIT", v2.Wait(1, ["a"]))
    cause = v2.Failure("eventmq.JobCrashed", "worker process died: signal 9 (SIGKILL)")
    world.manager(b"m", b"REPLY", v2.Reply(1, [v2.Outcome("a", handed.lease, how, b"", cause)], 9))
    (result,) = world.results(b"client")
    assert (result.state, result.failure) == ("lost", cause)
    world.restart()
    world.join(b"n", credit=9)
    world.wait(limits.RECONCILE_S + 1)
    assert world.handed(b"n") == []
    assert state(world) == "lost"


# ---- its manager is gone ---------------------------------------------------------------------------


def test_with_its_manager_it_is_lost(world: World, handed: v2.Job) -> None:
    world.join(b"n", credit=9)
    world.turn(gone=[(BACKEND, b"m")])
    world.wait(limits.SUSPECT_GRACE_S + 0.2)
    info = world.info("a")
    assert info is not None
    assert (info["state"], info["worker"]) == ("lost", "m")
    assert "job manager m lost its connection" in info["failure"]["message"]
    assert world.handed(b"n") == []
    (verdict,) = world.join(b"m2", name="m", held=[v2.Held("a", handed.lease)])
    assert verdict.verdict == "done"


@pytest.mark.parametrize("restart", [False, True])
def test_what_never_arrived_is_handed_out_again(world: World, handed: v2.Job, restart: bool) -> None:
    """The manager is back and does not name it: so nobody has begun it. The Router may have died before it was sent."""
    if restart:
        world.restart()
    assert world.join(b"m2", credit=1, name="m") == []
    world.turn()
    again = world.handed(b"m2")[-1]
    assert (again.id, again.attempt) == ("a", 1)
    assert again.lease > handed.lease
    world.finish(b"m2", again)
    assert state(world) == "succeeded"


@pytest.mark.parametrize("restart", [False, True])
def test_what_was_returned_unstarted_is_handed_out_again(world: World, handed: v2.Job, restart: bool) -> None:
    world.finish(b"m", handed, state="returned")
    assert state(world) == "waiting"
    if restart:
        world.restart()
    world.join(b"n", credit=1)
    world.wait(limits.RECONCILE_S + 1)
    assert [(j.id, j.attempt) for j in world.handed(b"n")] == [("a", 1)]


def test_an_older_inform_that_is_read_late_says_nothing_of_what_is_held(world: World) -> None:
    """It came on another connection of the same manager, from before the session in which the job was handed out."""
    late = (BACKEND, [b"m", *v2.encode(b"INFORM", v2.Inform(0, "m", "nonce", []))])
    world.join(b"m2", name="m", credit=1)
    world.enqueue(once("a"))
    (handed,) = world.handed(b"m2")
    world.turn(late)
    world.join(b"n", credit=1)
    assert state(world) == "running"
    assert world.handed(b"n") == []
    assert world.router.refusals == {"out_of_date": 1}
    world.finish(b"m2", handed)
    assert state(world) == "succeeded"


def test_that_it_never_arrived_is_stored(world: World, handed: v2.Job) -> None:
    world.join(b"m2", name="m")
    world.restart()
    assert state(world) == "waiting", "nobody is in doubt"
    world.join(b"n", credit=1)
    world.wait(limits.RECONCILE_S + 1)
    assert [(j.id, j.attempt) for j in world.handed(b"n")] == [("a", 1)]


def test_a_hand_out_that_was_given_back_is_not_kept(world: World, handed: v2.Job) -> None:
    world.finish(b"m", handed, state="returned")
    world.restart()
    (verdict,) = world.join(b"liar", held=[v2.Held("a", handed.lease)])
    assert verdict.verdict == "kill"


# ---- the Router is gone ----------------------------------------------------------------------------


def test_after_a_restart_it_goes_on_when_its_manager_names_it(world: World, handed: v2.Job) -> None:
    world.restart()
    assert state(world) == "running"
    world.join(b"n", credit=9)
    (verdict,) = world.join(b"m2", name="m", held=[v2.Held("a", handed.lease)])
    assert verdict.verdict == "keep"
    world.restart()
    (verdict,) = world.join(b"m3", name="m", held=[v2.Held("a", handed.lease)])
    assert verdict.verdict == "keep", "over two restarts"
    world.finish(b"m3", handed)
    assert state(world) == "succeeded"
    assert world.handed(b"n") == []


def test_after_a_restart_it_is_lost_when_its_manager_stays_away(world: World, handed: v2.Job) -> None:
    world.restart()
    world.join(b"n", credit=9)
    world.client(b"client", b"WAIT", v2.Wait(1, ["a"]))
    world.wait(limits.RECONCILE_S - 1)
    assert state(world) == "running"
    world.wait(2)
    assert [(r.id, r.state) for r in world.results(b"client")] == [("a", "lost")]
    assert world.handed(b"n") == []
    world.restart()
    world.join(b"n", credit=9)
    world.wait(limits.RECONCILE_S + 1)
    assert world.handed(b"n") == []


def test_while_it_is_in_doubt_it_can_be_called_off(world: World, handed: v2.Job) -> None:
    world.restart()
    world.client(b"c", b"CANCEL", v2.Cancel(1, ["a"]))
    assert state(world) == "cancelled"
    (verdict,) = world.join(b"m2", name="m", held=[v2.Held("a", handed.lease)])
    assert verdict.verdict == "done"


def test_in_doubt_it_is_found_in_deep_queues_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HEAD_JOBS_MAX", 2)
    monkeypatch.setattr(limits, "PAGE_JOBS", 2)
    world.join(b"m", credit=5)
    world.enqueue(*(once(f"j{i}") for i in range(8)))
    world.wait(1)
    held = world.handed(b"m")
    assert [j.id for j in held] == [f"j{i}" for i in range(5)]
    world.restart()
    world.join(b"m2", name="m", credit=9, held=[v2.Held(j.id, j.lease) for j in held[:3]])
    world.wait(1)
    assert [j.id for j in world.handed(b"m2")] == ["j3", "j4", "j5", "j6", "j7"]


# ---- eMQP/1.0 --------------------------------------------------------------------------------------


def join_1_0(world: World, sender: bytes = b"old") -> None:
    world.turn((BACKEND, [sender, *v1.encode(b"INFORM", "i", "", "worker")]))
    world.turn((BACKEND, [sender, *v1.encode(b"READY", "r")]))


def test_a_1_0_manager_that_leaves_or_says_nothing_loses_it(world: World) -> None:
    join_1_0(world)
    world.enqueue(once("a"))
    assert len(world.frames_1_0(b"old", b"REQUEST")) == 1
    world.turn((BACKEND, [b"old", *v1.encode(b"KBYE", "k")]))
    assert state(world) == "lost"


def test_that_a_1_0_manager_is_back_says_nothing_of_what_it_runs(world: World) -> None:
    join_1_0(world)
    world.enqueue(once("a"))
    world.restart()
    join_1_0(world)
    world.wait(limits.RECONCILE_S - 1)
    assert state(world) == "running"
    world.wait(2)
    assert state(world) == "lost"
    assert world.frames_1_0(b"old", b"REQUEST") == []


@pytest.mark.parametrize("replies", [True, False])
def test_after_a_restart_the_reply_of_a_1_0_manager_counts_or_it_is_lost(world: World, replies: bool) -> None:
    """It cannot say what it holds, so that nobody names the job says nothing."""
    join_1_0(world)
    world.enqueue(once("a"))
    world.restart()
    world.join(b"n", credit=9)
    world.wait(1)
    if replies:
        world.turn((BACKEND, [b"old", *v1.encode(b"REPLY", "x", v1.format_value(3), "a")]))
    world.wait(limits.RECONCILE_S)
    assert state(world) == ("succeeded" if replies else "lost")
    assert world.handed(b"n") == []
