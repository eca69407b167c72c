"""Runs of cancelled jobs that are being stopped, and the clients that wait to hear how that went.

    CANCEL ─▶ cancelled, durably ─▶ KILL to who runs it ─▶ its outcome: how the run ended ─▶ REPLY

The job itself has ended before anything here begins, so all of this may be forgotten: a CANCEL that is repeated after a
restart is answered `cancelled`. A run that nobody speaks of in time is `unconfirmed`, and no claim is made.
"""

from __future__ import annotations

from collections.abc import Iterable

from eventmq import limits
from eventmq.broker.outbox import FRONTEND, Outbox
from eventmq.broker.pool import Incarnation, PeerId, Pool
from eventmq.protocol import v2
from eventmq.protocol.v2 import Held, Outcome

UNCONFIRMED = "unconfirmed"
"""Nobody has said how the run ended: its manager is gone, silent, or speaks eMQP/1.0."""

_WORDS = {"stopped": "stopped", "terminated": "terminated", "killed": "killed", "returned": "cancelled"}
"""Outcome of a hand-out that was to stop → what the client is told. Any other is of a run that had just ended."""


class Question:
    """A CANCEL whose answer is not complete: `answer` has "" for each of the `left` runs that it waits for."""

    __slots__ = ("answer", "left", "n", "peer")

    def __init__(self, peer: PeerId, n: int, answer: dict[str, str]) -> None:
        self.peer = peer
        self.n = n
        self.answer = answer
        self.left = 0


class Stopping:
    """A run on its way out, the monotonic time at which its manager kills it, and whose answers wait for it."""

    __slots__ = ("incarnation", "kill_at", "lease", "questions")

    def __init__(self, lease: int, incarnation: Incarnation, kill_at: float) -> None:
        self.lease = lease
        self.incarnation = incarnation
        self.kill_at = kill_at
        self.questions: list[Question] = []


class Stops:
    """All of them.

    Attributes:
        runs: By job.
    """

    def __init__(self) -> None:
        self.runs: dict[str, Stopping] = {}
        self._answered: list[Question] = []
        self._questions: dict[tuple[PeerId, int], Question] = {}
        self._named = 0  # jobs in all of them

    def begin(self, held: Held, incarnation: Incarnation, now: float, grace_s: float) -> None:
        """The run of `held` at this manager is to stop, unless it is on its way out already."""
        run = self.runs.get(held.id)
        if run is not None and run.lease != held.lease:
            self.end(held.id, UNCONFIRMED)  # somebody had the job run again
            run = None
        if run is None:
            self.runs[held.id] = Stopping(held.lease, incarnation, now + grace_s)

    def order(
        self, id: str, now: float, pool: Pool, outbox: Outbox, grace_s: float = limits.CANCEL_GRACE_S_MAX
    ) -> None:
        """Tells the manager, by the time known or sooner. Telling it again is harmless."""
        run = self.runs[id]
        manager = pool.incarnations.get(run.incarnation)
        if manager is not None:
            kill = v2.Kill([Held(id, run.lease)], min(grace_s, max(0.0, run.kill_at - now)))
            outbox.kill(manager, v2.encode(b"KILL", kill))

    def ask(self, peer: PeerId, n: int, answer: dict[str, str]) -> bool:
        """A client wants to hear; `answer` has "" for runs that are being stopped. Whether it has to wait. The same
        question again is one."""
        question = Question(peer, n, answer)
        if self._named + len(answer) <= limits.CANCELS_MAX and (peer, n) not in self._questions:
            for id in (id for id, word in answer.items() if not word):
                self.runs[id].questions.append(question)
                question.left += 1
            if question.left:
                self._questions[peer, n] = question
                self._named += len(answer)
        if (peer, n) in self._questions:
            return True
        self._answered.append(Question(peer, n, {id: word or UNCONFIRMED for id, word in answer.items()}))
        return False

    def answer(self, outbox: Outbox) -> None:
        """Sends the answers that are complete."""
        for question in self._answered:
            reply = v2.encode(b"REPLY", v2.Answer(question.n, question.answer))
            outbox.send(FRONTEND, question.peer, reply)
        self._answered.clear()

    def settle(self, outcomes: list[Outcome], incarnation: Incarnation) -> list[Outcome]:
        """Takes out of a manager's outcomes those that say how a run was stopped."""
        others = []
        for outcome in outcomes:
            run = self.runs.get(outcome.id)
            if run is not None and run.lease == outcome.lease and run.incarnation == incarnation:
                self.end(outcome.id, _WORDS.get(outcome.state, "stopped"))
            else:
                others.append(outcome)
        return others

    def end(self, id: str, word: str) -> None:
        """The run is over, or given up on: whoever waits is told this."""
        for question in self.runs.pop(id).questions:
            question.answer[id] = word
            question.left -= 1
            if not question.left:
                del self._questions[question.peer, question.n]
                self._named -= len(question.answer)
                self._answered.append(question)

    def at(self, incarnation: Incarnation) -> list[Held]:
        """What is being stopped at a manager. Looks at all: for rare events."""
        return [Held(id, run.lease) for id, run in self.runs.items() if run.incarnation == incarnation]

    def came_back(self, incarnation: Incarnation, held: Iterable[Held]) -> list[Held]:
        """A manager names all that it holds in its new session: what is to be stopped there. Others never arrived."""
        there = {each.lease for each in held}
        for each in self.at(incarnation):
            if each.lease not in there:
                self.end(each.id, "cancelled")
        return self.at(incarnation)

    def lose(self, incarnation: Incarnation) -> None:
        """A manager is gone."""
        for each in self.at(incarnation):
            self.end(each.id, UNCONFIRMED)

    def expire(self, now: float) -> None:
        """Gives up on runs that nobody speaks of."""
        for id in [id for id, run in self.runs.items() if now >= run.kill_at + limits.CANCEL_ANSWER_S]:
            self.end(id, UNCONFIRMED)
