"""What comes back to the Router a second time: hand-outs after a restart, outcomes, jobs behind the edge of a queue."""

from __future__ import annotations

import pytest
from world import World, job

from eventmq import limits
from eventmq.protocol import v2


def ids(jobs: list[v2.Job]) -> list[str]:
    return [each.id for each in jobs]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Queues and timers keep very little in memory."""
    monkeypatch.setattr(limits, "HEAD_JOBS_MAX", 2)
    monkeypatch.setattr(limits, "PAGE_JOBS", 1)
    monkeypatch.setattr(limits, "TIMERS_MAX", 1)


# ---- hand-outs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("lease", [0, -1, 1 << 62])
def test_a_lease_that_was_never_given_is_not_kept(lease: int) -> None:
    world = World()
    world.enqueue(job("a"))
    (verdict,) = world.join(b"liar", held=[v2.Held("a", lease)])
    assert verdict.verdict == "kill"


@pytest.mark.parametrize("restart", [False, True])
def test_an_outcome_that_has_counted_is_not_asked_for_again(restart: bool) -> None:
    """The ACK of a crash was lost: the manager still holds it, and the job waits for its next run."""
    world = World()
    world.enqueue(job("a"))
    world.join(b"m", credit=1, nonce="n")
    (first,) = world.handed(b"m")
    world.finish(b"m", first, state="crashed", limit=1)
    if restart:
        world.restart()
    (verdict,) = world.join(b"m2", name="m", nonce="n", held=[v2.Held("a", first.lease)])
    assert verdict.verdict == "kill"
    info = world.info("a")
    assert info is not None
    assert (info["state"], info["attempt"], info["crashes"]) == ("waiting", 2, 1)


def test_of_two_hand_outs_from_before_a_restart_the_last_one_counts() -> None:
    world = World()
    world.enqueue(job("a"))
    world.join(b"m1", credit=1)
    (first,) = world.handed(b"m1")
    world.finish(b"m1", first, state="returned", limit=1)
    world.join(b"m2", credit=1)
    (second,) = world.handed(b"m2")
    world.restart()
    assert [v.verdict for v in world.join(b"m1", held=[v2.Held("a", first.lease)])] == ["keep"]
    assert [v.verdict for v in world.join(b"m2", held=[v2.Held("a", second.lease)])] == ["keep"]
    world.finish(b"m1", first, state="returned", limit=1)
    world.finish(b"m2", second)
    info = world.info("a")
    assert info is not None
    assert (info["state"], info["worker"]) == ("succeeded", "m2")


# ---- the edge -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small")
def test_a_page_that_is_read_again_does_not_bring_what_runs() -> None:
    world = World()
    world.enqueue(*[job(f"j{n}") for n in range(6)])
    world.join(b"m", credit=4)
    world.wait(0.1, step=0.01)
    handed = world.handed(b"m")
    assert ids(handed) == ["j0", "j1", "j2", "j3"]
    world.enqueue(job("urgent", priority=9), job("urgent too", priority=9))
    world.finish(b"m", handed[0], state="returned", limit=4)  # its place is before those that run
    world.clear()
    for n in range(5, 20):
        world.manager(b"m", b"READY", v2.Ready(n))
        world.wait(0.1, step=0.01)
    assert sorted(ids(world.handed(b"m"))) == ["j0", "j4", "j5", "urgent", "urgent too"]


@pytest.mark.usefixtures("small")
def test_when_all_in_memory_are_cancelled_the_rest_is_read() -> None:
    world = World()
    world.enqueue(*[job(f"j{n}") for n in range(4)])
    world.turn()
    in_memory = list(world.router.ledger.live)
    assert 0 < len(in_memory) < 4
    world.client(b"c", b"CANCEL", v2.Cancel(1, in_memory))
    world.join(b"m", credit=4)
    world.wait(0.1, step=0.01)
    assert ids(world.handed(b"m")) == [f"j{n}" for n in range(4) if f"j{n}" not in in_memory]


@pytest.mark.usefixtures("small")
def test_an_id_that_memory_has_just_let_go_of_is_known() -> None:
    world = World()
    world.enqueue(job("a"))
    ack = world.enqueue(job("b"), job("c"), job("c"), job("b"))
    assert ack.refusals == []
    world.join(b"m", credit=9)
    world.wait(0.1, step=0.01)
    assert ids(world.handed(b"m")) == ["a", "b", "c"]


@pytest.mark.usefixtures("small")
def test_a_delayed_job_is_on_time_after_a_restart_with_others_due_later() -> None:
    world = World()
    soon, late = v2.pack_options(v2.Options(delay_s=2.0)), v2.pack_options(v2.Options(delay_s=500.0))
    world.enqueue(job("late", options=late), job("later", options=late))
    world.restart()
    world.enqueue(job("soon", options=soon))
    world.join(b"m", credit=9)
    world.wait(2.5)
    assert ids(world.handed(b"m")) == ["soon"]


@pytest.mark.usefixtures("small")
def test_a_job_that_was_delayed_and_paged_out_can_be_cancelled() -> None:
    world = World()
    world.enqueue(job("a", options=v2.pack_options(v2.Options(delay_s=1.0)), priority=-9))
    world.wait(2.0)
    world.enqueue(*[job(f"j{n}") for n in range(3)])  # before it: memory lets go of it
    world.restart()
    world.client(b"c", b"CANCEL", v2.Cancel(1, ["a"]))
    world.join(b"m", credit=9)
    world.wait(0.2, step=0.01)
    assert ids(world.handed(b"m")) == ["j0", "j1", "j2"]


def test_a_job_that_wakes_while_all_heads_are_full_comes_back_from_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HEADS_BYTES_MAX", 1)
    monkeypatch.setattr(limits, "SMALL_PAGE_JOBS", 1)
    world = World()
    world.enqueue(job("fills", "other"), job("later", options=v2.pack_options(v2.Options(delay_s=1.0))))
    world.join(b"m", credit=1)
    world.wait(2.0)
    assert ids(world.handed(b"m")) == ["later"]
