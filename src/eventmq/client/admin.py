"""Asks the Router's administrative socket, for the command line and other tools. One question at a time, one thread.

Lists come in pages and acts go in slices, so that none holds the Router up; the methods here go through all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any, NamedTuple, Self, TypedDict

import msgspec

from eventmq.client import ids
from eventmq.client.sockets import dealer, has_message, receive, send
from eventmq.errors import BrokerUnavailable, EventMQError, SettingsError
from eventmq.limits import ENQUEUE_TIMEOUT_S, LIST_JOBS_MAX, RESEND_S
from eventmq.net import address
from eventmq.protocol import v2
from eventmq.protocol.administration import Selection


class ListedJob(TypedDict):
    """One job in a list. Times are wall times, in seconds since the epoch."""

    id: str
    state: str
    queue: str
    name: str
    priority: int
    attempt: int
    failures: int
    crashes: int
    due: float | None
    created: float
    started: float | None
    finished: float | None
    run_s: float | None
    worker: str | None
    error: str | None
    payload_bytes: int


class JobsPage(NamedTuple):
    """Some jobs of a list, newest first; `next` is where to go on, None = that was all."""

    jobs: list[ListedJob]
    next: int | None


class LoggedLine(TypedDict):
    """One record of a job's log; `n` counts them from 0."""

    n: int
    at: float
    level: str
    attempt: int
    text: str


class LogPage(NamedTuple):
    """What a job has logged. `next` is where to go on; `missed` lines before these are not kept any more."""

    lines: list[LoggedLine]
    next: int
    missed: int


class ShownQueue(TypedDict):
    """One queue: what is in it, who serves it, what was said about it."""

    waiting: int
    delayed: int
    running: int
    processed: int
    managers: int
    free_slots: int
    paused: bool
    draining: bool
    jobs_max: int | None


class Admin:
    """A connection to the administrative socket at `addr`; a context manager.

    Args:
        addr: As `tcp://127.0.0.1:47293`.
        timeout_s: How long to wait for an answer.

    Raises:
        SettingsError: Not such an address.
    """

    def __init__(self, addr: str, timeout_s: float = ENQUEUE_TIMEOUT_S) -> None:
        try:
            self._addr = str(address.parse_connect(addr))
        except ValueError as error:
            raise SettingsError(f"{addr!r}: expected {error}") from None
        self._timeout_s = timeout_s
        self._socket = dealer(self._addr)
        self._n = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection."""
        self._socket.close()

    def ask(self, command: str, **params: Any) -> Any:
        """The answer to one command of `docs/protocol.md`, 3.4.

        The question is repeated until the answer comes; the commands allow that.

        Raises:
            BrokerUnavailable: None came in time.
            EventMQError: The Router refused the question.
        """
        self._n += 1
        question = v2.encode(command.encode(), v2.Question(self._n, params))
        deadline = monotonic() + self._timeout_s
        while (now := monotonic()) < deadline:
            send(self._socket, question)
            until = min(now + RESEND_S, deadline)
            while self._arrives(until):
                answered, answer = self._read(command, receive(self._socket))
                if answered:
                    return answer
        raise BrokerUnavailable(
            f"the Router's administrative socket at {self._addr} did not answer within {self._timeout_s:g} s. "
            "Is it running there?"
        )

    def metrics(self) -> dict[str, Any]:
        """The Router in plain numbers; `monitoring/metrics.py` says what they mean."""
        answer: dict[str, Any] = self.ask("METRICS")
        return answer

    # ---- jobs ----------------------------------------------------------------------------------------

    def page(self, selection: Selection) -> JobsPage:
        """One page of a list of jobs. It may be empty and not the last one."""
        answer = self.ask("JOBS", **_params(selection))
        return JobsPage(answer["jobs"], answer["next"])

    def _slices(self, command: str, selection: Selection) -> Iterator[dict[str, Any]]:
        """The answers to one question about all that is selected."""
        for part in _askable(selection):
            before = selection.before
            while True:
                answer = self.ask(command, **_params(msgspec.structs.replace(part, before=before)))
                yield answer
                before = answer["next"]
                if before is None:
                    break

    def jobs(self, selection: Selection) -> Iterator[ListedJob]:
        """All jobs that are selected, newest first; `limit` is for each page."""
        for answer in self._slices("JOBS", selection):
            yield from answer["jobs"]

    def job(self, id: str) -> dict[str, Any] | None:
        """Everything about one job, arguments and value included; None = there is no such job."""
        answer: dict[str, Any] | None = self.ask("JOB", id=id)
        return answer

    def logs(self, id: str, after: int = 0) -> LogPage:
        """What a job has logged, from line `after` on. The Router keeps the last lines of the last jobs that logged
        anything, in memory: no lines may mean that it has forgotten them, or never heard of such a job."""
        return LogPage(**self.ask("LOGS", id=id, after=after))

    def requeue(self, selection: Selection, progress: Callable[[int], object] | None = None) -> int:
        """Dead, lost and expired jobs wait again: those selected by ids, or by a state and more.

        Args:
            selection: Which.
            progress: Told after each slice how many they are so far.

        Returns:
            How many wait again.
        """
        return self._act("REQUEUE", "requeued", selection, progress)

    def purge(self, selection: Selection, progress: Callable[[int], object] | None = None) -> int:
        """Ended jobs are forgotten: those selected by ids, or by a state and more. With a queue and the state `waiting`
        what waits or is delayed there is cancelled instead. See `requeue`."""
        return self._act("PURGE", "purged", selection, progress)

    def cancel(self, ids: list[str]) -> dict[str, str]:
        """Ends jobs that have not ended; by id `cancelled`, `stopping` (it runs, and is told
        to stop), the state in which it had ended, or `unknown`."""
        told: dict[str, str] = {}
        for part in _askable(Selection(ids=ids)):
            told |= self.ask("CANCEL", ids=part.ids)
        return told

    def _act(self, command: str, what: str, selection: Selection, progress: Callable[[int], object] | None) -> int:
        changed = 0
        for answer in self._slices(command, selection):
            changed += answer[what]
            if progress is not None:
                progress(changed)
        return changed

    # ---- queues --------------------------------------------------------------------------------------

    def queues(self) -> dict[str, ShownQueue]:
        """All queues by name."""
        answer: dict[str, ShownQueue] = self.ask("QUEUES")
        return answer

    def pause(self, queue: str) -> ShownQueue:
        """Nothing of the queue is handed out until it is resumed, not even after a restart; what runs goes on."""
        return self._queue("PAUSE", queue=queue)

    def resume(self, queue: str) -> ShownQueue:
        """The queue is neither paused nor drained any longer."""
        return self._queue("RESUME", queue=queue)

    def drain(self, queue: str) -> ShownQueue:
        """The queue takes no new jobs until it is resumed; what it has is handed out."""
        return self._queue("DRAIN", queue=queue)

    def limit(self, queue: str, jobs_max: int | None) -> ShownQueue:
        """So many jobs may wait in the queue; None = as the Router's setting `queue_jobs_max` says."""
        return self._queue("LIMIT", queue=queue, jobs_max=jobs_max)

    def _queue(self, command: str, **params: Any) -> ShownQueue:
        answer: ShownQueue = self.ask(command, **params)
        return answer

    # ---- schedules -----------------------------------------------------------------------------------

    def schedules(self, id: str = "") -> Iterator[dict[str, Any]]:
        """All schedules in order of their ids, or the one with this id."""
        after: str | None = ""
        while after is not None:
            answer = self.ask("SCHEDULES", after=after, id=id)
            yield from answer["schedules"]
            after = answer["next"]

    def schedule(self, id: str, act: str) -> dict[str, Any] | None:
        """What is done to a schedule: `pause`, `resume`, `remove`, or `run` it now, beside its rule.

        Returns:
            The schedule as it is then; None = there is no such.
        """
        answer: dict[str, Any] | None = self.ask("SCHEDULE", id=id, act=act, job=ids.new_id())
        return answer

    # ---- the socket ----------------------------------------------------------------------------------

    def _arrives(self, until: float) -> bool:
        left_s = max(until - monotonic(), 0.0)
        return has_message(self._socket) or bool(self._socket.poll(math.ceil(left_s * 1000)))

    def _read(self, command: str, frames: list[bytes]) -> tuple[bool, Any]:
        """Whether a message answers the question, and how. Answers to earlier ones come late and mean nothing."""
        if len(frames) != 4 or frames[1] != v2.VERSION:
            return False, None
        try:
            if frames[2] == b"REPLY":
                reply = v2.decode(frames[3], v2.Answer)
                return reply.n == self._n, reply.answer
            refused = v2.decode(frames[3], v2.Refused)
        except msgspec.MsgspecError:
            return False, None
        if frames[2] == b"REFUSED" and refused.n in (0, self._n):
            raise EventMQError(f"the Router refused {command}: {refused.reason} ({refused.text})")
        return False, None


def _askable(selection: Selection) -> Iterator[Selection]:
    """The same in as many selections as ids need: one question names only so many."""
    ids = selection.ids
    if ids is None:
        yield selection
        return
    for start in range(0, len(ids), LIST_JOBS_MAX):
        yield msgspec.structs.replace(selection, ids=ids[start : start + LIST_JOBS_MAX])


def _params(selection: Selection) -> dict[str, Any]:
    return {name: value for name, value in msgspec.structs.asdict(selection).items() if value not in ("", None)}
