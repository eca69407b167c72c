"""What cannot be right is told in one clear sentence, by whoever sees it first; nothing else is lost by it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest
from system_jobs import anything, complain, double, repeat

from eventmq import InvalidJob, JobFailed, JobHandle, JobHandles, JobNotFound, defer_job, limits

from .processes import System


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """One system for all: it has to go on whatever it was given."""
    import eventmq

    system = System(tmp_path_factory.mktemp("served"))
    eventmq.configure(broker_addr=system.frontend, enqueue_timeout=20)
    try:
        system.start_router()
        system.start_manager(workers=1)
        yield system
    finally:
        system.close()
        eventmq.configure()


class Own:
    """Of no use to anybody else."""


def ring() -> list[Any]:
    """A list that holds itself."""
    found: list[Any] = []
    found.append(found)
    return found


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Own(), "argument 'value' (Own) cannot be sent"),
        ({1: {2: Own()}}, "argument 'value' (dict) cannot be sent"),
        (2**64, "argument 'value' (int) cannot be sent"),
        ("\ud800", "argument 'value' (str) cannot be sent"),
        (ring(), "argument 'value' (list) cannot be sent"),
        ("x" * (limits.PAYLOAD_BYTES_MAX + 1), "the limit is 1,048,576"),
    ],
    ids=["object", "inner object", "number over 64 bits", "lone surrogate", "ring", "over the limit"],
)
def test_an_argument_that_cannot_be_sent(served: System, value: Any, text: str) -> None:
    accepted = served.count("accepted")
    with pytest.raises(InvalidJob) as caught:
        anything.delay(value)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(InvalidJob, match="call 1: "):
        anything.map([(1,), (value,), (2,)])
    assert served.count("accepted") == accepted, "a batch with a bad call is not begun"
    assert anything.delay(1).result() == 1


@pytest.mark.parametrize(
    ("args", "kwargs", "text"),
    [
        (("two",), {}, "'number'"),
        ((), {"number": None}, "'number'"),
        ((), {}, "number"),
        ((1, 2), {}, "argument"),
        ((1,), {"unknown": 1}, "unknown"),
    ],
)
def test_arguments_that_do_not_fit_the_function(
    served: System, args: tuple[Any, ...], kwargs: dict[str, Any], text: str
) -> None:
    """Told to the caller who has the function; and by the worker to one who enqueues by name."""
    delay: Any = double.delay
    with pytest.raises(InvalidJob) as here:
        delay(*args, **kwargs)
    with pytest.raises(JobFailed) as there:
        defer_job("system_jobs.double", args, kwargs).result()
    for caught in (here, there):
        assert text in str(caught.value)
        assert "double" in str(caught.value)
    assert double.delay(4).result() == 8


@pytest.mark.parametrize(
    ("name", "type", "text"),
    [
        ("system_jobs.nothing", "eventmq.UnknownJob", "nothing"),
        ("no_such_module.f", "eventmq.UnknownJob", "no_such_module"),
        ("system_jobs.unmarked", "eventmq.NotAJob", "@job"),
        ("os.getpid", "eventmq.", "os"),
        ("system_jobs:Path.unlink", "eventmq.", "Path"),
    ],
)
def test_what_is_no_job_is_not_run(served: System, name: str, type: str, text: str) -> None:
    handle = defer_job(name)
    with pytest.raises(JobFailed) as caught:
        handle.result()
    assert caught.value.type.startswith(type)
    assert text in caught.value.message
    assert handle.info()["attempt"] == 1
    assert double.delay(4).result() == 8


def test_a_value_that_cannot_be_sent_back(served: System) -> None:
    with pytest.raises(JobFailed, match="the limit is 1048576") as caught:
        repeat.delay("x", limits.VALUE_BYTES_MAX).result()
    assert caught.value.type == "eventmq.InvalidResult"
    assert repeat.delay("x", 1000).result() == "x" * 1000


def test_long_failures_of_many_jobs_arrive(served: System) -> None:
    """Asked for at once, they are more than one message may be."""
    jobs = complain.map([(20_000,)] * 600)
    for asked in (jobs, JobHandles(JobHandle(str(handle)) for handle in jobs)):
        with pytest.raises(JobFailed, match="xxxx"):
            asked.results(20)


def test_an_id_that_nobody_knows(served: System) -> None:
    with pytest.raises(JobNotFound, match="never accepted, or its outcome is forgotten"):
        JobHandle("0" * 32).result(5)


# ---- a Router that cannot start ------------------------------------------------------------------------


def foreign_database(system: System) -> None:
    with sqlite3.connect(system.store) as db:
        db.execute("CREATE TABLE theirs (a)")
    db.close()


def text_file(system: System) -> None:
    system.store.write_text("Dear diary, " * 100)


def folder(system: System) -> None:
    system.store.mkdir()


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (foreign_database, "is a SQLite file but not a store of EventMQ"),
        (text_file, "is not a SQLite file"),
        (folder, "is not a file that this process may read and write"),
    ],
)
def test_a_store_that_is_not_ours_is_left_alone(system: System, make: Any, text: str) -> None:
    make(system)
    before = system.store.read_bytes() if system.store.is_file() else None
    ended = system.run("router")
    assert ended.returncode == 1
    assert text in ended.stderr
    assert "Traceback" not in ended.stderr
    assert before == (system.store.read_bytes() if system.store.is_file() else None)


def test_a_port_in_use_is_named_and_the_store_is_free_again(system: System) -> None:
    router = system.start_router()
    other = f"sqlite:///{system.folder / 'other.db'}"
    for _ in range(2):
        ended = system.run("router", "--store", other)
        assert ended.returncode == 1
        assert f"cannot listen on {system.frontend}: another process listens there already" in ended.stderr
        assert "Traceback" not in ended.stderr
    assert router.running
    assert system.answers()


@pytest.mark.parametrize(
    ("variable", "value", "text"),
    [
        ("EVENTMQ_DURABILTY", "full", "did you mean EVENTMQ_DURABILITY?"),
        ("EVENTMQ_DURABILITY", "sometimes", "durability expects"),
        ("EVENTMQ_STORE", "mysql://x", "mysql"),
        ("EVENTMQ_FRONTEND_ADDR", "tcp://0.0.0.0:47291", "open to other machines"),
    ],
)
def test_a_setting_that_is_wrong_is_named(system: System, variable: str, value: str, text: str) -> None:
    ended = system.run("router", **{variable: value})
    assert ended.returncode in (1, 2)
    assert text in ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""
