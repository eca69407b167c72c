"""The client from threads: against a Router that stores, answers, forgets, refuses, or is not there."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake_router import FakeRouter
from jobs_for_client import Mailer, Point, add, fail, mirror, unmarked
from ports import free_ports

import eventmq
from eventmq import (
    BrokerUnavailable,
    Client,
    JobCancelled,
    JobCrashed,
    JobExpired,
    JobFailed,
    JobHandle,
    JobLost,
    JobNotFound,
    JobRefused,
    JobTimeout,
    QueueFull,
    defer_job,
)
from eventmq.client import default, ids
from eventmq.client.admin import Admin
from eventmq.client.pending import NEVER
from eventmq.errors import EventMQError, JobError, SettingsError
from eventmq.limits import RESEND_S
from eventmq.protocol import v2
from eventmq.protocol.calls import unpack_call


def until(condition: Callable[[], bool], within_s: float = 5.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.002)


def adding(job: v2.Job) -> v2.Result:
    return v2.Result(job.id, "succeeded", v2.pack(sum(unpack_call(job.payload).args)), None, 1)


@pytest.fixture
def router() -> Iterator[FakeRouter]:
    with FakeRouter() as router:
        eventmq.configure(broker_addr=router.address, enqueue_timeout=5)
        yield router
        eventmq.configure()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Repeats come after a tenth of the time."""
    resend_s = RESEND_S / 10
    monkeypatch.setattr("eventmq.client.exchange.RESEND_S", resend_s)
    monkeypatch.setattr("eventmq.client.handles.WHY_S", resend_s)


# ---- enqueueing ------------------------------------------------------------------------------------


def test_a_job_and_its_value(router: FakeRouter) -> None:
    handle = add.delay(1, b=2)
    assert router.seen == {handle: 1}
    job = router.jobs[handle]
    assert (job.name, job.queue, unpack_call(job.payload)[:2]) == ("jobs_for_client.add", "default", ([1], {"b": 2}))
    assert handle.status == "waiting"
    assert handle.info()["queue"] == "default"
    router.finish(v2.Result(handle, "succeeded", v2.pack(3)))
    assert handle.result(5) == 3
    assert handle.status == "succeeded"


def test_a_value_is_converted_by_the_annotation(router: FakeRouter) -> None:
    handle = mirror.delay(Point(1))
    router.finish(v2.Result(handle, "succeeded", v2.pack({"x": -1, "y": 0})))
    assert handle.result(5) == Point(-1, 0)
    assert JobHandle(str(handle)).result(5) == {"x": -1, "y": 0}


def test_jobs_by_name(router: FakeRouter) -> None:
    handles = [
        defer_job("shop.jobs.pay", (1,), {"cents": 5}, queue="money", priority=7),
        defer_job(Mailer.send, ("me",), class_args=("mx",)),
        defer_job(unmarked, (1,)),
        Mailer.send.options(class_kwargs={"host": "mx"}).delay("me"),
    ]
    sent = [router.jobs[handle] for handle in handles]
    assert [(job.name, job.queue, job.priority) for job in sent] == [
        ("shop.jobs.pay", "money", 7),
        ("jobs_for_client:Mailer.send", "default", 0),
        ("jobs_for_client.unmarked", "default", 0),
        ("jobs_for_client:Mailer.send", "default", 0),
    ]
    calls = [unpack_call(job.payload) for job in sent]
    assert calls[0] == ([1], {"cents": 5}, [], {})
    assert calls[1] == (["me"], {}, ["mx"], {})
    assert calls[3] == (["me"], {}, [], {"host": "mx"})


def test_a_map_and_its_values_in_order(router: FakeRouter) -> None:
    router.work = adding
    handles = add.map([(i, 1) for i in range(5_000)])
    assert router.count(b"REQUEST") == 5
    assert handles.results(10) == list(range(1, 5_001))
    assert router.count(b"WAIT") == 1
    assert handles == sorted(handles)
    assert add.map([]) == []


def test_a_lost_message_is_sent_again_under_the_same_id(router: FakeRouter, quick: None) -> None:
    router.deaf = 1
    handle = add.delay(1)
    assert router.count(b"REQUEST") == 2
    assert router.messages[0] == router.messages[1]
    assert router.seen == {handle: 1}


def test_threads_side_by_side_share_messages_and_each_job_is_stored_once(router: FakeRouter) -> None:
    handles: list[JobHandle[int]] = []

    def work() -> None:
        mine = [add.delay(i) for i in range(200)]
        handles.extend(mine)

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(handles)) == 3_200
    assert router.seen == dict.fromkeys(handles, 1)
    assert router.count(b"REQUEST") < 3_200
    assert len(router.peers) == 1


def test_a_thread_that_waits_holds_up_nobody(router: FakeRouter) -> None:
    slow = add.delay(1)
    values: list[int] = []
    waiting = threading.Thread(target=lambda: values.append(slow.result(30)))
    waiting.start()
    until(lambda: router.count(b"WAIT") == 1)
    begun = time.monotonic()
    for i in range(20):
        add.delay(i)
    assert time.monotonic() - begun < RESEND_S / 2
    router.finish(v2.Result(slow, "succeeded", v2.pack(7)))
    waiting.join(5)
    assert values == [7]


def test_the_lead_passes_on_when_the_leader_is_done(router: FakeRouter) -> None:
    first, second = add.delay(1), add.delay(2)
    values: list[int] = []
    leading = threading.Thread(target=lambda: values.append(first.result(30)))
    leading.start()
    until(lambda: router.count(b"WAIT") == 1)
    following = threading.Thread(target=lambda: values.append(second.result(30)))
    following.start()
    until(lambda: router.count(b"WAIT") == 2)
    router.finish(v2.Result(first, "succeeded", v2.pack(1)))
    leading.join(5)
    assert values == [1]
    router.finish(v2.Result(second, "succeeded", v2.pack(2)))
    following.join(5)
    assert values == [1, 2]


def test_refusals(router: FakeRouter) -> None:
    router.refuse = lambda job: v2.Refusal(job.id, "queue_full", "it has 10 jobs")
    with pytest.raises(QueueFull, match="10 jobs"):
        add.delay(1)
    router.refuse = lambda job: v2.Refusal(job.id, "conflict", "another job has this id")
    with pytest.raises(JobRefused, match="another job has this id") as caught:
        add.options(id="taken").delay(1)
    assert caught.value.reason == "conflict"
    router.refuse = lambda job: v2.Refusal(job.id, "invalid_job") if unpack_call(job.payload).args[0] == 3 else None
    with pytest.raises(JobRefused, match="1 of 10 jobs were refused, the others are stored"):
        add.map([(i,) for i in range(10)])
    assert len(router.jobs) == 9


def test_a_draining_router_is_waited_for(router: FakeRouter, quick: None) -> None:
    refusals = iter([v2.Refusal("", "draining")])

    def once(job: v2.Job) -> v2.Refusal | None:
        refusal = next(refusals, None)
        return refusal and v2.Refusal(job.id, refusal.reason)

    router.refuse = once
    handle = add.delay(1)
    assert router.seen == {handle: 2}


# ---- no Router -----------------------------------------------------------------------------------------


def test_nobody_there_is_told_in_time_and_the_job_never_turns_up() -> None:
    address = f"tcp://127.0.0.1:{free_ports(1)[0]}"
    with Client(address, enqueue_timeout=0.3) as client:
        begun = time.monotonic()
        with pytest.raises(BrokerUnavailable, match=rf"{address} did not answer within 0\.3 s.*eventmq status"):
            client.submit([v2.Job("ghost", "default", "a.b", b"\x92\x90\x80")])
        assert 0.3 <= time.monotonic() - begun < 1.0
        with FakeRouter(address) as router:
            client.submit([v2.Job("real", "default", "a.b", b"\x92\x90\x80")])
            assert router.seen == {"real": 1}


def test_a_silent_router_is_tried_over_a_new_connection(quick: None) -> None:
    with FakeRouter() as router, Client(router.address, enqueue_timeout=30) as client:
        router.deaf = 4
        client.submit([v2.Job("a", "default", "a.b", b"\x92\x90\x80")])
        assert router.seen == {"a": 1}
        assert len(router.peers) == 2


def test_a_router_that_comes_back_gets_what_is_pending() -> None:
    address = f"tcp://127.0.0.1:{free_ports(1)[0]}"
    with Client(address, enqueue_timeout=20) as client:
        client_thread = threading.Thread(target=lambda: client.submit([v2.Job("a", "default", "a.b", b"\x92\x90\x80")]))
        client_thread.start()
        with FakeRouter(address) as router:
            client_thread.join(10)
            assert router.jobs.keys() == {"a"}
        with FakeRouter(address) as router:
            client.submit([v2.Job("b", "default", "a.b", b"\x92\x90\x80")])
            assert router.jobs.keys() == {"b"}


def test_a_restarted_router_is_asked_again_for_outcomes(router: FakeRouter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventmq.client.exchange.WAIT_AGAIN_S", 0.1)
    handle = add.delay(1)
    values: list[int] = []
    waiting = threading.Thread(target=lambda: values.append(handle.result(10)))
    waiting.start()
    until(lambda: bool(router.waiters))
    router.forget_waiters()
    until(lambda: bool(router.waiters))
    router.finish(v2.Result(handle, "succeeded", v2.pack(3)))
    waiting.join(5)
    assert values == [3]


@pytest.mark.parametrize("address", ["127.0.0.1:5", "tcp://*:47291", "tcp://host", "", "udp://host:1"])
def test_an_address_that_is_none_is_told(address: str) -> None:
    with pytest.raises(SettingsError, match="expected"):
        eventmq.configure(broker_addr=address)


def test_the_address_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("EMQ_BROKER_ADDR", "EVENTMQ_BROKER_ADDR"):
        with FakeRouter() as router, monkeypatch.context() as environment:
            environment.setenv(name, router.address)
            eventmq.configure()
            assert router.seen == {} or add.delay(1)
            assert add.delay(1) in router.jobs
            eventmq.configure()


def test_a_closed_client_says_so_and_wakes_who_waits(router: FakeRouter) -> None:
    client = Client(router.address)
    client.submit([v2.Job("a", "default", "a.b", b"\x92\x90\x80")])
    errors: list[Exception] = []

    def wait() -> None:
        try:
            client.results(["a"], 30)
        except BrokerUnavailable as error:
            errors.append(error)

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    until(lambda: len(client._sync._followers) == 2)
    client.close()
    client.close()
    for thread in threads:
        thread.join(5)
    assert len(errors) == 3
    with pytest.raises(BrokerUnavailable, match="closed"):
        client.submit([])


# ---- outcomes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "failure", "kind"),
    [
        ("dead", v2.Failure("builtins.ValueError", "no luck", "Traceback: in fail"), JobFailed),
        ("dead", v2.Failure("eventmq.JobTimeout", "ran longer than 5 s"), JobTimeout),
        ("dead", v2.Failure("eventmq.JobCrashed", "signal 9"), JobCrashed),
        ("dead", None, JobError),
        ("cancelled", None, JobCancelled),
        ("expired", None, JobExpired),
        ("lost", None, JobLost),
        ("state of a later release", None, JobError),
    ],
)
def test_outcomes_without_a_value(
    router: FakeRouter, state: str, failure: v2.Failure | None, kind: type[JobError]
) -> None:
    handle = fail.delay("no luck")
    router.finish(v2.Result(handle, state, b"", failure))
    with pytest.raises(JobError) as caught:
        handle.result(5)
    assert type(caught.value) is kind
    assert caught.value.job_id == handle
    if failure is not None:
        assert isinstance(caught.value, JobFailed)
        assert failure.message in str(caught.value)
        assert caught.value.traceback == failure.traceback


def test_an_unknown_job(router: FakeRouter) -> None:
    handle: JobHandle[int] = JobHandle("never-was")
    with pytest.raises(JobNotFound, match="never-was"):
        handle.result(5)
    assert JobHandle("never-was").status == "unknown"
    with pytest.raises(JobNotFound):
        JobHandle("never-was").info()


def test_time_is_up(router: FakeRouter, quick: None) -> None:
    handle = add.options(queue="nobody").delay(1)
    with pytest.raises(
        TimeoutError, match=r"jobs_for_client\.add\) has not ended after 0\.1 s: it waits in queue 'nobody'"
    ):
        handle.result(0.1)
    router.deaf = -1
    with pytest.raises(TimeoutError, match="no answer from the Router"):
        handle.result(timeout="50ms")


def test_a_time_that_is_none_is_told_by_its_name(router: FakeRouter) -> None:
    handle = add.options(queue="nobody").delay(1)
    with pytest.raises(ValueError, match="grace is -1, expected a duration of 0 or more"):
        handle.cancel(grace=-1)
    with pytest.raises(ValueError, match="timeout is 'soon', expected a duration in seconds"):
        handle.result("soon")


def test_time_is_up_for_some(router: FakeRouter) -> None:
    handles = add.map([(1,), (2,)])
    router.finish(v2.Result(handles[0], "succeeded", v2.pack(9)))
    with pytest.raises(TimeoutError, match="1 of 2 jobs have not ended; the first: job " + handles[1]):
        handles.results(0.3)
    asked = router.count(b"WAIT")
    assert handles[0].result(0) == 9
    assert router.count(b"WAIT") == asked


def test_a_timeout_of_zero_takes_what_is_there(router: FakeRouter) -> None:
    router.work = adding
    assert add.delay(1, 1).result(0) == 2


def test_handles_are_texts(router: FakeRouter) -> None:
    handle = add.delay(1)
    assert isinstance(handle, str)
    assert len(handle) == 32
    again = pickle.loads(pickle.dumps(handle))
    assert type(again) is JobHandle
    assert again == handle
    assert {handle: 1}[str(handle)] == 1


# ---- processes -----------------------------------------------------------------------------------------------


def test_a_forked_child_has_its_own_connection(router: FakeRouter) -> None:
    before = add.delay(1)
    waiting = threading.Thread(target=lambda: before.result(30))
    waiting.start()  # leads, at the moment of the fork
    until(lambda: router.count(b"WAIT") == 1)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            add.delay(2)
            status = 0
        finally:
            os._exit(status)
    add.delay(3)
    assert os.waitpid(child, 0)[1] == 0
    add.delay(4)
    router.finish(v2.Result(before, "succeeded", v2.pack(0)))
    waiting.join(5)
    assert not waiting.is_alive()
    assert len(router.jobs) == 4
    assert set(router.seen.values()) == {1}
    assert len(router.peers) == 2


def test_a_forked_child_shares_neither_ids_nor_loops_with_its_parent(router: FakeRouter) -> None:
    asyncio.run(add.adelay(1))
    client, source = default.required(), ids.new_id.__self__  # type: ignore[attr-defined]
    assert client._loops
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = int(bool(client._loops) or ids.new_id.__self__ is source)  # type: ignore[attr-defined]
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0


def test_a_program_ends_at_once_and_in_silence(router: FakeRouter) -> None:
    code = (
        "import threading, time; from jobs_for_client import add; h = add.delay(1);"
        "threading.Thread(target=lambda: h.result(60), daemon=True).start();"
        "import asyncio; asyncio.run(add.adelay(2)); print('end')"
    )
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", code],
        env={**os.environ, "EMQ_BROKER_ADDR": router.address, "PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt, also where the tests run behind a shell's `&`, which has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_while_waiting_leaves_the_client_usable(router: FakeRouter, ctrl_c: None) -> None:
    handle = add.delay(1)
    other = add.delay(2)
    following = threading.Thread(target=lambda: other.result(30))
    interrupt = threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT))
    interrupt.start()
    threading.Timer(0.1, following.start).start()
    with pytest.raises(KeyboardInterrupt):
        handle.result(30)
    add.delay(3)
    router.finish(v2.Result(other, "succeeded", v2.pack(0)))
    following.join(5)
    assert not following.is_alive()
    assert default.required()._sync._exchange.next_time() == NEVER


# ---- the administrative socket ------------------------------------------------------------------------------------


class FakeAdministration(FakeRouter):
    """Answers STATUS with its parameters, refuses everything else."""

    def _on_question(self, peer: bytes, body: bytes) -> None:
        question = v2.decode(body, v2.Question)
        self._send(peer, b"REPLY", v2.Answer(question.n - 1, "of an earlier question"))
        self._send(peer, b"REPLY", v2.Answer(question.n, question.params))

    def _on_other(self, peer: bytes, body: bytes) -> None:
        self._send(peer, b"REFUSED", v2.Refused(v2.decode(body, v2.Question).n, "unknown_command", "no such"))

    def __init__(self) -> None:
        super().__init__()
        self._handlers = {b"STATUS": self._on_question, b"DANCE": self._on_other}


def test_questions_to_the_administrative_socket(quick: None) -> None:
    with FakeAdministration() as router, Admin(router.address, timeout_s=5) as admin:
        assert admin.ask("STATUS", queue="default") == {"queue": "default"}
        assert admin.ask("STATUS") == {}
        with pytest.raises(EventMQError, match=r"DANCE: .* refused: unknown_command \(no such\)"):
            admin.ask("DANCE")
        router.deaf = 1
        assert admin.ask("STATUS", n=1) == {"n": 1}


def test_an_administrative_socket_that_is_not_there() -> None:
    with Admin(f"tcp://127.0.0.1:{free_ports(1)[0]}", timeout_s=0.2) as admin:
        begun = time.monotonic()
        with pytest.raises(BrokerUnavailable, match=r"did not answer within 0\.2 s"):
            admin.ask("STATUS")
        assert time.monotonic() - begun < 1
    with pytest.raises(SettingsError):
        Admin("nowhere")
