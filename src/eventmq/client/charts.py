"""What has happened, as the Router tells it: over time, by job type, and why attempts failed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Generic, TypedDict, TypeVar

N = TypeVar("N")
S = TypeVar("S")


class Happened(TypedDict, Generic[N, S]):
    """How many, and how long jobs waited (first attempts, from due to handed out) and ran: off by 6 % at most, None if
    none did. `failed` are attempts, whether they were tried again or not."""

    enqueued: N
    succeeded: N
    failed: N
    dead: N
    cancelled: N
    expired: N
    lost: N
    wait_p50_s: S
    wait_p95_s: S
    wait_p99_s: S
    run_p50_s: S
    run_p95_s: S
    run_p99_s: S


class History(Happened[list[int], list[float | None]]):
    """What has happened: one number for each step of time. The first step begins at wall time `since`; `waiting` is how
    many jobs waited at the end of a step."""

    step_s: int
    since: int
    until: float
    waiting: list[int | None]


class JobType(Happened[int, float | None]):
    """What has become of the jobs of one type; `runs` are attempts that succeeded or failed."""

    name: str
    queues: list[str]
    runs: int


class FailureGroup(TypedDict):
    """Attempts that failed for the same cause.

    `exception` is its qualified name, `place` the last line of the user's own code (`shop/pay.py:41 charge`), empty if
    none of that failed; `sample` is the id of the job that failed last, at wall time `last`, with this `message`.
    """

    exception: str
    place: str
    name: str
    count: int
    first: float
    last: float
    sample: str
    message: str


class Charts(ABC):
    """Questions about the past. All times are wall times, in seconds since the epoch."""

    @abstractmethod
    def ask(self, command: str, **params: Any) -> Any:
        """The answer to one command."""

    def history(
        self, queue: str = "", name: str = "", since: float | None = None, until: float | None = None, step_s: int = 0
    ) -> History:
        """What has happened to all jobs, or to those in a queue or of a type, in the last 30 days.

        Args:
            queue: Only of jobs in this queue.
            name: Only of jobs that call this.
            since: From here on; None = the last hour.
            until: To here; None = now.
            step_s: How long a step is to be, about; 0 = as fits. What is older than a day is kept by quarters of an
                hour, older than a week by hours.
        """
        params: dict[str, Any] = {"queue": queue, "name": name, "since": since, "until": until, "step_s": step_s}
        answer = self.ask("HISTORY", **params)
        history: History = {key: value for key, value in answer.items() if key != "next"}  # type: ignore[assignment]
        while answer["next"] is not None:
            params |= {"since": answer["next"], "until": history["until"], "step_s": history["step_s"]}
            answer = self.ask("HISTORY", **params)
            for key, value in history.items():
                history[key] = value + answer[key] if isinstance(value, list) else value  # type: ignore[literal-required]
        return history

    def types(self, since: float | None = None, queue: str = "") -> list[JobType]:
        """What has become of the jobs of each type since then (None: in the last day), by name.

        Args:
            since: From here on, to the quarter of an hour; for more than a week, to the day.
            queue: Only of jobs in this queue.
        """
        found: list[JobType] = []
        after: str | None = ""
        while after is not None:
            answer = self.ask("TYPES", since=since, queue=queue, after=after)
            found += answer["types"]
            after = answer["next"]
        return found

    def failures(self, since: float | None = None) -> list[FailureGroup]:
        """Why attempts failed in the last 30 days, grouped by exception, place and job type; the last seen first."""
        answer: list[FailureGroup] = self.ask("FAILURES", since=since)
        return answer
