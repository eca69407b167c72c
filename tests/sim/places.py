"""Memory against store: each live job is in exactly one place, and a Router started now would have the same ones."""

from __future__ import annotations

from collections import Counter

from eventmq.broker import lifecycle
from eventmq.broker.backlog import key
from eventmq.protocol import v2
from eventmq.router import Router
from sim.disk import Disk
from sim.timeline import Violation


def compare(router: Router, disk: Disk) -> None:
    """Each live job is in exactly one place, and that is where the store says."""
    ledger = router.ledger
    waiting = [job for backlog in ledger.backlogs.values() for rank in backlog.ranks for job in backlog.lanes[rank]]
    delayed = [job for _, _, job in ledger.timers._jobs]
    running = [job for job, _, _ in ledger.leases.values()]
    placed = {job.id: job for job in (*waiting, *delayed, *running)}
    if len(placed) != len(waiting) + len(delayed) + len(running):
        ids = sorted(job.id for job in (*waiting, *delayed, *running))
        raise Violation(f"in two places at once: {sorted({id for id in ids if ids.count(id) > 1})}")
    states = (("waiting", waiting), ("delayed", delayed), ("running", running))
    for state, jobs in states:
        wrong = [job for job in jobs if lifecycle.state_of(job) != state or ledger.live.get(job.id) is not job]
        if wrong:
            raise Violation(f"among the {state} ones: {wrong}")
    if ledger.live.keys() != placed.keys():
        raise Violation(f"in memory and nowhere: {sorted(ledger.live.keys() ^ placed.keys())}")
    _compare_store(router, disk, placed)
    for backlog in ledger.backlogs.values():
        keys = [key(job) for rank in backlog.ranks for job in backlog.lanes[rank]]
        if keys != sorted(keys) or len(keys) != backlog.head or (backlog.edge and keys and keys[-1] >= backlog.edge):
            raise Violation(f"queue {backlog.name}: {backlog.head} in memory up to {backlog.edge}, in order {keys}")
    if ledger.room.bytes != sum(len(job.payload) for job in waiting):
        raise Violation(f"{ledger.room.bytes} payload bytes in memory")


def _compare_store(router: Router, disk: Disk, placed: dict[str, v2.Job]) -> None:
    ledger = router.ledger
    paged: dict[str, list[tuple[int, int]]] = {}
    put_off = []
    late = Counter(job.queue for job in placed.values() if job.due)
    for job, is_paged, is_put_off, end in disk.rows():
        ours = placed.get(job.id)
        if end is not None:
            if ours is not None:
                raise Violation(f"{job.id} has ended, and memory has it: {ours}")
        elif ours is not None:
            if _facts_of(ours) != _facts_of(job) or ours.due not in (0.0, job.due):
                raise Violation(f"memory has {ours}, the store {job}")
        elif is_paged:
            paged.setdefault(job.queue, []).append(key(job))
        elif is_put_off:
            put_off.append((job.due, job.seq))
            late[job.queue] += 1
        else:
            raise Violation(f"{job.id} is not in memory, and nothing in the store says that it will be read")
    for id in placed:
        if not disk.has(id):
            raise Violation(f"{id} is in memory and not in the store")
    for name, backlog in ledger.backlogs.items():
        keys = paged.pop(name, [])
        if backlog.delayed != late[name]:
            raise Violation(f"queue {name}: {backlog.delayed} delayed jobs, and there are {late[name]}")
        if len(keys) != backlog.paged or (keys and (backlog.edge is None or min(keys) < backlog.edge)):
            raise Violation(f"queue {name}: {backlog.paged} only in the store from {backlog.edge}; it has {keys}")
    timers = ledger.timers
    if len(put_off) != timers.paged or (put_off and (timers.edge is None or min(put_off) < timers.edge)) or paged:
        raise Violation(f"delayed: {timers.paged} only in the store from {timers.edge}; it has {put_off}; {paged}")


def replay(router: Router, disk: Disk, now: float, wall: float) -> None:
    """A Router started now on what is durable has the same jobs in the same order."""
    again = Router(disk.replay(), router.policy, lambda: now, lambda: wall).ledger
    live = [row for row in disk.rows() if row.end is None]
    doubtful = {row.job.id for row in live if row.job.started > row.job.settled}
    if again.leases.keys() != doubtful:
        raise Violation(f"a restart would be in doubt of {again.leases.keys()}, and should of {doubtful}")
    live = [row for row in live if row.job.id not in doubtful]
    waiting = sorted((row.job for row in live if not row.put_off and row.job.due <= wall), key=key)
    for name, backlog in again.backlogs.items():
        ours = [key(job) for rank in backlog.ranks for job in backlog.lanes[rank]]
        right = [key(job) for job in waiting if job.queue == name]
        if ours != right[: len(ours)] or len(ours) != backlog.head:
            raise Violation(f"queue {name} would be {ours} up to {backlog.edge} after a restart, and should {right}")
    if sum(map(len, again.backlogs.values())) + len(again.timers) != len(live):
        raise Violation(f"a restart would find {again.backlogs} and {len(again.timers)} delayed of {live}")
    ledger = router.ledger
    if again.next_seq > ledger.next_seq or again.next_lease < ledger.next_lease >> 32 << 32:
        raise Violation(f"a restart would go on with seq {again.next_seq} and hand-out {again.next_lease:#x}")


def _facts_of(job: v2.Job) -> tuple[object, ...]:
    return job.seq, job.queue, job.name, job.payload, job.priority, job.options, job.attempt, job.crashes, job.failures
