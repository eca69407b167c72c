"""What `.delay()` returns: the job's id, and the way to what became of the job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from eventmq import errors, values
from eventmq.client import default
from eventmq.client.client import FOREVER
from eventmq.limits import CANCEL_GRACE_S, RESULT_TIMEOUT_S
from eventmq.protocol import v2
from eventmq.values import Duration

if TYPE_CHECKING:
    from eventmq.client.client import Client
    from eventmq.client.jobs import Job

R = TypeVar("R")

Timeout = Duration | None
"""None: as long as it takes."""

WHY_S = 1.0
"""How long a caller that gave up waiting is kept to find out why."""

_ENDS: dict[str, tuple[type[errors.JobError], str]] = {
    "cancelled": (errors.JobCancelled, "was cancelled"),
    "expired": (errors.JobExpired, "waited longer than its `expires`"),
    "lost": (errors.JobLost, "may begin only once, and nobody can say how that run ended"),
    "unknown": (
        errors.JobNotFound,
        "is not known to the Router: never accepted, or its outcome is forgotten (`result_ttl`)",
    ),
}
_FAILURES: dict[str, type[errors.JobFailed]] = {
    "eventmq.JobTimeout": errors.JobTimeout,
    "eventmq.SoftTimeout": errors.JobTimeout,
    "eventmq.JobCrashed": errors.JobCrashed,
}


class JobHandle(str, Generic[R]):
    """A job's id, a `str`, that can also tell what became of the job.

    Args:
        id: The id. From a stored one, `JobHandle(text)` makes a handle as good as the first.
        job: The function; its annotation says what the value is.
        client: Whom to ask; None = the process's client.

    Attributes:
        created: The call made this job. False: because of its key, a job that was there already stands for it.
    """

    __slots__ = ("_client", "_job", "_result", "created")
    created: bool
    _client: Client | None
    _job: Any  # a Job or None; mypy would take a Job in a class body for a method
    _result: v2.Result | None

    def __new__(cls, id: str, job: Job[Any, R] | None = None, client: Client | None = None) -> JobHandle[R]:
        handle = str.__new__(cls, id)
        handle._job = job
        handle._client = client
        handle._result = None
        handle.created = True
        return handle

    @classmethod
    def of(
        cls, messages: Sequence[v2.Job], job: Job[Any, R] | None, client: Client, existing: dict[str, str]
    ) -> list[JobHandle[R]]:
        """The handles for calls whose jobs were handed in; `existing` is what `Client.submit` returned."""
        if not existing:
            return [cls(message.id, job, client) for message in messages]
        handles = [cls(existing.get(message.id, message.id), job, client) for message in messages]
        for handle, message in zip(handles, messages, strict=True):
            handle.created = message.id not in existing
        return handles

    @classmethod
    def ended(cls, result: v2.Result, job: Job[Any, R] | None) -> JobHandle[R]:
        """A handle on a job that has ended already."""
        handle = cls(result.id, job)
        handle._result = result
        return handle

    def __reduce__(self) -> tuple[type[JobHandle[Any]], tuple[str]]:
        """Pickled as its id."""
        return JobHandle, (str(self),)

    def result(self, timeout: Timeout = RESULT_TIMEOUT_S) -> R:
        """What the job returned, when it has ended.

        Raises:
            TimeoutError: It has not ended in time; the text tells how far it is.
            JobFailed: It raised; `JobTimeout`, `JobCrashed`: it was killed, or took its worker down.
            JobError: It was cancelled (`JobCancelled`), has expired (`JobExpired`), is lost (`JobLost`), or is not
                known (`JobNotFound`).
        """
        return JobHandles([self]).results(timeout)[0]

    async def aresult(self, timeout: Timeout = RESULT_TIMEOUT_S) -> R:
        """`result` for asyncio."""
        return (await JobHandles([self]).aresults(timeout))[0]

    @property
    def status(self) -> str:
        """Its state: `delayed`, `waiting`, `running`, `succeeded`, `dead`, `cancelled`, `expired`, `lost`, or
        `unknown`.

        Raises:
            BrokerUnavailable: The Router did not answer.
        """
        if self._result is not None:
            return self._result.state
        answer = self._asked.info(self)
        return "unknown" if answer is None else str(answer["state"])

    def info(self) -> dict[str, Any]:
        """Everything that the Router knows of it: queue, name, attempt, times, worker, progress, failure.

        Raises:
            JobNotFound: That is nothing.
            BrokerUnavailable: The Router did not answer.
        """
        return self._known(self._asked.info(self) if self._here is None else self._here)

    async def ainfo(self) -> dict[str, Any]:
        """`info` for asyncio."""
        return self._known(await self._asked.ainfo(self) if self._here is None else self._here)

    def cancel(self, grace: Duration = CANCEL_GRACE_S) -> str:
        """Ends the job if it has not ended; when this returns, it will not run again.

        A job that runs is asked to stop: `current_job().should_stop` is true, a coroutine gets `CancelledError`. After
        half of the grace its worker process gets SIGTERM, which raises `Terminated` in the job; at its end SIGKILL.

        Args:
            grace: How long it has to stop; 0: it is killed at once.

        Returns:
            `cancelled` (it did not run); how its run ended: `stopped` (by itself, after it was asked), `terminated`
            (after SIGTERM), `killed` (by SIGKILL) or `unconfirmed` (nobody has said: its job manager is gone, or did
            not answer); the state in which it had ended already; or `unknown`.

        Raises:
            BrokerUnavailable: The Router did not answer.
            ValueError: That is no grace.
        """
        if self._result is not None:
            return self._result.state
        return self._asked.cancel([self], grace_s=_seconds("grace", grace))[self]

    async def acancel(self, grace: Duration = CANCEL_GRACE_S) -> str:
        """`cancel` for asyncio."""
        if self._result is not None:
            return self._result.state
        return (await self._asked.acancel([self], grace_s=_seconds("grace", grace)))[self]

    @property
    def _asked(self) -> Client:
        return self._client or default.required()

    @property
    def _here(self) -> dict[str, Any] | None:
        """What is known without a Router, of a job that ran where it was called."""
        if self._result is None or self._client is not None or default.client() is not None:
            return None
        name = self._job.name if self._job is not None else None
        return {"id": str(self), "state": self._result.state, "name": name, "attempt": self._result.attempt}

    def _known(self, answer: dict[str, Any] | None) -> dict[str, Any]:
        if answer is None:
            raise _ended_without_value(str(self), "unknown")
        return answer


class JobHandles(list[JobHandle[R]]):
    """Handles of the jobs that `.map()` enqueued, in the order of its calls."""

    def results(self, timeout: Timeout = RESULT_TIMEOUT_S) -> list[R]:
        """What the jobs returned, in order, when all have ended.

        Raises:
            TimeoutError: Some have not ended in time. Those that have keep their outcome.
            JobError: The first in order that has no value; the others keep their outcome: ask each handle.
        """
        time_s = _seconds("timeout", timeout)
        for client, ids in self._missing().items():
            late = self._fill(client.results(ids, time_s))
            if late is not None:
                raise TimeoutError(self._late(late, time_s, _why(client, late)))
        return self._values()

    async def aresults(self, timeout: Timeout = RESULT_TIMEOUT_S) -> list[R]:
        """`results` for asyncio."""
        time_s = _seconds("timeout", timeout)
        for client, ids in self._missing().items():
            late = self._fill(await client.aresults(ids, time_s))
            if late is not None:
                raise TimeoutError(self._late(late, time_s, await _awhy(client, late)))
        return self._values()

    def _values(self) -> list[R]:
        return [_value(handle._result, handle._job) for handle in self]

    def _missing(self) -> dict[Client, list[str]]:
        missing: dict[Client, list[str]] = {}
        for handle in self:
            if handle._result is None:
                missing.setdefault(handle._asked, []).append(handle)
        return missing

    def _fill(self, results: dict[str, v2.Result]) -> JobHandle[R] | None:
        """Gives the outcomes to their handles. The first handle that has none, if any."""
        late = None
        for handle in self:
            if handle._result is None:
                handle._result = results.get(handle)
                late = late or (handle if handle._result is None else None)
        return late

    def _late(self, first: JobHandle[R], time_s: float, why: str) -> str:
        name = f" ({first._job.name})" if first._job is not None else ""
        text = f"job {first}{name} has not ended after {time_s:g} s: {why}"
        count = sum(handle._result is None for handle in self)
        return text if len(self) == 1 else f"{count} of {len(self)} jobs have not ended; the first: {text}"


# ---- outcomes ----------------------------------------------------------------------------------------


def _value(result: v2.Result | None, job: Job[Any, Any] | None) -> Any:
    """What the job returned.

    Raises:
        JobError: It returned nothing.
    """
    assert result is not None
    if result.state != "succeeded":
        raise _error(result)
    value = v2.unpack(result.value) if result.value else None
    return value if job is None else job.signature.returned(value)


def _error(result: v2.Result) -> errors.JobError:
    failure = result.failure
    if failure is None or result.state in _ENDS:
        return _ended_without_value(result.id, result.state, failure)
    kind = _FAILURES.get(failure.type, errors.JobFailed)
    error = kind(failure.message, result.id, failure.type if kind is errors.JobFailed else "", failure.traceback)
    if failure.traceback:
        error.add_note(f"\nIn the worker:\n{failure.traceback}")
    return error


def _ended_without_value(id: str, state: str, cause: v2.Failure | None = None) -> errors.JobError:
    kind, text = _ENDS.get(state, (errors.JobError, f"ended in state {state!r}, without a reason"))
    return kind(f"job {id} {text}" + (f": {cause.message}" if cause else ""), id)


def _seconds(name: str, value: Timeout) -> float:
    return FOREVER if value is None else values.seconds(name, value, ValueError)


# ---- why a job has not ended ----------------------------------------------------------------------------


def _why(client: Client, id: str) -> str:
    try:
        return _how_far(client.info(id, WHY_S))
    except errors.BrokerUnavailable as error:
        return str(error)


async def _awhy(client: Client, id: str) -> str:
    try:
        return _how_far(await client.ainfo(id, WHY_S))
    except errors.BrokerUnavailable as error:
        return str(error)


def _how_far(answer: dict[str, Any] | None) -> str:
    if answer is None:
        return "the Router does not know it"
    if answer["state"] == "waiting":
        return f"it waits in queue {answer['queue']!r}; `eventmq workers` shows who serves that queue"
    if answer["state"] == "running":
        return f"it runs at {answer['worker']}, attempt {answer['attempt']}"
    return f"it is {answer['state']}"
