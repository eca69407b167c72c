"""Jobs that wait for a time: delayed, tried again, expired."""

from __future__ import annotations

from typing import Any

import pytest
from world import World, job

from eventmq import limits
from eventmq.broker import retries
from eventmq.protocol import v2


@pytest.fixture
def world() -> World:
    return World()


def options(**given: Any) -> bytes:
    return v2.pack_options(v2.Options(**given))


def state(world: World, id: str) -> str:
    info = world.info(id)
    return "unknown" if info is None else str(info["state"])


def wait(world: World, seconds: float) -> None:
    """Time passes while the manager `m` beats."""
    while seconds > 0:
        manager = world.router.pool.managers.get(b"m")
        if manager is not None:
            world.manager(b"m", b"HEARTBEAT", v2.Beat(0.0, manager.limit))
        world.wait(min(seconds, 5.0))
        seconds -= 5.0


# ---- delayed ---------------------------------------------------------------------------------------


def test_a_delayed_job_runs_when_it_is_due_and_not_before(world: World) -> None:
    world.join(b"m", credit=5)
    world.enqueue(job("later", options=options(delay_s=10.0)), job("now"))
    assert state(world, "later") == "delayed"
    world.wait(9)
    assert [j.id for j in world.handed(b"m")] == ["now"]
    world.wait(1.1)
    assert [j.id for j in world.handed(b"m")] == ["now", "later"]
    assert world.handed(b"m")[1].due == 0.0


def test_the_loop_wakes_up_for_a_job_that_is_due(world: World) -> None:
    world.enqueue(job("a", options=options(delay_s=0.7)))
    world.turn()
    assert world.router.next_deadline() == pytest.approx(world.now + 0.698, abs=0.01)


def test_a_time_takes_the_place_of_a_delay_and_a_past_one_is_now(world: World) -> None:
    world.join(b"m", credit=5)
    world.enqueue(job("eta", options=options(due=world.wall + 5, delay_s=100.0)))
    world.enqueue(job("past", options=options(due=world.wall - 5)))
    assert [j.id for j in world.handed(b"m")] == ["past"]
    world.wait(5.2)
    assert [j.id for j in world.handed(b"m")] == ["past", "eta"]


def test_delayed_jobs_survive_a_restart_with_their_time(world: World) -> None:
    world.enqueue(*(job(f"j{delay}", options=options(delay_s=float(delay))) for delay in (30, 1, 20)))
    world.wait(10)
    world.restart()
    world.join(b"m", credit=9)
    wait(world, 11)
    assert [j.id for j in world.handed(b"m")] == ["j1", "j20"]
    wait(world, 10)
    assert [j.id for j in world.handed(b"m")] == ["j1", "j20", "j30"]


@pytest.mark.parametrize("restart", [False, True])
def test_many_delayed_jobs_stay_in_the_store_and_come_in_order(
    world: World, monkeypatch: pytest.MonkeyPatch, restart: bool
) -> None:
    monkeypatch.setattr(limits, "TIMERS_MAX", 10)
    monkeypatch.setattr(limits, "PAGE_JOBS", 4)
    delays = [float((7 * i) % 100 + 5) for i in range(100)]
    world.enqueue(*(job(f"j{delay:03.0f}", options=options(delay_s=delay)) for delay in delays))
    assert len(world.router.ledger.live) <= 10
    if restart:
        world.restart()
    world.join(b"m", credit=1000)
    wait(world, 110)
    assert [j.id for j in world.handed(b"m")] == [f"j{delay:03.0f}" for delay in sorted(delays)]
    assert len(world.router.ledger.timers) == 0


def test_many_that_are_due_at_once_hold_up_no_turn_and_wait_for_no_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for limit, number in (("PAGE_JOBS", 3), ("TIMERS_MAX", 4)):
        monkeypatch.setattr(limits, limit, number)
    world.enqueue(*(job(f"j{n:02}", options=options(delay_s=60.0)) for n in range(20)))
    world.wall += 60.0
    waiting = [0]
    while waiting[-1] < 20:
        world.turn(after=0.0)
        waiting.append(20 - len(world.router.ledger.timers))
        assert waiting[-1] - waiting[-2] <= 3
        assert waiting[-1] == 20 or world.router.next_deadline() <= world.now, "there is more to do at once"
        assert len(waiting) < 40
    world.join(b"m", credit=20)
    world.turn()
    assert [each.id for each in world.handed(b"m")] == [f"j{n:02}" for n in range(20)]


def test_a_delayed_job_that_finds_its_queue_full_goes_to_the_store(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HEAD_JOBS_MAX", 3)
    world.enqueue(job("early", options=options(delay_s=1.0)), *(job(f"j{i}") for i in range(6)))
    world.enqueue(job("late", options=options(delay_s=1.0)))
    world.wait(2)
    assert len(world.router.ledger.live) <= 4
    world.restart()
    world.join(b"m", credit=100)
    world.wait(1)
    assert [j.id for j in world.handed(b"m")] == ["early", *(f"j{i}" for i in range(6)), "late"]


# ---- tried again -----------------------------------------------------------------------------------


def test_a_failed_job_is_tried_again_after_its_delays_and_then_dead(world: World) -> None:
    world.join(b"m", credit=10)
    world.enqueue(job("a", options=options(retries=2, retry_delays_s=(2.0, 5.0))))
    for pause, attempt in ((2, 1), (5, 2)):
        handed = world.handed(b"m")[-1]
        assert (handed.attempt, handed.failures) == (attempt, attempt - 1)
        world.finish(b"m", handed, state="failed")
        assert state(world, "a") == "delayed"
        world.wait(pause - 0.5)
        assert len(world.handed(b"m")) == attempt
        world.wait(1)
    world.finish(b"m", world.handed(b"m")[-1], state="failed")
    assert state(world, "a") == "dead"
    assert world.router.ledger.counts["retried"] == 2


def test_the_last_failure_is_seen_while_it_waits_and_survives_a_restart(world: World) -> None:
    world.join(b"m", credit=1)
    world.enqueue(job("a", options=options(retries=1, retry_delays_s=(60.0,))))
    world.finish(b"m", *world.handed(b"m"), state="failed")
    world.restart()
    info = world.info("a")
    assert info is not None
    assert (info["state"], info["failures"], info["attempt"]) == ("delayed", 1, 2)
    assert info["failure"]["type"] == "builtins.ValueError"


def test_a_crash_uses_up_no_retry(world: World) -> None:
    world.join(b"m", credit=10)
    world.enqueue(job("a", options=options(retries=1)))
    world.finish(b"m", world.handed(b"m")[-1], state="crashed")
    world.turn()
    world.finish(b"m", world.handed(b"m")[-1], state="failed")
    world.turn()
    assert [(j.attempt, j.failures, j.crashes) for j in world.handed(b"m")] == [(1, 0, 0), (2, 0, 1), (3, 1, 1)]


def test_a_job_can_ask_for_its_retry_and_its_delay(world: World) -> None:
    world.join(b"m", credit=10)
    world.enqueue(job("a", options=options(retries=1, retry_delays_s=(500.0,))))
    (handed,) = world.handed(b"m")
    asks = v2.Outcome("a", handed.lease, "retry", b"", v2.Failure("eventmq.Retry", "again"), 0.1, 3.0)
    world.manager(b"m", b"REPLY", v2.Reply(1, [asks], 10))
    world.wait(3.2)
    assert len(world.handed(b"m")) == 2
    asks = v2.Outcome("a", world.handed(b"m")[1].lease, "retry", b"", v2.Failure("eventmq.Retry", "again"), 0.1, 3.0)
    world.manager(b"m", b"REPLY", v2.Reply(2, [asks], 10))
    assert state(world, "a") == "dead"


OS_ERROR = v2.Failure("builtins.FileNotFoundError", "no", "", ("builtins.OSError", "builtins.Exception"))


@pytest.mark.parametrize(
    ("given", "how", "wanted"),
    [
        ({"retries": 1}, "failed", True),
        ({"retries": 0}, "failed", False),
        ({"retries": 1, "retry_on": ("builtins.OSError",)}, "failed", True),
        ({"retries": 1, "retry_on": ("builtins.FileNotFoundError",)}, "failed", True),
        ({"retries": 1, "retry_on": ("builtins.KeyError",)}, "failed", False),
        ({"retries": 1, "retry_not_on": ("builtins.OSError",)}, "failed", False),
        ({"retries": 1, "retry_on": ("builtins.KeyError",)}, "timeout", True),
        ({"retries": 1, "retry_timeout": False}, "timeout", False),
        ({"retries": 1, "retry_not_on": ("builtins.OSError",)}, "timeout", False),
        ({"retries": 1, "retry_on": ("builtins.KeyError",)}, "retry", True),
    ],
)
def test_what_is_tried_again(given: dict[str, Any], how: str, wanted: bool) -> None:
    assert retries.wanted(v2.Options(**given), job("a"), how, OS_ERROR) is wanted


def test_jitter_spreads_by_up_to_a_half_and_is_no_chance() -> None:
    policy = v2.Options(retries=3, retry_delays_s=(10.0,), retry_jitter=True)
    delays = [retries.delay_s(policy, job(f"j{i}", failures=1)) for i in range(200)]
    assert all(5.0 <= delay <= 15.0 for delay in delays)
    assert min(delays) < 6.0
    assert max(delays) > 14.0
    assert delays == [retries.delay_s(policy, job(f"j{i}", failures=1)) for i in range(200)]


# ---- expired ---------------------------------------------------------------------------------------


def test_a_job_that_has_not_begun_in_time_expires(world: World) -> None:
    world.enqueue(job("short", options=options(expires_s=5.0)), job("long", options=options(expires_s=50.0)))
    world.wait(6)
    world.join(b"m", credit=5)
    world.wait(1)
    assert [j.id for j in world.handed(b"m")] == ["long"]
    world.client(b"client", b"WAIT", v2.Wait(1, ["short"]))
    assert [r.state for r in world.results(b"client")] == ["expired"]
    wait(world, 60)
    assert state(world, "long") == "running"


@pytest.mark.parametrize("served", [False, True])
def test_a_job_of_a_queue_that_hands_out_nothing_expires_on_time(world: World, served: bool) -> None:
    if served:
        world.join(b"m", credit=9)
        world.router.ledger.say("default", paused=True)
    world.enqueue(job("a", options=options(expires_s=5.0)), job("b", options=options(expires_s=5.0)), job("c"))
    world.client(b"client", b"WAIT", v2.Wait(2, ["a", "b"]))
    at = world.now + 5
    world.wait(4)
    assert world.router.next_deadline() <= at
    assert world.results(b"client") == []
    world.wait(2)
    assert [(r.id, r.state) for r in world.results(b"client")] == [("a", "expired"), ("b", "expired")]
    assert len(world.router.ledger.backlogs["default"]) == 1
    world.restart()
    assert [each.job.id for each in world.store.find(["a", "c"]) if each.state == "waiting"] == ["c"]


def test_what_may_run_out_of_sight_does_not_expire_as_a_waiting_job(world: World) -> None:
    world.join(b"m", credit=1)
    world.enqueue(job("a", options=options(expires_s=3.0)))
    (handed,) = world.handed(b"m")
    world.restart()
    world.wait(6)
    assert world.router.holding
    verdicts = world.join(b"m", held=[v2.Held("a", handed.lease)])
    assert [each.verdict for each in verdicts] == ["keep"]


def test_many_that_expire_at_once_do_not_hold_the_loop(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ACT_JOBS_MAX", 3)
    world.enqueue(*(job(f"j{n}", options=options(expires_s=5.0)) for n in range(8)))
    world.turn(after=6)
    assert world.router.ledger.counts["expired"] == 3
    assert world.router.next_deadline() == world.now
    world.turn()
    world.turn()
    assert world.router.ledger.counts["expired"] == 8


def test_a_job_that_is_requeued_or_only_in_the_store_expires_in_its_own_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HEAD_JOBS_MAX", 2)
    world.enqueue(*(job(f"j{n}", options=options(expires_s=5.0)) for n in range(6)))
    world.wait(8)
    assert world.router.ledger.counts["expired"] == 6, "pages come in and expire, too"
    world.router.ledger.requeue(world.store.find(["j3"])[0], world.wall)
    world.wait(4)
    assert len(world.router.ledger.backlogs["default"]) == 1
    world.wait(2)
    assert len(world.router.ledger.backlogs["default"]) == 0


def test_times_of_jobs_that_have_begun_are_not_kept_for_ever(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "EXPIRIES_SPARE", 10)
    world = World()
    world.join(b"m", credit=1000)
    for n in range(200):
        world.enqueue(job(f"j{n}", options=options(expires_s=3600.0)))
    assert len(world.router.ledger.room.expiries._heap) <= 11


def test_the_time_of_a_job_that_comes_back_and_back_is_kept_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "EXPIRIES_SPARE", 10)
    world = World()
    world.join(b"m", credit=1000)
    world.enqueue(job("a", options=options(expires_s=3600.0)))
    for _ in range(100):
        world.finish(b"m", world.handed(b"m")[-1], state="returned")
    assert len(world.router.ledger.room.expiries._heap) <= 12


def test_a_requeued_job_has_its_whole_time_again(world: World) -> None:
    world.join(b"m", credit=1)
    world.enqueue(job("a", options=options(expires_s=5.0)))
    world.finish(b"m", *world.handed(b"m"), state="failed")
    world.wait(3)
    world.router.ledger.say("default", paused=True)
    world.router.ledger.requeue(world.store.find(["a"])[0], world.wall)
    world.wait(3)
    assert state(world, "a") == "waiting"
    world.wait(3)
    assert state(world, "a") == "expired"
