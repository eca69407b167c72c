"""What the measurements need of a system. One adapter for each, so that every measurement is said once."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal

from counting import from_environment

REDIS = os.environ.get("BENCH_REDIS", "")
"""URL of the Redis that was started for this run."""

RESULTS = os.environ.get("BENCH_RESULTS") == "1"
"""Whether outcomes are kept for the caller."""

RESULT_S = 10.0
"""A result that takes longer is a failure of the run."""

ASKING_S = 0.001
"""How often a caller asks for a result, where the system has no way to be told."""

counts = from_environment()


class System(ABC):
    """A system on an empty broker. What blocks in it may block: it is the only thing that is being done.

    Attributes:
        callers: What callers side by side may be: `threads`, each with an event loop, or `tasks` of one loop.
        distributions: Whose versions to write down.
    """

    callers: ClassVar[tuple[Literal["threads", "tasks"], ...]] = ("threads",)
    distributions: ClassVar[tuple[str, ...]]

    @abstractmethod
    def workers(self, count: int) -> list[list[str]]:
        """Commands that together run `count` worker processes. The first word is a command of its environment."""

    async def open(self) -> None:  # noqa: B027
        """Connects the caller, on the loop that calls."""

    @abstractmethod
    async def enqueue(self, job: str, *arguments: int) -> Any:
        """One job, `noop` or `stamp`, as a user would; returns what `result` needs."""

    async def enqueue_beside(self) -> None:
        """One `noop` from one of many tasks."""
        await self.enqueue("noop")

    @abstractmethod
    async def enqueue_many(self, count: int) -> None:
        """Many `noop`s in the fastest documented way."""

    @abstractmethod
    async def result(self, handle: Any) -> Any:
        """Waits for what the job returned."""

    async def settled(self) -> bool:
        """Whether nothing is left to do for the jobs that have run."""
        return True

    async def close(self) -> None:  # noqa: B027
        """Disconnects the caller."""
