"""`@job`: names, options, arguments, ids; and jobs that run where they are called because there is no Router."""

from __future__ import annotations

import asyncio
import builtins
import inspect
import logging
import pickle
import re
import subprocess
import sys
import threading
import uuid
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from jobs_for_client import Mailer, Point, add, fail, later, mirror, unmarked

import eventmq
from eventmq import InvalidJob, JobFailed, JobHandle, adefer_job, defer_job, errors, job
from eventmq.client import call, default, ids
from eventmq.client.ids import Ids
from eventmq.client.jobs import CoroutineJob, Job
from eventmq.errors import BrokerUnavailable
from eventmq.limits import BATCH_JOBS_MAX, PAYLOAD_BYTES_MAX
from eventmq.protocol import v2
from eventmq.protocol.arguments import Signature
from eventmq.protocol.calls import unpack_call

if TYPE_CHECKING:
    from nowhere import Missing


@pytest.fixture(autouse=True)
def no_router(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("EMQ_BROKER_ADDR", "EVENTMQ_BROKER_ADDR", "EVENTMQ_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)
    eventmq.configure()
    monkeypatch.setattr(default, "_warned", True)
    yield
    eventmq.configure()


class Color(Enum):
    RED = "red"


@job
def everything(
    when: datetime,
    price: Decimal,
    point: Point | None = None,
    missing: Missing = None,
    color: Color = Color.RED,
    *rest: int,
    size: float = 1.0,
    **others: str,
) -> None: ...


@job
def path_of(path: Path, label: str = "") -> str:
    return f"{path}{label}"


@job
def sloppy(a: int = None) -> Any:  # type: ignore[assignment]  # noqa: RUF013  # as people write it
    return a


def message(function: Job[Any, Any], *args: Any, **kwargs: Any) -> v2.Job:
    return call.message_of(function, args, kwargs)


# ---- what a job is ---------------------------------------------------------------------------------


def test_a_job_is_still_its_function() -> None:
    assert add(1) == 3
    assert add.__name__ == "add"
    assert asyncio.run(later(1)) == 2
    assert isinstance(later, CoroutineJob)
    assert Mailer("mx").send("me") == "me via mx"


def test_names() -> None:
    assert add.name == "jobs_for_client.add"
    assert Mailer.send.name == "jobs_for_client:Mailer.send"
    assert job(name="shop.tasks.add")(add.fn).name == "shop.tasks.add"


@pytest.mark.parametrize("by", [["tasks_main.py"], ["-m", "tasks_main"]])
def test_the_main_module_is_named_as_others_import_it(tmp_path: Path, by: list[str]) -> None:
    (tmp_path / "tasks_main.py").write_text("from eventmq import job\n@job\ndef f(): ...\nprint(f.name)\n")
    done = subprocess.run([sys.executable, *by], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "tasks_main.f"


def test_a_function_typed_into_an_interpreter_runs_here_but_has_no_name() -> None:
    code = "from eventmq import job\n@job\ndef f(): return 5\nassert f() == 5\nf.name"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "no worker can import" in done.stderr


def test_pickled_by_name() -> None:
    assert pickle.loads(pickle.dumps(add)) is add
    assert pickle.loads(pickle.dumps(Mailer.send)) is Mailer.send


def test_what_no_worker_could_find_is_refused() -> None:
    def local() -> None: ...

    class Local:
        def method(self) -> None: ...

    for function in (local, lambda: 1, Local.method, Mailer().send, 5, staticmethod(unmarked)):
        with pytest.raises(InvalidJob):
            job(function)  # type: ignore[call-overload]
    with pytest.raises(InvalidJob, match="function in a function"):
        job(local)


# ---- options --------------------------------------------------------------------------------------------


def test_options_travel() -> None:
    sent = message(later, 1)
    assert (sent.queue, sent.priority) == ("slow", 5)
    assert v2.unpack(sent.options) == {"timeout_s": 60.0}
    other = message(later.options(queue="q", result_ttl=timedelta(hours=1), crash_limit=1, id="mine"), 1)
    assert (other.id, other.queue, other.priority) == ("mine", "q", 5)
    assert v2.unpack(other.options) == {"timeout_s": 60.0, "result_ttl_s": 3600.0, "crash_limit": 1}
    assert message(add, 1).options == b""


def test_options_make_a_copy() -> None:
    other = add.options(queue="other")
    assert add.default.queue == "default"
    assert (other.name, other(1), other.default.queue) == (add.name, 3, "other")


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"queue": ""}, "queue is ''"),
        ({"queue": 5}, "queue is 5"),
        ({"priority": 101}, "from -100 to 100"),
        ({"priority": True}, "whole number"),
        ({"timeout": "soon"}, "timeout is 'soon', expected a duration"),
        ({"timeout": -1}, "timeout is -1"),
        ({"soft_timeout": "5m", "timeout": 300}, "soft_timeout is '5m', expected less than timeout, 300"),
        ({"result_ttl": []}, "result_ttl is"),
        ({"crash_limit": 0}, "crash_limit is 0"),
        ({"tries": 3}, "has no option 'tries'; it has queue, priority"),
        ({"retries": -1}, "retries is -1"),
        ({"retries": "often"}, "retries is 'often'"),
        ({"expires": "soon"}, "expires is 'soon'"),
        ({"expires": 0}, "expires is 0, expected more than the 0 s"),
        ({"expires": "5m", "debounce": "5m"}, "expires is '5m', expected more than the 300 s"),
        ({"block_for": "a while"}, "block_for is 'a while'"),
        ({"countdown": 3}, "has no option 'countdown'"),
        ({"name": "nodots"}, "expected module.function"),
    ],
)
def test_bad_options_are_told(given: dict[str, Any], text: str) -> None:
    with pytest.raises(TypeError, match=text):
        job(**given)(add.fn)


def test_bad_options_of_a_call_are_told() -> None:
    with pytest.raises(TypeError, match=r"add\.options\(\) has no option 'delay'"):
        add.options(delay=5)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"defer_job\(\) has no option 'after'"):
        defer_job("a.b", after=5)  # type: ignore[call-arg]
    with pytest.raises(InvalidJob, match="expected a datetime with a time zone"):
        add.options(eta=datetime(2030, 1, 1))
    with pytest.raises(InvalidJob, match="expires is '5m', expected more than the 600 s"):
        add.options(expires="5m", countdown="10m")
    with pytest.raises(InvalidJob, match="exclude each other"):
        add.options(eta=datetime(2030, 1, 1, tzinfo=UTC), countdown=5)
    with pytest.raises(InvalidJob, match="id is 'two words'"):
        add.options(id="two words")
    with pytest.raises(InvalidJob, match="one id cannot be that of many"):
        add.options(id="one").map([(1,)])


# ---- arguments -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "text"),
    [
        (add, (), {}, r"add\(\): missing a required argument: 'a'"),
        (add, (1, 2, 3), {}, r"add\(\): too many positional arguments"),
        (add, (1,), {"c": 3}, r"add\(\): got an unexpected keyword argument 'c'"),
        (add, (1, "x"), {}, r"add\(\): argument 'b': expected int, got str"),
        (add, (1,), {"b": "x"}, r"add\(\): argument 'b': expected int, got str"),
        (add, (1.5,), {}, r"add\(\): argument 'a': expected int, got float"),
        (add, (None,), {}, r"add\(\): argument 'a': expected int"),
        (mirror, ({"x": "one"},), {}, r"argument 'point': expected int, got str - at \$.x"),
        (everything, ("today", 1), {}, "argument 'when': "),
        (everything, (datetime.now(UTC), "1.5", None, None, "blue"), {}, "argument 'color': "),
        (everything, (datetime.now(UTC), "1.5", None, None, "red", "x"), {}, "argument 'rest': expected int"),
        (everything, (datetime.now(UTC), "1.5"), {"more": 5}, "argument 'others': expected str"),
        (path_of, (Path("a"),), {}, r"argument 'path' \(PosixPath\) cannot be sent"),
        (path_of, ("a",), {"label": "\ud800"}, "argument 'label'"),
        (Mailer.send, (), {}, "missing a required argument: 'to'"),
        (add, (1 << 70,), {}, "argument 'a' .*cannot be sent"),
    ],
)
def test_wrong_arguments_are_told_where_they_are_given(
    function: Job[Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any], text: str
) -> None:
    with pytest.raises(TypeError, match=text):
        function.delay(*args, **kwargs)


def test_what_passes_the_client_arrives_converted_at_the_worker() -> None:
    when = datetime(2026, 1, 2, 3, tzinfo=UTC)
    sent = message(everything, when, Decimal("1.10"), Point(1, 2), "any", "red", 7, size=2, extra="x")
    call = unpack_call(sent.payload)
    args, kwargs = everything.signature.convert(call.args, call.kwargs)
    assert args[:3] == [when, Decimal("1.10"), Point(1, 2)]
    assert args[4:] == [Color.RED, 7]
    assert kwargs == {"size": 2.0, "extra": "x"}


def test_annotations_that_cannot_be_judged_admit_everything() -> None:
    assert unpack_call(message(path_of, "a.png").payload).args == ["a.png"]
    assert unpack_call(message(sloppy, None).payload).args == [None]
    assert message(everything, datetime.now(UTC), 1, None, "whatever")


def test_the_worker_refuses_what_does_not_fit_too() -> None:
    with pytest.raises(InvalidJob, match=r"add\(\): argument 'a': expected int, got str"):
        add.signature.convert(["x"], {})
    with pytest.raises(InvalidJob, match="missing a required argument"):
        add.signature.convert([], {})


def test_values_of_derived_classes_travel_as_what_they_are() -> None:
    class Safe(str): ...

    assert unpack_call(message(path_of, JobHandle("an-id"), Safe("x")).payload).args == ["an-id", "x"]


def test_a_returned_value_is_converted_when_it_fits() -> None:
    signature = Signature(mirror.fn)
    assert signature.returned({"x": 1, "y": 2}) == Point(1, 2)
    assert signature.returned("something else") == "something else"
    assert Signature(unmarked).returned(5) == 5


def test_arguments_over_the_limit_are_refused_with_both_numbers() -> None:
    with pytest.raises(InvalidJob, match=rf"1,048,\d+ bytes, the limit is {PAYLOAD_BYTES_MAX:,}"):
        path_of.delay("x" * PAYLOAD_BYTES_MAX)


def test_map_tells_which_call_is_wrong_before_anything_is_sent() -> None:
    with pytest.raises(InvalidJob, match="call 2: add"):
        add.map([(1,), (2,), ("x",)])
    with pytest.raises(InvalidJob, match=r"call 0: .*'a\.png', expected a tuple"):
        path_of.map(["a.png"])


def test_map_makes_messages_as_they_are_asked_for() -> None:
    """A client sends the first ones before it has made the others; whoever looks at them sees a list."""
    count = 3 * BATCH_JOBS_MAX + 1
    messages = call.messages_of(add, [(number,) for number in range(count)])
    assert len(messages) == count
    assert len(messages[:BATCH_JOBS_MAX]) == len(messages._made) == BATCH_JOBS_MAX
    assert messages[-1].payload == v2.pack(([count - 1], {}))
    every = list(messages)
    assert [v2.unpack(job.payload) for job in every] == [[[number], {}] for number in range(count)]
    assert [job.id for job in every] == sorted({job.id for job in every})
    for some in (slice(None), slice(None, None, -1), slice(5, BATCH_JOBS_MAX + 5), slice(-3, None), slice(count, None)):
        assert messages[some] == every[some]
    assert messages[5] is every[5]
    assert call.messages_of(add, [])[:] == []
    with pytest.raises(IndexError):
        messages.__getitem__(count)


@pytest.mark.parametrize("name", ["", "f", "a.", ".f", "a b.f", "a:f", "a:B:c.d", "a.f\n", "a" * 200 + ".f"])
def test_a_name_that_names_nothing_is_refused(name: str) -> None:
    with pytest.raises(InvalidJob, match="names no job"):
        defer_job(name)


# ---- ids --------------------------------------------------------------------------------------------------


def test_ids_are_uuids_of_version_7_and_rise() -> None:
    made = [ids.new_id() for _ in range(5_000)] + ids.new_ids(5_000) + [ids.new_id()]
    assert made == sorted(set(made))
    assert {(uuid.UUID(id).version, uuid.UUID(id).variant) for id in made} == {(7, uuid.RFC_4122)}
    assert all(len(id) == 32 for id in made)


def test_ids_rise_within_a_millisecond_and_when_the_clock_is_set_back() -> None:
    times = iter([5_000_000_000] * 9 + [4_000_000_000] * 9 + [6_000_000_000] * 9)
    source = Ids(lambda: next(times), seed=1)
    made = [source.new() for _ in range(20)]
    assert made == sorted(set(made))
    assert made[0][:12] == f"{5_000:012x}"
    assert made[-1][:12] == f"{6_000:012x}"


def test_threads_never_get_the_same_id() -> None:
    made: list[list[str]] = [[] for _ in range(8)]

    def fill(mine: list[str]) -> None:
        for _ in range(30):
            mine += [ids.new_id() for _ in range(70)] + ids.new_ids(30)

    threads = [threading.Thread(target=fill, args=(mine,)) for mine in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id for mine in made for id in mine}) == 24_000
    assert all(mine == sorted(mine) for mine in made)


# ---- without a Router -----------------------------------------------------------------------------------------


def test_without_a_router_a_job_runs_here_after_one_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(default, "_warned", False)
    with pytest.warns(RuntimeWarning, match="EMQ_BROKER_ADDR") as caught:
        handle = add.delay(1, 2)
    assert Path(caught[0].filename).name == "test_jobs.py"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        add.delay(1, 2)
    assert handle.result() == 3
    assert handle.status == "succeeded"
    assert handle.info()["name"] == "jobs_for_client.add"


def test_without_a_router_values_go_the_same_way_as_with_one() -> None:
    assert mirror.delay(Point(1, 2), by=3).result() == Point(-3, 2)
    assert mirror.delay({"x": 1}).result() == Point(-1, 0)  # type: ignore[arg-type]
    assert later.delay(4).result() == 5
    assert add.map([(1, 1), (2, 2)]).results() == [2, 4]
    assert Mailer.send.options(class_args=("mx",)).delay("me").result() == "me via mx"


def test_without_a_router_a_failure_is_an_outcome_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "eventmq.client"):
        handle = fail.delay("no luck")
    assert "no luck" in caplog.text
    with pytest.raises(JobFailed, match=r"builtins\.ValueError: no luck") as caught:
        handle.result()
    assert handle.status == "dead"
    assert "in fail" in caught.value.traceback
    assert "in fail" in caught.value.__notes__[0]


def test_without_a_router_names_are_imported() -> None:
    assert defer_job("jobs_for_client.add", (1,), {"b": 5}).result() == 6
    assert defer_job("jobs_for_client:Mailer.send", ("me",), class_kwargs={"host": "mx"}).result() == "me via mx"
    with pytest.raises(JobFailed, match="NotAJob"):
        defer_job("jobs_for_client.unmarked", (1,)).result()
    with pytest.raises(JobFailed, match="UnknownJob"):
        defer_job("jobs_for_client.nothing").result()


async def _inside_a_loop() -> None:
    assert await (await later.adelay(1)).aresult() == 2
    assert await (await add.adelay(1)).aresult() == 3
    assert later.delay(1).result() == 2
    assert await (await add.amap([(1,), (2,)])).aresults() == [3, 4]
    assert (await adefer_job(add, (3,))).result() == 5


def test_without_a_router_inside_an_event_loop() -> None:
    asyncio.run(_inside_a_loop())


def test_a_stored_id_needs_a_router() -> None:
    with pytest.raises(BrokerUnavailable, match="EMQ_BROKER_ADDR"):
        JobHandle("some-id").result()


# ---- importing -----------------------------------------------------------------------------------------------


def test_importing_loads_no_zeromq_and_starts_nothing() -> None:
    code = (
        "import sys, threading, os; before = len(os.listdir('/proc/self/fd'));"
        "import eventmq; assert 'msgspec' not in sys.modules;"
        "from eventmq import job, Job, InvalidJob; import eventmq.protocol.arguments;"
        "assert 'zmq' not in sys.modules, 'zmq'; assert threading.active_count() == 1;"
        "assert len(os.listdir('/proc/self/fd')) == before"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_is_raised_and_what_is_given_can_be_imported() -> None:
    """Every error that a docstring names, so that it can be caught; and the types that users write in annotations."""
    raised: set[str] = set()
    for thing in [getattr(eventmq, name) for name in eventmq.__all__]:
        for each in (thing, *(vars(thing).values() if isinstance(thing, type) else ())):
            _, _, raises = (inspect.getdoc(each) or "").partition("Raises:\n")
            raised |= set(re.findall(r"\b[A-Z]\w+", raises))
    raised = {name for name in raised if name.endswith("Error") or hasattr(errors, name)}
    assert len(raised) > 10
    assert raised - set(dir(builtins)) <= set(eventmq.__all__)
    assert {"CurrentJob", "JobHandle", "JobHandles", "Job", "Client"} <= set(eventmq.__all__)


def test_every_public_name_exists() -> None:
    for name in eventmq.__all__:
        assert getattr(eventmq, name) is not None
    assert set(eventmq.__all__) <= set(dir(eventmq))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        eventmq.nothing  # noqa: B018
