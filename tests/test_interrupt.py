"""Interrupting the job that runs, on this process's main thread: when, where, and never outside of the job."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import fakejobs
import pytest

from eventmq.protocol import calls, v2
from eventmq.workers import interrupt
from eventmq.workers.board import Board
from eventmq.workers.execute import Executor
from eventmq.workers.interrupt import Interrupter
from eventmq.workers.resolve import Resolver, Target

LONG_S = 20.0
TICK_S = 0.001


class Worker:
    """What a worker process has around a job, with a steward that only looks."""

    def __init__(self) -> None:
        fd = Board.create()
        self.board = Board(fd)
        os.close(fd)
        self.resolver = Resolver()
        self.executor = Executor(self.resolver)
        self.interrupter = self.executor.interrupter = Interrupter(self.board)
        self.lease = 0
        self.ended = threading.Event()
        self.at_once: Callable[[], Any] = lambda: None
        self.steward = threading.Thread(target=self._steward)

    def _steward(self) -> None:
        while not self.ended.is_set():
            self.interrupter.look()
            self.at_once()
            time.sleep(TICK_S)

    def run(self, function: Callable[..., Any], *args: Any, soft_timeout_s: float | None = None) -> v2.Outcome:
        self.lease += 1
        self.resolver.known["f"] = Target(function)
        options = v2.pack_options(v2.Options(soft_timeout_s=soft_timeout_s))
        self.board.begin(self.lease, time.monotonic())
        ending = self.executor.run(v2.Job("i", "q", "f", calls.pack_call(args, {}), options=options, lease=self.lease))
        self.board.end(b"")
        self.board.clear()
        return ending


@pytest.fixture
def worker() -> Iterator[Worker]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, interrupt.PROD)}
    made = Worker()
    signal.signal(signal.SIGTERM, made.interrupter._on_sigterm)
    signal.signal(interrupt.PROD, made.interrupter._on_signal)
    made.steward.start()
    try:
        yield made
    finally:
        made.ended.set()
        made.steward.join()
        for number, handler in before.items():
            signal.signal(number, handler)
        made.executor.close()
        made.board.close()


def caught(wait: Callable[[], Any]) -> str:
    try:
        wait()
    except BaseException as error:
        return type(error).__name__
    return "nothing"


async def acaught(*awaited: Any) -> str:
    try:
        await asyncio.gather(*awaited)
    except BaseException as error:
        return type(error).__name__
    return "nothing"


# ---- what is raised --------------------------------------------------------------------------------


def test_a_soft_timeout_is_raised_once(worker: Worker) -> None:
    def job() -> list[str]:
        return [caught(lambda: time.sleep(LONG_S)), caught(lambda: time.sleep(0.05))]

    assert v2.unpack(worker.run(job, soft_timeout_s=0.02).value) == ["SoftTimeout", "nothing"]


def test_a_soft_timeout_that_gets_out_is_a_timeout(worker: Worker) -> None:
    ending = worker.run(lambda: time.sleep(LONG_S), soft_timeout_s=0.02)
    assert ending.state == "timeout"
    assert ending.failure is not None
    assert (ending.failure.type, ending.failure.message) == (
        "eventmq.SoftTimeout",
        "ran longer than its soft_timeout of 0.02 s",
    )
    assert "builtins.Exception" in ending.failure.bases
    assert __file__ in ending.failure.traceback.splitlines()[1], "from user code on"


def test_without_one_nothing_is_raised(worker: Worker) -> None:
    assert v2.unpack(worker.run(lambda: caught(lambda: time.sleep(0.05))).value) == "nothing"


def test_termination_is_meant_for_one_job(worker: Worker) -> None:
    """SIGTERM raises in the job that is to stop; another one goes on, whoever sent it."""

    def job() -> str:
        return caught(lambda: (os.kill(os.getpid(), signal.SIGTERM), time.sleep(0.05)))

    worker.board.ask_to_stop(1)
    assert [v2.unpack(worker.run(job).value) for _ in range(2)] == ["Terminated", "nothing"]


def test_a_signal_from_before_it_was_to_stop_means_nothing(worker: Worker) -> None:
    def job() -> str:
        os.kill(os.getpid(), signal.SIGTERM)
        worker.board.ask_to_stop(1)
        return caught(lambda: time.sleep(0.05))

    assert v2.unpack(worker.run(job).value) == "nothing"


def test_a_coroutine_is_cancelled_then_terminated(worker: Worker) -> None:
    async def job() -> list[str]:
        first = await acaught(asyncio.sleep(LONG_S))
        asyncio.get_running_loop().call_later(0.01, os.kill, os.getpid(), signal.SIGTERM)
        return [first, await acaught(asyncio.sleep(LONG_S)), await acaught(asyncio.sleep(0.02))]

    worker.board.ask_to_stop(1)
    assert v2.unpack(worker.run(job).value) == ["CancelledError", "Terminated", "nothing"]


def test_a_soft_timeout_cancels_what_the_coroutine_awaits_and_leaves_its_task_alone(worker: Worker) -> None:
    async def job() -> list[Any]:
        inner = asyncio.ensure_future(asyncio.sleep(LONG_S))
        task = asyncio.current_task()
        assert task is not None
        told = await acaught(inner)
        async with asyncio.timeout(LONG_S):
            await asyncio.sleep(0)
        return [told, inner.cancelled(), task.cancelling()]

    assert v2.unpack(worker.run(job, soft_timeout_s=0.02).value) == ["SoftTimeout", True, 0]


def test_a_timeout_of_its_own_stays_one(worker: Worker) -> None:
    async def job() -> str:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.sleep(LONG_S)
        except TimeoutError:
            return "its own"
        return "nothing"

    assert v2.unpack(worker.run(job, soft_timeout_s=LONG_S).value) == "its own"


def test_a_coroutine_that_blocks_is_interrupted_where_it_blocks(worker: Worker) -> None:
    async def job() -> str:
        return caught(lambda: time.sleep(LONG_S))

    assert v2.unpack(worker.run(job, soft_timeout_s=0.02).value) == "SoftTimeout"


# ---- and where ---------------------------------------------------------------------------------------


def test_code_of_the_event_loop_is_not_the_jobs_own(worker: Worker) -> None:
    """Even where the job has called it, and it calls the job."""

    async def job() -> list[bool]:
        seen = [interrupt.interruptible(sys._getframe())]
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda *_: seen.append(interrupt.interruptible(sys._getframe())))
        loop.call_exception_handler({"message": "anything"})
        loop.set_exception_handler(None)
        return seen

    assert v2.unpack(worker.run(job).value) == [True, False]


def hammer(worker: Worker) -> Callable[[], Any]:
    """Signals without end, so that every instruction is interrupted now and then."""
    main = threading.main_thread().ident
    assert main is not None

    def signals() -> None:
        for _ in range(200):
            signal.pthread_kill(main, interrupt.PROD)

    return signals


def test_it_never_leaves_the_job(worker: Worker) -> None:
    """Jobs that end while they are interrupted: what is raised is raised in their own code, or not at all."""
    worker.at_once = hammer(worker)
    states = []

    def quick(turns: int) -> int:
        return sum(range(turns))

    deadline = time.monotonic() + 1.5
    while time.monotonic() < deadline or {"timeout", "succeeded"} - set(states):
        ending = worker.run(quick, len(states) % 3000, soft_timeout_s=1e-6)
        states.append(ending.state)
        if ending.failure is not None:
            assert ending.state == "timeout", ending.failure.traceback
            assert "in quick" in ending.failure.traceback
        assert time.monotonic() < deadline + LONG_S


def test_it_never_reaches_the_event_loop(worker: Worker) -> None:
    worker.at_once = hammer(worker)
    states = []

    async def quick(turns: int) -> int:
        for _ in range(turns % 3):
            await asyncio.sleep(0)
        await asyncio.gather(*(asyncio.sleep(0) for _ in range(3)))
        return sum(range(turns))

    deadline = time.monotonic() + 1.5
    while time.monotonic() < deadline or {"timeout", "succeeded"} - set(states):
        ending = worker.run(quick, len(states) % 3000, soft_timeout_s=1e-4)
        states.append(ending.state)
        if ending.failure is not None:
            assert ending.state == "timeout", ending.failure.traceback
            assert "in quick" in ending.failure.traceback
        assert time.monotonic() < deadline + LONG_S
    worker.at_once = lambda: None
    assert v2.unpack(worker.run(fakejobs.later.fn, "x").value) == "X", "the loop is sound"


def test_a_forked_child_of_a_job_dies_of_sigterm_as_ever() -> None:
    code = (
        "import os, signal, sys\n"
        "from eventmq.workers.board import Board\n"
        "from eventmq.workers.interrupt import Interrupter\n"
        "Interrupter(Board(Board.create())).install()\n"
        "ready, tell = os.pipe()\n"
        "child = os.fork()\n"
        "if not child: os.write(tell, b'x'); signal.pause()\n"
        "os.read(ready, 1)\n"
        "os.kill(child, signal.SIGTERM)\n"
        "os.kill(os.getpid(), signal.SIGTERM)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != -signal.SIGTERM)\n"
    )
    assert os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", code]) == 0
