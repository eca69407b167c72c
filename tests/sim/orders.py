"""What operators ask and what they are told, against what is durable: rules of queues, requeued and purged jobs, lists.

A queue is as it was last told to be, over restarts too: paused, nothing of it is handed out; draining or full, nothing
new is taken. Jobs are requeued and purged only if somebody asked for them, and as many as the answer says.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import msgspec

from eventmq.broker import lifecycle
from eventmq.broker.outbox import ADMINISTRATIVE, Send
from eventmq.broker.rules import NO_RULE, QUEUE_FACT, Rule
from eventmq.protocol import v2
from eventmq.router import Router
from sim.disk import Disk
from sim.timeline import Violation
from sim.truth import Truth

RULES: dict[bytes, dict[str, Any]] = {
    b"PAUSE": {"paused": True},
    b"RESUME": {"paused": False, "draining": False},
    b"DRAIN": {"draining": True},
}
"""What each of these says about a queue; LIMIT says what its params say."""

ACTS = {b"REQUEUE", b"PURGE", b"CANCEL", b"JOBS", b"COUNT", b"WHY", b"EVENTS", b"PROBLEMS", b"QUEUES", b"LIMIT", *RULES}


class Asked(NamedTuple):
    """A question, as the Router has read it."""

    command: bytes
    params: dict[str, Any]


class Acts(NamedTuple):
    """What the questions that one turn has answered have done to jobs.

    Attributes:
        requeued: Those that wait again: the terminal state that they were in.
        purged: Those that were forgotten: how they were then.
    """

    requeued: dict[str, str]
    purged: dict[str, tuple[v2.Job, str]]


class Orders:
    """The record of one world's operators.

    Attributes:
        rules: What was said about queues, as it was durable after the last turn.
        cancels: Jobs that an operator wants cancelled, of all questions so far; those of a whole queue not.
    """

    def __init__(self, disk: Disk, truth: Truth) -> None:
        self.disk = disk
        self.truth = truth
        self.rules: dict[str, Rule] = {}
        self.cancels: set[str] = set()
        self._asked: dict[tuple[bytes, int], Asked] = {}

    def boot(self) -> None:
        """A Router starts: what the one before had done and not told anybody of stays done."""
        self.rules = self._durable()

    def hear(self, frames: list[bytes]) -> None:
        """A message that the Router reads at the administrative socket."""
        if frames[3] not in ACTS:
            return
        try:
            question = v2.decode(frames[4], v2.Question)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return
        self._asked[frames[0], question.n] = Asked(frames[3], question.params)
        if frames[3] == b"CANCEL":
            self.cancels.update(question.params.get("ids", ()))

    def take_acts(self) -> Acts:
        """What became durable since the last call."""
        acts = Acts(self.disk.requeued, self.disk.purged)
        self.disk.requeued, self.disk.purged = {}, {}
        return acts

    def wants_cancelled(self, job: v2.Job) -> bool:
        """Whether an operator has called off this job, or what waits in its queue."""
        if job.id in self.cancels:
            return True
        cancels = (asked.params for asked in self._asked.values() if asked.command == b"CANCEL")
        return any("states" in params and params.get("queue") == job.queue for params in cancels)

    # ---- after a turn --------------------------------------------------------------------------------------

    def judge(self, router: Router, sends: list[Send], acts: Acts) -> None:
        """The answers of one turn."""
        said, answered = dict(self.rules), []
        for send in sends:
            if send.socket == ADMINISTRATIVE and send.frames[1] == v2.VERSION:
                n = v2.unpack(send.frames[3])[0]
                asked = self._asked.get((send.peer, n)) if isinstance(send.peer, bytes) else None
                if asked is not None:
                    answered.append((asked, self._answer(send, asked)))
        for asked, answer in answered:
            self._judge_answer(router, asked, answer, said)
        self.rules = self._durable()
        if said != self.rules:
            raise Violation(f"operators were told {said}, and what is durable is {self.rules}")
        if router.ledger.rules.by_queue != self.rules:
            raise Violation(f"the Router goes by {router.ledger.rules.by_queue}, operators were told {self.rules}")
        self._judge_acts(answered, acts)

    def _durable(self) -> dict[str, Rule]:
        facts = {name: value for name, value in self.disk.facts().items() if name.startswith(QUEUE_FACT)}
        return {name.removeprefix(QUEUE_FACT): v2.decode(value, Rule) for name, value in facts.items()}

    def _answer(self, send: Send, asked: Asked) -> Any:
        if send.frames[2] != b"REPLY":
            raise Violation(f"{asked} was refused: {v2.decode(send.frames[3], v2.Refused)}")
        return v2.decode(send.frames[3], v2.Answer).answer

    def _judge_answer(self, router: Router, asked: Asked, answer: Any, said: dict[str, Rule]) -> None:
        match asked.command:
            case b"PAUSE" | b"RESUME" | b"DRAIN" | b"LIMIT":
                queue = asked.params["queue"]
                what = RULES.get(asked.command) or {"jobs_max": asked.params["jobs_max"]}
                rule = said[queue] = msgspec.structs.replace(said.get(queue, NO_RULE), **what)
                if (answer["paused"], answer["draining"], answer["jobs_max"]) != msgspec.structs.astuple(rule):
                    raise Violation(f"{asked} is answered {answer}, expected {rule}")
                if rule == NO_RULE:
                    del said[queue]
            case b"JOBS":
                self._judge_list(router, asked, answer)
            case b"PROBLEMS":
                if stalled := [each for each in answer if each["key"] == "stalled"]:
                    raise Violation(f"nothing moves: {stalled}")
            case b"CANCEL":
                ended = {id: self.disk.record(id) for id in answer["told"]}
                wrong = [id for id, each in ended.items() if each is not None and each.state not in lifecycle.TERMINAL]
                if wrong:
                    raise Violation(f"{asked} is answered {answer}, and these have not ended: {wrong}")

    def _judge_list(self, router: Router, asked: Asked, answer: Any) -> None:
        """Every job of a list was there, and is what was asked for."""
        for row in answer["jobs"]:
            record = self.disk.record(row["id"])
            if record is None:
                continue  # an answer of the same turn has purged it
            states, queue = asked.params.get("states"), asked.params.get("queue", row["queue"])
            if row["queue"] != queue or (states and row["state"] not in states):
                raise Violation(f"{asked} is answered with {row}")
            if (row["queue"], row["name"]) != (record.job.queue, record.job.name):
                raise Violation(f"{asked} is answered with {row}, and what is durable is {record}")
        seqs = [self.disk.seq_of(row["id"]) for row in answer["jobs"] if self.disk.has(row["id"])]
        if seqs != sorted(set(seqs), reverse=True):
            raise Violation(f"{asked} is answered out of order: {answer['jobs']}")

    def _judge_acts(self, answered: list[tuple[Asked, Any]], acts: Acts) -> None:
        for command, key, done in (
            (b"REQUEUE", "requeued", {id: (self.truth.plans[id].job, state) for id, state in acts.requeued.items()}),
            (b"PURGE", "purged", acts.purged),
        ):
            questions = [(asked, answer) for asked, answer in answered if asked.command == command]
            told = sum(answer[key] for _, answer in questions)
            if told != len(done):
                raise Violation(f"operators were told that {told} jobs were {key}, and these were: {sorted(done)}")
            for id, (job, state) in done.items():
                if not any(_selects(asked.params, job, state) for asked, _ in questions):
                    raise Violation(f"{id}, which was {state}, was {key}, and nobody asked for that: {questions}")

    # ---- hand-outs and new jobs ------------------------------------------------------------------------------

    def judge_hand_out(self, job: v2.Job) -> None:
        """By what was said before this turn: questions are answered behind the hand-outs."""
        if self.rules.get(job.queue, NO_RULE).paused:
            raise Violation(f"{job.id} is handed out, and its queue {job.queue} is paused")

    def judge_accepted(self, accepted: list[v2.Job], idle: Counter[str], left: Counter[str]) -> None:
        """New jobs, by what was said before this turn.

        Args:
            accepted: They.
            idle: Jobs that waited or were delayed before the turn, by queue.
            left: Jobs that did no longer when the new ones came, at most.
        """
        for queue, count in Counter(job.queue for job in accepted).items():
            rule = self.rules.get(queue, NO_RULE)
            if rule.draining:
                raise Violation(f"{count} new jobs in queue {queue}, which takes none")
            if rule.jobs_max is not None and count > max(0, rule.jobs_max - idle[queue] + left[queue]):
                raise Violation(f"{count} new jobs in queue {queue}, bound {rule.jobs_max}; {idle[queue]} were there")


def _selects(params: dict[str, Any], job: v2.Job, state: str) -> bool:
    return (
        (not params.get("states") or state in params["states"])
        and params.get("queue", "") in ("", job.queue)
        and (params.get("ids") is None or job.id in params["ids"])
    )
