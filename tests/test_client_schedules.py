"""`schedule`, `unschedule` and `@job(schedule=…)`: what travels, and what is refused before anything does."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fake_router import FakeRouter

import eventmq
from eventmq import Cron, Every, InvalidJob, InvalidSchedule, JobRefused, job, schedule, unschedule
from eventmq.client import jobs
from eventmq.protocol import calls, v2
from eventmq.protocol.calls import call_key
from eventmq.workers.declared import import_modules


@job
def resize(path: str, width: int = 800) -> str:
    return f"{path} {width}"


class Report:
    def __init__(self, title: str = "") -> None:
        self.title = title

    @job
    def send(self, to: str) -> None: ...


@pytest.fixture
def router() -> Iterator[FakeRouter]:
    with FakeRouter() as router:
        eventmq.configure(broker_addr=router.address, enqueue_timeout=5)
        yield router
        eventmq.configure(broker_addr=None)


# ---- what travels ----------------------------------------------------------------------------------------


def test_the_call_forms_of_0_3_13(router: FakeRouter) -> None:
    id = schedule(resize, interval_secs=60, args=("a.png",), kwargs={"width": 200})
    made = router.schedules[id]
    assert made.rule == Every(60)
    assert (made.job.name, made.job.queue) == (f"{__name__}.resize", "default")
    assert calls.unpack_call(made.job.payload)[:2] == (["a.png"], {"width": 200})
    assert id == call_key(made.job.name, made.job.payload)
    assert schedule(resize, interval_secs=30, args=("a.png",), kwargs={"width": 200}) == id, "the same call"
    assert schedule(resize, cron="0 9 * * 1-5", args=("b.png",)) != id
    method = schedule(Report.send, interval_secs=1, args=("me",), class_args=("June",))
    assert calls.unpack_call(router.schedules[method].job.payload).class_args == ["June"]
    assert unschedule(resize, args=("a.png",), kwargs={"width": 200}) is True
    assert unschedule(resize, args=("a.png",), kwargs={"width": 200}) is False
    assert unschedule(Report.send, args=("me",), class_args=("June",)) is True


def test_ours(router: FakeRouter) -> None:
    rule = Cron("0 9 * * *", tz="Europe/Prague", jitter="10s", misfire="skip", overlap="replace")
    assert schedule(resize, rule, ("a.png",), name="daily", queue="slow", retries=3, priority=5) == "daily"
    made = router.schedules["daily"]
    assert made.rule == rule
    assert (made.job.queue, made.job.priority) == ("slow", 5)
    assert v2.decode(made.job.options, v2.Options).retries == 3
    assert schedule("shop.jobs.clean", interval_secs=timedelta(minutes=5), name="clean", nohaste=True, run_count=3)
    assert router.schedules["clean"].rule == Every("5m", nohaste=True, run_count=3)
    schedule("shop.jobs.clean", cron="@hourly", tz="Asia/Tokyo", name="clean", grace="5m")
    assert router.schedules["clean"].rule == Cron("@hourly", tz="Asia/Tokyo", grace=300)
    assert unschedule(name="daily")
    assert unschedule(name="clean")


def test_each_call_has_a_token_of_its_own_and_a_resent_one_the_same(router: FakeRouter) -> None:
    router.deaf = 1
    schedule(resize, interval_secs=60, args=("a",), name="a")
    first = router.schedules["a"].token
    assert router.count(b"SCHEDULE") == 2
    sent = [v2.unpack(body)[1][1] for command, body in router.messages if command == b"SCHEDULE"]
    assert sent == [first, first]
    schedule(resize, interval_secs=60, args=("a",), name="a")
    assert router.schedules["a"].token != first


def test_asyncio(router: FakeRouter) -> None:
    async def go() -> None:
        assert await eventmq.aschedule(resize, Every(5), ("a",), name="a") == "a"
        assert await eventmq.aunschedule(name="a") is True
        assert await eventmq.aunschedule(resize, ("a",)) is False

    asyncio.run(go())


def test_a_router_that_cannot_now_is_asked_again_and_one_that_will_not_is_believed(router: FakeRouter) -> None:
    router.say_no = ["draining", "storage_full"]
    schedule(resize, interval_secs=60, args=("a",), name="a")
    assert router.count(b"SCHEDULE") == 3
    router.say_no = ["invalid_schedule"]
    with pytest.raises(JobRefused, match="invalid_schedule") as refused:
        schedule(resize, interval_secs=60, args=("a",))
    assert refused.value.reason == "invalid_schedule"


def test_without_a_router_nothing_runs_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("EMQ_BROKER_ADDR", "EVENTMQ_BROKER_ADDR", "EVENTMQ_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(eventmq.BrokerUnavailable, match="no Router is configured"):
        schedule(resize, interval_secs=60, args=("a",))


# ---- what is refused, with nothing sent --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "got none of them"),
        ({"interval_secs": 5, "cron": "* * * * *"}, "got both interval_secs and cron"),
        ({"when": Every(5), "interval_secs": 5}, "got both a rule and interval_secs"),
        ({"cron": "0 0 31 4 *"}, "never due"),
        ({"cron": "* * * *"}, "4 fields"),
        ({"cron": "* * * * *", "tz": "Mars/Olympus"}, "no time zone 'Mars/Olympus'"),
        ({"interval_secs": 5, "tz": "UTC"}, "an interval has none"),
        ({"when": "5m"}, "got '5m'"),
        ({"when": Every(5), "jitter": 5}, "jitter beside it; say that in the rule"),
        ({"cron": "* * * * *", "nohaste": True}, "nohaste"),
        ({"interval_secs": 5, "misfire": "maybe"}, "misfire"),
        ({"interval_secs": 5, "id": "x"}, "for one job"),
        ({"interval_secs": 5, "overlap": "skip", "unique": True}, "exclude each other"),
        ({"interval_secs": 5, "name": "x" * 201}, "at most 200 characters"),
        ({"interval_secs": 5, "args": ("x" * 20_000,)}, "20,006 bytes"),
    ],
)
def test_what_cannot_be_is_said_at_once(router: FakeRouter, given: dict[str, Any], said: str) -> None:
    with pytest.raises((InvalidSchedule, TypeError), match=said):
        schedule(resize, **{"args": ("a",), **given})
    assert router.messages == []


def test_wrong_arguments_and_options_of_the_job(router: FakeRouter) -> None:
    with pytest.raises(InvalidJob, match="path"):
        schedule(resize, interval_secs=5)
    with pytest.raises(InvalidJob, match="no option 'nonsense'"):
        schedule(resize, interval_secs=5, args=("a",), nonsense=1)  # type: ignore[call-arg]
    with pytest.raises(InvalidSchedule, match="the schedule's name, or what it calls"):
        unschedule()
    assert router.messages == []


# ---- beside the job -----------------------------------------------------------------------------------------


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    kept = list(jobs.declared)
    yield tmp_path
    jobs.declared[:] = kept
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_schedules_beside_jobs_belong_to_the_module_that_brought_them(modules: Path) -> None:
    head = "from eventmq import Cron, Every, job\n"
    (modules / "shop_mail.py").write_text(head + "@job(schedule=Every('5m'), queue='mail')\ndef send(to='all'): ...\n")
    (modules / "shop.py").write_text(
        head + "import shop_mail\n@job(schedule=Cron('0 9 * * 1-5', tz='Europe/Prague'))\nasync def report(): ...\n"
    )
    (modules / "shop_other.py").write_text("import shop_mail\n")
    shop, other = import_modules(["shop", "shop_other"])
    assert (shop.module, other.module) == ("shop", "shop_other")
    assert [each.id for each in shop.schedules] == ["shop_mail.send", "shop.report"]
    assert other.schedules == []
    mail, report = shop.schedules
    assert (mail.rule, mail.job.queue, mail.job.name) == (Every("5m"), "mail", "shop_mail.send")
    assert report.rule == Cron("0 9 * * 1-5", tz="Europe/Prague")
    assert shop.since <= other.since


@pytest.mark.parametrize(
    ("decorate", "said"),
    [
        (lambda: job(schedule="5m")(resize.fn), "schedule is '5m', expected Every"),
        (lambda: job(schedule=Every(5))(resize.fn), "missing a required argument: 'path'; .* use schedule"),
        (lambda: job(schedule=Every(5, overlap="skip"), unique=True)(lambda: None), "a lambda"),
        (lambda: job(schedule=Every(5))(Report.send.fn), "missing a required argument: 'to'"),
    ],
)
def test_a_schedule_beside_what_cannot_be_called_without_arguments(decorate: Any, said: str) -> None:
    with pytest.raises((InvalidSchedule, InvalidJob), match=said):
        decorate()
    assert jobs.declared == []
