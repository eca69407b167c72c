"""A client of one Router: what can be asked of it, from threads and from asyncio.

Jobs and outcomes here are the wire's own (`v2`); `enqueue` and `handles` turn calls and values into them and back.
Safe to share between threads and event loops, and to use in a forked child, which gets connections of its own.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any, Self

from eventmq import limits, values
from eventmq.client.aio import AsyncDriver
from eventmq.client.exchange import Exchange
from eventmq.client.pending import Delivery, Query, Waiting
from eventmq.client.sockets import abandon
from eventmq.client.sync import SyncDriver
from eventmq.errors import SettingsError
from eventmq.net import address
from eventmq.protocol import v2
from eventmq.values import Duration

ROUND_TRIP_S = 0.05
"""Least time given to a question, so that `timeout=0` means "if it is there", not "never"."""

FOREVER = float("inf")


class Client:
    """A client of the Router at `broker_addr`.

    `@job` functions use the one that `configure` or the environment describes; this class is for programs that talk to
    several Routers, or hand in jobs that they have made themselves. As a context manager it closes itself.

    Args:
        broker_addr: The Router's frontend, as `tcp://127.0.0.1:47291`.
        enqueue_timeout: BrokerUnavailable is raised when the Router is silent for this long; at least 50 ms.

    Raises:
        SettingsError: Not such an address or time.
    """

    def __init__(self, broker_addr: str, *, enqueue_timeout: Duration = limits.ENQUEUE_TIMEOUT_S) -> None:
        try:
            self.broker_addr = str(address.parse_connect(broker_addr))
            self._enqueue_timeout_s = max(values.duration(enqueue_timeout), ROUND_TRIP_S)
        except (ValueError, TypeError) as error:
            given = f"broker_addr={broker_addr!r}, enqueue_timeout={enqueue_timeout!r}"
            raise SettingsError(f"{given}: expected {error}") from None
        self._sync = SyncDriver(self.broker_addr)
        self._loops: dict[asyncio.AbstractEventLoop, AsyncDriver] = {}
        _clients.add(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections of threads, of loops that are closed, and of the loop that is running, if any.

        Calls that others still await end with BrokerUnavailable.
        """
        self._sync.close()
        self._close_dead_loops()
        try:
            driver = self._loops.pop(asyncio.get_running_loop(), None)
        except RuntimeError:
            return
        if driver is not None:
            driver.close()

    # ---- jobs ----------------------------------------------------------------------------------------

    def submit(self, jobs: Sequence[v2.Job], block_for_s: float = 0.0) -> dict[str, str]:
        """Returns when the Router has stored all jobs.

        Args:
            jobs: The jobs.
            block_for_s: How long to wait for room in a queue that is full.

        Returns:
            By id of those that were not stored because of their key: the job that stands for it.

        Raises:
            BrokerUnavailable: It did not answer in time. Submitting the same jobs, with their ids, again is safe.
            QueueFull: A queue has reached its bound, and had no room in time.
            DuplicateJob: A job with the key of one that said `raise` is in its way; those that are not are stored.
            JobRefused: A job was refused for another reason; those that were not are stored.
        """
        return self._sync.run(partial(_delivery, jobs, self._enqueue_timeout_s, block_for_s)).existing

    async def asubmit(self, jobs: Sequence[v2.Job], block_for_s: float = 0.0) -> dict[str, str]:
        """`submit` for asyncio."""
        return (await self._async.run(partial(_delivery, jobs, self._enqueue_timeout_s, block_for_s))).existing

    # ---- outcomes --------------------------------------------------------------------------------------

    def results(self, ids: Iterable[str], timeout_s: float = FOREVER) -> dict[str, v2.Result]:
        """The outcomes of those jobs that have ended within the time, by id."""
        return self._sync.run(partial(_waiting, ids, timeout_s)).results

    async def aresults(self, ids: Iterable[str], timeout_s: float = FOREVER) -> dict[str, v2.Result]:
        """`results` for asyncio."""
        return (await self._async.run(partial(_waiting, ids, timeout_s))).results

    def info(self, id: str, timeout_s: float = limits.ENQUEUE_TIMEOUT_S) -> dict[str, Any] | None:
        """What the Router knows of a job; None = nothing.

        Raises:
            BrokerUnavailable: It did not answer in time.
        """
        answer: dict[str, Any] | None = self.query(b"INFO", lambda n: v2.Info(n, id), timeout_s)
        return answer

    async def ainfo(self, id: str, timeout_s: float = limits.ENQUEUE_TIMEOUT_S) -> dict[str, Any] | None:
        """`info` for asyncio."""
        answer: dict[str, Any] | None = await self.aquery(b"INFO", lambda n: v2.Info(n, id), timeout_s)
        return answer

    def cancel(
        self, ids: Iterable[str], timeout_s: float = limits.ENQUEUE_TIMEOUT_S, grace_s: float = limits.CANCEL_GRACE_S
    ) -> dict[str, str]:
        """Ends jobs that have not ended; when this returns, none of them will run again.

        Args:
            timeout_s: How long the Router may take to answer, beside `grace_s`.
            grace_s: How long those that run have to stop before they are killed; 0: at once. SIGTERM comes after half.

        Returns:
            By id: `cancelled` (it did not run); how its run ended: `stopped` (by itself, after it was asked),
            `terminated` (after SIGTERM), `killed` (by SIGKILL) or `unconfirmed` (nobody has said: its job manager is
            gone, or did not answer); the state in which it had ended; or `unknown`.

        Raises:
            BrokerUnavailable: The Router did not answer in time.
        """
        answer: dict[str, str] = {}
        time_s = _patience(timeout_s, grace_s)
        for some in _batches(ids):
            answer |= self.query(b"CANCEL", partial(v2.Cancel, ids=some, grace_s=grace_s), time_s) or {}
        return answer

    async def acancel(
        self, ids: Iterable[str], timeout_s: float = limits.ENQUEUE_TIMEOUT_S, grace_s: float = limits.CANCEL_GRACE_S
    ) -> dict[str, str]:
        """`cancel` for asyncio."""
        answer: dict[str, str] = {}
        time_s = _patience(timeout_s, grace_s)
        for some in _batches(ids):
            answer |= await self.aquery(b"CANCEL", partial(v2.Cancel, ids=some, grace_s=grace_s), time_s) or {}
        return answer

    # ---- anything else -----------------------------------------------------------------------------------

    def query(self, command: bytes, body: Callable[[int], v2.Body], timeout_s: float | None = None) -> Any:
        """What the Router answers to a command that may come twice; `body` makes it, given its number.

        Raises:
            BrokerUnavailable: It did not answer in time.
            JobRefused: It refused.
        """
        time_s = self._enqueue_timeout_s if timeout_s is None else timeout_s
        return self._sync.run(partial(_query, command, body, time_s)).answer

    async def aquery(self, command: bytes, body: Callable[[int], v2.Body], timeout_s: float | None = None) -> Any:
        """`query` for asyncio."""
        time_s = self._enqueue_timeout_s if timeout_s is None else timeout_s
        return (await self._async.run(partial(_query, command, body, time_s))).answer

    # ---- connections -----------------------------------------------------------------------------------

    @property
    def _async(self) -> AsyncDriver:
        """The connection of the running loop."""
        loop = asyncio.get_running_loop()
        driver = self._loops.get(loop)
        if driver is None:
            self._close_dead_loops()
            driver = self._loops[loop] = AsyncDriver(self.broker_addr, loop)
        return driver

    def _close_dead_loops(self) -> None:
        for loop in list(self._loops):
            driver = self._loops.pop(loop, None) if loop.is_closed() else None
            if driver is not None:
                driver.close()

    def _start_in_child(self) -> None:
        abandon(self._loops)
        self._loops = {}


def _delivery(jobs: Sequence[v2.Job], timeout_s: float, block_for_s: float, exchange: Exchange, now: float) -> Delivery:
    return exchange.deliver(jobs, now, timeout_s, block_for_s)


def _waiting(ids: Iterable[str], timeout_s: float, exchange: Exchange, now: float) -> Waiting:
    return exchange.wait(ids, now + max(timeout_s, ROUND_TRIP_S))


def _query(command: bytes, body: Callable[[int], v2.Body], timeout_s: float, exchange: Exchange, now: float) -> Query:
    return exchange.query(command, body, now + max(timeout_s, ROUND_TRIP_S))


def _patience(timeout_s: float, grace_s: float) -> float:
    """How long a CANCEL may go unanswered."""
    return max(timeout_s, ROUND_TRIP_S) + min(grace_s, limits.CANCEL_GRACE_S_MAX) + limits.CANCEL_ANSWER_S


def _batches(ids: Iterable[str]) -> Iterator[list[str]]:
    left = iter(ids)
    while some := list(islice(left, limits.BATCH_JOBS_MAX)):
        yield some


_clients: weakref.WeakSet[Client] = weakref.WeakSet()


def _after_fork() -> None:
    for client in list(_clients):
        client._start_in_child()


os.register_at_fork(after_in_child=_after_fork)
