"""The client from asyncio."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from fake_router import FakeRouter
from jobs_for_client import add

import eventmq
from eventmq import BrokerUnavailable, Client, JobHandle, JobNotFound, adefer_job
from eventmq.client import default
from eventmq.client.pending import NEVER
from eventmq.limits import RESEND_S
from eventmq.protocol import v2
from eventmq.protocol.calls import unpack_call


@pytest.fixture
def router() -> Iterator[FakeRouter]:
    with FakeRouter() as router:
        eventmq.configure(broker_addr=router.address, enqueue_timeout=5)
        yield router
        eventmq.configure()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Repeats come after a tenth of the time."""
    monkeypatch.setattr("eventmq.client.exchange.RESEND_S", RESEND_S / 10)
    monkeypatch.setattr("eventmq.client.handles.WHY_S", RESEND_S / 10)


def adding(job: v2.Job) -> v2.Result:
    return v2.Result(job.id, "succeeded", v2.pack(sum(unpack_call(job.payload).args)), None, 1)


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(main(), 20))


async def until(condition: Callable[[], bool], within_s: float = 5.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.002)


def test_a_job_and_its_value(router: FakeRouter) -> None:
    async def main() -> None:
        handle = await add.adelay(1, 2)
        assert handle in router.jobs
        assert (await handle.ainfo())["state"] == "waiting"
        router.finish(v2.Result(handle, "succeeded", v2.pack(3)))
        assert await handle.aresult(5) == 3
        with pytest.raises(JobNotFound):
            await JobHandle("never-was").ainfo()

    run(main)


def test_calls_of_one_turn_travel_together(router: FakeRouter) -> None:
    async def main() -> None:
        handles = await asyncio.gather(*(add.adelay(i) for i in range(500)))
        assert router.seen == dict.fromkeys(handles, 1)
        assert router.count(b"REQUEST") == 1
        by_name = await adefer_job("a.b", queue="q")
        assert router.jobs[by_name].queue == "q"

    run(main)


def test_a_map_and_its_values_in_order(router: FakeRouter) -> None:
    router.work = adding

    async def main() -> None:
        handles = await add.amap([(i, 1) for i in range(5_000)])
        assert await handles.aresults(10) == list(range(1, 5_001))

    run(main)


def test_no_answer_is_missed_under_load(router: FakeRouter) -> None:
    """The descriptor signals edges: an answer that arrives during a send must not wait for the next resend."""
    router.work = adding
    slowest = 0.0

    async def one(number: int) -> None:
        nonlocal slowest
        for i in range(40):
            begun = time.monotonic()
            handle = await add.adelay(number, i)
            assert await handle.aresult(5) == number + i
            slowest = max(slowest, time.monotonic() - begun)
            await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.gather(*(one(number) for number in range(20)))

    run(main)
    assert slowest < RESEND_S * 0.8


def test_a_cancelled_call_harms_no_other(router: FakeRouter, quick: None) -> None:
    async def main() -> None:
        router.deaf = -1
        lost = [asyncio.create_task(add.adelay(i)) for i in range(5)]
        await until(lambda: router.count(b"REQUEST") == 1)
        for task in lost[:4]:
            task.cancel()
        router.deaf = 0
        handle = await add.adelay(9)
        assert handle in router.jobs
        lost_job = await lost[4]
        assert lost_job in router.jobs
        router.work = adding
        waiting = asyncio.create_task(handle.aresult(30))
        other = asyncio.create_task(handle.aresult(30))
        await until(lambda: bool(router.waiters))
        waiting.cancel()
        router.finish(v2.Result(handle, "succeeded", v2.pack(1)))
        assert await other == 1
        abandoned = asyncio.create_task(lost_job.aresult(30))
        await until(lambda: bool(router.waiters))
        abandoned.cancel()
        with pytest.raises(asyncio.CancelledError):
            await abandoned
        assert default.required()._async._exchange.next_time() == NEVER

    run(main)


def test_time_is_up(router: FakeRouter, quick: None) -> None:
    async def main() -> None:
        handles = await add.amap([(1,), (2,)])
        with pytest.raises(TimeoutError, match="it waits in queue 'default'"):
            await handles[0].aresult(0.1)
        with pytest.raises(TimeoutError, match="2 of 2 jobs have not ended"):
            await handles.aresults(0.1)
        router.deaf = -1
        with pytest.raises(TimeoutError, match="no answer"):
            await handles[0].aresult(0.1)

    run(main)


def test_a_short_time_is_kept_beside_a_long_one(router: FakeRouter) -> None:
    async def main() -> None:
        handle = await add.adelay(1)
        waiting = asyncio.create_task(handle.aresult(30))
        await until(lambda: bool(router.waiters))
        begun = time.monotonic()
        assert await default.required().aresults([handle], 0.1) == {}
        assert time.monotonic() - begun < RESEND_S / 2
        waiting.cancel()

    run(main)


def test_nobody_there_is_told_in_time() -> None:
    async def main() -> None:
        with Client("tcp://127.0.0.1:9", enqueue_timeout=0.2) as client:
            begun = time.monotonic()
            with pytest.raises(BrokerUnavailable):
                await client.asubmit([v2.Job("a", "default", "a.b", b"")])
            assert time.monotonic() - begun < 1

    run(main)


def test_a_silent_router_is_tried_over_a_new_connection(router: FakeRouter, quick: None) -> None:
    async def main() -> None:
        router.deaf = 4
        await add.adelay(1)
        assert len(router.peers) == 2

    run(main)


def test_each_loop_has_its_connection_and_dead_ones_are_closed(router: FakeRouter) -> None:
    async def main() -> None:
        await add.adelay(1)

    for _ in range(3):
        asyncio.run(main())
    threads = [threading.Thread(target=asyncio.run, args=(main(),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(router.seen) == 6
    client = default.client()
    assert client is not None
    assert 1 <= len(client._loops) <= 3


def test_closing_wakes_who_waits(router: FakeRouter) -> None:
    async def main() -> None:
        client = Client(router.address)
        await client.asubmit([v2.Job("a", "default", "a.b", b"")])
        waiting = asyncio.create_task(client.aresults(["a"], 30))
        await until(lambda: bool(router.waiters))
        client.close()
        with pytest.raises(BrokerUnavailable, match="closed"):
            await waiting

    run(main)
