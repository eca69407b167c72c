"""What has happened, as the Router tells it: over time, by job type, and why attempts failed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, TypedDict

Measured = list[float | None]


class History(TypedDict):
    """What has happened: one number for each step of time. The first step begins at wall time `since`.

    `failed` are attempts, whether they were tried again or not. How long jobs waited (first attempts, from due to
    handed out) and ran is off by 6 % at most; None: none did. `waiting` is how many waited at the end of the step.
    """

    step_s: int
    since: int
    until: float
    enqueued: list[int]
    succeeded: list[int]
    failed: list[int]
    dead: list[int]
    cancelled: list[int]
    expired: list[int]
    lost: list[int]
    wait_p50_s: Measured
    wait_p95_s: Measured
    wait_p99_s: Measured
    run_p50_s: Measured
    run_p95_s: Measured
    run_p99_s: Measured
    waiting: list[int | None]


class JobType(TypedDict):
    """What has become of the jobs of one type; `runs` are attempts that succeeded or failed. See `History`."""

    name: str
    queues: list[str]
    runs: int
    enqueued: int
    succeeded: int
    failed: int
    dead: int
    cancelled: int
    expired: int
    lost: int
    wait_p50_s: float | None
    wait_p95_s: float | None
    wait_p99_s: float | None
    run_p50_s: float | None
    run_p95_s: float | None
    run_p99_s: float | None


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
            for value, more in zip(history.values(), answer.values(), strict=False):
                if isinstance(value, list):
                    value += more
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
