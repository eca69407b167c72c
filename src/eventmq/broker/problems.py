"""What an operator should look at, in sentences: the answer to PROBLEMS. Changes nothing.

Seen in the present state, or by `Watch` over time. Bounded: at most `PROBLEMS_MAX`, the critical ones first.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice

from eventmq import limits
from eventmq.broker.core import Core
from eventmq.broker.lifecycle import DEAD, LOST, TERMINAL
from eventmq.broker.watch import RECENT_S
from eventmq.protocol.answers import Problem
from eventmq.store.database import RESERVE_BYTES
from eventmq.values import some, span

RISING = 10
"""So many dead jobs, or refusals, in the last `RECENT_S` are worth a look."""

OLD_S = 300.0
"""A job should not wait longer in a queue that is served."""

STORE_LOW_BYTES = 256 << 20
"""The store's disk should have more room."""

WARNING, CRITICAL = "warning", "critical"


def _problem(key: str, level: str, text: str, **about: str) -> Problem:
    return Problem(key=key, level=level, text=text, about=about)


def problems(router: Core) -> list[Problem]:
    """All that there are now."""
    each = chain(_store(router), _managers(router), _queues(router), _schedules(router), _recent(router))
    return sorted(islice(each, limits.PROBLEMS_MAX), key=lambda problem: problem["level"] != CRITICAL)


def _store(router: Core) -> Iterator[Problem]:
    left = router.store.info().get("free_bytes")
    if router.storage_full:
        text = f"new jobs are refused: the store's disk has less than {RESERVE_BYTES >> 20} MiB free"
        yield _problem("store_full", CRITICAL, text)
    elif left is not None and left < STORE_LOW_BYTES:
        text = f"the store's disk has {left / 2**20:.0f} MiB free; with {RESERVE_BYTES >> 20} MiB new jobs are refused"
        yield _problem("store_low", WARNING, text)


def _managers(router: Core) -> Iterator[Problem]:
    if router.expected:
        names = ", ".join(sorted(each.name for each in router.expected)[: limits.NAMES_MAX])
        left_s = max(0.0, router.reunion.until - router.now)
        text = f"nothing is handed out for up to {span(left_s)}: the Router has restarted and waits for {names}"
        yield _problem("managers_expected", WARNING, text)
    here = set()
    for manager in router.pool.managers.values():
        name, silent_s = manager.incarnation.name, router.now - manager.heard
        here.add(name)
        if silent_s > limits.ROUTER_SILENCE_S:
            text = f"job manager {name} was last heard {span(silent_s)} ago"
            yield _problem("manager_silent", WARNING, text, manager=name)
    for name, (at, jobs) in router.watch.lost.items():
        if name in here:
            continue  # the next one of that name had come before this one was given up
        text = f"job manager {name} was lost {span(router.now - at)} ago with {some(jobs, 'job')}, and is not back"
        yield _problem("manager_lost", WARNING, text, manager=name)


def _queues(router: Core) -> Iterator[Problem]:
    rules = router.ledger.rules
    for name, rule in rules.by_queue.items():
        if rule.draining:
            yield _problem("draining", WARNING, f"queue {name!r} takes no new jobs until it is resumed", queue=name)
    for name, backlog in router.ledger.backlogs.items():
        waiting, jobs_max = len(backlog), rules.jobs_max(name)
        if jobs_max is not None and waiting + backlog.delayed >= jobs_max:
            text = f"queue {name!r} refuses new jobs: it has reached its bound of {jobs_max:,}"
            yield _problem("queue_full", WARNING, text, queue=name)
        if not waiting:
            continue
        has = f"queue {name!r} has {some(waiting, 'waiting job')}"
        if rules.of(name).paused:
            yield _problem("paused", WARNING, f"{has} and is paused", queue=name)
        elif not router.pool.crews_of(name):
            yield _problem("no_worker", CRITICAL, f"{has} and no worker", queue=name)
        elif name in router.watch.stalled:
            since_s = router.now - router.watch.stalled[name]
            text = f"{has}, job managers with free slots, and nothing has moved for {span(since_s)}: restart the Router"
            yield _problem("stalled", CRITICAL, f"{text}, and report this", queue=name)
        elif (old_s := backlog.oldest_s(router.wall)) > OLD_S:
            yield _problem("waiting_long", WARNING, f"{has}; the oldest has waited for {span(old_s)}", queue=name)


def _schedules(router: Core) -> Iterator[Problem]:
    summary = router.schedules.summary()
    if summary["unassigned"]:
        text = f"{some(summary['unassigned'], 'schedule')} will not run: no scheduler is connected"
        yield _problem("no_scheduler", CRITICAL, text)
    for id in summary["overdue_first"]:
        periods = router.schedules.entries[id].schedule.rule.overdue
        text = f"schedule {id!r} is overdue: no success for {some(periods, 'period')}"
        yield _problem("schedule_overdue", WARNING, text, schedule=id)


def _recent(router: Core) -> Iterator[Problem]:
    counts, refusals = router.watch.recently(router.ledger.counts, router.refusals)
    failed, ended = counts[DEAD] + counts[LOST], sum(counts[state] for state in TERMINAL)
    last = f"in the last {RECENT_S / 60:.0f} minutes"
    if failed >= RISING:
        share = f"{100 * failed / ended:.0f} % of those that ended"
        text = f"{some(failed, 'job')} failed for good or were lost {last}, {share}"
        yield _problem("dead_growing", WARNING, text)
    if refusals.total() >= RISING:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in refusals.most_common(3))
        text = f"{refusals.total():,} messages or jobs were refused {last}: {reasons}"
        yield _problem("refusals_rising", WARNING, text)
