"""Worker processes: real children, real signals, real sockets, a Router of forty lines."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fakejobs
import psutil
import pytest
import zmq

from eventmq import limits
from eventmq.jobmanager import JobManager
from eventmq.protocol import calls, v1, v2
from eventmq.protocol.v2 import Job, Outcome
from eventmq.settings import Settings
from eventmq.workers import messages
from eventmq.workers.board import Board
from eventmq.workers.channel import Channel
from eventmq.workers.execute import Executor, hook
from eventmq.workers.process import WorkerProcess
from eventmq.workers.resolve import Resolver

DEADLINE_S = 20.0
"""No test waits longer for anything; all of them are done long before."""


def wait_until(condition: Callable[[], Any], what: str) -> Any:
    """The first true value of `condition`."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.002)
    raise AssertionError(f"not within {DEADLINE_S} s: {what}")


def gone(pid: int) -> bool:
    """Whether the process has ended, reaped or not."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


# ---- one job, in this process ---------------------------------------------------------------------------


def execute(name: str, *args: Any, executor: Executor | None = None, **kwargs: Any) -> tuple[Any, Any]:
    """Value and failure of one job."""
    executor = executor or Executor(Resolver())
    job = Job("id-1", "default", name, calls.pack_call(args, kwargs), attempt=2, lease=7)
    try:
        ending = executor.run(job)
    finally:
        executor.close()
    return (v2.unpack(ending.value) if ending.value else None), ending.failure


def test_functions_coroutines_and_methods() -> None:
    assert execute("fakejobs.add", 2, b=3) == (5, None)
    assert execute("fakejobs.noop") == (None, None)
    assert execute("fakejobs.later", "x") == ("X", None)
    job = Job("i", "q", "fakejobs:Shop.sell", calls.pack_call(["nails"], {}, ["Ann"], {}))
    assert v2.unpack(Executor(Resolver()).run(job).value) == "Ann sold nails"


def test_arguments_are_converted_by_annotations() -> None:
    args = ["7d444840-9dc0-11d1-b245-5ffdce74fad2", "1.50", "2026-01-02T03:04:05Z", "red", {"x": 1}]
    value, failure = execute("fakejobs.kinds", *args, more={"x": 2})
    assert failure is None
    assert value == ["UUID", "Decimal", "datetime", "Colour", "Point", "Point"]


def test_an_argument_that_does_not_fit_is_named() -> None:
    _, failure = execute("fakejobs.kinds", "no uuid", "1", "2026-01-02T03:04:05Z", "red")
    assert failure.type == "eventmq.InvalidJob"
    assert "'id'" in failure.message
    _, failure = execute("fakejobs.add")
    assert "'a'" in failure.message


@pytest.mark.parametrize(
    ("name", "type", "text"),
    [
        ("fakejobs.missing", "eventmq.UnknownJob", "no attribute 'missing'"),
        ("no_such_module.f", "eventmq.UnknownJob", "no module 'no_such_module'"),
        ("fakejobs:Missing.f", "eventmq.UnknownJob", "no attribute 'Missing'"),
        ("nodots", "eventmq.UnknownJob", "module.function"),
        ("fakejobs.plain", "eventmq.NotAJob", "put @job above it"),
        ("os.getcwd", "eventmq.NotAJob", "@job"),
        ("fakejobs:Shop.close", "eventmq.NotAJob", "@job"),
        ("fakejobs.os.getcwd", "eventmq.UnknownJob", ""),
        ("importsjobs.add", "eventmq.NotAJob", "fakejobs.add"),
    ],
)
def test_only_what_carries_the_mark_where_it_was_defined_is_run(name: str, type: str, text: str) -> None:
    importing = sys.modules.setdefault("importsjobs", types.ModuleType("importsjobs"))
    importing.add = fakejobs.add  # type: ignore[attr-defined]
    value, failure = execute(name)
    assert (value, failure.type) == (None, type)
    assert text in failure.message


def test_any_callable_when_so_set() -> None:
    executor = Executor(Resolver(allow_any_callable=True))
    assert execute("fakejobs.plain", executor=executor) == ("I carry no mark", None)
    assert execute("os.path.basename", "/a/b", executor=executor) == ("b", None)


def test_modules_confine_what_is_imported() -> None:
    executor = Executor(Resolver(["fakejobs"]))
    assert execute("fakejobs.add", 1, executor=executor) == (1, None)
    _, failure = execute("fakejobs_other.add", 1, executor=executor)
    assert failure.type == "eventmq.UnknownJob"
    assert "is not among this job manager's modules (fakejobs)" in failure.message


@pytest.mark.parametrize(
    ("name", "args", "type", "text"),
    [
        ("fakejobs.fail", ("oh",), "builtins.ValueError", "oh"),
        ("fakejobs.fail_oddly", (), "builtins.ValueError", "\\udcff"),
        ("fakejobs.fails_later", (), "builtins.LookupError", "later"),
        ("fakejobs.leave", (0,), "builtins.SystemExit", "0"),
        ("fakejobs.interrupt", (), "builtins.KeyboardInterrupt", ""),
        ("fakejobs.unencodable", (), "eventmq.InvalidResult", "object"),
        ("fakejobs.big", (limits.VALUE_BYTES_MAX + 1,), "eventmq.InvalidResult", "the limit is"),
    ],
)
def test_whatever_a_job_raises_is_its_failure(name: str, args: tuple[Any, ...], type: str, text: str) -> None:
    _, failure = execute(name, *args)
    assert failure.type == type
    assert text in failure.message


def test_a_traceback_begins_in_user_code() -> None:
    for name in ("fakejobs.fail", "fakejobs.fails_later"):
        _, failure = execute(name, *(["oh"] if name == "fakejobs.fail" else []))
        assert failure.traceback.splitlines()[1].strip().startswith(f'File "{fakejobs.__file__}"')


def test_a_long_traceback_keeps_its_tail() -> None:
    _, failure = execute("fakejobs.fail", "x" * (limits.TRACEBACK_CHARS_MAX * 2) + "the end")
    assert len(failure.traceback) == limits.TRACEBACK_CHARS_MAX
    assert failure.traceback.endswith("the end\n")


def test_hooks_run_around_each_job_and_may_take_the_context() -> None:
    fakejobs.events.clear()
    executor = Executor(Resolver(), hook(fakejobs.on_entry), hook(fakejobs.on_exit))
    assert execute("fakejobs.seen", executor=executor) == (["entry id-1"], None)
    assert fakejobs.events == ["entry id-1", "exit"]


def test_a_hook_that_raises_before_a_job_fails_it() -> None:
    def refuse() -> None:
        raise RuntimeError("not today")

    _, failure = execute("fakejobs.noop", executor=Executor(Resolver(), refuse))
    assert failure.message == "not today"


@pytest.mark.parametrize("kind", [RuntimeError, SystemExit])
def test_whatever_a_hook_raises_after_a_job_changes_nothing(kind: type[BaseException]) -> None:
    """Not even the end of the process: that would count as a crash of a job that has succeeded."""

    def leave() -> None:
        raise kind("enough")

    assert execute("fakejobs.add", 1, executor=Executor(Resolver(), exit=leave)) == (1, None)


# ---- the channel and the board ------------------------------------------------------------------------------


def test_messages_arrive_whole_and_a_full_socket_blocks_nobody() -> None:
    left, right = socket.socketpair()
    sender, receiver = Channel(left, blocking=False), Channel(right, blocking=True)
    sent = [bytes([i]) * size for i, size in enumerate((0, 1, 300_000, 5_000_000, 7))]
    for message in sent:
        sender.send(message)
    assert sender.unsent
    received: list[bytes] = []
    while len(received) < len(sent):
        sender.flush()
        received += receiver.receive()
    assert received == sent
    sender.close()
    assert receiver.receive() == []
    assert receiver.closed
    receiver.close()


def test_a_small_message_is_received_without_memory_for_a_large_one() -> None:
    left, right = socket.socketpair()
    sender, receiver = Channel(left, blocking=False), Channel(right, blocking=True)
    sender.send(b"small")
    tracemalloc.start()
    try:
        assert receiver.receive() == [b"small"]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        sender.close()
        receiver.close()
    assert peak < 16 << 10


def test_a_board_tells_what_ran_and_what_had_ended() -> None:
    fd = Board.create()
    worker, manager = Board(fd), Board(fd)
    os.close(fd)
    assert manager.running() is None
    worker.begin(5, 12.5)
    assert manager.running() == (5, 12.5)
    first, second = Outcome("a", 5, "succeeded", b"\x01"), Outcome("b", 6, "succeeded", b"\x02")
    worker.end(v2.pack(first))
    assert manager.running() is None
    message = worker.unsent()
    assert message is not None
    assert messages.decode_event(message) == messages.Done([first])
    assert worker.unsent() is None
    worker.begin(6, 13.0)
    worker.end(v2.pack(second))
    assert manager.outcomes() == [first, second], "until the board is cleared both are there"
    message = worker.unsent()
    assert message is not None
    assert messages.decode_event(message) == messages.Done([second])
    worker.clear()
    assert manager.outcomes() == []
    worker.close()
    manager.close()


def test_no_job_is_seen_with_the_start_of_the_one_before_it() -> None:
    """Who looks is held up in the middle of it, and the worker goes on: a timeout would count from the wrong start."""
    fd = Board.create()
    worker, manager = Board(fd), Board(fd)
    os.close(fd)
    worker.begin(5, 12.5)
    seen = []

    class Slow:
        """The times on the board, for one who is slow to read what stands beside them."""

        def __init__(self, times: Any) -> None:
            self.times = times

        def __getitem__(self, index: int) -> Any:
            value = self.times[index]
            if not seen:
                seen.append(value)
                worker.end(v2.pack(Outcome("a", 5, "succeeded", b"\x01")))
                worker.begin(6, 99.5)
            return value

        def release(self) -> None:
            self.times.release()

    manager._times = Slow(manager._times)  # type: ignore[assignment]
    assert manager.running() in ((5, 12.5), (6, 99.5))
    assert seen == [12.5]
    worker.close()
    manager.close()


def test_a_board_has_room_for_the_largest_outcome() -> None:
    fd = Board.create()
    board = Board(fd)
    os.close(fd)
    text = "\N{PILE OF POO}" * limits.TRACEBACK_CHARS_MAX
    for outcome in (
        Outcome("i" * limits.ID_CHARS_MAX, 1, "succeeded", bytes(limits.VALUE_BYTES_MAX)),
        Outcome("i", 1, "failed", b"", v2.Failure("t", text, text)),
    ):
        assert board.room_for(len(v2.pack(outcome)))
    board.close()


# ---- a manager and its workers -------------------------------------------------------------------------------


class FakeRouter:
    """The Router, as far as one manager can tell."""

    def __init__(self) -> None:
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.ROUTER)
        port = self.socket.bind_to_random_port("tcp://127.0.0.1")
        self.address = f"tcp://127.0.0.1:{port}"
        self.peer = b""
        self.sent = self.limit = self.leases = 0
        self.outcomes: dict[int, Outcome] = {}
        self.repeated = 0
        self.commands: list[bytes] = []
        self.inform: v2.Inform | None = None
        self.beat_at = 0.0

    def close(self) -> None:
        self.context.destroy(linger=0)

    def send(self, command: bytes, body: v2.Body) -> None:
        self.socket.send_multipart([self.peer, *v2.encode(command, body)])

    def pump(self, wait_ms: int = 20) -> None:
        """Take in one message, if one comes."""
        if self.peer and time.monotonic() >= self.beat_at:
            self.beat_at = time.monotonic() + 0.5
            self.send(b"HEARTBEAT", v2.Beat(0.0, self.sent))
        if not self.socket.poll(wait_ms):
            return
        self.peer, _, version, command, body = self.socket.recv_multipart()
        assert version == v2.VERSION
        self.commands.append(command)
        if command == b"INFORM":
            self.inform = v2.decode(body, v2.Inform)
            self.sent = 0
            self.send(b"ACK", v2.Informed(self.inform.n, [v2.Verdict(h.id, h.lease, "keep") for h in self.inform.held]))
        elif command == b"REPLY":
            reply = v2.decode(body, v2.Reply)
            self.limit = reply.limit
            self.repeated += sum(outcome.lease in self.outcomes for outcome in reply.outcomes)
            self.outcomes.update({outcome.lease: outcome for outcome in reply.outcomes})
            self.send(b"ACK", v2.Ack(reply.n))
        elif command == b"READY":
            self.limit = v2.decode(body, v2.Ready).limit

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        deadline = time.monotonic() + DEADLINE_S
        while not (value := condition()):
            assert time.monotonic() < deadline, f"not within {DEADLINE_S} s: {what}"
            self.pump()
        return value

    def request(self, *wanted: tuple[Any, ...], timeout_s: float | None = None) -> list[int]:
        """Send jobs (name, arguments…) in one message, once there is credit; their leases."""
        self.until(lambda: self.limit - self.sent >= len(wanted), f"credit for {len(wanted)} jobs")
        jobs = []
        for name, *args in wanted:
            self.leases += 1
            options = b"" if timeout_s is None else v2.pack(v2.Options(timeout_s=timeout_s))
            payload = calls.pack_call(args, {})
            job = Job(f"job-{self.leases}", "default", f"fakejobs.{name}", payload, 0, options, lease=self.leases)
            jobs.append(job)
        self.sent += len(jobs)
        self.send(b"REQUEST", v2.Request(self.sent, jobs))
        return [job.lease for job in jobs]

    def result(self, lease: int) -> Outcome:
        return self.until(lambda: self.outcomes.get(lease), f"the outcome of {lease}")  # type: ignore[no-any-return]

    def run(self, name: str, *args: Any, timeout_s: float | None = None) -> Any:
        """One job from beginning to end; its value."""
        (lease,) = self.request((name, *args), timeout_s=timeout_s)
        outcome = self.result(lease)
        assert outcome.state == "succeeded", outcome
        return v2.unpack(outcome.value)

    def train(self, name: str, *args: Any) -> None:
        """Let the manager learn that this job is tiny, until it asks for many."""
        self.until(lambda: self.run(name, *args) != 0 and self.limit - self.sent > 20, f"{name} known as tiny")


@pytest.fixture
def router() -> Iterator[FakeRouter]:
    made = FakeRouter()
    yield made
    made.close()


class Running:
    """A job manager in a thread of this process."""

    def __init__(self, router: FakeRouter, **settings: Any) -> None:
        self.code: int | None = None
        settings.setdefault("concurrent_jobs", 1)
        settings.setdefault("modules", ["fakejobs"])
        self.manager = JobManager(Settings(worker_addr=router.address, **settings))
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        self.code = self.manager.start()

    def end(self, router: FakeRouter) -> None:
        self.manager.stop()
        self.manager.stop()
        while self.thread.is_alive():
            router.pump()
        self.thread.join()


@pytest.fixture
def manage(router: FakeRouter) -> Iterator[Callable[..., Running]]:
    """Starts managers, and ends them."""
    running: list[Running] = []

    def start(**settings: Any) -> Running:
        running.append(Running(router, **settings))
        return running[-1]

    yield start
    for one in running:
        one.end(router)


def test_a_job_there_and_back(router: FakeRouter, manage: Callable[..., Running]) -> None:
    manage(queues=[(15, "email")], name="m1")
    assert router.run("add", 2, 3) == 5
    assert router.inform is not None
    assert (router.inform.name, router.inform.queues, router.inform.about["workers"]) == ("m1", [(15, "email")], 1)
    assert router.run("later", "x") == "X"
    assert router.run("stdin") == ""
    (lease,) = router.request(("fail", "oh"))
    outcome = router.result(lease)
    assert (outcome.state, outcome.failure and outcome.failure.type) == ("failed", "builtins.ValueError")
    assert router.run("add", 1) == 1, "the same worker goes on"


def test_the_worker_process_does_not_load_zeromq() -> None:
    code = "import sys, eventmq.workers.child; sys.exit('zmq' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_current_job_and_log_lines(
    router: FakeRouter, manage: Callable[..., Running], capfd: pytest.CaptureFixture[str]
) -> None:
    manage()
    value = router.run("who")
    assert value == ["job-1", "fakejobs.who", "default", 1, 1]
    assert "fakejobs.who[job-1 #1]: selling" in capfd.readouterr().err


def test_setup_entry_and_exit_functions(router: FakeRouter, manage: Callable[..., Running]) -> None:
    manage(
        subprocess_setup_func="fakejobs.set_up",
        job_entry_func="fakejobs.on_entry",
        job_exit_func="fakejobs.on_exit",
    )
    assert router.run("seen") == ["setup", "entry job-1"]
    assert router.run("seen") == ["setup", "entry job-1", "exit", "entry job-2"]


def test_a_job_over_its_timeout_is_killed_in_time(router: FakeRouter, manage: Callable[..., Running]) -> None:
    manage()
    (lease,) = router.request(("sleep", 60), timeout_s=0.3)
    began = time.monotonic()
    outcome = router.result(lease)
    assert time.monotonic() - began < 1.3
    assert outcome.state == "timeout"
    assert outcome.failure is not None
    assert outcome.failure.message == "ran longer than its timeout of 0.3 s and was killed"
    assert router.run("add", 1) == 1


@pytest.mark.parametrize(
    ("job", "text"),
    [
        (("kill_self",), "worker process died: signal 9 (SIGKILL)"),
        (("die", 3), "worker process died: exit code 3"),
        (("die", 0), "worker process died: exit code 0"),
    ],
)
def test_a_crash_is_told_at_once_with_its_cause(
    router: FakeRouter, manage: Callable[..., Running], job: tuple[Any, ...], text: str
) -> None:
    manage(concurrent_jobs=2)
    router.run("add", 1)
    (lease,) = router.request(job)
    began = time.monotonic()
    outcome = router.result(lease)
    assert time.monotonic() - began < 0.5  # a few milliseconds, on a machine that does nothing else
    assert (outcome.state, outcome.failure and outcome.failure.message) == ("crashed", text)
    assert router.run("add", 1) == 1


@pytest.mark.parametrize(("how", "code"), [("raise", 1), ("exit", 5), ("leave", 0), ("return", 0)])
def test_a_child_that_a_job_has_forked_is_no_second_worker(
    router: FakeRouter, manage: Callable[..., Running], how: str, code: int
) -> None:
    manage()
    assert router.run("fork", how) == code
    leases = [lease for _ in range(10) for lease in router.request(("add", 1)) if router.result(lease)]
    assert {router.outcomes[lease].state for lease in leases} == {"succeeded"}
    assert router.repeated == 0


def test_sigkill_charges_the_running_job_only(
    router: FakeRouter, manage: Callable[..., Running], tmp_path: Path
) -> None:
    """Ten jobs in one worker's hands: four have ended, one is running, five have not begun. It dies there."""
    manage()
    marks = tmp_path / "marks"
    router.train("mark", str(tmp_path / "training"))
    leases = router.request(*[("mark", str(marks), i == 4) for i in range(10)])
    states = [router.result(lease).state for lease in leases]
    assert states == ["succeeded"] * 4 + ["crashed"] + ["returned"] * 5, "nobody else was there to take the last five"
    assert marks.read_text() == "x" * 5
    assert router.repeated == 0


def test_the_board_of_a_dead_worker_tells_what_was_never_sent(tmp_path: Path) -> None:
    """Within a millisecond of their end outcomes are on the board only; not every try is so fast."""
    for number in range(20):
        if _dies_in_its_third_job(tmp_path / f"marks-{number}"):
            return
    raise AssertionError("nothing was on the board")


def _dies_in_its_third_job(marks: Path) -> set[int]:
    """The jobs on the board of a worker that was killed in its third one of four."""
    process = WorkerProcess(messages.Setup([*sys.path, str(Path(__file__).parent)], ["fakejobs"]))
    try:
        wait_until(lambda: process.channel.receive() or None, "ready")
        jobs = [
            Job(f"j{lease}", "q", "fakejobs.mark", calls.pack_call([str(marks), lease == 3], {}), lease=lease)
            for lease in (1, 2, 3, 4)
        ]
        process.channel.send(messages.encode(messages.Run(jobs)))
        code = wait_until(process.died, "the end of the worker")
        done = [messages.decode_event(message) for message in process.channel.receive_rest()]
        sent = {outcome.lease for event in done if isinstance(event, messages.Done) for outcome in event.outcomes}
        on_board = {outcome.lease for outcome in process.board.outcomes()}
        running = process.board.running()
        assert code == -signal.SIGKILL
        assert sent | on_board == {1, 2}
        assert running is not None
        assert running[0] == 3
        return on_board
    finally:
        process.close()


def test_a_slow_job_holds_up_none_that_wait_behind_it(
    router: FakeRouter, manage: Callable[..., Running], tmp_path: Path
) -> None:
    """All are known as tiny; one turns out not to be. What was behind it does not wait for it."""
    manage(concurrent_jobs=2)
    free = tmp_path / "free"
    free.touch()
    router.train("wait_for", str(free))
    gate = tmp_path / "gate"
    leases = router.request(("wait_for", str(gate)), *[("wait_for", str(free))] * 20)
    slow, *fast = leases
    router.until(lambda: all(lease in router.outcomes for lease in fast), "the fast ones")
    states = {router.outcomes[lease].state for lease in fast}
    assert states <= {"succeeded", "returned"}, "here, or elsewhere if this machine was too busy for its own workers"
    assert slow not in router.outcomes
    gate.touch()
    assert router.result(slow).state == "succeeded"


def test_without_a_free_worker_they_go_back_to_the_router(
    router: FakeRouter, manage: Callable[..., Running], tmp_path: Path
) -> None:
    manage()
    free = tmp_path / "free"
    free.touch()
    router.train("wait_for", str(free))
    gate = tmp_path / "gate"
    slow, *fast = router.request(("wait_for", str(gate)), *[("wait_for", str(free))] * 5)
    router.until(lambda: all(lease in router.outcomes for lease in fast), "the fast ones back")
    assert {router.outcomes[lease].state for lease in fast} == {"returned"}
    assert router.limit == router.sent
    gate.touch()
    assert router.result(slow).state == "succeeded"


def test_what_a_job_started_dies_with_its_worker(
    router: FakeRouter, manage: Callable[..., Running], tmp_path: Path
) -> None:
    manage()
    path = tmp_path / "pid"
    (lease,) = router.request(("spawn_and_sleep", str(path)), timeout_s=1.0)
    router.until(path.exists, "the grandchild")
    grandchild = int(path.read_text())
    assert not gone(grandchild)
    assert router.result(lease).state == "timeout"
    wait_until(lambda: gone(grandchild), "the end of the grandchild")


def test_a_worker_is_replaced_after_max_job_count(router: FakeRouter, manage: Callable[..., Running]) -> None:
    manage(max_job_count=2)
    pids = [router.run("pid") for _ in range(5)]
    assert pids[0] == pids[1] != pids[2] == pids[3] != pids[4]
    wait_until(lambda: gone(pids[0]) and gone(pids[2]), "the end of the replaced ones")


def test_modules_that_cannot_be_imported_end_the_manager(
    router: FakeRouter, manage: Callable[..., Running], caplog: pytest.LogCaptureFixture
) -> None:
    running = manage(modules=["no_such_module_here"], concurrent_jobs=2)
    router.until(lambda: running.code is not None, "the manager's end")
    assert running.code == 1
    assert any("No module named 'no_such_module_here'" in getattr(each, "detail", "") for each in caplog.records)
    assert router.commands == []


def test_the_router_is_told_again_after_it_forgot(
    router: FakeRouter, manage: Callable[..., Running], tmp_path: Path
) -> None:
    """A Router that restarts: the job keeps running, its outcome arrives, it ran once."""
    manage()
    gate, marks = tmp_path / "gate", tmp_path / "marks"
    (lease,) = router.request(("wait_and_mark", str(gate), str(marks)))
    router.until(lambda: (tmp_path / "gate.waiting").exists(), "the job's begin")
    router.inform = None
    router.send(b"REFUSED", v2.Refused(0, "unknown_peer"))
    router.until(lambda: router.inform, "INFORM")
    assert router.inform is not None
    assert [held.lease for held in router.inform.held] == [lease]
    gate.touch()
    assert router.result(lease).state == "succeeded"
    assert marks.read_text() == "x"


def test_the_router_may_kill_a_job(router: FakeRouter, manage: Callable[..., Running], tmp_path: Path) -> None:
    manage()
    first = router.run("pid")
    (lease,) = router.request(("wait_and_mark", str(tmp_path / "gate"), str(tmp_path / "marks")))
    router.until((tmp_path / "gate.waiting").exists, "the job's begin")
    router.send(b"KILL", v2.Kill([v2.Held(f"job-{lease}", lease)]))
    assert router.run("pid") != first
    assert router.result(lease).state == "killed"


# ---- a manager in its own process ----------------------------------------------------------------------------------


@contextlib.contextmanager
def manager_process(router: FakeRouter, **settings: Any) -> Iterator[subprocess.Popen[bytes]]:
    settings = {"concurrent_jobs": 2, "modules": ["fakejobs"], **settings}
    here = Path(__file__).parent
    code = (
        f"import sys; sys.path.insert(0, {str(here)!r})\n"
        f"from eventmq.jobmanager import JobManager\n"
        f"from eventmq.settings import Settings\n"
        f"sys.exit(JobManager(Settings(worker_addr={router.address!r}, **{settings!r})).start())"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def workers_of(process: subprocess.Popen[bytes]) -> list[int]:
    return [child.pid for child in psutil.Process(process.pid).children()]


def test_sigterm_lets_running_jobs_finish(router: FakeRouter, tmp_path: Path) -> None:
    with manager_process(router) as process:
        gate, marks = tmp_path / "gate", tmp_path / "marks"
        (lease,) = router.request(("wait_and_mark", str(gate), str(marks)))
        router.until(lambda: (tmp_path / "gate.waiting").exists(), "the job's begin")
        process.send_signal(signal.SIGTERM)
        router.until(lambda: b"DISCONNECT" in router.commands, "DISCONNECT")
        assert process.poll() is None
        gate.touch()
        assert router.result(lease).state == "succeeded"
        router.until(lambda: b"KBYE" in router.commands, "KBYE")
        assert process.wait(DEADLINE_S) == 0


def test_drain_time_over_or_a_second_sigterm_gives_running_jobs_back(router: FakeRouter, tmp_path: Path) -> None:
    with manager_process(router, drain_s=0.2) as process:
        (lease,) = router.request(("wait_and_mark", str(tmp_path / "gate"), str(tmp_path / "marks")))
        router.until(lambda: (tmp_path / "gate.waiting").exists(), "the job's begin")
        process.send_signal(signal.SIGTERM)
        assert router.result(lease).state == "interrupted"
        router.until(lambda: process.poll() is not None, "the end")
        assert process.returncode == 0


def test_workers_do_not_outlive_a_manager_that_is_killed(router: FakeRouter) -> None:
    with manager_process(router) as process:
        router.request(("sleep", 60))
        router.until(lambda: len(workers_of(process)) == 2, "two workers")
        workers = workers_of(process)
        process.kill()
        process.wait()
        wait_until(lambda: all(gone(pid) for pid in workers), "the end of both workers, busy and idle")


def test_workers_notice_that_the_manager_is_gone_without_the_kernels_help() -> None:
    """As on macOS, where no parent-death signal exists: the closed socket ends idle and busy workers."""
    for job in (None, ("sleep", 60)):
        code = "import sys, eventmq.workers.child as child\nchild.die_with = lambda pid: None\nsys.exit(child.main())"
        ours, theirs = socket.socketpair()
        board_fd = Board.create()
        arguments = [sys.executable, "-c", code, str(theirs.fileno()), str(board_fd), str(os.getpid())]
        process = subprocess.Popen(arguments, pass_fds=(theirs.fileno(), board_fd), start_new_session=True)
        theirs.close()
        board = Board(board_fd)
        os.close(board_fd)
        channel = Channel(ours, blocking=True)
        path = [*sys.path, str(Path(__file__).parent)]
        try:
            channel.send(messages.encode(messages.Setup(path, ["fakejobs"])))
            assert isinstance(messages.decode_event(channel.receive()[0]), messages.Ready)
            if job:
                payload = calls.pack_call(job[1:], {})
                channel.send(messages.encode(messages.Run([Job("i", "q", f"fakejobs.{job[0]}", payload, lease=1)])))
                wait_until(board.running, "the job's begin")
            channel.close()
            assert process.wait(DEADLINE_S) == -signal.SIGKILL
        finally:
            process.kill()
            process.wait()
            board.close()


def test_a_2020_router(router: FakeRouter) -> None:
    """eMQP/1.0 from INFORM to KBYE on a real socket."""
    with manager_process(router, wire="1.0", concurrent_jobs=1, queues=[(10, "default")]) as process:
        received: list[list[bytes]] = []

        def read(command: bytes) -> list[bytes]:
            deadline = time.monotonic() + DEADLINE_S
            while time.monotonic() < deadline:
                if router.socket.poll(20):
                    received.append(router.socket.recv_multipart())
                    if received[-1][3] == command:
                        return received[-1]
            raise AssertionError(f"no {command!r} in {received}")

        inform = read(b"INFORM")
        assert inform[0].decode().isalnum(), "a text identity"
        assert inform[5:] == [b'[[10, "default"]]', b"worker"]
        router.socket.send_multipart([inform[0], *v1.encode(b"ACK", "a", inform[4])])
        read(b"READY")
        job = Job("job-1", "default", "fakejobs.add", calls.pack_call([2, 3], {}))
        router.socket.send_multipart([inform[0], *v1.format_request(job, None)])
        assert read(b"REPLY")[5:] == [b'{"value":5}', b"job-1"]
        read(b"READY")
        process.send_signal(signal.SIGTERM)
        read(b"KBYE")
        assert process.wait(DEADLINE_S) == 0
