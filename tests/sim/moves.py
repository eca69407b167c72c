"""How jobs may change in a turn: by legal events, for a reason that the Router has read, and within their counters."""

from __future__ import annotations

from collections import Counter

from eventmq import limits
from eventmq.broker import lifecycle
from eventmq.protocol import v2
from eventmq.store.base import DEAD_LETTERS
from sim.knowledge import Heard, Knowledge, View
from sim.orders import Acts
from sim.timeline import Violation


def _closure() -> dict[str, frozenset[str]]:
    """By state: all states that legal events lead to, but for `requeue`, which begins another life."""
    events = {event: step for event, step in lifecycle.TRANSITIONS.items() if event != "requeue"}
    steps = {(source, target) for sources, target in events.values() for source in sources}
    states = {state for step in steps for state in step}
    reach = {state: {state} for state in states}
    for _ in states:
        for source, target in steps:
            reach[source] |= reach[target]
    return {state: frozenset(targets) for state, targets in reach.items()}


REACH = _closure()


class Moves(Knowledge):
    """Judges all jobs of before and after a turn."""

    def _judge_moves(self, before: dict[str, View], heard: Heard, acts: Acts) -> None:
        after = self.jobs
        heard.new.extend(self._added(before))
        for id in heard.new:
            if id not in self.truth.plans:
                raise Violation(f"{id} is in the store and nobody has sent it")
            if after[id].state == lifecycle.CANCELLED and not self._is_called_off(id, heard.new):
                raise Violation(f"{id} was cancelled as it came, and nobody wanted that")
        for id, old in before.items():
            new = after.get(id)
            if new is None:
                self._judge_gone(id, old, heard.new)
            elif new != old:
                self._judge_move(id, old, new, heard, acts)
        self._judge_accepted(before, heard)

    def _added(self, before: dict[str, View]) -> list[str]:
        """The jobs that are new, in order of acceptance. Whose id was forgotten, that may be another one now."""
        added = sorted(self.jobs.keys() - before.keys(), key=self.disk.seq_of)
        self.accepted.update(added)
        for id in added:
            if id in self.truth.forgotten:
                self.truth.plans[id].job = self.disk.job_of(id)
        return added

    def _judge_gone(self, id: str, old: View, new: list[str]) -> None:
        if id not in self._gone:
            raise Violation(f"{id} has disappeared; it was {old}")
        if old.state not in lifecycle.TERMINAL:
            self._is_called_off(id, new)

    def _judge_accepted(self, before: dict[str, View], heard: Heard) -> None:
        idle, left = Counter[str](), Counter[str]()
        for id, old in before.items():
            new = self.jobs.get(id)
            if not old.lease and old.state not in lifecycle.TERMINAL:
                queue = self.truth.plans[id].job.queue
                idle[queue] += 1
                left[queue] += new is None or new.state == lifecycle.CANCELLED or bool(new.lease and heard.informs)
        accepted = [self.truth.plans[id].job for id in heard.new]
        left.update(job.queue for job in accepted if self.jobs[job.id].state == lifecycle.CANCELLED)
        self.orders.judge_accepted(accepted, idle, left)

    def _judge_move(self, id: str, old: View, new: View, heard: Heard, acts: Acts) -> None:
        if id in acts.requeued:
            self._judge_requeued(id, old, new, acts.requeued[id])
            return
        if old.state in lifecycle.TERMINAL or new.state not in REACH[old.state]:
            raise Violation(f"{id} went from {old} to {new}")
        if new.attempt < old.attempt or new.crashes < old.crashes or new.failures < old.failures:
            raise Violation(f"{id}: attempts, crashes and failures only grow; it went from {old} to {new}")
        options = v2.options_of(self.truth.plans[id].job.options)
        crash_limit = self._policy.crash_limit if options.crash_limit is None else options.crash_limit
        if new.failures > options.retries or new.crashes > crash_limit:
            raise Violation(f"{id} has {options.retries} retries and may crash {crash_limit} times, and is {new}")
        told = [outcome for peer, outcome in heard.outcomes if self._is_current(peer, outcome, id, old, heard)]
        if new.state in lifecycle.TERMINAL:
            self._judge_end(id, old, new, told, heard)
        elif old.state == "running" and new.lease != old.lease:
            self._judge_giving_back(id, old, new, told, heard)
        elif new[1:4] != old[1:4] and not heard.informs:
            raise Violation(f"{id} changed its attempt, crashes or failures for no reason: from {old} to {new}")
        elif old.state == "delayed" and new.state != "delayed" and old.due > self.timeline.wall and not heard.informs:
            raise Violation(f"{id} was woken {old.due - self.timeline.wall:.3f} s early: from {old} to {new}")

    def _judge_requeued(self, id: str, old: View, new: View, state: str) -> None:
        if state not in lifecycle.TRANSITIONS["requeue"][0] or new.state not in (
            lifecycle.WAITING,
            lifecycle.CANCELLED,
        ):
            raise Violation(f"{id}, which was {state}, was requeued: from {old} to {new}")
        if new.attempt <= old.attempt or new.crashes or new.failures:
            raise Violation(
                f"{id} was requeued: its attempt is to grow and all else to begin anew: from {old} to {new}"
            )
        self._attempts[id] = new.attempt

    def _judge_end(self, id: str, old: View, new: View, told: list[v2.Outcome], heard: Heard) -> None:
        if new.state == lifecycle.CANCELLED:
            right = self._is_called_off(id, heard.new)
        elif new.state == lifecycle.EXPIRED:
            job = self.truth.plans[id].job
            late = v2.decode(job.options, v2.Options).expires_s if job.options else None
            right = late is not None and self.disk.created(id) + late <= self.timeline.wall
        elif new.state == lifecycle.LOST:
            held = old.state == "running" or bool(heard.informs)
            right = held and not v2.options_of(self.truth.plans[id].job.options).redeliver
        else:
            right = bool(told)
        if not right:
            raise Violation(f"{id} ended for no reason, from {old} to {new}; outcomes of its hand-out: {told}")
        self._judge_keeping(id, new)
        by_outcome = new.state not in (lifecycle.CANCELLED, lifecycle.EXPIRED)
        if by_outcome and not heard.informs and new.attempt != old.attempt:
            raise Violation(f"{told} is counted as attempt {new.attempt}, and it was of {old}")

    def _judge_keeping(self, id: str, new: View) -> None:
        """How long what has ended is kept: its id against resends, its outcome as its options or the settings say."""
        own = v2.options_of(self.truth.plans[id].job.options).result_ttl_s
        wanted = self._policy.result_ttl_s if own is None else own
        if new.state in DEAD_LETTERS:
            wanted = self._policy.dead_ttl_s
        record = self.disk.record(id)
        if record is not None and record.expires < self.timeline.wall + max(wanted, limits.DEDUPE_S):
            raise Violation(f"{id} is kept until {record.expires - self.timeline.wall:.1f} s from now, not {wanted}")

    def _is_called_off(self, id: str, new: list[str]) -> bool:
        """Whether somebody wanted it cancelled, or one of these new jobs takes its place."""
        if self.orders.wants_cancelled(self.truth.plans[id].job) or self.keys.replaced(id, new):
            self.truth.cancelled.add(id)
        return id in self.truth.cancelled

    def _is_current(self, peer: bytes, outcome: v2.Outcome, id: str, old: View, heard: Heard) -> bool:
        if outcome.id != id:
            return False
        adopted = any(
            who == peer and any(held.id == id and held.lease == outcome.lease for held in inform.held)
            for (who, _), inform in heard.informs.items()
        )
        return adopted or (outcome.lease == old.lease and old.holder == peer)

    def _judge_giving_back(self, id: str, old: View, new: View, told: list[v2.Outcome], heard: Heard) -> None:
        """A hand-out that is over and did not end the job costs an attempt, unless it is known not to have run."""
        states = {outcome.state for outcome in told}
        if any(peer == old.holder for peer, _ in heard.informs) or (heard.informs and not states):
            return  # the manager came back, or another took its place
        self._judge_holding_back(id, old, new, states)
        grown = new.attempt - old.attempt
        if states == {"returned"} and grown:
            raise Violation(f"{id} was given back without having run, and it cost an attempt: from {old} to {new}")
        if states != {"returned"} and grown != 1:
            raise Violation(f"{id} may have run, and its attempt went from {old.attempt} to {new.attempt}")
        if "crashed" in states and new.crashes != old.crashes + 1:
            raise Violation(f"{id} crashed, and its crashes went from {old.crashes} to {new.crashes}")

    def _judge_holding_back(self, id: str, old: View, new: View, states: set[str]) -> None:
        """A job that its manager, out of sight, has yet to stop is not for others."""
        heard = self._heard.get(old.holder) if isinstance(old.holder, bytes) else None
        stops = v2.options_of(self.truth.plans[id].job.options).on_partition == "stop"
        if stops and heard is not None and not states and new.state in ("waiting", "running"):
            unheard_s = self.timeline.now - heard
            if unheard_s < limits.LEASE_S:
                raise Violation(f"{id} may run on at {old.holder!r}, not heard for {unheard_s:.1f} s: {new}")
