"""What a client says to the Router, when it says it again, and what the answers mean. No IO, no clock, no threads.

      caller                     Exchange                       Router
    deliver(jobs) ─▶ queue ─▶ REQUEST n ───────────────────────▶
                               pending until ◀───────── ACK n, REFUSED n
    ask(id)       ─▶          INFO n    ─────────────────────▶
                               pending until ◀───────── REPLY n
    wait(ids)     ─▶          WAIT ids  ─────────────────────▶
                               asked until   ◀───────── REPLY results

Rules. A REQUEST or INFO that has no answer is sent again every `RESEND_S` with the same number and the same ids; a WAIT
is asked again every `WAIT_AGAIN_S`, for a restarted Router has forgotten who waits. Jobs of several callers share a
REQUEST; at most `WINDOW` of them are under way. Each call ends: with its answer, at its deadline, or withdrawn.
An answer to nothing that is pending is late and means nothing. A driver (`sync`, `aio`) owns the socket: it sends what
`outgoing` gives, hands in what arrives, comes back at `next_time`, and opens a new socket when `suspect` says so.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from heapq import heappop, heappush
from itertools import islice
from typing import TypeVar

import msgspec

from eventmq import limits
from eventmq.client.pending import NEVER, Call, Delivery, Frames, Message, Query, Waiting
from eventmq.errors import BrokerUnavailable, JobRefused
from eventmq.limits import BATCH_BYTES, BATCH_JOBS_MAX, RESEND_S, WAIT_AGAIN_S, WAITS_PER_CLIENT_MAX
from eventmq.protocol import v2

WINDOW = 8
"""REQUESTs under way: enough to keep the Router busy while the answers travel."""

WAIT_IDS_MAX = 5_000
"""Ids in one WAIT (about 170 kB)."""

SENDS_PER_SOCKET = 3
"""A message that was sent so often with nothing heard at all: the connection is taken for dead."""

TRY_LATER = frozenset({"draining", "storage_full"})
"""Reasons of a refusal that pass: the jobs are sent again until the deadline."""

ROOM_GROWTH = 8
"""There was room for all that a client asked with: it asks with so many times as many."""

_ARRAYS = {bytes((first,)) for first in (*range(0x90, 0xA0), 0xDC, 0xDD)}
"""First bytes of msgpack arrays."""

C = TypeVar("C", bound=Call)


class Exchange:
    """One client's side of the conversation.

    Args:
        where: The Router's address, for messages to people.

    Attributes:
        suspect: The socket seems to lead nowhere: open a new one, then call `reopened`.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._n = 0
        self._open: dict[int, Call] = {}
        self._deadlines: list[tuple[float, int]] = []
        self._queue: deque[Delivery] = deque()
        self._later: list[tuple[float, int, Delivery]] = []  # heap
        self._queries: deque[Query] = deque()
        self._sent: dict[int, Message] = {}  # the longest not sent first
        self._requests = 0
        self._waiting: dict[str, list[Waiting]] = {}
        self._unasked: dict[str, None] = {}
        self._asked: dict[str, float] = {}  # the longest not asked first
        self._heard = -NEVER
        self._complaint = ""
        self.suspect = False

    # ---- what callers want -----------------------------------------------------------------------

    def deliver(self, jobs: Sequence[v2.Job], now: float, timeout_s: float, block_for_s: float = 0.0) -> Delivery:
        """Jobs to be stored by the Router; `block_for_s`: how long they wait for room in a queue that is full."""
        delivery = self._opened(Delivery(jobs, now, timeout_s, now + block_for_s))
        if jobs:
            self._queue.append(delivery)
        else:
            self._close(delivery)
        return delivery

    def query(self, command: bytes, body: Callable[[int], v2.Body], deadline: float) -> Query:
        """Anything that is answered by one REPLY, and may be asked again without harm; `body` makes it, given its
        number. An ACK that comes before, of a CANCEL, says: the Router is there, and waits for runs to stop."""
        query = self._opened(Query(command, body, deadline))
        self._queries.append(query)
        return query

    def wait(self, ids: Iterable[str], deadline: float) -> Waiting:
        """The outcomes of some jobs."""
        waiting = self._opened(Waiting(ids, deadline))
        for id in waiting.missing:
            if id not in self._waiting:
                self._waiting[id] = []
                self._unasked[id] = None
            self._waiting[id].append(waiting)
        if not waiting.missing:
            self._close(waiting)
        return waiting

    def withdraw(self, call: Call) -> None:
        """Nobody awaits the call any more. What was not sent is not sent; what was may take effect."""
        if not call.done:
            self._close(call)

    # ---- for the driver -----------------------------------------------------------------------------

    def outgoing(self, now: float) -> list[Frames]:
        """The messages to send now."""
        out: list[Frames] = []
        while self._sent and next(iter(self._sent.values())).sent + RESEND_S <= now:
            self._send_again(next(iter(self._sent)), now, out)
        while self._later and self._later[0][0] <= now:
            self._try_again(heappop(self._later)[2])
        while self._queries:
            self._send_query(self._queries.popleft(), now, out)
        while self._queue and self._requests < WINDOW:
            self._send_request(now, out)
        if self._waiting:
            self._send_waits(now, out)
        return out

    def receive(self, frames: Sequence[bytes], now: float) -> None:
        """Takes in a message from the Router. What cannot be read is as good as lost: it will be asked for again."""
        self._heard = now
        handle = self._HANDLERS.get(frames[2]) if len(frames) == 4 and frames[1] == v2.VERSION else None
        if handle is None:
            return
        try:
            handle(self, frames[3], now)
        except msgspec.MsgspecError as error:
            self._complaint = f"{frames[2].decode()} that cannot be read: {error}"

    def expire(self, now: float) -> None:
        """Ends the calls whose time is over."""
        while self._deadlines and self._deadlines[0][0] <= now:
            call = self._open.get(heappop(self._deadlines)[1])
            if call is None:
                continue
            if call.deadline > now:
                heappush(self._deadlines, (call.deadline, call.key))
                continue
            self._end_late(call)

    def next_time(self) -> float:
        """When `outgoing` or `expire` has something to do unless a message arrives before; `NEVER` = not at all."""
        if self._queries or (self._queue and self._requests < WINDOW) or (self._unasked and self._has_room):
            return -NEVER
        while self._deadlines and self._deadlines[0][1] not in self._open:
            heappop(self._deadlines)
        times = [self._deadlines[0][0]] if self._deadlines else [NEVER]
        if self._sent:
            times.append(next(iter(self._sent.values())).sent + RESEND_S)
        if self._later:
            times.append(self._later[0][0])
        if self._asked:
            times.append(next(iter(self._asked.values())) + WAIT_AGAIN_S)
        return min(times)

    def reopened(self) -> None:
        """There is a new socket: all that is under way goes out again at once."""
        self.suspect = False
        for message in self._sent.values():
            message.sends = 0
            message.sent = -NEVER
        self._unasked = {**dict.fromkeys(self._asked), **self._unasked}
        self._asked = {}

    def fail(self, error: Exception) -> None:
        """Ends all calls with an error."""
        for call in list(self._open.values()):
            self._close(call, error)

    # ---- sending ------------------------------------------------------------------------------------

    def _next_n(self) -> int:
        self._n += 1
        return self._n

    def _send_request(self, now: float, out: list[Frames]) -> None:
        """One REQUEST, from as many callers as fit. A long delivery goes to the end of the queue after each."""
        jobs: list[v2.Job] = []
        parts = []
        room = BATCH_BYTES
        while self._queue and len(jobs) < BATCH_JOBS_MAX and room > 0:
            delivery = self._queue.popleft()
            if delivery.done:
                continue
            part, room = delivery.take(BATCH_JOBS_MAX - len(jobs), room)
            if not part:
                self._queue.appendleft(delivery)
                break
            parts.append((delivery, part))
            jobs += part
            if delivery.has_more:
                self._queue.append(delivery)
                break
        if jobs:
            n = self._next_n()
            message = Message(v2.encode(b"REQUEST", v2.Request(n, jobs)), parts, None)
            out.append(self._mark_sent(n, message, now))

    def _send_query(self, query: Query, now: float, out: list[Frames]) -> None:
        if not query.done:
            n = self._next_n()
            out.append(self._mark_sent(n, Message(v2.encode(query.command, query.body(n)), [], query), now))

    def _send_waits(self, now: float, out: list[Frames]) -> None:
        while self._asked and next(iter(self._asked.values())) + WAIT_AGAIN_S <= now:
            self._unasked[next(iter(self._asked))] = None
            del self._asked[next(iter(self._asked))]
        while self._unasked and self._has_room:
            room = min(WAIT_IDS_MAX, WAITS_PER_CLIENT_MAX - len(self._asked))
            ids = list(islice(self._unasked, room))
            for id in ids:
                del self._unasked[id]
                self._asked[id] = now
            out.append(v2.encode(b"WAIT", v2.Wait(self._next_n(), ids)))

    def _send_again(self, n: int, now: float, out: list[Frames]) -> None:
        message = self._forget(n)
        if message.wanted:
            if message.sends >= SENDS_PER_SOCKET and self._heard < message.first_sent:
                self.suspect = True
            out.append(self._mark_sent(n, message, now))

    def _try_again(self, delivery: Delivery) -> None:
        queued = delivery.has_more
        delivery.take_again()
        if not queued:
            self._queue.append(delivery)

    def _mark_sent(self, n: int, message: Message, now: float) -> Frames:
        if not message.sends:
            message.first_sent = now
        message.sends += 1
        message.sent = now
        self._sent[n] = message
        self._requests += bool(message.parts)
        return message.frames

    @property
    def _has_room(self) -> bool:
        return len(self._asked) < WAITS_PER_CLIENT_MAX

    # ---- answers ---------------------------------------------------------------------------------------

    def _forget(self, n: int) -> Message:
        message = self._sent.pop(n)
        self._requests -= bool(message.parts)
        return message

    def _on_ack(self, body: bytes, now: float) -> None:
        ack = v2.decode(body, v2.Ack)
        if ack.n in self._sent and self._sent[ack.n].query is None:
            refused = {refusal.id: refusal for refusal in ack.refusals}
            existing = dict(ack.existing)
            for delivery, jobs in self._forget(ack.n).parts:
                delivery.existing.update((job.id, existing[job.id]) for job in jobs if job.id in existing)
                self._settle(delivery, jobs, refused, now)

    def _on_refused(self, body: bytes, now: float) -> None:
        """The whole message was refused: as if each job in it was."""
        refused = v2.decode(body, v2.Refused)
        self._complaint = f"{refused.reason} ({refused.text})"
        message = self._sent.get(refused.n)
        if message is None or (message.query is not None and refused.reason in TRY_LATER):
            return  # a question is asked again until its deadline anyhow
        self._forget(refused.n)
        for delivery, jobs in message.parts:
            each = {job.id: v2.Refusal(job.id, refused.reason, refused.text) for job in jobs}
            self._settle(delivery, jobs, each, now)
        if message.query is not None and not message.query.done:
            self._close(
                message.query, JobRefused(f"the Router refused: {refused.reason} ({refused.text})", refused.reason)
            )

    def _on_reply(self, body: bytes, now: float) -> None:
        """Outcomes are `[[result, …]]`, an answer is `[n, answer]`: what stands first tells them apart."""
        if body[1:2] in _ARRAYS:
            for result in v2.decode(body, v2.Results).results:
                self._on_result(result)
        else:
            self._on_answer(v2.decode(body, v2.Answer))

    def _on_answer(self, answer: v2.Answer) -> None:
        if answer.n in self._sent:
            query = self._forget(answer.n).query
            if query is not None and not query.done:
                query.answer = answer.answer
                self._close(query)

    def _on_result(self, result: v2.Result) -> None:
        self._asked.pop(result.id, None)
        self._unasked.pop(result.id, None)
        for waiting in self._waiting.pop(result.id, ()):
            waiting.results[result.id] = result
            waiting.missing.pop(result.id, None)
            if not waiting.missing:
                self._close(waiting)

    _HANDLERS: dict[bytes, Callable[[Exchange, bytes, float], None]] = {
        b"ACK": _on_ack,
        b"REPLY": _on_reply,
        b"REFUSED": _on_refused,
    }

    def _settle(self, delivery: Delivery, jobs: list[v2.Job], refused: dict[str, v2.Refusal], now: float) -> None:
        """Jobs of a delivery were answered: stored, except those refused."""
        if delivery.done:
            return
        closed: list[v2.Job] = []
        full: list[v2.Job] = []
        for job in jobs if refused else ():
            refusal = refused.get(job.id)
            if refusal is None:
                continue
            if refusal.reason in TRY_LATER:
                closed.append(job)
                delivery.put_off = refusal
            elif refusal.reason == "queue_full" and now < delivery.full_until:
                full.append(job)
            else:
                delivery.refusals.append(refusal)
        delivery.try_later(closed + full)
        if full:
            delivery.trial = limits.ROOM_JOBS
            self._put_off(delivery, min(now + limits.ROOM_AGAIN_S, delivery.full_until))
        elif closed:
            self._put_off(delivery, now + RESEND_S)
        elif delivery.keeps:
            delivery.trial *= ROOM_GROWTH
            self._put_off(delivery, now)
        if len(closed) < len(jobs):
            delivery.deadline = now + delivery.timeout_s
            delivery.unanswered -= len(jobs) - len(closed) - len(full)
        if not delivery.unanswered:
            self._close(delivery, delivery.refused())

    def _put_off(self, delivery: Delivery, until: float) -> None:
        if not delivery.timed:
            delivery.timed = True
            heappush(self._later, (until, delivery.key, delivery))

    # ---- beginning and end of calls ------------------------------------------------------------------------

    def _opened(self, call: C) -> C:
        call.key = self._next_n()
        self._open[call.key] = call
        heappush(self._deadlines, (call.deadline, call.key))
        return call

    def _close(self, call: Call, error: Exception | None = None) -> None:
        del self._open[call.key]
        call.done = True
        call.error = error
        if isinstance(call, Waiting):
            self._stop_waiting(call)
        if call.notify is not None:
            call.notify()

    def _stop_waiting(self, call: Waiting) -> None:
        for id in call.missing:
            others = self._waiting[id]
            others.remove(call)
            if not others:
                del self._waiting[id]
                self._asked.pop(id, None)
                self._unasked.pop(id, None)

    def _end_late(self, call: Call) -> None:
        """The deadline has passed. A socket on which nothing came in all that time is given up, and with it what
        ZeroMQ still holds: a job that raised BrokerUnavailable does not turn up minutes later."""
        if isinstance(call, Delivery):
            self.suspect = self.suspect or self._heard < call.begun
            self._close(call, call.late(self._where, self._said))
        elif isinstance(call, Query):
            self._close(call, BrokerUnavailable(f"no answer from the Router at {self._where}{self._said}"))
        else:
            self._close(call)

    @property
    def _said(self) -> str:
        return f"; the last it said was {self._complaint}" if self._complaint else ""
