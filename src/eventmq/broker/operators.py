"""What operators do: list and look at jobs, requeue and purge them, pause, drain and bound queues.

Everything here happens behind the commit of its turn, when memory and store agree, and what it changes is committed
before the answer leaves. An answer does a bounded amount of work, whatever the store holds: a list comes in pages, and
an act changes one slice, newest job first. Where to go on is in the answer and nothing about it is remembered here, so
whoever asks may stop, go on after a restart, or ask the same again.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import msgspec

from eventmq import limits
from eventmq.broker.lifecycle import CANCELLED, TERMINAL, TRANSITIONS
from eventmq.broker.outbox import ADMINISTRATIVE
from eventmq.broker.pool import PeerId
from eventmq.broker.selections import LIVE, Selections, listed
from eventmq.broker.why import why
from eventmq.errors import InvalidMessageError
from eventmq.protocol import administration, calls, v2
from eventmq.protocol.administration import Selection, params_of
from eventmq.protocol.answers import ShownQueue, Why
from eventmq.protocol.v2 import options_of
from eventmq.store.base import Line

REQUEUABLE = TRANSITIONS["requeue"][0]


class Asked(NamedTuple):
    """A question: the method that answers it, the type of its params (None: there are none), what it costs in rows."""

    method: str
    params: type[administration.Params] | None = None
    cost: int = 1


class Operators(Selections):
    """Handlers of the administrative socket that concern jobs and queues."""

    def on_question(self, sender: PeerId, body: v2.Question, asked: Asked) -> None:
        """A question of eMQP/2.0."""
        method, kind = getattr(self, asked.method), asked.params
        self.answer(sender, body, method if kind is None else lambda: method(params_of(body, kind)), asked.cost)

    def answer(self, sender: PeerId, question: v2.Question, answer: Callable[[], Any], cost: int = 1) -> None:
        """Answers behind the commit of this turn, when memory and store agree; or refuses, with the sentence of the
        InvalidMessageError that `answer` raises before it changes anything.

        Raises:
            InvalidMessageError: Too many of its questions wait already.
        """

        def reply() -> None:
            self.asking -= Counter((sender,))
            try:
                body = v2.encode(b"REPLY", v2.Answer(question.n, answer()))
            except InvalidMessageError as error:
                self.refusals[error.reason] += 1
                self.send_refused(ADMINISTRATIVE, sender, question.n, error.reason, str(error))
                return
            self.outbox.send(ADMINISTRATIVE, sender, body)
            self.commit()

        if self.asking[sender] >= limits.ASKER_QUESTIONS_MAX:
            raise InvalidMessageError("you have too many questions that wait to be answered", "too_large")
        self.ask(cost, reply)
        self.asking[sender] += 1

    # ---- jobs ----------------------------------------------------------------------------------------

    def list_jobs(self, selection: Selection) -> dict[str, Any]:
        """One page of a list, newest first."""
        page = self.browse(selection, limits.LIST_JOBS_MAX)
        return {"jobs": [self.row(line) for line in page.lines], "next": page.before or None}

    def count_jobs(self, selection: Selection) -> dict[str, Any]:
        """How many jobs of one slice are selected, and below which place all stand that are there now."""
        newest = self.ledger.next_seq if selection.before is None else selection.before
        page = self.browse(msgspec.structs.replace(selection, limit=limits.NEWEST), 2 * limits.LIST_JOBS_MAX)
        return {"jobs": len(page.lines), "newest": newest, "next": page.before or None}

    def show_job(self, params: administration.OneJob) -> dict[str, Any] | None:
        """Everything about one job."""
        record = self.ledger.find([params.id]).get(params.id)
        if record is None:
            return None
        return self.describe(record) | {
            "options": msgspec.to_builtins(options_of(record.job.options)),
            "arguments": _arguments(record.job.payload),
            "value": _plain(v2.unpack, record.value) if record.value else None,
            "kept_until": record.expires or None,
            "attempts": self.ledger.attempts.of(record.job.id),
        }

    def why(self, params: administration.OneJob) -> Why:
        """Why one job is where it is."""
        return why(self, params.id, self.ledger.find([params.id]).get(params.id))

    def rerun(self, params: administration.Rerun) -> dict[str, Any] | None:
        """A new job like one that there is, due at once; with other arguments it has no key, which was made of the old
        ones. The id of the job that runs, which may be another one with the same key; None = there is no such job.

        Raises:
            InvalidMessageError: The new job is refused.
        """
        record = self.ledger.find([params.id]).get(params.id)
        if record is None:
            return None
        self.check_open()
        old, given = record.job, params.arguments
        options = msgspec.structs.replace(options_of(old.options), delay_s=0.0, due=0.0, schedule="")
        payload = old.payload if given is None else _with(given, old)
        unique = old.unique if given is None else ""
        new = v2.Job(params.job, old.queue, old.name, payload, old.priority, v2.pack_options(options), unique)
        accepted = self.ledger.accept([new], self.wall, bool(self.expected))
        for refusal in accepted.refusals:
            raise InvalidMessageError(refusal.text, refusal.reason)
        self.note("info", "job run again", f"an operator: job {new.id} runs what {old.id} ran")
        return {"id": accepted.existing[0][1] if accepted.existing else new.id}

    def requeue(self, selection: Selection) -> dict[str, Any]:
        """Some jobs that have ended wait again."""
        lines, next = self._slice("REQUEUE", selection, REQUEUABLE)
        records = self.ledger.find([line.id for line in lines if line.state in REQUEUABLE])
        again = [line for line in lines if line.id in records and self.ledger.requeue(records[line.id], self.wall)]
        return self._acted("requeued", len(again), next, again)

    def purge(self, selection: Selection) -> dict[str, Any]:
        """Some jobs that have ended are forgotten."""
        lines, next = self._slice("PURGE", selection, TERMINAL)
        over = [line for line in lines if line.state in TERMINAL]
        self.ledger.changes.forgotten += [(line.seq, line.state) for line in over]
        return self._acted("purged", len(over), next, over)

    def cancel_jobs(self, selection: Selection) -> dict[str, Any]:
        """Some jobs are not to run, as by a client's CANCEL; what became of each, those included that had ended."""
        lines, next = self._slice("CANCEL", selection, LIVE)
        counts, before = self.ledger.counts, self.ledger.counts[CANCELLED]
        stored = self.ledger.stored(line.id for line in lines)
        told = {line.id: self.ledger.cancel(line.id, self.wall, stored) for line in lines}
        return self._acted("cancelled", counts[CANCELLED] - before, next) | {"told": told}

    def _slice(self, act: str, selection: Selection, states: frozenset[str]) -> tuple[list[Line], int]:
        """Which jobs one act is about, newest first, and where to go on: as many of those selected as do not have too
        much payload together.

        Raises:
            InvalidMessageError: The selection names neither jobs nor such states.
        """
        if selection.ids is None and not (selection.states and states.issuperset(selection.states)):
            raise InvalidMessageError(f"{act} wants ids, or one or more states out of {listed(states)}")
        page = self.browse(selection, limits.ACT_JOBS_MAX)
        next, size = page.before, 0
        for number, line in enumerate(page.lines):
            size += line.payload_bytes
            if size > limits.BATCH_BYTES and number:
                next = page.lines[number - 1].seq
                break
        return [line for line in page.lines if line.seq >= next], next

    def _acted(self, done: str, count: int, next: int, lines: Iterable[Line] = ()) -> dict[str, Any]:
        for line in lines:
            self.tell(done, id=line.id, queue=line.queue, name=line.name)
        if count:
            self.note("info", f"jobs {done}", f"an operator: {count} job{'s' * (count != 1)} {done}")
        return {done: count, "next": next or None}

    # ---- queues --------------------------------------------------------------------------------------

    def pause(self, params: administration.OneQueue) -> ShownQueue:
        """Nothing of the queue is handed out; what runs goes on."""
        return self._say(params.queue, "queue_paused", "paused", paused=True)

    def resume(self, params: administration.OneQueue) -> ShownQueue:
        """Neither paused nor drained any longer."""
        return self._say(params.queue, "queue_resumed", "resumed", paused=False, draining=False)

    def drain(self, params: administration.OneQueue) -> ShownQueue:
        """The queue takes no new jobs; what it has is handed out."""
        return self._say(params.queue, "queue_drained", "draining", draining=True)

    def limit(self, params: administration.Bound) -> ShownQueue:
        """How many jobs may wait in the queue."""
        text = "bound as the settings say" if params.jobs_max is None else f"bound to {params.jobs_max} waiting jobs"
        return self._say(params.queue, "queue_limited", text, jobs_max=params.jobs_max)

    def _say(self, queue: str, event: str, text: str, **what: Any) -> ShownQueue:
        self.ledger.say(queue, **what)
        self.tell(event, queue=queue)
        self.note("warning", f"{text}: {queue}", f"an operator: queue {queue!r} is {text}")
        return self.describe_queue(queue, self.ledger.running())

    def show_queues(self, page: administration.Queues) -> dict[str, ShownQueue]:
        """One page of the queues: what waits, what runs, who serves them, what was said about them."""
        running = self.ledger.running()
        known = self.ledger.backlogs, self.pool.serving, self.ledger.rules.by_queue
        if page.queue:
            some = [page.queue] if any(page.queue in names for names in known) else []
        else:
            names = {name for names in known for name in names if name > page.after}
            some = heapq.nsmallest(limits.LIST_JOBS_MAX, names)
        return {name: self.describe_queue(name, running) for name in some}

    def describe_queue(self, name: str, running: Counter[str]) -> ShownQueue:
        """Everything that is known of a queue, for people and monitoring systems."""
        backlog = self.ledger.backlogs.get(name)
        rule = self.ledger.rules.of(name)
        crews = self.pool.crews_of(name)
        return {
            "waiting": len(backlog) if backlog else 0,
            "delayed": backlog.delayed if backlog else 0,
            "running": running[name],
            "processed": self.ledger.processed[name],
            "managers": sum(len(crew.members) for crew in crews),
            "free_slots": sum(crew.credit for crew in crews),
            "oldest_s": backlog.oldest_s(self.wall) if backlog else 0.0,
            "paused": rule.paused,
            "draining": rule.draining,
            "jobs_max": self.ledger.rules.jobs_max(name),
        }

    # ---- schedules -----------------------------------------------------------------------------------

    def list_schedules(self, page: administration.Schedules) -> dict[str, Any]:
        """One page of the schedules, or one of them."""
        entries = self.schedules.entries
        ids = [id for id in self.schedules.listed() if id > page.after and page.id in ("", id)]
        rows = [self.schedules.describe(entries[id]) for id in ids[: limits.LIST_JOBS_MAX]]
        return {"schedules": rows, "next": rows[-1]["id"] if len(ids) > len(rows) else None}

    def act_on_schedule(self, params: administration.Schedules) -> dict[str, Any] | None:
        """Pauses, resumes, removes or runs a schedule; None = there is no such.

        Raises:
            InvalidMessageError: The job of a run is refused.
        """
        entry = self.schedules.entries.get(params.id)
        if entry is None or (entry.state.over and params.act != "remove"):
            return None
        if params.act == "remove":
            self.schedules.remove(params.id, self.wall)
        elif params.act == "run":
            self.check_open()
            self.schedules.run_now(entry, params.job, self.wall, bool(self.expected))
        elif params.act:
            self.schedules.pause(entry, params.act == "pause", self.wall)
        if params.act:
            self.tell(f"schedule_{params.act}", schedule=params.id)
            self.note("warning", f"schedule {params.act}", f"an operator: {params.act} schedule {params.id!r}")
        return self.schedules.describe(entry)


UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, TypeError)
"""What reading bytes of anybody's may raise."""


def _arguments(payload: bytes) -> Any:
    """A job's arguments, as data that JSON can carry. They came from a client, so they may be anything."""
    given = _plain(lambda packed: calls.unpack_call(packed)._asdict(), payload)
    if isinstance(given, dict) and not given["class_args"] and not given["class_kwargs"]:
        del given["class_args"], given["class_kwargs"]
    return given


def _with(given: administration.Arguments, old: v2.Job) -> bytes:
    """The payload of a job with other arguments; what is not given is as it was."""
    others = {name: value for name, value in msgspec.structs.asdict(given).items() if value is not None}
    try:
        return calls.pack_call(*calls.unpack_call(old.payload)._replace(**others))
    except UNREADABLE as error:
        raise InvalidMessageError(f"the arguments of job {old.id} cannot be read: {error}") from None


def _plain(unpack: Callable[[bytes], Any], packed: bytes) -> Any:
    """What is packed, as data that JSON can carry; a sentence where it cannot be read."""
    try:
        return msgspec.to_builtins(unpack(packed), str_keys=True, enc_hook=repr)
    except UNREADABLE as error:
        return f"cannot be read: {error}"
