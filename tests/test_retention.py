"""What becomes of ended jobs: each kind is kept by time and by count, and dead ones apart from all others."""

from __future__ import annotations

from world import World, job

from eventmq import limits
from eventmq.protocol import v2
from eventmq.store.base import Record

DAY_S = 86_400.0


def record(world: World, id: str) -> Record | None:
    return next(iter(world.store.find([id])), None)


def run_all(world: World, *jobs: v2.Job, state: str = "succeeded") -> None:
    """These jobs run and end so."""
    before = len(world.handed(b"m"))
    world.enqueue(*jobs)
    world.finish(b"m", *world.handed(b"m")[before:], state=state)


def sweep(world: World, times: int = 1) -> None:
    for _ in range(times):
        world.turn(after=limits.SWEEP_S)


def test_a_dead_job_is_kept_longer_than_a_result() -> None:
    world = World(result_ttl_s=1000.0, dead_ttl_s=30 * DAY_S)
    world.join(b"m", credit=9)
    run_all(world, job("good"))
    run_all(world, job("bad"), state="failed")
    world.wall += 1001
    sweep(world)
    assert record(world, "good") is None
    assert record(world, "bad") is not None
    world.wall += 30 * DAY_S
    sweep(world)
    assert record(world, "bad") is None


def test_a_jobs_own_result_ttl_keeps_its_failure_longer_but_not_shorter() -> None:
    world = World(dead_ttl_s=DAY_S)
    world.join(b"m", credit=9)
    for id, ttl in (("short", 0.0), ("long", 3 * DAY_S)):
        run_all(world, job(id, options=v2.pack({"result_ttl_s": ttl})), state="failed")
    world.wall += DAY_S - 60
    sweep(world)
    assert record(world, "short") is not None
    world.wall += DAY_S
    sweep(world)
    assert record(world, "short") is None
    assert record(world, "long") is not None


def test_successes_never_push_out_failures_nor_the_other_way_round() -> None:
    world = World(results_max=3, dead_max=2)
    world.join(b"m", credit=100)
    for n in range(3):
        run_all(world, job(f"bad{n}"), state="failed")
    for n in range(5):
        run_all(world, job(f"good{n}"))
    sweep(world, 2)
    left = {id for kind in ("bad", "good") for n in range(5) if record(world, id := f"{kind}{n}")}
    assert left == {"bad1", "bad2", "good2", "good3", "good4"}
    assert (world.store.info()["results"], world.store.info()["dead"]) == (3, 2)


def test_a_restarted_router_goes_on_counting() -> None:
    world = World(results_max=3, dead_max=1)
    world.join(b"m", credit=100)
    for n in range(3):
        run_all(world, job(f"bad{n}"), state="failed")
        run_all(world, job(f"good{n}"))
    world.restart()
    sweep(world, 2)
    assert (world.store.info()["results"], world.store.info()["dead"]) == (3, 1)
