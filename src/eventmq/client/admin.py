"""Asks the Router's administrative socket, for the command line and other tools. Safe to share between threads.

Lists come in pages and acts go in slices, so that none holds the Router up; the methods here go through all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Self, TypeVar

import msgspec

from eventmq.client import ids
from eventmq.client.acts import KINDS
from eventmq.client.charts import Charts
from eventmq.client.exchange import Exchange
from eventmq.client.pending import Query
from eventmq.client.sync import SyncDriver
from eventmq.errors import BrokerUnavailable, JobRefused, NotFound, QuestionRefused, SettingsError
from eventmq.limits import ENQUEUE_TIMEOUT_S, LIST_JOBS_MAX, NEWEST
from eventmq.net import address
from eventmq.protocol import v2
from eventmq.protocol.administration import Selection
from eventmq.protocol.answers import Count, EventsPage, JobsPage, ListedJob, LogPage, Problem, ShownQueue, Why

T = TypeVar("T")

NO_JOB = "there is no job {}: never accepted, forgotten since, or purged"
NO_MANAGER = "no job manager named {!r} is connected; `eventmq manager list` lists their names"

Progress = Callable[[int], object]
"""Told after each slice how many jobs it has been so far."""


class Admin(Charts):
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
        self._driver = SyncDriver(self._addr)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection."""
        self._driver.close()

    def ask(self, command: str, **params: Any) -> Any:
        """The answer to one command of `docs/protocol.md`, 3.4.

        The question is repeated until the answer comes; the commands allow that.

        Raises:
            BrokerUnavailable: None came in time.
            QuestionRefused: The Router refused the question.
        """

        def begin(exchange: Exchange, now: float) -> Query:
            return exchange.query(command.encode(), lambda n: v2.Question(n, params), now + self._timeout_s)

        try:
            return self._driver.run(begin).answer
        except JobRefused as error:
            raise QuestionRefused(f"{command}: {error}", error.reason) from None
        except BrokerUnavailable as error:
            raise BrokerUnavailable(
                f"the Router's administrative socket at {self._addr} did not answer within {self._timeout_s:g} s. "
                "Is it running there?"
            ) from error

    def metrics(self) -> dict[str, Any]:
        """The Router in plain numbers; `monitoring/metrics.py` says what they mean."""
        answer: dict[str, Any] = self.ask("METRICS")
        return answer

    # ---- jobs ----------------------------------------------------------------------------------------

    def page(self, selection: Selection) -> JobsPage:
        """One page of a list of jobs. It may be empty and not the last one."""
        answer = self.ask("JOBS", **msgspec.to_builtins(selection))
        return JobsPage(answer["jobs"], answer["next"])

    def _slices(self, command: str, selection: Selection) -> Iterator[dict[str, Any]]:
        """The answers to one question about all that is selected; whoever takes them may lower its `limit`."""
        for part in _askable(selection):
            before = selection.before
            while True:
                asked = msgspec.structs.replace(part, before=before, limit=selection.limit)
                answer = self.ask(command, **msgspec.to_builtins(asked))
                yield answer
                before = answer["next"]
                if before is None:
                    break

    def jobs(self, selection: Selection) -> Iterator[ListedJob]:
        """All jobs that are selected, newest first; `limit` is for each page."""
        for answer in self._slices("JOBS", selection):
            yield from answer["jobs"]

    def job(self, id: str) -> dict[str, Any]:
        """Everything about one job, arguments and value included.

        Raises:
            NotFound: There is no such job.
        """
        return _found(self.ask("JOB", id=id), NO_JOB.format(id))

    def why(self, id: str) -> Why:
        """Why a job is where it is: what it waits for, where it runs, how it ended."""
        answer: Why = self.ask("WHY", id=id)
        return answer

    def rerun(self, like: str, id: str, arguments: dict[str, Any] | None = None) -> str:
        """A new job like one that there is, due at once.

        Args:
            like: The job that there is.
            id: The id of the new one.
            arguments: `args`, `kwargs` or both, if they are to be others.

        Returns:
            The id of the job that runs, which is another one if that has the same key.

        Raises:
            NotFound: There is no such job.
        """
        answer = _found(self.ask("RERUN", id=like, job=id, arguments=arguments), NO_JOB.format(like))
        return str(answer["id"])

    def logs(self, id: str, after: int = 0) -> LogPage:
        """What a job has logged, from line `after` on. The Router keeps the last lines of the last jobs that logged
        anything, in memory: no lines may mean that it has forgotten them, or never heard of such a job."""
        return LogPage(**self.ask("LOGS", id=id, after=after))

    def count(self, selection: Selection, progress: Progress | None = None) -> Count:
        """How many jobs are selected; what is to be done to these can then be done to no others.

        ::

            jobs, newest = admin.count(selection)
            admin.requeue(replace(selection, before=newest), jobs_max=jobs)
        """
        jobs = newest = 0
        for answer in self._slices("COUNT", selection):
            jobs, newest = jobs + answer["jobs"], newest or answer["newest"]
            if progress is not None:
                progress(jobs)
        return Count(jobs, newest)

    def requeue(self, selection: Selection, progress: Progress | None = None, jobs_max: int = NEWEST) -> int:
        """Dead, lost and expired jobs wait again: those selected by ids, or by such states and more.

        Args:
            selection: Which, newest first.
            progress: Told after each slice how many they are so far.
            jobs_max: It ends with so many.

        Returns:
            How many wait again.
        """
        return self._act("requeue", selection, progress, jobs_max)

    def purge(self, selection: Selection, progress: Progress | None = None, jobs_max: int = NEWEST) -> int:
        """Ended jobs are forgotten: those selected by ids, or by such states and more. See `requeue`."""
        return self._act("purge", selection, progress, jobs_max)

    def cancel(self, selection: Selection, progress: Progress | None = None, jobs_max: int = NEWEST) -> int:
        """Jobs that wait, are delayed or run are cancelled: those selected by ids, or by such states and more. What
        runs is told to stop, and killed if it has not within 5 s. See `requeue`."""
        return self._act("cancel", selection, progress, jobs_max)

    def cancel_named(self, ids: list[str]) -> dict[str, str]:
        """The same, of the jobs with these ids; by id `cancelled`, `stopping` (it runs, and is told to stop), the state
        in which it had ended, or `unknown`."""
        told: dict[str, str] = {}
        for answer in self._slices("CANCEL", Selection(ids=ids)):
            told |= answer["told"]
        return {id: told.get(id, "unknown") for id in ids}

    def _act(self, do: str, selection: Selection, progress: Progress | None, jobs_max: int) -> int:
        selection = msgspec.structs.replace(selection, limit=min(selection.limit, jobs_max))
        changed = 0
        for answer in self._slices(do.upper(), selection) if jobs_max else ():
            changed += answer[KINDS[do].done]
            if progress is not None:
                progress(changed)
            if changed >= jobs_max:
                break
            selection.limit = min(selection.limit, jobs_max - changed)
        return changed

    def events(self, after: int | None = None) -> EventsPage:
        """What has happened since `after`, the `next` of the page before; None: from now on. The Router takes notes for
        ten seconds after each such question, so ask again sooner; it tells of a busy system in samples."""
        answer = self.ask("EVENTS", after=after)
        return EventsPage(**answer)

    def managers(self) -> list[dict[str, Any]]:
        """The job managers that are connected."""
        return list(self.ask("WORKERS")["connected_workers"].values())

    def drain_manager(self, name: str) -> int:
        """The job managers of this name finish what they run, give back the rest, and end.

        Returns:
            How many jobs they have.

        Raises:
            NotFound: None is connected.
        """
        told: dict[str, int] | None = self.ask("DRAIN_MANAGER", manager=name) or None
        return sum(_found(told, NO_MANAGER.format(name)).values())

    def problems(self) -> list[Problem]:
        """What to look at, the critical ones first."""
        answer: list[Problem] = self.ask("PROBLEMS")
        return answer

    # ---- queues --------------------------------------------------------------------------------------

    def queues(self) -> dict[str, ShownQueue]:
        """All queues by name."""
        found: dict[str, ShownQueue] = {}
        while page := self.ask("QUEUES", after=max(found, default="")):
            found |= page
            if len(page) < LIST_JOBS_MAX:
                break
        return found

    def queue(self, name: str) -> ShownQueue:
        """One queue.

        Raises:
            NotFound: Nothing is in it, nobody serves it, and nothing was said about it.
        """
        found: ShownQueue | None = self.ask("QUEUES", queue=name).get(name)
        return _found(found, f"there is no queue {name!r}: nobody serves it, and nothing waits in it")

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

    def schedules(self, id: str = "", after: str | None = "") -> Iterator[dict[str, Any]]:
        """All schedules in order of their ids, those behind `after`, or the one with this id."""
        while after is not None:
            answer = self.ask("SCHEDULES", after=after, id=id)
            yield from answer["schedules"]
            after = answer["next"]

    def schedule(self, id: str, act: str = "") -> dict[str, Any]:
        """One schedule, as it is when that is done to it: `pause`, `resume`, `remove`, or `run` it now beside its rule.

        Raises:
            NotFound: There is no such schedule.
        """
        found = None
        if act != "remove" or any(self.schedules(id)):  # one that is over may be removed twice: questions are repeated
            found = self.ask("SCHEDULE", id=id, act=act, job=ids.new_id())
        return _found(found, f"there is no schedule {id}; `eventmq schedule list` lists them")


def _found(told: T | None, what: str) -> T:
    if told is None:
        raise NotFound(what)
    return told


def _askable(selection: Selection) -> Iterator[Selection]:
    """The same in as many selections as ids need: one question names only so many."""
    ids = selection.ids
    if ids is None:
        yield selection
        return
    for start in range(0, len(ids), LIST_JOBS_MAX):
        some = [str(id) for id in ids[start : start + LIST_JOBS_MAX]]  # a handle is an id, too
        yield msgspec.structs.replace(selection, ids=some)
