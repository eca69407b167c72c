"""Which jobs an operator means, page by page: a `Selection` looked up in memory and store together.

What runs is known to memory alone, and everything else to the store, so a page is made of what each has between the
same two places. The rules of `operators` hold: bounded work, and where to go on is in the answer.
"""

from __future__ import annotations

import heapq
from math import inf
from typing import Any

from eventmq import limits
from eventmq.broker.core import Core
from eventmq.broker.lifecycle import DELAYED, RUNNING, WAITING, failures_of
from eventmq.errors import InvalidMessageError
from eventmq.protocol.administration import STATES, Selection
from eventmq.store.base import Line, Page, Wanted

LIVE = frozenset({WAITING, DELAYED, RUNNING})


class Selections(Core):
    """Selections of jobs, and what is told of each job in a list."""

    def browse(self, selection: Selection, most: int) -> Page:
        """One page of at most `most` jobs of what is selected.

        Raises:
            InvalidMessageError: There is no such state.
        """
        states = frozenset(selection.states)
        if unknown := states.difference(STATES):
            raise InvalidMessageError(f"no job is ever {min(unknown)!r}; the states are {listed(STATES)}")
        limit = min(selection.limit, most)
        before = limits.NEWEST if selection.before is None else selection.before
        stored = states - {RUNNING}
        runs = RUNNING in states or (bool(selection.worker) and not states)  # the store does not know who runs a job
        pages = [self._running(selection, before, limit)] if runs else []
        if stored or not states:
            page = self.store.browse(self._wanted(selection, stored), before, self.wall, limits.LIST_ROWS, limit)
            leases = self.ledger.leases if stored else ()
            pages.append(Page([line for line in page.lines if line.id not in leases], page.before))
        return _together(pages, limit)

    def _wanted(self, selection: Selection, states: frozenset[str]) -> Wanted:
        since = -inf if selection.since is None else selection.since
        until = inf if selection.until is None else selection.until
        words = (selection.queue, selection.name, selection.worker, selection.error)
        ids = None if selection.ids is None else tuple(selection.ids)
        stop = since - limits.CLOCK_BACK_S if since > self.ledger.requeued_at else -inf
        return Wanted(tuple(sorted(states)), *words, ids, since, until, tuple(selection.arguments.items()), stop)

    def _running(self, selection: Selection, before: int, limit: int) -> Page:
        """Of what runs, memory does not know what went wrong with it before: the store is asked for a few at a time."""
        named = None if selection.ids is None else frozenset(selection.ids)
        held = (
            job
            for job, manager, _ in self.ledger.leases.values()
            if job.seq < before
            and (named is None or job.id in named)
            and selection.queue in ("", job.queue)
            and selection.name in ("", job.name)
            and selection.worker in ("", manager.incarnation.name)
        )
        newest = heapq.nlargest(limit, held, key=lambda job: job.seq)
        wanted = self._wanted(selection, frozenset())._replace(worker="", ids=tuple(job.id for job in newest))
        page = self.store.browse(wanted, before, self.wall, limits.LIST_ROWS, limit)
        return Page(page.lines, page.before or (newest[-1].seq if len(newest) == limit else 0))

    def row(self, line: Line) -> dict[str, Any]:
        """One job in a list; the words are those of INFO. Times are wall times, or None."""
        lease = self.ledger.leases.get(line.id)
        row = line._asdict()
        del row["seq"]
        return row | {
            "state": RUNNING if lease else line.state,
            "due": line.due if line.state == DELAYED and not lease else None,
            "started": self.started_at(lease[2]) if lease else None,
            "finished": line.finished or None,
            "failures": failures_of(line.state, line.failures, line.error),
            "run_s": line.run_s or None,
            "worker": lease[1].incarnation.name if lease else line.worker or None,
            "error": line.error or None,
        }


def _together(pages: list[Page], limit: int) -> Page:
    """One page out of several, as far as all of them reach."""
    if len(pages) == 1:
        return pages[0]
    end = max((page.before for page in pages), default=0)
    lines = sorted((line for page in pages for line in page.lines if line.seq >= end), reverse=True)
    return Page(lines[:limit], lines[limit - 1].seq if len(lines) > limit else end)


def listed(states: frozenset[str] | tuple[str, ...]) -> str:
    """States in a sentence."""
    return ", ".join(sorted(states))
