"""What must hold after every turn of the Router, checked from what it received, what it sends and what is durable.

● told ⇒ durable: ACKs, results, verdicts, hand-outs       ● only legal transitions, terminal is final
● attempts and hand-out numbers only grow                  ● a job ends, or is given back, for a reason only
● no more hand-outs than credit, only of queues announced  ● memory = what a replay of the store gives
● hand-outs in dispatch order                              ● verdicts fit the leases
"""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import msgspec

from eventmq import limits
from eventmq.broker import lifecycle
from eventmq.broker.backlog import key
from eventmq.broker.outbox import ADMINISTRATIVE, BACKEND, FRONTEND, Send
from eventmq.broker.policy import Policy
from eventmq.broker.stops import UNCONFIRMED
from eventmq.protocol import v2
from eventmq.router import Router
from eventmq.store.base import DEAD_LETTERS
from sim import bounds, places
from sim.disk import Disk
from sim.keys import Keys
from sim.orders import Acts, Orders
from sim.timeline import Timeline, Violation
from sim.truth import Truth

ENDS = {"stopped", "terminated", "killed", UNCONFIRMED}
"""What a CANCEL is told of the run of a job that it has ended."""

IDENTICAL = ("queue", "name", "payload")
"""What a job must have in common with another one to be the same, sent again."""

REPLAY_EVERY = 16
"""A Router is started on a copy of the store after every so many turns that changed something."""


class View(NamedTuple):
    """One job as the Router has it."""

    state: str
    attempt: int
    crashes: int
    failures: int
    lease: int = 0
    holder: bytes | str = b""
    due: float = 0.0


class Announced(NamedTuple):
    """A connection of a real manager."""

    manager: str
    queues: frozenset[str]


class Heard(NamedTuple):
    """What the Router reads in one turn that may change something, in order."""

    outcomes: list[tuple[bytes, v2.Outcome]]
    replies: dict[tuple[bytes, int], list[v2.Outcome]]
    informs: dict[tuple[bytes, int], v2.Inform]
    cancels: set[str]
    new: list[str]
    """Jobs that were not there before the turn, in order of acceptance."""


class Session:
    """Credit and hand-outs of one session, counted from the wire."""

    __slots__ = ("limit", "sent")

    def __init__(self) -> None:
        self.limit = 0
        self.sent = 0


_BODIES: dict[tuple[str, bytes], Any] = {
    (FRONTEND, b"REQUEST"): v2.Request,
    (FRONTEND, b"CANCEL"): v2.Cancel,
    (BACKEND, b"INFORM"): v2.Inform,
    (BACKEND, b"REPLY"): v2.Reply,
    (BACKEND, b"READY"): v2.Ready,
    (BACKEND, b"HEARTBEAT"): v2.Beat,
}


def _closure() -> dict[str, frozenset[str]]:
    """By state: all states that legal events lead to."""
    steps = {(source, target) for sources, target in lifecycle.TRANSITIONS.values() for source in sources}
    states = {state for step in steps for state in step}
    reach = {state: {state} for state in states}
    for _ in states:
        for source, target in steps:
            reach[source] |= reach[target]
    return {state: frozenset(targets) for state, targets in reach.items()}


REACH = _closure()


class Witness:
    """The judge of every turn.

    Attributes:
        jobs: All jobs as they stood after the last turn.
        turns: Turns judged.
        heard: When the Router last read anything of a manager, by its name.
    """

    def __init__(self, timeline: Timeline, disk: Disk, truth: Truth) -> None:
        self.timeline = timeline
        self.disk = disk
        self.truth = truth
        self.jobs: dict[str, View] = {}
        self.turns = 0
        self.orders = Orders(disk, truth)
        self.keys = Keys(timeline, disk, truth)
        self.heard: dict[str, float] = {}
        self._heard: dict[bytes, float] = {}
        self._managers: dict[bytes, Announced] = {}
        self._sessions: dict[bytes, Session] = {}
        self._requests: dict[tuple[bytes, int], list[v2.Job]] = {}
        self._cancels: dict[tuple[bytes, int], dict[str, bool]] = {}
        self._stopping: set[int] = set()
        self._informed: dict[str, int] = {}
        self._ledger: object = None
        self._policy = Policy()
        self._lease = 0
        self._leases: set[int] = set()
        self._settled: dict[tuple[str, int], int] = {}
        self._attempts: dict[str, int] = {}
        self._changed = 0, 0
        self._gone: set[str] = set()
        self._over: set[str] = set()
        self._killed: dict[tuple[bytes | str, int], int] = {}

    # ---- what others tell -----------------------------------------------------------------------------

    def introduce(self, identity: bytes, manager: str, queues: tuple[tuple[int, str], ...]) -> None:
        self._managers[identity] = Announced(manager, frozenset(name for _, name in queues))

    def manager_sends(self, manager: str, frames: list[bytes]) -> None:
        if frames[2] == b"INFORM":
            self._informed[manager] = v2.decode(frames[3], v2.Inform).n

    def manager_reads(self, manager: str, frames: list[bytes]) -> None:
        """Hand-outs that it is told to stop."""
        unwanted: list[int] = []
        grace_s = 0.0
        if frames[2] == b"KILL":
            kill = v2.decode(frames[3], v2.Kill)
            unwanted, grace_s = [held.lease for held in kill.held], kill.grace_s
        elif frames[2] == b"ACK" and v2.unpack(frames[3])[0] == self._informed.get(manager):
            verdicts = v2.decode(frames[3], v2.Informed).verdicts
            unwanted = [verdict.lease for verdict in verdicts if verdict.verdict == "kill"]
        now = self.timeline.now
        for lease in unwanted:
            told, dead = self.truth.killed.get(lease, (now, now + grace_s))
            sooner = min(dead, now + grace_s) if frames[2] == b"KILL" else dead  # a verdict changes nothing under way
            self.truth.killed[lease] = told, sooner

    def on_boot(self, router: Router) -> None:
        """A Router has loaded the store: what was durable is there. It may be more than the one before has told."""
        self._ledger, self._policy = router.ledger, router.policy
        self.truth.booted = self.timeline.now
        self._sessions.clear()
        acts, before = self._take_acts(), self.jobs
        self.orders.boot()
        self.keys.boot(router.ledger.next_seq, bool(router.expected))
        self._look(router)
        places.compare(router, self.disk)
        for id, old in before.items():
            new = self.jobs.get(id)
            if new is None:
                self._judge_gone(id, old, [])
            elif id not in acts.requeued and (new[1:4] < old[1:4] or (old.state in lifecycle.TERMINAL and new != old)):
                raise Violation(f"{id} was {old}, and is {new} after a restart")
        added = self._added(before)
        self.keys.judge({}, self.jobs, added, [], bool(router.expected))
        for id, view in self.jobs.items():
            if view.state == lifecycle.CANCELLED and not self._is_called_off(id, added):
                raise Violation(f"{id} was cancelled before the restart, and nobody wanted that")

    def died_in_turn(self, received: list[tuple[str, list[bytes]]]) -> None:
        """The Router dies in a turn in which it has read this."""
        self._hear(received)

    def _take_acts(self) -> Acts:
        acts = self.orders.take_acts()
        self._gone, self.disk.forgotten = self.disk.forgotten | acts.purged.keys(), set()
        self._over = self._gone | acts.requeued.keys()
        for id in self._gone:
            self.truth.forget(id)
            self._attempts.pop(id, None)
        for id in acts.requeued:
            self.truth.requeue(id)
        return acts

    # ---- a turn ------------------------------------------------------------------------------------------

    def after_turn(self, router: Router, received: list[tuple[str, list[bytes]]], sends: list[Send]) -> None:
        self.turns += 1
        applied = self.disk.applied
        heard = self._hear(received)
        delayed = len(router.ledger.timers)
        lively = bool(heard.outcomes or heard.informs) or (applied, delayed) != self._changed
        before = self.jobs
        if router.ledger is not self._ledger:
            self.timeline.say("router has started over")
            self.on_boot(router)
            before, lively = self.jobs, False
        acts = self._take_acts()
        if lively or heard.cancels or self._gone or any(each.frames[2] == b"REQUEST" for each in sends):
            self._changed = applied, delayed
            self._look(router)
            places.compare(router, self.disk)
            bounds.compare(router, self.disk)
            if before is not self.jobs:
                self._judge_moves(before, heard, acts)
                expects = bool(router.expected)
                self.keys.judge(before, self.jobs, heard.new, list(acts.requeued), expects)
            if self.turns % REPLAY_EVERY == 0:
                places.replay(router, self.disk, self.timeline.now, self.timeline.wall)
        self._killed = self._kills(sends)
        self._stopping.update(lease for _, lease in self._killed)
        self._judge_kills(before, {outcome.lease for _, outcome in heard.outcomes})
        for number, send in enumerate(sends):
            if send.frames[1] == v2.VERSION:
                self._judge_send(router, send, number, before, heard)
        self.orders.judge(router, sends, acts)
        self._lease = max([self._lease, *self._leases])
        self._leases.clear()

    def _hear(self, received: list[tuple[str, list[bytes]]]) -> Heard:
        heard = Heard([], {}, {}, set(), [])
        for socket, frames in received:
            if socket == ADMINISTRATIVE and len(frames) >= 5 and frames[2] == v2.VERSION:
                self.orders.hear(frames)
            if (announced := self._managers.get(frames[0])) is not None:
                self.heard[announced.manager] = self._heard[frames[0]] = self.timeline.now
            kind = _BODIES.get((socket, frames[3])) if len(frames) >= 5 and frames[2] == v2.VERSION else None
            if kind is None:
                continue
            try:
                body = v2.decode(frames[4], kind)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                continue
            self._note(frames[0], body, heard)
        return heard

    def _note(self, peer: bytes, body: v2.Body, heard: Heard) -> None:
        session = self._sessions.setdefault(peer, Session())
        match body:
            case v2.Request():
                self._requests[peer, body.n] = body.jobs
            case v2.Cancel():
                self._cancels.setdefault((peer, body.n), {id: id in self.jobs for id in body.ids})
                heard.cancels.update(body.ids)
            case v2.Inform():
                heard.informs[peer, body.n] = body
                self._sessions[peer] = Session()
            case v2.Reply():
                heard.replies[peer, body.n] = body.outcomes
                heard.outcomes.extend((peer, outcome) for outcome in body.outcomes)
                session.limit = body.limit
            case v2.Ready():
                session.limit = body.limit
            case v2.Beat():
                session.limit = body.count

    # ---- the jobs --------------------------------------------------------------------------------------------

    def _look(self, router: Router) -> None:
        """All jobs, ended ones from the store, live ones from store and memory."""
        leases, live = router.ledger.leases, router.ledger.live
        if not router.ledger.progress.keys() <= leases.keys():
            raise Violation("progress is kept of a job that does not run")
        jobs = {}
        for job, _, put_off, end in self.disk.rows():
            if end is not None:
                jobs[job.id] = View(end.state, end.attempt, end.crashes, job.failures)
            elif (lease := leases.get(job.id)) is not None:
                held = lease[0]
                jobs[job.id] = View("running", held.attempt, held.crashes, held.failures, held.lease, lease[1].id)
            else:
                known = live.get(job.id)
                delayed = put_off if known is None else known.due > 0
                known = job if known is None else known
                due = known.due if delayed else 0.0
                state = "delayed" if delayed else "waiting"
                jobs[job.id] = View(state, known.attempt, known.crashes, known.failures, due=due)
        self.jobs = jobs

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

    # ---- what is told ----------------------------------------------------------------------------------------

    def _judge_send(self, router: Router, send: Send, number: int, before: dict[str, View], heard: Heard) -> None:
        peer = send.peer
        assert isinstance(peer, bytes)
        command, body = send.frames[2], send.frames[3]
        if send.socket == FRONTEND and command == b"ACK":
            self._judge_ack(peer, v2.decode(body, v2.Ack))
        elif send.socket == FRONTEND and command == b"REPLY":
            first = v2.unpack(body)[0]
            if isinstance(first, list):
                for result in v2.decode(body, v2.Results).results:
                    self._judge_result(result)
            elif (peer, first) in self._cancels:
                self._judge_cancelled(peer, v2.decode(body, v2.Answer))
        elif send.socket == BACKEND and command == b"REQUEST":
            self._judge_hand_out(router, peer, v2.decode(body, v2.Request), number)
        elif send.socket == BACKEND and command == b"ACK":
            n = v2.unpack(body)[0]
            if (peer, n) in heard.replies:
                self._judge_settled(peer, heard.replies[peer, n], before, heard)
            elif (peer, n) in heard.informs:
                self._judge_verdicts(router.ledger.epoch, peer, v2.decode(body, v2.Informed), before, heard)

    def _judge_ack(self, peer: bytes, ack: v2.Ack) -> None:
        for id, was_there in self._cancels.get((peer, ack.n), {}).items():
            record = self.disk.record(id)
            if record is not None and record.state not in lifecycle.TERMINAL and was_there and id not in self._over:
                raise Violation(f"CANCEL of {id} is ACKed, and what is durable is {record}")
        refused, existing = {refusal.id: refusal.reason for refusal in ack.refusals}, dict(ack.existing)
        for job in self._requests.get((peer, ack.n), ()):
            id = job.id[: limits.ID_CHARS_MAX]
            record = self.disk.record(id)
            same = record is not None and all(getattr(record.job, name) == getattr(job, name) for name in IDENTICAL)
            if id in existing:
                self.keys.judge_existing(id, existing[id])
            elif id not in refused and not same and id not in self._gone:
                raise Violation(f"{job} is ACKed to {peer.decode()}, and what is durable is {record}")
            elif refused.get(id) == "conflict" and (record is None or same):
                raise Violation(f"{job} is refused as a conflict, and what is durable is {record}")

    def _judge_result(self, result: v2.Result) -> None:
        record = self.disk.record(result.id)
        if result.state == lifecycle.UNKNOWN:
            if record is not None:
                raise Violation(f"a client is told that {result.id} is unknown, and it is {record.state}")
            return
        known = None if record is None else (record.state, record.value, record.job.attempt)
        if result.id in self._over:
            return
        if known != (result.state, result.value, result.attempt):
            raise Violation(f"a client is told {result}, and what is durable is {record}")
        self.truth.check_result(result)

    def _judge_cancelled(self, peer: bytes, answer: v2.Answer) -> None:
        was_there = self._cancels[peer, answer.n]
        for id, told in answer.answer.items():
            record = self.disk.record(id)
            state = "unknown" if record is None else record.state
            if id in self.truth.forgotten or self.truth.requeued[id]:
                continue  # it may have been before the answer was complete
            if told == state or (told == lifecycle.UNKNOWN and not was_there[id]):
                continue  # it came behind the CANCEL
            if state != (lifecycle.CANCELLED if told in ENDS else told):
                raise Violation(f"CANCEL of {id} is answered {told}, and what is durable is {record}")
            going_on = [run for run in self.truth.runs.get(id, []) if run.lease in self._stopping and not run.ended]
            if going_on and told != UNCONFIRMED:
                raise Violation(f"CANCEL of {id} is answered {told}, and it runs: {going_on}")

    def _kills(self, sends: list[Send]) -> dict[tuple[bytes | str, int], int]:
        """Who is told to stop which hand-outs, and by which of the messages."""
        return {
            (send.peer, held.lease): number
            for number, send in enumerate(sends)
            if send.frames[1:3] == [v2.VERSION, b"KILL"]
            for held in v2.decode(send.frames[3], v2.Kill).held
        }

    def _judge_kills(self, before: dict[str, View], over: set[int]) -> None:
        """Who runs a job that is cancelled is told; `over` are hand-outs of which the Router has heard the outcome."""
        told = self._killed
        for id, old in before.items() if self.jobs is not before else ():
            if (
                old.lease
                and old.holder
                and old.lease not in over
                and id in self.jobs
                and self.jobs[id].state == lifecycle.CANCELLED
                and (old.holder, old.lease) not in told
            ):
                raise Violation(f"{id} was cancelled, and {old.holder!r}, who runs it, was not told: {old}")

    def _judge_hand_out(self, router: Router, peer: bytes, request: v2.Request, number: int) -> None:
        session = self._sessions.setdefault(peer, Session())
        session.sent += len(request.jobs)
        announced = self._managers.get(peer)
        for job in request.jobs:
            self.orders.judge_hand_out(job)
            if job.lease <= self._lease or job.lease in self._leases:
                raise Violation(f"hand-out {job.lease:#x} of {job.id} after {self._lease:#x}: they only grow")
            self._leases.add(job.lease)
            if job.attempt < self._attempts.get(job.id, 0):
                raise Violation(f"{job.id} is handed out as attempt {job.attempt} after {self._attempts[job.id]}")
            self._attempts[job.id] = job.attempt
            called_off = self._killed.get((peer, job.lease), 0) > number
            if (self.jobs[job.id].lease != job.lease and not called_off) or not self.disk.has(job.id):
                raise Violation(f"{job.id} is handed out as {job.lease:#x}, and it is {self.jobs.get(job.id)}")
            marked = v2.options_of(job.options).redeliver or self.disk.started(job.id) == job.lease
            if not marked:
                raise Violation(f"{job.id} may begin only once, and that it leaves as {job.lease:#x} is not durable")
            late = v2.options_of(job.options).expires_s
            if late is not None and self.disk.created(job.id) + late <= self.timeline.wall:
                raise Violation(f"{job.id} is handed out, and was not to begin later than {late} s after it came")
            if announced is not None and job.queue not in announced.queues:
                raise Violation(f"{job.id} of queue {job.queue} is handed to {announced}")
        if announced is not None and (session.sent > session.limit or session.sent != request.n):
            raise Violation(f"{announced.manager} got {session.sent} jobs ({request.n}), its limit is {session.limit}")
        for queue in {job.queue for job in request.jobs}:
            self._judge_order(router, queue, max(key(job) for job in request.jobs if job.queue == queue))

    def _judge_order(self, router: Router, queue: str, last: tuple[int, int]) -> None:
        """Nothing that waits should have gone before the last one handed out."""
        backlog = router.ledger.backlogs[queue]
        late = router.ledger.leases.keys() | self._over  # requeued behind the hand-outs of the turn
        firsts = [key(job) for rank in backlog.ranks[:1] for job in backlog.lanes[rank] if job.id not in late][:1]
        if backlog.edge is not None:
            firsts += [key(each.job) for each in self.disk.rows() if each.paged and each.job.queue == queue]
            firsts = [each for each in firsts if self.disk.id_of(each[1]) not in late]
        if firsts and min(firsts) < last:
            raise Violation(f"queue {queue}: {last} was handed out while {min(firsts)} waits (rank, seq)")

    def _judge_settled(self, peer: bytes, outcomes: list[v2.Outcome], before: dict[str, View], heard: Heard) -> None:
        for outcome in outcomes:
            old, new = before.get(outcome.id), self.jobs.get(outcome.id)
            if old is None or new is None or old.lease != outcome.lease or old.holder != peer:
                continue
            if heard.informs:
                continue  # which of the two was read first decides
            first = self._settled.setdefault((outcome.id, outcome.lease), self.turns)
            if first != self.turns and outcome.state != "returned":
                raise Violation(f"{outcome} has counted for the second time")
            if new.lease == outcome.lease:
                raise Violation(f"{outcome} was ACKed and changed nothing")
            if outcome.state == "succeeded" and new.state != "succeeded" and outcome.id not in self.truth.cancelled:
                raise Violation(f"{outcome} was ACKed, and what is durable is {new}")

    def _judge_verdicts(
        self, epoch: int, peer: bytes, informed: v2.Informed, before: dict[str, View], heard: Heard
    ) -> None:
        if len(heard.informs) > 1:
            return  # one may have undone what the other was told
        kept = {each.id: each.lease for each in informed.verdicts if each.verdict == "keep"}
        for id, lease, verdict in ((each.id, each.lease, each.verdict) for each in informed.verdicts):
            old, new = before.get(id), self.jobs.get(id)
            if verdict == "keep" and kept[id] != lease:
                continue  # the same INFORM named a later hand-out of it, too
            mine = new is not None and new.lease == lease and new.holder == peer
            over = new is None or new.state == lifecycle.CANCELLED or id in self.truth.forgotten
            stopping = over and lease in self._stopping
            if verdict == "keep" and stopping:
                continue  # its end is awaited
            if mine != (verdict == "keep"):
                raise Violation(f"verdict {verdict} on {id} {lease:#x}, and it is {new}")
            before_restart = old is not None and old.lease < lease < epoch << 32
            if (
                verdict == "keep"
                and old is not None
                and old.lease not in (0, lease)
                and not (before_restart or old.holder == peer)
            ):
                raise Violation(f"verdict keep on {id} {lease:#x}, and its hand-out was {old}")
            if verdict == "done" and (new.state not in lifecycle.TERMINAL if new else id not in self._gone):
                raise Violation(f"verdict done on {id} {lease:#x}, and it is {new}")
