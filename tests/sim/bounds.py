"""What the Router holds in memory, against its bounds: after every turn, and when all is over."""

from __future__ import annotations

from eventmq import limits
from eventmq.broker.pool import MANAGER_FACT
from eventmq.router import Router
from sim.disk import Disk
from sim.timeline import Violation


def compare(router: Router, disk: Disk) -> None:
    """Heads, timers and leases are as large as they may be; of the turn itself nothing is left."""
    ledger, pool = router.ledger, router.pool
    small = max(1, limits.SMALL_PAGE_JOBS)
    for backlog in ledger.backlogs.values():
        if backlog.head > limits.HEAD_JOBS_MAX + limits.PAGE_JOBS:
            raise Violation(f"{backlog.head} jobs of queue {backlog.name} are in memory")
    spare = sum(min(backlog.head, small + limits.PAGE_JOBS) for backlog in ledger.backlogs.values())
    if ledger.room.full and ledger.room.bytes > limits.HEADS_BYTES_MAX + spare * PAYLOAD_BYTES:
        raise Violation(f"{ledger.room.bytes} payload bytes are in memory")
    if len(ledger.timers) - ledger.timers.paged > limits.TIMERS_MAX + limits.PAGE_JOBS:
        raise Violation(f"{len(ledger.timers)} delayed jobs, {ledger.timers.paged} of them only in the store")
    outbox = router.outbox
    of_the_turn = (ledger.changes, ledger.ended, ledger.kills, ledger.let_go, outbox.messages, outbox.jobs)
    if any(of_the_turn):
        raise Violation(f"left of the turn: {of_the_turn}")
    managers = set(pool.managers.values())
    strange = {holder.incarnation for _, holder, _ in ledger.leases.values() if holder.id and holder not in managers}
    if strange:
        raise Violation(f"jobs are handed out to {strange}, who are not connected")
    if set(pool.incarnations.values()) != managers:
        raise Violation(f"managers by connection: {managers}, by name: {pool.incarnations}")
    known = {name for name in disk.facts() if name.startswith(MANAGER_FACT)}
    there = {f"{MANAGER_FACT}{each.name}:{each.nonce}" for each in (*pool.incarnations, *router.expected)}
    if known != there:
        raise Violation(f"managers that are remembered: {known}, that are connected or expected: {there}")


PAYLOAD_BYTES = 100
"""More than any job in a simulated world has."""


def left(router: Router) -> str:
    """What the Router still holds though every job has ended and everybody was told; "" = nothing."""
    ledger = router.ledger
    held = {
        "leases": ledger.leases, "live jobs": ledger.live, "progress": ledger.progress, "stops": router.stops.runs,
        "questions": router.questions, "waiters": {**router.waiters.young, **router.waiters.old},
    }  # fmt: skip
    return ", ".join(f"{name}: {what}" for name, what in held.items() if what)
