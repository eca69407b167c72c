"""More mistakes to plant: keys, operators, retention, counters, what a restart brings back, order of messages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from msgspec.structs import replace

from eventmq.broker import retries
from eventmq.broker.intake import Intake
from eventmq.broker.leases import Leases
from eventmq.broker.ledger import Ledger
from eventmq.broker.operators import Operators
from eventmq.broker.outbox import Outbox
from eventmq.broker.rules import NO_RULE, Rules
from eventmq.broker.turns import Fair
from eventmq.broker.uniques import Uniques
from eventmq.limits import ACT_JOBS_MAX
from eventmq.protocol import v2
from eventmq.store.archive import Archive
from eventmq.store.database import Database
from eventmq.store.journal import Journal
from eventmq.store.retention import Retention
from eventmq.store.segments import Segments
from eventmq.workers.session import SessionV2
from eventmq.workers.stops import Stops
from sim import schedule_mistakes
from sim.planted import PLANTED, Method, nothing, plant, planted

__all__ = ["PLANTED", "planted", "schedule_mistakes"]

NOTHING_ELSE = {f"{what}_share": 0.0 for what in ("fail", "stuck", "delay", "expire", "cancel", "key", "once", "stop")}
CROWDED: dict[str, Any] = {
    **NOTHING_ELSE, "slow_share": 1.0, "slow_s": 4.0, "order_every_s": 0.0, "max_job_count": 0, "batches": 8,
    "batch_jobs": 60, "fair": True, "managers": (16,), "queues": ("q0", "q1", "q2"),
}  # fmt: skip
"""A fair manager and three queues that always have jobs, no two of one length."""

KILLED: dict[str, Any] = {"sqlite": True, "faults": ("router_crash",), "fault_every_s": 0.5}

# ---- keys ----------------------------------------------------------------------------------------------


@plant(Uniques, "added")
def keys_of_the_turn_forgotten(right: Method) -> Method:
    """Of two calls with one key that come in the same turn both are accepted."""
    return nothing


@plant(Uniques, "is_held", "operators", key_share=0.9, keys=3, fail_share=0.3)
def requeue_ignores_keys(right: Method) -> Method:
    """A job is requeued though another one holds its key."""
    return lambda self, job: False


@plant(Uniques, "answer", "clients", key_share=0.9, keys=3)
def existing_not_remembered(right: Method) -> Method:
    """A REQUEST that comes again is judged anew: first another job stood for it, then it is stored."""
    return nothing


@plant(Intake, "_rival")
def replaced_and_running(right: Method) -> Method:
    """A job that another one takes the place of is not called off."""

    def rival(self: Any, job: Any, *args: Any) -> Any:
        replaces = v2.options_of(job.options).on_conflict == "replace"
        return None if replaces else right(self, job, *args)

    return rival


@plant(Uniques, "_is_in_the_way")
def running_is_not_in_the_way(right: Method) -> Method:
    """With the scope `running` a job that runs does not count."""

    def is_in_the_way(self: Any, holder: Any, *args: Any) -> bool:
        job = self._live.get(holder.id)
        return bool(right(self, holder, *args)) and not (job is not None and job.lease)

    return is_in_the_way


# ---- operators -------------------------------------------------------------------------------------------


@plant(Rules, "__init__")
def rules_lost_at_restart(right: Method) -> Method:
    """A restarted Router does not know what was said about queues."""

    def init(self: Any, facts: Any, bounds: Any) -> None:
        right(self, {}, bounds)

    return init


@plant(Ledger, "_has_work")
def pause_forgotten(right: Method) -> Method:
    """What comes into a paused queue is handed out."""

    def has_work(self: Any, queue: str) -> bool:
        rules, self.rules = self.rules, Rules({}, ())
        try:
            return bool(right(self, queue))
        finally:
            self.rules = rules

    return has_work


@plant(Operators, "answer")
def operator_told_before_commit(right: Method) -> Method:
    """What an operator has done becomes durable in the turn after the answer."""

    def answer(self: Any, *args: Any) -> None:
        right(self, *args)
        cost, reply = self.questions.pop()

        def early() -> None:
            commit, self.commit = self.commit, nothing
            try:
                reply()
            finally:
                self.commit = commit

        self.questions.append((cost, early))

    return answer


@plant(Ledger, "requeue", "operators", head_jobs=2, page_jobs=1, fail_share=0.3)
def requeue_loses_the_edge(right: Method) -> Method:
    """A requeued job comes into memory though it belongs behind the edge of its queue."""

    def requeue(self: Any, *args: Any) -> bool:
        self.put_back = lambda job: self.backlog(job.queue).push_back(job)
        try:
            return bool(right(self, *args))
        finally:
            del self.put_back

    return requeue


@plant(Operators, "purge")
def purge_counts_what_it_leaves(right: Method) -> Method:
    """The answer to PURGE counts jobs that have not ended, too."""

    def purge(self: Any, selection: Any) -> dict[str, Any]:
        looked_at = len(self.browse(selection, ACT_JOBS_MAX).lines)
        answer: dict[str, Any] = right(self, selection)
        return answer | {"purged": max(answer["purged"], looked_at)}

    return purge


@plant(Intake, "_room")
def bound_off_by_one(right: Method) -> Method:
    """One more job than allowed waits in a queue."""
    return lambda self, backlog: right(self, backlog) + (self.rules.of(backlog.name) != NO_RULE)


@plant(
    Outbox, "kill", "operators",
    order_every_s=0.05, slow_share=0.8, slow_s=4.0, sync_s=0.2, managers=(4, 4), batch_jobs=20, batches=15,
)  # fmt: skip
def killed_before_it_came(right: Method) -> Method:
    """The order to stop a hand-out of the same turn leaves before it."""
    return lambda self, manager, frames: self.send("backend", manager.id, frames)


@plant(Fair, "given_back", "calm", **CROWDED)
def slots_never_given_back(right: Method) -> Method:
    """A fair manager counts what its queues were lent, and not what has ended."""
    return nothing


# ---- counters, time, restarts ----------------------------------------------------------------------------


@plant(retries, "wanted")
def one_retry_more(right: Method) -> Method:
    """A job is tried again once more than it wants."""
    return lambda options, job, *args: options.retries > 0 and job.failures <= options.retries


@plant(Ledger, "_crashed")
def crashes_without_end(right: Method) -> Method:
    """A job that takes down each worker is handed out for ever."""

    def crashed(self: Any, job: Any, manager: Any, outcome: Any, wall: float) -> None:
        job.crashes += 1
        self.cut_short([job], v2.Failure("", ""), wall)

    return crashed


@plant(Ledger, "expire")
def late_and_begun(right: Method) -> Method:
    """A job that is not to begin late begins: neither those that wait are looked at, nor those that are handed out."""

    def expire(self: Any, wall: float) -> None:
        self._unexpired = lambda jobs, wall: jobs

    return expire


@plant(Ledger, "_end")
def kept_too_short(right: Method) -> Method:
    """What has ended may be forgotten at once."""

    def end(self: Any, *args: Any, **kwargs: Any) -> None:
        right(self, *args, **kwargs)
        self.changes.ended[-1] = replace(self.changes.ended[-1], expires=0.0)

    return end


@plant(Leases, "adopt")
def restored_as_expired(right: Method) -> Method:
    """What a manager brings back after a restart is taken from it, and handed out again."""

    def adopt(self: Any, id: str, *args: Any) -> str:
        return "kill" if id not in self.leases and id in self.live else str(right(self, id, *args))

    return adopt


@plant(Ledger, "__init__")
def timers_lost_at_restart(right: Method) -> Method:
    """A restarted Router does not look at the clock for the delayed jobs in its memory."""

    def init(self: Any, *args: Any) -> None:
        right(self, *args)
        for job in [job for _, _, job in self.timers._jobs]:
            self.timers.remove(job)

    return init


@plant(Intake, "wake", "network", stop_share=0.5, faults=("wall_jump", "half_open"), fault_every_s=0.5)
def stopped_by_the_wall_clock(right: Method) -> Method:
    """A wall clock that is set forward ends the time in which a manager has to stop a run."""

    def wake(self: Any, now: float, wall: float) -> None:
        self.held_back.clear()
        right(self, now, wall)

    return wake


# ---- the SQLite file ---------------------------------------------------------------------------------------


@plant(Database, "transaction", "disk", **KILLED)
def commit_in_pieces(right: Method) -> Method:
    """Each statement of a turn is a commit of its own."""

    @contextmanager
    def transaction(self: Any, turn: Any = lambda number: b"") -> Iterator[int]:
        with self.trust():
            yield self.commits + 1
            turn(self.commits + 1)

    return transaction


@plant(Retention, "_add", "disk", sqlite=True, results_max=3, dead_max=2, fail_share=0.3)
def dead_counted_with_results(right: Method) -> Method:
    """Successes push out failures."""
    return lambda self, state, count: right(self, "succeeded", count)


@plant(Journal, "leave", "disk", **KILLED)
def left_twice(right: Method) -> Method:
    """The journal does not say that a job became an ordinary row: a restart finds both."""

    def leave(self: Any, touched: set[int]) -> Any:
        left = right(self, touched)
        self._left.clear()
        return left

    return leave


@plant(Journal, "turn", "disk", **KILLED)
def ends_not_journaled(right: Method) -> Method:
    """That a job succeeded is known in memory only."""

    def turn(self: Any, number: int) -> bytes:
        self._ended.clear()
        said: bytes = right(self, number)
        return said

    return turn


@plant(Journal, "retire", "disk", **KILLED)
def retired_while_live(right: Method) -> Method:
    """A job that has not ended goes with the journal's row."""
    return lambda self, *turns: right(self, *turns)._replace(live=[])


@plant(Segments, "find", "disk", sqlite=True)
def segments_not_searched(right: Method) -> Method:
    """A job that waits in a segment is not recognised."""
    return lambda self, ids: []


@plant(Segments, "_leave", "disk", **KILLED)
def segment_keeps_what_left(right: Method) -> Method:
    """The file does not say that a job left its segment: a restart finds both."""

    def leave(self: Any, segment: Any, gone: int) -> None:
        segment.left &= ~gone

    return leave


@plant(Segments, "_waiting", "disk", **KILLED)
def waits_after_its_end(right: Method) -> Method:
    """What has succeeded waits again after a restart, as long as its segment has it."""
    return lambda self, segment: self._jobs(segment)


@plant(Archive, "find", "disk", sqlite=True)
def archive_not_searched(right: Method) -> Method:
    """A job in the archive is not recognised."""
    return lambda self, ids: []


@plant(Archive, "take", "disk", sqlite=True, order_every_s=0.2)
def archive_keeps_what_is_requeued(right: Method) -> Method:
    """What an operator requeues or purges stays in the archive."""
    return lambda self, seqs: []


# ---- managers ------------------------------------------------------------------------------------------------


@plant(SessionV2, "_on_beat", "network", stop_share=0.5, slow_share=0.8, faults=("cut",), fault_s=40.0)
def lease_from_receipt(right: Method) -> Method:
    """A lease in time counts from the Router's answer, however long it was under way, not from what it answers."""

    def on_beat(self: Any, body: Any, now: float) -> Any:
        return right(self, v2.Beat(now, body.count, now), now)

    return on_beat


@plant(Stops, "next_step")
def never_killed(right: Method) -> Method:
    """A run that does not heed is asked and terminated, and goes on."""
    return lambda self, lease, now: right(self, lease, min(now, self._stops[lease].kill_at - 0.001))
