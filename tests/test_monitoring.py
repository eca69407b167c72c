"""What monitoring systems read: the metrics are those that are documented, and well-formed; health is told as it is."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from world import World, job

from eventmq import limits
from eventmq.broker.numbers import BOUNDS_S, Histogram
from eventmq.broker.outbox import ADMINISTRATIVE, BACKEND
from eventmq.errors import BrokerUnavailable, SettingsError
from eventmq.monitoring import pages
from eventmq.monitoring.listener import listening
from eventmq.monitoring.metrics import METRICS, text_of
from eventmq.monitoring.pages import Page, Pages
from eventmq.protocol import scheduling, v2
from eventmq.protocol.administration import OneQueue, Schedules
from eventmq.schedules.rule import Rule
from eventmq.settings import load

ROOT = Path(__file__).parent.parent


def asked(world: World) -> dict[str, Any]:
    """The answer to METRICS, as it arrives."""
    sent = world.turn((ADMINISTRATIVE, [b"monitor", *v2.encode(b"METRICS", v2.Question(1))]))
    (reply,) = [each for each in sent if each.peer == b"monitor"]
    answer: dict[str, Any] = v2.decode(reply.frames[3], v2.Answer).answer
    return answer


def busy() -> World:
    """A Router to which everything has happened that has a number."""
    world = World()
    world.join(b"manager", credit=2)
    world.enqueue(job("a"), job("b", name="tasks.fail"), job("c"), job("d", queue="mail"))
    a, b = world.handed(b"manager")
    world.finish(b"manager", a)
    world.finish(b"manager", b, state="failed")
    world.client(b"client", b"REQUEST", v2.Request(9, [job("bad", priority=1000)]))
    rule = Rule(interval_s=60.0)
    schedule = scheduling.Schedule("daily report", "token", rule, job("run"))
    world.client(b"client", b"SCHEDULE", scheduling.Arrange(1, schedule))
    world.router.act_on_schedule(Schedules("daily report", act="run", job="by hand"))
    world.router.pause(OneQueue("mail"))
    world.turn(after=5.0)
    return world


def series(text: str) -> dict[str, float]:
    """Every sample of a text, by its name and labels."""
    return {
        f"{sample.name}{sorted(sample.labels.items()) or ''}": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


# ---- metrics -------------------------------------------------------------------------------------------


def test_the_numbers_are_those_of_the_router() -> None:
    found = series(text_of(asked(busy()), inside=False)[0].decode())
    queue = "eventmq_queue_jobs[('queue', '{}'), ('state', '{}')]"
    assert found[queue.format("default", "waiting")] == 2, "and one by hand of the schedule"
    assert found[queue.format("default", "running")] == 0
    assert found[queue.format("mail", "waiting")] == 1
    assert found["eventmq_queue_oldest_age_seconds[('queue', 'mail')]"] == pytest.approx(5.0, abs=0.1)
    assert found["eventmq_queue_paused[('queue', 'mail')]"] == 1
    assert found["eventmq_queue_paused[('queue', 'default')]"] == 0
    assert found["eventmq_queue_managers[('queue', 'default')]"] == 1
    assert found["eventmq_queue_managers[('queue', 'mail')]"] == 0
    of_type = "eventmq_jobs_{}_total[('name', 'tasks.{}'){}, ('queue', 'default')]"
    assert found[of_type.format("enqueued", "add", "")] == 3
    assert found[of_type.format("failed", "fail", "")] == 1
    assert found[of_type.format("failed", "add", "")] == 0
    assert found[of_type.format("finished", "add", ", ('outcome', 'succeeded')")] == 1
    assert found["eventmq_refusals_total[('reason', 'invalid_job')]"] == 1
    assert found["eventmq_managers[('state', 'serving')]"] == 1
    assert found["eventmq_router_messages_total[('direction', 'received'), ('type', 'REQUEST')]"] == 2
    assert found["eventmq_schedules[('state', 'total')]"] == 1
    next_run = found["eventmq_schedule_next_run_timestamp_seconds[('schedule', 'daily report')]"]
    assert next_run == pytest.approx(1_790_000_000, abs=120)


def test_what_is_exposed_is_what_is_documented() -> None:
    text = text_of(asked(busy()), inside=False)[0].decode()
    exposed = {family.name: family for family in text_string_to_metric_families(text)}
    page = (ROOT / "docs/operations.md").read_text()
    rows = re.findall(r"^\| `(eventmq_\w+)` \| (\w+) \|([^|]*)\| ([^|]+) \|$", page, re.MULTILINE)
    documented = [(name, kind, tuple(re.findall(r"`(\w+)`", labels)), help) for name, kind, labels, help in rows]
    assert documented == [(row.name, row.kind, row.labels, row.help) for row in METRICS]
    for name, kind, labels, help in documented:
        family = exposed.pop(name.removesuffix("_total") if kind == "counter" else name)
        assert (family.type, family.documentation) == (kind, help)
        seen = {label for sample in family.samples for label in sample.labels} - {"le"}
        assert seen == set(labels), name
    assert not exposed, "exposed and not documented"


def test_names_follow_the_rules_of_promtool() -> None:
    for row in METRICS:
        assert re.fullmatch(r"eventmq(_[a-z]+)+", row.name)
        assert row.name.endswith("_total") == (row.kind == "counter"), (
            f"{row.name}: _total is for counters, all of them"
        )
        assert not re.search(r"_(ms|milliseconds|minutes|kilobytes|count|sum|bucket)(_|$)", row.name), "no base unit"
        assert row.kind != "histogram" or row.name.endswith("_seconds")
        assert not {"id", "job_id", "le", "quantile"} & set(row.labels), "no ids, nothing that is Prometheus's own"
        assert row.help.endswith(".")


def test_a_histogram_is_cumulative_and_its_last_bucket_is_its_count() -> None:
    numbers = asked(busy())
    numbers["turns"] = {"bounds_s": [0.1, 1.0], "counts": [3, 5, 6], "sum_s": 4.5}
    found = series(text_of(numbers, inside=False)[0].decode())
    buckets = [found[f"eventmq_router_turn_seconds_bucket[('le', '{le}')]"] for le in ("0.1", "1.0", "+Inf")]
    assert buckets == [3, 5, 6]
    assert (found["eventmq_router_turn_seconds_count"], found["eventmq_router_turn_seconds_sum"]) == (6, 4.5)


def test_waits_are_told_by_queue_and_runs_by_queue_and_name() -> None:
    world = World()
    world.enqueue(job("a"), job("b", name="tasks.mul"))
    world.turn(after=2.0)
    world.join(b"m", credit=2)
    first, second = world.handed(b"m")
    outcomes = [v2.Outcome(j.id, j.lease, "succeeded", v2.pack(1), None, s) for j, s in ((first, 0.02), (second, 40.0))]
    world.manager(b"m", b"REPLY", v2.Reply(1, outcomes, 2))
    found = series(text_of(asked(world), inside=False)[0].decode())
    wait = "eventmq_job_wait_seconds_{}[('queue', 'default')]"
    assert found[wait.format("count")] == 2
    assert found[wait.format("sum")] == pytest.approx(4.0, abs=0.1)
    buckets = "eventmq_job_wait_seconds_bucket[('le', '{}'), ('queue', 'default')]"
    assert [found[buckets.format(le)] for le in ("1.0", "2.5", "1800.0", "+Inf")] == [0, 2, 2, 2]
    run = "eventmq_job_run_seconds_bucket[('le', '{}'), ('name', 'tasks.mul'), ('queue', 'default')]"
    assert [found[run.format(le)] for le in ("30.0", "60.0", "+Inf")] == [0, 1, 1]


def test_what_the_router_itself_takes_falls_into_buckets() -> None:
    histogram = Histogram()
    for seconds in (0.0001, 0.0005, 0.003, 60.0):
        histogram.observe(seconds)
    plain = histogram.plain()
    assert dict(zip(plain["bounds_s"], plain["counts"], strict=False)) == {
        bound: 2 if bound < 0.005 else 3 for bound in BOUNDS_S
    }
    assert (plain["counts"][-1], plain["sum_s"]) == (4, pytest.approx(60.0036))


def test_a_manager_is_told_by_how_it_is() -> None:
    world = World()
    for name in (b"a", b"b", b"c"):
        world.join(name, credit=1)
    world.router.drain_manager(world.router.pool.managers[b"b"])
    world.turn(gone=[(BACKEND, b"c")])
    assert asked(world)["managers"] == {"serving": 1, "draining": 1, "gone": 1, "expected": 0}
    world.restart()
    assert asked(world)["managers"]["expected"] == 3


def test_only_so_many_schedules_have_numbers_of_their_own_and_none_that_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "METRICS_SCHEDULES_MAX", 2)
    world = World()
    for n, name in enumerate("abcd"):
        schedule = scheduling.Schedule(name, name, Rule(interval_s=60.0), job("run"))
        world.client(b"client", b"SCHEDULE", scheduling.Arrange(n, schedule))
    world.router.schedules.remove("a", world.wall)
    assert [id for id, _ in asked(world)["each_schedule"]] == ["b", "c"]


def test_a_queue_by_any_name_is_one_label() -> None:
    world = World()
    name = 'a"b\\c\nd{}'
    world.enqueue(job("a", queue=name))
    found = series(text_of(asked(world), inside=False)[0].decode())
    assert found[f"eventmq_queue_paused{[('queue', name)]}"] == 0


def test_only_so_many_queues_have_numbers_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "METRICS_QUEUES_MAX", 2)
    world = World()
    world.enqueue(*(job(name, queue=name) for name in "abc"))
    numbers = asked(world)
    assert (list(numbers["queues"]), numbers["queues_total"]) == (["a", "b"], 3)


def test_a_delayed_job_is_not_old_before_it_is_due() -> None:
    world = World()
    world.enqueue(job("a", options=v2.pack_options(v2.Options(delay_s=100.0))))
    world.wait(101, step=1.0)
    assert asked(world)["queues"]["default"]["oldest_s"] < 2.0


def test_inside_the_router_its_process_is_told_too() -> None:
    text = text_of(asked(busy()), inside=True)[0].decode()
    assert "process_resident_memory_bytes" in text
    assert "python_info" in text


# ---- pages ---------------------------------------------------------------------------------------------


def test_a_loop_that_stands_still_is_not_alive() -> None:
    assert pages.loop_turns(time.monotonic)["loop"] == ""
    stuck = Pages(lambda: pages.loop_turns(lambda: time.monotonic() - limits.LIVE_S - 1), dict)
    assert stuck.get("/livez").status == 503
    assert b"has not turned for 16 s" in stuck.get("/livez").body
    assert stuck.get("/healthz").status == 503


def test_ready_names_what_is_wrong_and_when_asked_all_that_is_looked_at() -> None:
    wrong = {"store": "no room for new jobs", "accepting": ""}
    found = Pages(dict, lambda: wrong)
    assert found.get("/readyz") == Page(503, b"[-] store: no room for new jobs\nfailed\n")
    assert found.get("/readyz?verbose").body == b"[-] store: no room for new jobs\n[+] accepting: ok\nfailed\n"
    wrong["store"] = ""
    assert found.get("/readyz") == Page(200, b"ok\n")
    assert found.get("/nowhere").status == 404
    assert found.get("/metrics").status == 404, "a job manager has none"


def answers(monkeypatch: pytest.MonkeyPatch, answer: Any) -> Pages:
    def ask(addr: str) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(pages, "_ask", ask)
    return pages.of_router("tcp://127.0.0.1:1")


@pytest.mark.parametrize(
    ("change", "said"),
    [({}, b"ok\n"), ({"draining": True}, b"accepting: told to end"), ({"store": {"room": False}}, b"store: no room")],
)
def test_a_router_is_ready_while_it_takes_jobs(monkeypatch: pytest.MonkeyPatch, change: Any, said: bytes) -> None:
    page = answers(monkeypatch, asked(busy()) | change).get("/readyz")
    assert page.status == (503 if change else 200)
    assert said in page.body


def test_a_router_that_does_not_answer_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = answers(monkeypatch, BrokerUnavailable("it did not answer"))
    assert silent.get("/readyz") == Page(503, b"[-] answers: it did not answer\nfailed\n")
    assert silent.get("/metrics") == Page(503, b"it did not answer\n")
    assert silent.get("/livez").status == 200


def test_without_the_extra_the_page_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.delitem(sys.modules, "eventmq.monitoring.metrics")
    monkeypatch.delattr("eventmq.monitoring.metrics")
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    page = answers(monkeypatch, {}).get("/metrics")
    assert page.status == 501
    assert b"pip install 'eventmq[metrics]'" in page.body


# ---- over HTTP -----------------------------------------------------------------------------------------


@pytest.fixture
def http() -> Iterator[str]:
    with listening("http://127.0.0.1:*", Pages(dict, dict, lambda: Page(200, b"x 1\n", "text/plain"))) as http_addr:
        yield http_addr


def test_pages_are_served(http: str) -> None:
    got = httpx.get(f"{http}/metrics")
    assert (got.status_code, got.text, got.headers["cache-control"]) == (200, "x 1\n", "no-store")
    assert httpx.head(f"{http}/livez").status_code == 200
    assert httpx.post(f"{http}/livez").status_code == 405
    assert httpx.get(f"{http}/elsewhere").status_code == 404


def test_who_says_nothing_holds_up_nobody_for_long(http: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventmq.monitoring.listener.HTTP_REQUEST_S", 0.2)
    place = ("127.0.0.1", int(http.rpartition(":")[2]))
    silent = [socket.create_connection(place) for _ in range(limits.HTTP_THREADS)]
    try:
        assert httpx.get(f"{http}/livez", timeout=10).status_code == 200
    finally:
        for each in silent:
            each.close()


def test_who_says_too_much_is_not_listened_to(http: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventmq.monitoring.listener.HTTP_REQUEST_S", 60.0)
    place = ("127.0.0.1", int(http.rpartition(":")[2]))
    with socket.create_connection(place, timeout=10) as chatty, contextlib.suppress(ConnectionError):
        chatty.sendall(b"GET /livez HTTP/1.1\r\nX: " + b"x" * 2 * limits.HTTP_REQUEST_BYTES_MAX)
        assert chatty.recv(1) == b""


@pytest.mark.parametrize("request_line", [b"\r\n\r\n", b"\xff\x00 \xfe\r\n\r\n", b"GET\r\n\r\n", b"GET  \r\n\r\n"])
def test_what_is_no_request_is_answered_and_forgotten(http: str, request_line: bytes) -> None:
    with socket.create_connection(("127.0.0.1", int(http.rpartition(":")[2]))) as connection:
        connection.sendall(request_line)
        assert re.match(rb"HTTP/1.1 40[45] ", connection.recv(100))
    assert httpx.get(f"{http}/livez").status_code == 200


def test_it_listens_while_it_is_to_and_only_if_it_is_to() -> None:
    before = threading.active_count()
    with listening("", Pages(dict, dict)):
        assert threading.active_count() == before
    with listening("http://127.0.0.1:*", Pages(dict, dict)) as http:
        assert httpx.get(f"{http}/livez").status_code == 200
        with pytest.raises(SettingsError, match="cannot listen on http://"), listening(http, Pages(dict, dict)):
            pytest.fail("two on one port")
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{http}/livez")


@pytest.mark.parametrize(
    ("text", "read"), [("127.0.0.1:1", "http://127.0.0.1:1"), ("http://[::1]:2", "http://[::1]:2")]
)
def test_where_it_listens_is_a_setting(text: str, read: str) -> None:
    assert load("router", {"http_addr": text}, {}).http_addr == read
    assert load("router", {}, {}).http_addr == ""
    with pytest.raises(SettingsError, match="expects an address such as http://"):
        load("router", {"http_addr": "foo"}, {})


@pytest.mark.parametrize(("component", "name"), [("router", "http_addr"), ("jobmanager", "health_addr")])
def test_it_is_not_open_to_other_machines_unless_told(component: str, name: str) -> None:
    with pytest.raises(SettingsError, match="open to other machines, and whoever reaches it can see how it is"):
        load(component, {name: "0.0.0.0:1"}, {})
    assert load(component, {name: "0.0.0.0:1", "allow_insecure_bind": "true"}, {})
