"""One long job among many short ones, without trouble: what it costs the short ones, in simulated time.

    PYTHONPATH=tests python -m sim.mixture [JOBS]

It fails where the p99 of the short ones grows by more than `GROWTH_MAX`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import replace

from eventmq.broker.outbox import Send
from eventmq.client.ids import Ids
from eventmq.protocol import calls, v2
from eventmq.router import Router
from sim.client import Batch, ClientProcess
from sim.manager import ManagerProcess
from sim.options import draw
from sim.timeline import Trace
from sim.truth import Plan
from sim.witness import Witness
from sim.world import World

LONG_S = 60.0
SHORT_S = 0.001
NAME = "tasks.one"
"""All jobs have one name: nobody can know the long one before it runs long."""

GROWTH_MAX = 0.1

Arrivals = Iterable[tuple[float, int]]
"""When how many short ones come."""


class Onlooker(Witness):
    """Judges nothing: to compare all jobs after each turn takes the longer, the more there have been."""

    def after_turn(self, router: Router, received: list[tuple[str, list[bytes]]], sends: list[Send]) -> None:
        self._hear(received, sends)


class Mixture(World):
    """Managers, and a client whose jobs run for 1 ms, but for one."""

    judge = Onlooker

    def __init__(self, managers: tuple[int, ...], arrivals: Arrivals, long: bool) -> None:
        self.arrivals = arrivals
        self.long = long
        drawn = draw(1, "calm")
        calm = replace(
            drawn, managers=managers, queues=("q0",), latency_s=0.0001, jitter_s=0.0001, turn_s=0.0005, sync_s=0.0002,
            receive_max=256, head_jobs=50_000, page_jobs=1_000, heads_bytes=64 << 20, timers=50_000, answers=500,
            max_job_count=0, order_every_s=0.0, keep_s=600.0, results_max=100_000, dead_max=100_000, high_water=10_000,
            schedules=0, fair=False, sqlite=False,
        )  # fmt: skip
        super().__init__(calm, Trace(), "")

    def _manager(self, number: int, workers: int) -> ManagerProcess:
        made = super()._manager(number, workers)
        made.queues = ((10, "q0"),)
        return made

    def _clients(self) -> list[ClientProcess]:
        ids = Ids(lambda: int(self.timeline.wall * 1e9), 1)
        began = self.timeline.now + 1.0
        batches = [self._batch(ids, began, 50, SHORT_S)]  # so that this kind of job is known
        if self.long:
            batches.append(self._batch(ids, began + 0.9, 1, LONG_S))
        self.short = [self._batch(ids, began + 1.0 + at, many, SHORT_S) for at, many in self.arrivals]
        shared = self.timeline, self.rng("client"), self.network, self.truth
        return [ClientProcess("client", batches + self.short, *shared)]

    def _batch(self, ids: Ids, due: float, many: int, seconds: float) -> Batch:
        made = [v2.Job(ids.new(), "q0", NAME, calls.pack_call((), {})) for _ in range(many)]
        for job in made:
            self.truth.plans[job.id] = Plan(job, [("ok", seconds)], gil=False)
        return Batch(due, made)

    def latencies(self) -> list[float]:
        """Seconds from each short job's call to its end, sorted, once all of them have ended."""
        left = {id: batch.due for batch in self.short for id in batch.ids}
        found: list[float] = []
        look_at = 0.0
        while left:
            self.timeline.step()
            if self.timeline.now < look_at:
                continue
            look_at = self.timeline.now + 0.05
            for id in list(left):
                runs = self.truth.runs.get(id)
                if runs and runs[-1].ended is not None:
                    found.append(runs[-1].ended - left.pop(id))
        return sorted(found)


def p99(managers: tuple[int, ...], arrivals: Arrivals, long: bool) -> float:
    """99 % of the short jobs take no longer than so many seconds."""
    found = Mixture(managers, arrivals, long).latencies()
    return found[len(found) * 99 // 100]


def main() -> int:
    jobs = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    most = 0.0
    steady = [(n * 0.002, 1) for n in range(jobs)]
    for what, managers, arrivals in (
        ("500 a second, on two managers of 2 workers", (2, 2), steady),
        ("at once, on two managers of 8 workers", (8, 8), [(0.0, jobs)]),
    ):
        alone, beside = (p99(managers, arrivals, long) for long in (False, True))
        said = f"p99 {1e3 * alone:.2f} ms; beside one of 60 s {1e3 * beside:.2f} ms: {beside / alone - 1:+.1%}"
        print(f"{jobs:,} jobs of 1 ms {what}: {said}", flush=True)
        most = max(most, beside / alone - 1)
    return int(most > GROWTH_MAX)


if __name__ == "__main__":
    sys.exit(main())
