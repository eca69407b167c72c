"""What one seed decides: the world's size, its speeds, its jobs, its faults. Drawn first, printed first."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from random import Random

PROFILES: dict[str, tuple[int, tuple[str, ...]]] = {
    "calm": (2, ()),
    "router": (4, ("router_crash", "router_stop", "router_pause", "slow_disk", "wall_jump")),
    "network": (3, ("break", "half_open", "cut", "lossy", "wall_jump")),
    "lossy": (2, ("lossy",)),
    "managers": (3, ("manager_crash", "host_crash", "manager_pause", "manager_stop", "worker_crash")),
    "workers": (2, ("worker_crash", "router_crash")),
    "clients": (2, ("client_crash", "client_pause", "break", "router_crash")),
    "liars": (2, ("lie", "router_crash", "break")),
    "disk": (2, ("disk_full", "slow_disk", "router_crash")),
    "operators": (2, ("router_crash", "router_stop", "break", "disk_full", "manager_crash")),
    "everything": (5, ()),
    "schedulers": (
        0,
        ("scheduler_crash", "scheduler_pause", "router_crash", "router_pause", "break", "cut", "wall_jump"),
    ),
}
"""Name → (share of the seeds, what may go wrong). `everything` draws its faults from all; schedules are only in worlds
that are asked for by their profile."""

FAULTS = (*dict.fromkeys(kind for share, kinds in PROFILES.values() if share for kind in kinds), "repeat")


@dataclass(frozen=True)
class Options:
    """One world.

    Attributes:
        seed: Everything else follows from it.
        profile: What kind of trouble, see `PROFILES`.
        faults: Kinds of trouble.
        fault_every_s: Mean time between two of them.
        fault_s: How long there is trouble; then there must be none.
        managers: Workers of each job manager.
        queues: Names; the first manager serves all of them.
        clients: How many.
        batches: How many times clients enqueue, all together.
        batch_jobs: Jobs in one batch, at most.
        priorities: How many different ones.
        slow_share: Part of the jobs that run for seconds.
        slow_s: How long those run, at most.
        fail_share: Part that raise.
        crash_share: Part that take down their worker, some of them each time.
        stuck_share: Part that never end by themselves and have a timeout.
        delay_share: Part that are to run later.
        retry_share: Part that are tried again when they fail.
        expire_share: Part that are not to begin late.
        cancel_share: Part of the batches that are cancelled.
        once_share: Part that may begin only once.
        stop_share: Part that are to stop when their manager is cut off.
        latency_s: Of the network, one way.
        jitter_s: And how much more it may be.
        turn_s: What a turn of the Router takes.
        sync_s: What making something durable takes.
        receive_max: Messages that the Router reads of one socket in one turn.
        head_jobs: Jobs of a queue that the Router holds in memory.
        page_jobs: Jobs that it reads at once.
        heads_bytes: Payload bytes that it holds.
        timers: Delayed jobs that it holds.
        answers: Jobs that it looks up for questions in one turn.
        max_job_count: Jobs after which a worker is replaced; 0 = never.
        order_every_s: Mean time between two things that an operator wants; 0 = there is none.
        key_share: Part of the jobs that have a key.
        keys: Different keys for each name.
        keep_s: How long ended jobs are kept.
        results_max: And how many of them.
        dead_max: How many dead ones, besides.
        high_water: Messages of one direction of a connection that may be under way.
        schedules: How many there are, and two schedulers for them if any.
        fair: Managers share their slots by the weights of their queues.
        sqlite: The store is a real SQLite file.
    """

    seed: int
    profile: str
    faults: tuple[str, ...]
    fault_every_s: float
    fault_s: float
    managers: tuple[int, ...]
    queues: tuple[str, ...]
    clients: int
    batches: int
    batch_jobs: int
    priorities: int
    slow_share: float
    slow_s: float
    fail_share: float
    crash_share: float
    stuck_share: float
    delay_share: float
    retry_share: float
    expire_share: float
    cancel_share: float
    once_share: float
    stop_share: float
    latency_s: float
    jitter_s: float
    turn_s: float
    sync_s: float
    receive_max: int
    head_jobs: int
    page_jobs: int
    heads_bytes: int
    timers: int
    answers: int
    max_job_count: int
    order_every_s: float
    key_share: float
    keys: int
    keep_s: float
    results_max: int
    dead_max: int
    high_water: int
    schedules: int
    fair: bool
    sqlite: bool = field(default=False)

    def __str__(self) -> str:
        return " ".join(f"{each.name}={getattr(self, each.name)}" for each in fields(self))


def draw(seed: int, profile: str = "") -> Options:
    """The options of a seed, or of a seed in a given profile."""
    rng, late, more = (Random(f"{which}options {seed}") for which in ("", "late ", "more "))
    drawn = rng.choices(list(PROFILES), [share for share, _ in PROFILES.values()])[0]
    profile = profile or drawn
    kinds = PROFILES[profile][1]
    kinds = tuple(rng.sample(kinds or FAULTS, rng.randint(1, len(kinds or FAULTS)))) if profile != "calm" else ()
    small = rng.random() < 0.5
    slow = profile == "router" or rng.random() < 0.3
    return Options(
        seed=seed,
        profile=profile,
        faults=kinds,
        fault_every_s=rng.choice((0.5, 2.0, 2.0, 5.0)),
        fault_s=rng.choice((8.0, 15.0, 15.0, 40.0)),
        managers=tuple(rng.choice((1, 2, 4)) for _ in range(rng.choice((2, 3) if slow else (1, 2)))),
        queues=tuple(f"q{n}" for n in range(rng.choice((1, 1, 2, 3)))),
        clients=rng.choice((1, 2, 3)),
        batches=rng.choice((3, 8, 15)),
        batch_jobs=rng.choice((1, 5)) if slow else rng.choice((1, 5, 20)),
        priorities=rng.choice((1, 2, 3)),
        slow_share=rng.choice((0.3, 0.8)) if slow else rng.choice((0.0, 0.0, 0.1)),
        slow_s=rng.choice((4.0, 20.0)) if slow else 1.0,
        fail_share=rng.choice((0.0, 0.1, 0.3)),
        crash_share=rng.choice((0.0, 0.1)) if profile not in ("calm", "router") else 0.0,
        stuck_share=rng.choice((0.0, 0.05)),
        delay_share=rng.choice((0.0, 0.0, 0.3)),
        retry_share=rng.choice((0.0, 0.3)),
        expire_share=rng.choice((0.0, 0.0, 0.2)),
        cancel_share=rng.choice((0.0, 0.0, 0.3)),
        once_share=late.choice((0.0, 0.0, 0.2, 0.5)),
        stop_share=late.choice((0.0, 0.0, 0.2, 0.5)),
        latency_s=rng.choice((0.0001, 0.0005, 0.02)),
        jitter_s=rng.choice((0.0001, 0.001, 0.05)),
        turn_s=rng.choice((0.00005, 0.0005)),
        sync_s=rng.choice((0.0002, 0.002, 0.03)),
        receive_max=rng.choice((256, 256, 8, 1)),
        head_jobs=rng.choice((2, 5, 10)) if small else 50_000,
        page_jobs=rng.choice((1, 3, 7)) if small else 1_000,
        heads_bytes=rng.choice((40, 400, 64 << 20)) if small else 64 << 20,
        timers=rng.choice((1, 2, 6)) if small else 50_000,
        answers=rng.choice((1, 7)) if small else 500,
        max_job_count=rng.choice((0, 0, 0, 5)),
        order_every_s=more.choice((0.2, 1.0) if profile == "operators" else (0.0, 0.0, 0.0, 0.5, 3.0)),
        key_share=more.choice((0.0, 0.0, 0.3, 0.9)),
        keys=more.choice((1, 3, 20)),
        keep_s=more.choice((600.0, 600.0, 30.0)),
        results_max=more.choice((100_000, 100_000, 30, 3)),
        dead_max=more.choice((100_000, 100_000, 2)),
        high_water=more.choice((10_000, 10_000, 10_000, 20, 4)),
        schedules=3 if profile == "schedulers" else 0,
        fair=more.random() < 0.3,
        sqlite=rng.random() < (0.5 if profile == "disk" else 0.02),
    )
