"""What must hold after every turn of the Router, checked from what it received, what it sends and what is durable.

● told ⇒ durable: ACKs, results, verdicts, hand-outs       ● only legal transitions, terminal is final
● attempts and hand-out numbers only grow                  ● a job ends, or is given back, for a reason only
● no more hand-outs than credit, only of queues announced  ● memory = what a replay of the store gives
● hand-outs in dispatch order                              ● verdicts fit the leases
"""

from __future__ import annotations

from typing import Any

import msgspec

from eventmq.broker import lifecycle
from eventmq.broker.outbox import ADMINISTRATIVE, BACKEND, FRONTEND, Send
from eventmq.protocol import v2
from eventmq.router import Router
from sim import bounds, places
from sim.knowledge import Announced, Heard, Session
from sim.orders import Acts
from sim.timeline import Violation
from sim.told import Told

REPLAY_EVERY = 16
"""A Router is started on a copy of the store after every so many turns that changed something."""

_BODIES: dict[tuple[str, bytes], Any] = {
    (FRONTEND, b"REQUEST"): v2.Request,
    (FRONTEND, b"CANCEL"): v2.Cancel,
    (BACKEND, b"INFORM"): v2.Inform,
    (BACKEND, b"REPLY"): v2.Reply,
    (BACKEND, b"READY"): v2.Ready,
    (BACKEND, b"HEARTBEAT"): v2.Beat,
    (BACKEND, b"KBYE"): v2.Empty,
}


class Witness(Told):
    """The judge of every turn."""

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
        self._hear(received, [])

    def _take_acts(self) -> Acts:
        acts = self.orders.take_acts()
        self._gone, self.disk.forgotten = self.disk.forgotten | acts.purged.keys(), set()
        self._over = self._gone | acts.requeued.keys()
        for id in self._gone:
            self.truth.forget(id)
            self._attempts.pop(id, None)
        for id in acts.requeued:
            fence = self.disk.job_of(id).settled if self.disk.has(id) else 0
            self.truth.requeue(id, fence)
        return acts

    # ---- a turn ------------------------------------------------------------------------------------------

    def after_turn(self, router: Router, received: list[tuple[str, list[bytes]]], sends: list[Send]) -> None:
        self.turns += 1
        applied = self.disk.applied
        heard = self._hear(received, sends)
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
        if before is not self.jobs:
            over, there = {outcome.lease for _, outcome in heard.outcomes}, router.pool.managers
            self._judge_kills({id: v for id, v in before.items() if v.lease not in over and v.holder in there})
        for number, send in enumerate(sends):
            if send.frames[1] == v2.VERSION:
                self._judge_send(router, send, number, before, heard)
        self.orders.judge(router, sends, acts)
        self._lease = max([self._lease, *self._leases])
        self._leases.clear()

    def _hear(self, received: list[tuple[str, list[bytes]]], sends: list[Send]) -> Heard:
        acks = [send for send in sends if send.frames[:3] == [b"", v2.VERSION, b"ACK"] and send.socket == BACKEND]
        heard = Heard([], {}, {}, set(), set(), {(ack.peer, v2.unpack(ack.frames[3])[0]) for ack in acks}, [])
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
                if (peer, body.n) in heard.acked:
                    self._sessions[peer] = Session()  # else it was out of date
            case v2.Reply():
                heard.replies[peer, body.n] = body.outcomes
                heard.outcomes.extend((peer, outcome) for outcome in body.outcomes)
                session.limit = body.limit
            case v2.Ready():
                session.limit = body.limit
            case v2.Empty():
                heard.left.add(peer)
            case v2.Beat():
                session.limit = body.count
