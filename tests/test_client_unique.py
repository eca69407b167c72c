"""Keys on the client's side: how they are written, what they are made of, and what a call gets for an answer."""

from __future__ import annotations

import asyncio
import dataclasses
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
from fake_router import FakeRouter

import eventmq
from eventmq import DuplicateJob, InvalidJob, JobHandle, JobRefused, adefer_job, defer_job, job
from eventmq.client import call
from eventmq.client.exchange import Exchange
from eventmq.client.jobs import Job
from eventmq.limits import UNIQUE_CHARS_MAX
from eventmq.protocol import v2


@dataclasses.dataclass
class Order:
    number: int
    lines: list[dict[str, int]]


@job(unique="user:{user_id}")
def greet(user_id: int, text: str = "hello", *rest: int, **more: int) -> str:
    return f"{text} {user_id}"


@job(unique=True)
def every(a: int, b: int = 2, *, c: int | None = None) -> int:
    return a + b


@job
def plain(a: int, b: int = 2) -> int:
    return a + b


class Shop:
    def __init__(self, name: str = "") -> None:
        self.name = name

    @job(unique="{order.number:05}/{order.lines[0][n]}")
    def sell(self, order: Order) -> int:
        return order.number

    @job(unique=True)
    def close(self) -> None: ...


def key(job: Job[Any, Any], *args: Any, **kwargs: Any) -> str:
    return call.message_of(job, args, kwargs).unique


def options(job: Job[Any, Any]) -> v2.Options:
    packed = job.default.packed
    return v2.decode(packed, v2.Options) if packed else v2.Options()


# ---- what a key is made of -------------------------------------------------------------------------


def test_a_template_is_filled_in_with_the_arguments_however_they_are_written() -> None:
    assert key(greet, 7) == key(greet, user_id=7, text="bye") == key(greet, 7, "x", 8, y=9) == "user:7"
    assert key(greet.options(unique="{text}!"), 7) == "hello!", "defaults count"
    assert key(greet.options(unique="{rest[0]}{more[y]}"), 7, "x", 8, y=9) == "89"
    assert key(Shop.sell, Order(12, [{"n": 3}])) == "00012/3"
    assert key(plain.options(unique="nightly"), 1) == "nightly"


def test_all_arguments_are_a_key_however_they_are_written() -> None:
    assert key(every, 1) == key(every, a=1) == key(every, 1, 2) == key(every, b=2, a=1, c=None)
    different = [key(every, 1), key(every, 2), key(every, 1, 3), key(every, 1, c=5), key(every, 12)]
    assert len(set(different)) == 5
    assert all(len(each) == 32 for each in different)
    orders = [Order(1, [{"x": 1, "y": 2}]), Order(1, [{"y": 2, "x": 1}])]
    assert len({key(Shop.sell.options(unique=True), order) for order in orders}) == 1
    assert key(Shop.close) == key(Shop.close.options(class_args=())) != key(Shop.close.options(class_args=("x",)))


def test_no_key_unless_it_is_asked_for() -> None:
    assert key(plain, 1) == key(greet.options(unique=False), 1) == ""


def test_a_long_key_is_shortened_and_still_another_one() -> None:
    long = [key(greet.options(unique="{text}"), 1, "é" * 500 + end) for end in ("a", "b", "b")]
    assert [len(each) for each in long] == [UNIQUE_CHARS_MAX] * 3
    assert long[0] != long[1] == long[2]
    assert long[0].startswith("é" * 100)
    assert len(key(greet.options(unique="{text}"), 1, "x" * UNIQUE_CHARS_MAX)) == UNIQUE_CHARS_MAX


def test_by_name_a_template_sees_named_arguments_only() -> None:
    def made(*args: Any, **given: Any) -> str:
        return call.named("defer_job()", "a.b", args, given.pop("kwargs", None), given)[0].unique

    assert made(kwargs={"user_id": 7}, unique="user:{user_id}") == "user:7"
    assert made(1, unique="fixed") == "fixed"
    assert made(1, unique=True) == made(1, unique=True) != made(2, unique=True)
    with pytest.raises(InvalidJob, match=r"a\.b: unique is 'user:\{user_id\}'.*there is no argument 'user_id'"):
        made(7, unique="user:{user_id}")


# ---- what no key is ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("user:{id}", r"plain\(\): unique is 'user:\{id\}', but there is no argument 'id'; it has a, b"),
        ("{}", "there is no argument ''"),
        ("{0}", "there is no argument '0'"),
        ("{a", "no template such as"),
        ("{self}", "there is no argument 'self'"),
    ],
)
def test_a_template_that_names_no_argument_is_refused_where_it_stands(template: str, said: str) -> None:
    with pytest.raises(InvalidJob, match=said):
        plain.options(unique=template)
    with pytest.raises(InvalidJob, match=r"but there is no argument|no template"):
        job(unique=template)(plain.fn)
    with pytest.raises(InvalidJob, match=r"no argument"):
        job(unique="{self.name}")(Shop.sell.fn)


@pytest.mark.parametrize(
    ("template", "said"),
    [("{text}", "is empty for this call"), ("{text.nope}", "nope"), ("{user_id:zz}", "zz"), ("{user_id[0]}", "int")],
)
def test_a_template_that_cannot_be_filled_in_is_refused_by_the_call(template: str, said: str) -> None:
    with pytest.raises(InvalidJob, match=said):
        key(greet.options(unique=template), 1, "")


def test_a_default_that_cannot_be_sent_needs_a_template() -> None:
    def odd(a: int, b: object = object()) -> None: ...

    made = Job(odd, every.default, "x.odd")
    with pytest.raises(InvalidJob, match="give a template"):
        key(made, 1)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"unique": 5}, "expected text as 'user:{user_id}', or True"),
        ({"unique": True, "unique_scope": "all"}, "expected one of waiting, running"),
        ({"unique": True, "on_conflict": "ignore"}, "expected one of existing, replace, raise"),
        ({"unique": True, "unique_for": "soon"}, "unique_for is 'soon', expected a duration"),
        ({"unique": True, "unique_for": "1h", "unique_scope": "running"}, "exclude each other"),
        ({"unique_scope": "running"}, "unique_scope is for jobs with a key"),
        ({"on_conflict": "raise"}, "on_conflict is for jobs with a key"),
        ({"debounce": "1m", "countdown": 5}, "debounce and countdown exclude each other"),
        ({"debounce": "1m", "unique": True, "on_conflict": "raise"}, "debounce and on_conflict exclude"),
        ({"debounce": "never"}, "debounce is 'never', expected a duration"),
    ],
)
def test_options_that_cannot_be_are_refused_where_they_stand(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidJob, match=said):
        plain.options(**given)


# ---- what travels --------------------------------------------------------------------------------------


def test_the_key_travels_with_the_job_and_the_rules_with_its_options() -> None:
    assert greet.default.packed == b"", "what is default does not travel"
    held = options(greet.options(unique_for="10m", on_conflict="raise"))
    assert held == v2.Options(unique_for_s=600.0, on_conflict="raise")
    assert options(greet.options(unique_scope="waiting")) == v2.Options(unique_scope="waiting")
    assert greet.options(queue="x").default.packed == b"", "jobs of different keys share their options"


def test_debounce_is_a_delay_and_a_key_whose_last_call_counts() -> None:
    expected = v2.Options(delay_s=30.0, unique_scope="waiting", on_conflict="replace")
    assert options(plain.options(debounce="30s")) == options(greet.options(debounce=30)) == expected
    assert key(plain.options(debounce=30), 1) == key(plain.options(debounce=30), a=1) != ""
    assert key(greet.options(debounce=30), 1) == "user:1"


# ---- answers ---------------------------------------------------------------------------------------------


def test_an_ack_that_names_other_jobs() -> None:
    exchange = Exchange("tcp://router:1")
    first = exchange.deliver([v2.Job("a", "q", "n", b""), v2.Job("b", "q", "n", b"")], 0.0, 5.0)
    second = exchange.deliver([v2.Job("c", "q", "n", b"")], 0.0, 5.0)
    (frames,) = exchange.outgoing(0.0)
    n = v2.decode(frames[3], v2.Request).n
    ack = v2.Ack(n, [v2.Refusal("c", "duplicate", "no")], [("b", "x"), ("c", "y")])
    exchange.receive(v2.encode(b"ACK", ack), 0.1)
    assert (first.done, first.error, first.existing) == (True, None, {"b": "x"})
    assert isinstance(second.error, DuplicateJob)
    assert second.error.id == "y"


@pytest.fixture
def router() -> Iterator[FakeRouter]:
    with FakeRouter() as router:
        eventmq.configure(broker_addr=router.address, enqueue_timeout=5)
        yield router
        eventmq.configure()


def standing(router: FakeRouter) -> None:
    """User 1 has a job."""
    router.jobs["first"] = v2.Job("first", "default", greet.name, b"")
    router.stand_in = lambda job: "first" if job.unique == "user:1" else None


def test_the_handle_is_on_the_job_that_stands_for_the_call(router: FakeRouter) -> None:
    standing(router)
    handle = greet.delay(1)
    assert (handle, handle.created, handle.status) == ("first", False, "waiting")
    router.finish(v2.Result("first", "succeeded", v2.pack("hello 1"), None, 1))
    assert handle.result(5) == "hello 1"
    other = greet.delay(2)
    assert other.created
    assert other in router.jobs
    assert JobHandle("x").created
    assert pickle.loads(pickle.dumps(handle)) == "first"
    assert defer_job(greet, (1,)) == "first"


def test_the_handles_of_a_map_come_in_order(router: FakeRouter) -> None:
    standing(router)
    handles = greet.map([(1,), (2,), (1,), (3,)])
    assert [handle.created for handle in handles] == [False, True, False, True]
    assert [handle == "first" for handle in handles] == [True, False, True, False]
    assert list(router.jobs) == ["first", handles[1], handles[3]]


def test_the_same_in_asyncio(router: FakeRouter) -> None:
    standing(router)

    async def main() -> None:
        handle = await greet.adelay(1)
        assert (handle, handle.created) == ("first", False)
        assert [each.created for each in await greet.amap([(2,), (1,)])] == [True, False]
        assert await adefer_job(greet.name, kwargs={"user_id": 1}, unique="user:{user_id}") == "first"
        router.refuse = lambda job: v2.Refusal(job.id, "duplicate", "job first has the same key")
        with pytest.raises(DuplicateJob) as caught:
            await greet.options(on_conflict="raise").adelay(1)
        assert caught.value.id == "first"

    asyncio.run(main())


def test_a_duplicate_is_raised_with_the_id_of_the_other(router: FakeRouter) -> None:
    standing(router)
    strict = greet.options(on_conflict="raise")
    router.refuse = lambda job: v2.Refusal(job.id, "duplicate", "why") if job.unique == "user:1" else None
    with pytest.raises(DuplicateJob, match="duplicate") as caught:
        strict.delay(1)
    assert caught.value.id == "first"
    assert not isinstance(caught.value, JobRefused)
    with pytest.raises(DuplicateJob, match=r"1 of 3 jobs were refused, the others are stored"):
        strict.map([(5,), (1,), (6,)])
    assert len(router.jobs) == 3
