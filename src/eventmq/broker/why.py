"""Why a job is where it is: what the Router itself decides by, in one word, one sentence and details. Changes nothing.

Of several reasons the first one counts, in the order of `REASONS`: what stops everything before what stops a queue,
before what its job managers do, before its place in line. Bounded: lists name at most `NAMES_MAX`.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from operator import itemgetter
from typing import Any, NamedTuple

from eventmq import limits
from eventmq.broker.core import Core
from eventmq.broker.lifecycle import DELAYED, RUNNING, TERMINAL, TRANSITIONS, WAITING
from eventmq.broker.pool import Crew, Manager
from eventmq.broker.turns import Ranked
from eventmq.protocol import v2
from eventmq.protocol.answers import Why
from eventmq.protocol.v2 import Job, options_of
from eventmq.store.base import Record
from eventmq.values import some, span

REASONS = {
    "unknown": "there is no such job: never accepted, forgotten since, or purged",
    "duplicate": "its call was answered with another job, which has the same key",
    "stopping": "it was cancelled, and its run is being stopped",
    "ended": "it has ended",
    "in_doubt": "it may begin only once, and may have before the Router restarted: its manager is waited for",
    "running": "it is handed out to a job manager",
    "held_back": "it may run on at a manager that is cut off, which has some time left to stop it",
    "retry": "it failed, and the delay before its next try is not over",
    "not_due": "its `countdown` or `eta` has not come",
    "shutting_down": "the Router ends, and hands out nothing more",
    "managers_expected": "the Router has restarted and waits for the managers that were connected: they may run jobs",
    "paused": "an operator has paused its queue",
    "no_worker": "no job manager serves its queue",
    "managers_leaving": "all that serve its queue finish what they run and take no more",
    "managers_silent": "of those that serve its queue, the connection is gone",
    "no_credit": "those that serve its queue run nothing and ask for nothing: their worker processes start, or die",
    "other_queues": "all that serve its queue are taken, and serve heavier queues first, which have jobs",
    "in_line": "all that serve its queue are taken, and other jobs of its queue go before it",
    "no_free_slot": "all that serve its queue are taken; it is next",
    "stalled": "somebody could have it, and nothing moves: the Router itself is broken",
    "next": "it is handed out in the next turn",
}
"""Every reason."""

ENDS = {
    "succeeded": "succeeded",
    "dead": "failed for good",
    "cancelled": "was cancelled",
    "expired": "expired: its turn came later than its `expires`",
    "lost": "is lost: it may begin only once, and nobody can say how that run ended",
}


class Reason(NamedTuple):
    """One of `REASONS`, a sentence, and what else there is to know."""

    reason: str
    text: str
    details: dict[str, Any]


def why(router: Core, id: str, record: Record | None) -> Why:
    """Why a job, as the store has it, is where it is."""
    job = record and router.ledger.live.get(id, record.job)
    if record is None or job is None:
        state, found = "unknown", _unknown(router, id)
    elif record.state in TERMINAL:
        state, found = record.state, _ended(router, record)
    elif id in router.ledger.leases:
        state, found = RUNNING, _running(router, job)
    elif job.due > router.wall:
        state, found = DELAYED, _delayed(router, job, record)
    else:
        state, found = WAITING, _held_by_all(router) or _held_by_queue(router, job) or _in_line(router, job)
    return Why(id=id, state=state, reason=found.reason, text=found.text, details=found.details)


# ---- not there, or over --------------------------------------------------------------------------------------------


def _unknown(router: Core, id: str) -> Reason:
    other = router.ledger.uniques.answer(id)
    if other is not None:
        return Reason("duplicate", f"job {other} has the same key and stands for it", {"other": other})
    closed = f"; no new jobs are accepted at present: {router.closed}" if router.closed else ""
    return Reason("unknown", f"{REASONS['unknown']}{closed}", {"closed": router.closed or None})


def _ended(router: Core, record: Record) -> Reason:
    job, state = record.job, record.state
    details: dict[str, Any] = {"finished": record.finished, "worker": record.worker or None, "attempt": job.attempt}
    run = router.stops.runs.get(job.id)
    if run is not None:
        left_s = max(0.0, run.kill_at - router.now)
        text = f"it was cancelled, and {run.incarnation.name} has {span(left_s)} to stop its run before it is killed"
        return Reason("stopping", text, details | {"left_s": left_s})
    text = f"it {ENDS[state]}, {_ago(router, record.finished)}"
    if record.failure:
        details["error"] = _error(record)
        text += f", at attempt {job.attempt}: {details['error']}"
    if job.unique and state in TRANSITIONS["requeue"][0] and router.ledger.uniques.is_held(job):
        text += "; it cannot be requeued while another job holds its key"
    return Reason("ended", text, details)


# ---- out, or later -------------------------------------------------------------------------------------------------


def _running(router: Core, job: Job) -> Reason:
    _, manager, since = router.ledger.leases[job.id]
    if manager is router.ledger.absent:
        return Reason("in_doubt", REASONS["in_doubt"], {"managers": _names(router.expected)})
    run_s, silent_s = router.now - since, router.now - manager.heard
    text = f"it is at {manager.incarnation.name} for {span(run_s)}, attempt {job.attempt}"
    if silent_s > limits.SUSPECT_GRACE_S:
        text += f"; that was last heard {span(silent_s)} ago"
    details = {"worker": manager.incarnation.name, "started": router.started_at(since), "run_s": run_s}
    return Reason("running", text, details | {"attempt": job.attempt, "silent_s": silent_s})


def _delayed(router: Core, job: Job, record: Record) -> Reason:
    left_s = job.due - router.wall
    details: dict[str, Any] = {"due": job.due, "left_s": left_s}
    if job.id in router.ledger.held_back:
        return Reason("held_back", f"{REASONS['held_back']}: {span(left_s)}", details)
    if job.failures and record.failure:
        details |= {"error": _error(record), "failures": job.failures}
        text = f"it failed {some(job.failures, 'time')}, last with {details['error']}; next try in {span(left_s)}"
        return Reason("retry", text, details)
    cause = "eta" if options_of(job.options).due else "countdown"
    return Reason("not_due", f"its {cause} is not over: due in {span(left_s)}", details | {"cause": cause})


# ---- waiting -------------------------------------------------------------------------------------------------------


def _held_by_all(router: Core) -> Reason | None:
    if router.received_disconnect:
        return Reason("shutting_down", REASONS["shutting_down"], {})
    if router.expected:
        left_s, names = max(0.0, router.reunion.until - router.now), _names(router.expected)
        text = f"the Router has restarted and waits up to {span(left_s)} for {', '.join(names)}, which may run jobs"
        return Reason("managers_expected", text, {"managers": names, "left_s": left_s})
    return None


def _held_by_queue(router: Core, job: Job) -> Reason | None:
    """What keeps back the whole queue."""
    queue, crews = job.queue, router.pool.crews_of(job.queue)
    if router.ledger.rules.of(queue).paused:
        return Reason("paused", f"an operator has paused queue {queue!r}: resume it", {"queue": queue})
    if not crews:
        served = sorted(router.pool.serving)
        others = ", ".join(map(repr, served[: limits.NAMES_MAX])) or "none"
        text = f"no job manager serves queue {queue!r}; served are: {others}"
        return Reason("no_worker", text, {"queue": queue, "served": served[: limits.NAMES_MAX], "total": len(served)})
    members = [manager for crew in crews for manager in crew.members.values()]
    names = _names(manager.incarnation for manager in members)
    if not any(map(_takes_more, members)):
        leaving = [manager for manager in members if manager.draining]
        reason = "managers_leaving" if leaving else "managers_silent"
        return Reason(reason, f"{REASONS[reason]}: {', '.join(names)}", {"managers": names})
    return None


def _takes_more(manager: Manager) -> bool:
    return not manager.draining and manager.suspect_since is None


def _in_line(router: Core, job: Job) -> Reason:
    """It is a matter of slots, and of who gets the next one."""
    backlog, crews = router.ledger.backlogs[job.queue], router.pool.crews_of(job.queue)
    members = {manager for crew in crews for manager in crew.members.values() if _takes_more(manager)}
    ahead, exact = backlog.ahead(job)
    details: dict[str, Any] = {"queue": job.queue, "ahead": ahead, "exact": exact, "waiting": len(backlog)}
    if any(manager.credit for manager in members):
        reason = "stalled" if job.queue in router.watch.stalled else "next"
        return Reason(reason, REASONS[reason], details)
    held = [(since, each, manager) for each, manager, since in router.ledger.leases.values() if manager in members]
    if not held:
        names = _names(manager.incarnation for manager in members)
        return Reason("no_credit", f"{REASONS['no_credit']}: {', '.join(names)}", details | {"managers": names})
    longest = [_told(router, *each) for each in heapq.nsmallest(limits.NAMES_MAX, held, key=itemgetter(0))]
    details |= {"taken": len(held), "running": longest}
    first = longest[0]
    taken = f"those that serve it are taken with {some(len(held), 'job')}, the longest for {span(first['run_s'])}: "
    taken += f"{first['name']} ({first['id']}) at {first['worker']}"
    place = f"{'' if exact else 'more than '}{some(ahead, 'job')} of its queue before it" if ahead else "it is next"
    heavier = [_heavier(router, crew, job.queue) for crew in crews]
    if all(heavier):
        details["queues"] = sorted({queue for queues in heavier for queue in queues})[: limits.NAMES_MAX]
        text = f"heavier queues come first: {', '.join(map(repr, details['queues']))}; {place}; {taken}"
        return Reason("other_queues", text, details)
    return Reason("in_line" if ahead else "no_free_slot", f"{place}; {taken}", details)


def _heavier(router: Core, crew: Crew, queue: str) -> list[str]:
    """The queues with jobs to hand out that a crew serves before this one."""
    if not isinstance(crew.turns, Ranked):
        return []
    weight, paused = crew.weights[queue], router.ledger.rules
    return [
        name
        for name, other in crew.weights.items()
        if other > weight and router.ledger.backlogs.get(name) and not paused.of(name).paused
    ]


# ---- words ---------------------------------------------------------------------------------------------------------


def _told(router: Core, since: float, job: Job, manager: Manager) -> dict[str, Any]:
    run_s = router.now - since
    return {"id": job.id, "name": job.name, "queue": job.queue, "worker": manager.incarnation.name, "run_s": run_s}


def _names(incarnations: Iterable[Any]) -> list[str]:
    return sorted({incarnation.name for incarnation in incarnations})[: limits.NAMES_MAX]


def _error(record: Record) -> str:
    failure = v2.decode(record.failure, v2.Failure)
    return f"{failure.type}: {failure.message}"[: limits.ERROR_CHARS_MAX]


def _ago(router: Core, wall: float) -> str:
    return f"{span(max(0.0, router.wall - wall))} ago"
