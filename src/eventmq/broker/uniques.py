"""Which jobs are in the way of a new one with the same key: at most one call of those that share a key is to run.

The store knows who holds which key; this module adds what the present turn has changed about that, and remembers which
calls were answered with another job, in case their REQUEST comes again. A key belongs to the name of its jobs. A job
holds its key while it is live, and, if it was accepted with `unique_for_s`, until it is forgotten or replaced by a
later one, unless it was called off. Knows no clock and nobody who sends; `wall` is wall time, in seconds.

    options of the new job      in its way
    unique_scope = waiting      jobs that are delayed or wait
    unique_scope = running      those, and jobs that run
    unique_for_s = t            jobs accepted less than t ago, ended ones too
"""

from __future__ import annotations

from collections.abc import Iterator

from eventmq import limits
from eventmq.broker.admission import overdue
from eventmq.broker.lifecycle import CANCELLED, EXPIRED
from eventmq.protocol.v2 import Job, Options, options_of
from eventmq.store.base import Changes, Holder, Store


class Uniques:
    """Keys and who holds them.

    Args:
        store: Who remembers them.
        live: Jobs in memory by id, read only: what runs is there.
        first_seq: Jobs before it are from before the Router's start.
    """

    def __init__(self, store: Store, live: dict[str, Job], first_seq: int) -> None:
        self._store = store
        self._live = live
        self._first_seq = first_seq
        self._added: dict[tuple[str, str], list[Holder]] = {}
        self._ended: dict[str, bool] = {}  # of this turn, by id: whether it still holds its key
        self._answers: dict[str, str] = {}

    def added(self, job: Job) -> None:
        """A job with a key was accepted."""
        holder = Holder(job.id, job.seq, job.created, job.due, job.options, False, job.queue)
        self._added.setdefault((job.name, job.unique), []).append(holder)

    def ended(self, job: Job, state: str, changes: Changes) -> None:
        """A job with a key has ended."""
        holds = state not in (CANCELLED, EXPIRED) and options_of(job.options).unique_for_s is not None
        self._ended[job.id] = holds
        if not holds:
            changes.released.append(job.seq)

    def applied(self) -> None:
        """The turn's changes are durable: the store knows."""
        self._added.clear()
        self._ended.clear()

    def rivals(self, job: Job, wall: float, recovering: bool, changes: Changes) -> list[Holder]:
        """The jobs in the way of a new one, newest first.

        Args:
            job: The new one, with a key.
            wall: The time of its acceptance.
            recovering: The Router was restarted, and jobs from before may run without its knowing.
            changes: Learns of ended jobs that are in nobody's way any more.
        """
        options = options_of(job.options)
        found = []
        for holder in self._holders(job):
            if self._is_in_the_way(holder, options, wall, recovering):
                found.append(holder)
            elif holder.ended and (options.on_conflict == "replace" or wall >= _window_end(holder)):
                changes.released.append(holder.seq)
        return found

    def _holders(self, job: Job) -> Iterator[Holder]:
        yield from reversed(self._added.get((job.name, job.unique), ()))
        yield from self._store.holders(job.name, job.unique)

    def _is_in_the_way(self, holder: Holder, options: Options, wall: float, recovering: bool) -> bool:
        ended = holder.ended or holder.id in self._ended
        if options.unique_for_s is not None:
            held = self._ended.get(holder.id, True) and not (ended and options.on_conflict == "replace")
            return held and wall < holder.created + options.unique_for_s
        if ended:
            return False
        job = self._live.get(holder.id)
        if job is not None and job.lease:
            return options.unique_scope == "running"
        if overdue(options_of(holder.options), holder.created, wall):
            return False
        due = holder.due if job is None else job.due
        may_run = recovering and holder.seq < self._first_seq and due <= wall
        return options.unique_scope == "running" or not may_run

    def is_held(self, job: Job) -> bool:
        """Whether another live job holds the key of this one."""
        return any(not holder.ended and holder.id not in self._ended for holder in self._holders(job))

    # ---- calls that came to another job --------------------------------------------------------------

    def answer(self, id: str) -> str | None:
        """The job that a call was answered with when its REQUEST came before."""
        return self._answers.get(id)

    def answered(self, id: str, other: str) -> None:
        """A call was answered with another job, and will be when its REQUEST comes again, whatever becomes of that."""
        self._answers[id] = other
        if len(self._answers) > limits.UNIQUE_ANSWERS_MAX:
            del self._answers[next(iter(self._answers))]


def _window_end(holder: Holder) -> float:
    return holder.created + (options_of(holder.options).unique_for_s or 0.0)
