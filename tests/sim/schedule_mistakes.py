"""Mistakes to plant in what concerns schedules."""

from __future__ import annotations

from typing import Any

from eventmq.broker.schedules import TICK_FACT, Schedules
from eventmq.schedules.session import SchedulerSession
from sim.planted import Method, plant


@plant(Schedules, "release", "schedulers")
def schedules_die_with_their_scheduler(right: Method) -> Method:
    """Nobody takes over what a scheduler had that is gone."""
    return lambda self, peer: 0


@plant(SchedulerSession, "_request", "schedulers")
def tick_taken_for_granted(right: Method) -> Method:
    """A scheduler goes on to the next run when it has sent a tick, not when that is ACKed."""

    def request(self: Any, n: int, ticks: Any, now: float) -> None:
        right(self, n, ticks, now)
        for tick in self._unacked.pop(n)[0]:
            self.agenda.done(tick)

    return request


@plant(Schedules, "_run", "schedulers", keep_s=3.0, fault_every_s=0.5, faults=("router_crash",), batches=1)
def how_far_it_is_not_kept(right: Method) -> Method:
    """A tick moves its schedule in memory only: after a restart it is where it was when it was made."""

    def run(self: Any, entry: Any, *args: Any) -> Any:
        kept = dict(self._ledger.changes.facts)
        refusal = right(self, entry, *args)
        fact = TICK_FACT + entry.schedule.id
        self._ledger.changes.facts.pop(fact, None)
        if fact in kept:
            self._ledger.changes.facts[fact] = kept[fact]
        return refusal

    return run
