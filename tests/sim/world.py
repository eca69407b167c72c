"""One seed's world, from its options to the judgement at its end.

First there is trouble for a while, and nothing may be lost, told too early or run twice without a cause. Then there is
none, and everything must come to its end within a bound of simulated time, or `pending` says what does not.
"""

from __future__ import annotations

import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from msgspec import structs

from eventmq import limits
from eventmq.broker import lifecycle
from eventmq.client.ids import Ids
from eventmq.protocol import calls, v2
from eventmq.store import database
from sim import bounds
from sim.client import Batch, ClientProcess
from sim.disk import Disk
from sim.faults import Faults
from sim.manager import ManagerProcess, queues_of
from sim.network import Network
from sim.operator import OperatorProcess
from sim.options import Options, draw
from sim.router import RouterProcess
from sim.schedules import Planner, SchedulerProcess
from sim.shares import Shares
from sim.timeline import Timeline, Trace, Violation
from sim.truth import Plan, Truth
from sim.witness import Witness

NAMES = ("tasks.tiny", "tasks.small", "tasks.other")
CALM_DOWN_S = 150.0
"""After the trouble everything that was given up must have been noticed, and everybody must be connected; what is
delayed has its time by a wall clock that may have been set back."""

EVENTS_MAX = 2_000_000
"""A world with more has gone mad."""


class Report(NamedTuple):
    """What came of one seed; `failure` is empty when all was well. `shares`: those of a fair manager were judged."""

    seed: int
    options: str
    digest: str
    events: int
    turns: int
    simulated_s: float
    jobs: int
    runs: int
    repeats: int
    shares: bool
    struck: dict[str, int]
    failure: str = ""
    trace: tuple[str, ...] = ()


class World:
    """Everything there is.

    Attributes:
        judge: Who watches the Router's turns.
    """

    judge: type[Witness] = Witness

    def __init__(self, options: Options, trace: Trace, sqlite_path: str) -> None:
        self.options = options
        self.trace = trace
        self.timeline = Timeline(trace)
        self.struck: Counter[str] = Counter()
        self.truth = Truth(self.timeline)
        self.disk = Disk(self.rng("disk"), sqlite_path if options.sqlite else "")
        self.witness = self.judge(self.timeline, self.disk, self.truth)
        self.network = Network(
            self.timeline, self.rng("network"), options.latency_s, options.jitter_s, options.high_water
        )
        self.router = RouterProcess(self.timeline, self.rng("router"), self.network, self.disk, self.witness, options)
        self.managers = [self._manager(number, workers) for number, workers in enumerate(options.managers)]
        self.clients = self._clients()
        self.operators = [self._operator()] if options.order_every_s else []
        self.schedulers = [SchedulerProcess(f"scheduler{n}", self) for n in range(2)] if options.schedules else []
        self.planners = [Planner(self)] if options.schedules else []
        self.router.boot()
        for process in self.peers:
            process.boot()
        self.faults = Faults(self)
        self.shares: Shares | None = None
        if options.fair and not options.faults and len(self.managers) == 1:
            self.shares = Shares(self.timeline, self.router, self.managers[0])
            self.truth.look = self.shares.look

    @property
    def peers(self) -> list[ManagerProcess | ClientProcess | OperatorProcess | SchedulerProcess | Planner]:
        """Everybody but the Router."""
        return [*self.managers, *self.clients, *self.operators, *self.schedulers, *self.planners]

    def rng(self, purpose: str) -> Random:
        """A source of its own for each part, so that a change in one does not change all others."""
        return Random(f"{purpose} {self.options.seed}")

    def _manager(self, number: int, workers: int) -> ManagerProcess:
        name = f"manager{number}"
        rng = self.rng(name)
        queues = queues_of(number, self.options.queues, rng)
        count = self.options.max_job_count
        shared = self.timeline, rng, self.network, self.truth, self.witness
        return ManagerProcess(name, workers, queues, count, self.options.fair, *shared)

    def _operator(self) -> OperatorProcess:
        every_s, queues = self.options.order_every_s, self.options.queues
        rng = self.rng("operator")
        return OperatorProcess("operator", every_s, queues, self.timeline, rng, self.network, self.witness)

    # ---- jobs ------------------------------------------------------------------------------------------

    def _clients(self) -> list[ClientProcess]:
        options, rng, keys = self.options, self.rng("jobs"), self.rng("keys")
        ids = Ids(lambda: int(self.timeline.wall * 1e9), options.seed)
        batches: list[list[Batch]] = [[] for _ in range(options.clients)]
        for _ in range(options.batches):
            due = self.timeline.now + rng.random() * options.fault_s
            jobs = [self._job(ids.new(), rng, keys) for _ in range(rng.randint(1, options.batch_jobs))]
            cancel_at = due + rng.choice((0.0, 0.1, 2.0)) if rng.random() < options.cancel_share else None
            rng.choice(batches).append(Batch(due, jobs, cancel_at))
        return [
            ClientProcess(f"client{n}", each, self.timeline, self.rng(f"client{n}"), self.network, self.truth)
            for n, each in enumerate(batches)
        ]

    def _job(self, id: str, rng: Random, keys: Random) -> v2.Job:
        options = self.options
        runs = [self._run(rng) for _ in range(3)] + [("ok", 0.002)]
        if rng.random() < options.crash_share:
            runs = [("crash", rng.random() * 0.1)] * rng.choice((1, 2, 5)) + runs
        stuck = rng.random() < options.stuck_share
        if stuck:
            runs = [("stuck", 1e9)]
        wishes = self._wishes(rng, stuck)
        if wishes.on_partition == "stop" and not stuck and rng.random() < 0.5:
            runs = [("ok", rng.uniform(5.0, 25.0)), *runs]
        job = v2.Job(
            id,
            rng.choice(options.queues),
            rng.choice(NAMES),
            calls.pack_call((rng.randint(0, 9),), {}),
            rng.choice((0, 5, -5)[: options.priorities]),
        )
        if keys.random() < options.key_share:
            job.unique, wishes = self._key(keys, wishes)
        job.options = v2.pack_options(wishes)
        self.truth.plans[id] = Plan(job, runs, gil=rng.random() < 0.1)
        return job

    def _wishes(self, rng: Random, stuck: bool) -> v2.Options:
        """A job's own options."""
        options = self.options
        once = bool(options.once_share) and rng.random() < options.once_share
        stop = bool(options.stop_share) and rng.random() < options.stop_share
        retried = rng.random() < options.retry_share and not once
        return v2.Options(
            timeout_s=rng.choice((0.5, 3.0)) if stuck else None,
            delay_s=rng.choice((0.05, 0.5, 3.0)) * rng.random() if rng.random() < options.delay_share else 0.0,
            expires_s=rng.choice((0.2, 2.0, 10.0)) if rng.random() < options.expire_share else None,
            retries=rng.randint(1, 3) if retried else 0,
            retry_delays_s=rng.choice(((), (0.2,), (0.1, 0.4, 2.0))) if retried else (),
            retry_jitter=retried and rng.random() < 0.5,
            redeliver=not once,
            on_partition="stop" if stop else "finish",
        )

    def _key(self, rng: Random, wishes: v2.Options) -> tuple[str, v2.Options]:
        """A job's key, and what is to happen to others that have it too."""
        key = f"key{rng.randrange(self.options.keys)}"
        if rng.random() < 0.2:  # debounced
            return key, structs.replace(
                wishes, delay_s=rng.choice((0.2, 2.0)), unique_scope="waiting", on_conflict="replace"
            )
        on_conflict = rng.choice(("existing", "existing", "replace", "raise"))
        for_s = rng.choice((None, None, 0.5, 5.0))
        scope = rng.choice(("running", "waiting")) if for_s is None else "running"
        return key, structs.replace(wishes, unique_scope=scope, unique_for_s=for_s, on_conflict=on_conflict)

    def _run(self, rng: Random) -> tuple[str, float]:
        what = rng.choice(("fail", "fail", "retry")) if rng.random() < self.options.fail_share else "ok"
        if rng.random() < self.options.slow_share:
            return what, rng.uniform(0.1, self.options.slow_s)
        return what, rng.choice((0.0001, 0.0003, 0.002, 0.05))

    # ---- the two phases ----------------------------------------------------------------------------------

    def run(self) -> None:
        work_s = sum(seconds for plan in self.truth.plans.values() for _, seconds in plan.runs if seconds < 1e6)
        bound = self.faults.until + CALM_DOWN_S + work_s
        check_at = self.faults.until
        while True:
            self.timeline.step()
            if self.timeline.now >= check_at:
                check_at = self.timeline.now + 0.5
                left = self.pending()
                if not left:
                    break
                if self.timeline.now > bound:
                    raise Violation(
                        f"not finished {self.timeline.now - self.faults.until:.0f} s after the trouble: {left}"
                    )
            if self.timeline.events > EVENTS_MAX:
                raise Violation(f"{EVENTS_MAX} events, and no end: {self.pending()}")
        self._judge_the_end()

    def pending(self) -> str:
        """What has not come to its end, and where it is; "" = everything has."""
        router = self.router.router
        if router is None:
            return "the Router is not there"
        live = [row.job.id for row in self.disk.rows() if row.end is None]
        if live:
            views = {id: self.witness.jobs.get(id) for id in live[:10]}
            return f"{len(live)} jobs live: {views}; managers: {[p for m in self.managers if (p := m.pending())]}"
        left = [text for process in self.peers if (text := process.pending())]
        if not left and (held := bounds.left(router)):
            left = [f"the Router still holds {held}"]
        if not left and router.holding:
            left = [f"the Router holds back, expecting {router.expected}"]
        return "; ".join(left)

    def _judge_the_end(self) -> None:
        ends = {row.job.id: row.end for row in self.disk.rows()}
        lost = [id for id in self.truth.acked if ends.get(id) is None and id not in self.truth.forgotten]
        if lost:
            raise Violation(f"stored and lost: {lost}")
        for id, end in ends.items():
            assert end is not None
            runs = self.truth.runs.get(id, [])
            if end.state == lifecycle.SUCCEEDED and not any(r.how == "ok" and r.value == end.value for r in runs):
                raise Violation(f"{id} has succeeded with {end.value!r}, which no run returned: {runs}")
            result = self.truth.results.get(id, {}).get(end.attempt)
            told = None if result is None or id in self.truth.forgotten else (result.state, result.value)
            if told not in (None, (end.state, end.value)):
                raise Violation(f"{id}: its client was told {result}, the store says {end}")
        for id in sorted(self.truth.awaited):
            if id not in self.truth.told:
                raise Violation(f"the client of {id} was never told its outcome")
        if self.shares is not None:
            self.shares.judge()
        if not self.options.faults and self.truth.repeats + self.truth.stopped:
            raise Violation(f"{self.truth.repeats + self.truth.stopped} second runs and nothing went wrong")


@contextmanager
def small_limits(options: Options) -> Iterator[None]:
    """The Router's memory is as small as the options say."""
    small = {
        "HEAD_JOBS_MAX": options.head_jobs,
        "PAGE_JOBS": options.page_jobs,
        "SMALL_PAGE_JOBS": min(options.page_jobs, limits.SMALL_PAGE_JOBS),
        "HEADS_BYTES_MAX": options.heads_bytes,
        "TIMERS_MAX": options.timers,
        "TURN_ANSWERS": options.answers,
        "DEDUPE_S": options.keep_s,
    }
    log_bytes = 40_000 if options.page_jobs < limits.PAGE_JOBS else database.LOG_BYTES
    wanted = [(limits, name, value) for name, value in small.items()] + [(database, "LOG_BYTES", log_bytes)]
    before = [(module, name, getattr(module, name)) for module, name, _ in wanted]
    try:
        for module, name, value in wanted:
            setattr(module, name, value)
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


def run(seed: int, profile: str = "", loud: bool = False, **given: Any) -> Report:
    """The world of one seed, from beginning to end; `given` are options that are not left to the seed."""
    options = replace(draw(seed, profile), **given)
    trace = Trace(loud)
    trace.write(str(options))
    failure = ""
    with small_limits(options), tempfile.TemporaryDirectory() as folder:
        world = World(options, trace, str(Path(folder) / "sim.db"))
        try:
            world.run()
        except Violation as violation:
            failure = f"at {world.timeline.now - 1000:.6f}: {violation}"
            trace.write(failure)
        except Exception:  # of the simulator itself, or of code that nobody expects to raise
            failure = f"at {world.timeline.now - 1000:.6f}: {traceback.format_exc()}"
            trace.write(failure)
        finally:
            world.disk.drop()
    truth = world.truth
    return Report(
        seed,
        str(options),
        trace.digest,
        world.timeline.events,
        world.router.turns,
        world.timeline.now - 1000,
        len(truth.plans),
        sum(map(len, truth.runs.values())),
        truth.repeats,
        world.shares is not None and world.shares.judged,
        dict(world.struck),
        failure,
        tuple(trace.last) if failure else (),
    )
