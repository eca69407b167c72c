"""What operators do: list and look at jobs, requeue and purge them, pause, drain and bound queues.

Everything here happens behind the commit of its turn, when memory and store agree, and what it changes is committed
before the answer leaves. An answer does a bounded amount of work, whatever the store holds: a list comes in pages, and
an act changes one slice, newest job first. Where to go on is in the answer and nothing about it is remembered here, so
whoever asks may stop, go on after a restart, or ask the same again.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable
from math import inf
from typing import Any, NamedTuple

import msgspec

from eventmq import limits
from eventmq.broker.core import Core
from eventmq.broker.lifecycle import DELAYED, RUNNING, TERMINAL, TRANSITIONS, WAITING
from eventmq.broker.outbox import ADMINISTRATIVE
from eventmq.broker.pool import PeerId
from eventmq.errors import InvalidMessageError
from eventmq.protocol import calls, v2
from eventmq.protocol.administration import Bound, OneJob, OneQueue, Params, Schedules, Selection, SomeJobs, params_of
from eventmq.protocol.v2 import options_of
from eventmq.store.base import Line, Page, Wanted

REQUEUABLE = TRANSITIONS["requeue"][0]


class Asked(NamedTuple):
    """A question: the method that answers it, the type of its params (None: there are none), what it costs in rows."""

    method: str
    params: type[Params] | None = None
    cost: int = 1


class Operators(Core):
    """Handlers of the administrative socket that concern jobs and queues."""

    def on_question(self, sender: PeerId, body: v2.Question, asked: Asked) -> None:
        """A question of eMQP/2.0."""
        method, kind = getattr(self, asked.method), asked.params
        self.answer(sender, body, method if kind is None else lambda: method(params_of(body, kind)), asked.cost)

    def answer(self, sender: PeerId, question: v2.Question, answer: Callable[[], Any], cost: int = 1) -> None:
        """Answers behind the commit of this turn, when memory and store agree; or refuses, with the sentence of the
        InvalidMessageError that `answer` raises before it changes anything."""

        def reply() -> None:
            try:
                body = v2.encode(b"REPLY", v2.Answer(question.n, answer()))
            except InvalidMessageError as error:
                self.refusals[error.reason] += 1
                self.send_refused(ADMINISTRATIVE, sender, question.n, error.reason, str(error))
                return
            self.outbox.send(ADMINISTRATIVE, sender, body)
            self.commit()

        self.ask(cost, reply)

    # ---- jobs ----------------------------------------------------------------------------------------

    def list_jobs(self, selection: Selection) -> dict[str, Any]:
        """One page of a list, newest first."""
        page = self._browse(selection, self.wall)
        return {"jobs": [self._row(line) for line in page.lines], "next": page.before or None}

    def show_job(self, params: OneJob) -> dict[str, Any] | None:
        """Everything about one job."""
        record = self.ledger.find([params.id]).get(params.id)
        if record is None:
            return None
        return self.describe(record) | {
            "options": msgspec.to_builtins(options_of(record.job.options)),
            "arguments": _arguments(record.job.payload),
            "value": _plain(v2.unpack, record.value) if record.value else None,
            "kept_until": record.expires or None,
        }

    def requeue(self, selection: Selection) -> dict[str, Any]:
        """Some jobs that have ended wait again.

        Raises:
            InvalidMessageError: The selection names neither jobs nor a state from which that can be.
        """
        if selection.ids is None and selection.state not in REQUEUABLE:
            raise InvalidMessageError(f"REQUEUE wants ids, or a state out of {_listed(REQUEUABLE)}")
        page = self._slice(selection, self.wall)
        records = self.ledger.find([line.id for line in page.lines if line.state in REQUEUABLE])
        requeued = sum(self.ledger.requeue(records[line.id], self.wall) for line in page.lines if line.id in records)
        self._note_act("requeued", requeued)
        return {"requeued": requeued, "next": page.before or None}

    def purge(self, selection: Selection) -> dict[str, Any]:
        """Some jobs that have ended are forgotten; or jobs that wait or are delayed in a queue are cancelled.

        Raises:
            InvalidMessageError: The selection names neither jobs nor a terminal state, nor a queue whose jobs wait.
        """
        if selection.ids is None and selection.state == WAITING and selection.queue:
            page = self._slice(selection, inf)  # so far in the future nothing is delayed any more
            gone = self._call_off(page.lines)
        elif selection.ids is not None or selection.state in TERMINAL:
            page = self._slice(selection, self.wall)
            over = [(line.seq, line.state) for line in page.lines if line.state in TERMINAL]
            self.ledger.changes.forgotten += over
            gone = len(over)
        else:
            states = _listed(TERMINAL)
            raise InvalidMessageError(f"PURGE wants ids, a state out of {states}, or a queue and the state waiting")
        self._note_act("purged", gone)
        return {"purged": gone, "next": page.before or None}

    def cancel_jobs(self, params: SomeJobs) -> dict[str, str]:
        """Some jobs are not to run, as by a client's CANCEL; what became of each."""
        return self._cancel(params.ids)

    def _cancel(self, ids: list[str]) -> dict[str, str]:
        stored = self.ledger.stored(ids)
        return {id: self.ledger.cancel(id, self.wall, stored) for id in dict.fromkeys(ids)}

    def _call_off(self, lines: list[Line]) -> int:
        idle = [line.id for line in lines if line.id not in self.ledger.leases]
        return len(self._cancel(idle))

    def _note_act(self, done: str, count: int) -> None:
        if count:
            self.note("info", f"jobs {done}", f"an operator: {count} job{'s' * (count != 1)} {done}")

    # ---- selections ----------------------------------------------------------------------------------

    def _browse(self, selection: Selection, wall: float) -> Page:
        """One page of what is selected.

        Raises:
            InvalidMessageError: There is no such state.
        """
        if selection.state not in ("", WAITING, DELAYED, RUNNING, *TERMINAL):
            states = _listed({WAITING, DELAYED, RUNNING, *TERMINAL})
            raise InvalidMessageError(f"no job is ever {selection.state!r}; the states are {states}")
        limit = min(selection.limit, limits.LIST_JOBS_MAX)
        before = limits.NEWEST if selection.before is None else selection.before
        if selection.state == RUNNING:
            return self._browse_running(selection, before, limit)
        ids = None if selection.ids is None else tuple(selection.ids)
        wanted = Wanted(selection.state, selection.queue, selection.name, selection.error, ids)
        page = self.store.browse(wanted, before, wall, limits.LIST_ROWS, limit)
        if selection.state in (WAITING, DELAYED):
            leases = self.ledger.leases
            return Page([line for line in page.lines if line.id not in leases], page.before)
        return page

    def _browse_running(self, selection: Selection, before: int, limit: int) -> Page:
        """The store does not know what runs; memory does, but not what went wrong with it before."""
        jobs = (job for job, _, _ in self.ledger.leases.values() if job.seq < before)
        if selection.ids is not None:
            named = frozenset(selection.ids)
            jobs = (job for job in jobs if job.id in named)
        newest = heapq.nlargest(limit, jobs, key=lambda job: job.seq)
        ids = tuple(job.id for job in newest)
        wanted = Wanted("", selection.queue, selection.name, selection.error, ids)
        page = self.store.browse(wanted, before, self.wall, limits.LIST_ROWS, limit)
        return Page(page.lines, newest[-1].seq if len(newest) == limit else 0)

    def _slice(self, selection: Selection, wall: float) -> Page:
        """What one act changes: a page whose payloads together are not too large to be read."""
        few = msgspec.structs.replace(selection, limit=min(selection.limit, limits.ACT_JOBS_MAX))
        page = self._browse(few, wall)
        size = 0
        for number, line in enumerate(page.lines):
            size += line.payload_bytes
            if size > limits.BATCH_BYTES and number:
                return Page(page.lines[:number], page.lines[number - 1].seq)
        return page

    def _row(self, line: Line) -> dict[str, Any]:
        """One job in a list; the words are those of INFO. Times are wall times, or None."""
        lease = self.ledger.leases.get(line.id)
        row = line._asdict()
        del row["seq"]
        return row | {
            "state": RUNNING if lease else line.state,
            "due": line.due if line.state == DELAYED and not lease else None,
            "started": self.started_at(lease[2]) if lease else None,
            "finished": line.finished or None,
            "run_s": line.run_s if line.finished else None,
            "worker": lease[1].incarnation.name if lease else line.worker or None,
            "error": line.error or None,
        }

    # ---- queues --------------------------------------------------------------------------------------

    def pause(self, params: OneQueue) -> dict[str, Any]:
        """Nothing of the queue is handed out; what runs goes on."""
        return self._say(params.queue, "paused", paused=True)

    def resume(self, params: OneQueue) -> dict[str, Any]:
        """Neither paused nor drained any longer."""
        return self._say(params.queue, "resumed", paused=False, draining=False)

    def drain(self, params: OneQueue) -> dict[str, Any]:
        """The queue takes no new jobs; what it has is handed out."""
        return self._say(params.queue, "draining", draining=True)

    def limit(self, params: Bound) -> dict[str, Any]:
        """How many jobs may wait in the queue."""
        text = "bound as the settings say" if params.jobs_max is None else f"bound to {params.jobs_max} waiting jobs"
        return self._say(params.queue, text, jobs_max=params.jobs_max)

    def _say(self, queue: str, text: str, **what: Any) -> dict[str, Any]:
        self.ledger.say(queue, **what)
        self.note("warning", f"{text}: {queue}", f"an operator: queue {queue!r} is {text}")
        return self._queue(queue, Counter(job.queue for job, _, _ in self.ledger.leases.values()))

    def show_queues(self) -> dict[str, Any]:
        """All queues: what waits, what runs, who serves them, what was said about them."""
        running = Counter(job.queue for job, _, _ in self.ledger.leases.values())
        names = {*self.ledger.backlogs, *self.pool.serving, *self.ledger.rules.by_queue}
        return {name: self._queue(name, running) for name in sorted(names)}

    def _queue(self, name: str, running: Counter[str]) -> dict[str, Any]:
        backlog = self.ledger.backlogs.get(name)
        rule = self.ledger.rules.of(name)
        crews = self.pool.crews_of(name)
        return {
            "waiting": len(backlog) if backlog else 0,
            "delayed": backlog.delayed if backlog else 0,
            "running": running[name],
            "processed": self.ledger.processed[name],
            "managers": sum(len(crew.members) for crew in crews),
            "free_slots": sum(manager.credit for crew in crews for manager in crew.members.values()),
            "paused": rule.paused,
            "draining": rule.draining,
            "jobs_max": self.ledger.rules.jobs_max(name),
        }

    # ---- schedules -----------------------------------------------------------------------------------

    def list_schedules(self, page: Schedules) -> dict[str, Any]:
        """One page of the schedules, or one of them."""
        entries = self.schedules.entries
        ids = [id for id in self.schedules.listed() if id > page.after and page.id in ("", id)]
        rows = [self.schedules.describe(entries[id]) for id in ids[: limits.LIST_JOBS_MAX]]
        return {"schedules": rows, "next": rows[-1]["id"] if len(ids) > len(rows) else None}

    def act_on_schedule(self, params: Schedules) -> dict[str, Any] | None:
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
            self.schedules.run_now(entry, params.job, self.wall, bool(self.expected))
        elif params.act:
            self.schedules.pause(entry, params.act == "pause", self.wall)
        self.note("warning", f"schedule {params.act}", f"an operator: {params.act} schedule {params.id!r}")
        return self.schedules.describe(entry)


def _listed(states: frozenset[str] | set[str]) -> str:
    return ", ".join(sorted(states))


def _arguments(payload: bytes) -> Any:
    """A job's arguments, as data that JSON can carry. They came from a client, so they may be anything."""
    given = _plain(lambda packed: calls.unpack_call(packed)._asdict(), payload)
    if isinstance(given, dict) and not given["class_args"] and not given["class_kwargs"]:
        del given["class_args"], given["class_kwargs"]
    return given


def _plain(unpack: Callable[[bytes], Any], packed: bytes) -> Any:
    """What is packed, as data that JSON can carry; a sentence where it cannot be read."""
    try:
        return msgspec.to_builtins(unpack(packed), str_keys=True, enc_hook=repr)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, TypeError) as error:
        return f"cannot be read: {error}"
