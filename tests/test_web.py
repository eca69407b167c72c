"""The dashboard without a browser: pages, forms, what is hidden, hostile texts. Who is let in: `test_web_door`."""

from __future__ import annotations

import html
import json
import re
import time
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest
from fake_admin import WALL, FakeAdmin
from web_site import CANARY, FORMS, PAGES, Site

from eventmq.web import charts, show
from eventmq.web.app import ROUTES
from eventmq.web.limits import BODY_BYTES_MAX
from eventmq.web.redaction import HIDDEN, Redaction


def wait_for(condition: Callable[[], bool], within_s: float = 10.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture
def admin() -> FakeAdmin:
    return FakeAdmin()


@pytest.fixture
def site(admin: FakeAdmin) -> Site:
    return Site(admin)


def shape(told: Any) -> Any:
    return {name: shape(inner) for name, inner in told.items()} if isinstance(told, dict) else type(told)


# ---- pages -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES)
def test_every_page_is_there_as_html_and_as_json(site: Site, path: str) -> None:
    page = site.page(path)
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "<h1>" in page.text
    assert "TypeError" not in page.text
    told = site.page(path, suffix=".json").json()
    assert told
    assert shape(told) == shape(site.page(path, headers={"Accept": "application/json"}).json())


def test_what_an_event_makes_a_page_fetch_again_is_its_live_part_only(site: Site) -> None:
    part = site.get("/queues", headers={"HX-Request": "true"}).text
    assert "<table" in part
    assert "<html" not in part
    assert part.strip() in site.get("/queues").text


def test_the_whole_filter_is_in_the_url_and_goes_to_the_router(site: Site) -> None:
    page = site.get("/jobs", params={"q": "state:dead,lost queue:mail error:'no route' arg.user_id:42", "before": "88"})
    assert page.status_code == 200
    assert site.admin.selected == {
        "states": ["dead", "lost"],
        "queue": "mail",
        "error": "no route",
        "arguments": {"user_id": "42"},
        "before": 88,
    }
    assert page.text.count('aria-current="true"') == 3  # two states and the window


def test_a_page_of_jobs_names_the_next_one_and_remembers_the_query(site: Site) -> None:
    site.admin.jobs_total = 1_000
    page = site.get("/jobs", params={"q": "queue:mail"}).text
    assert page.count('<tr id="job-') == 50
    assert 'href="/jobs?q=queue%3Amail&amp;before=77"' in page


def test_jobs_are_exported_as_json_lines(site: Site) -> None:
    answer = site.get("/jobs.jsonl", params={"q": "state:dead"})
    assert answer.headers["content-disposition"] == 'attachment; filename="jobs.jsonl"'
    assert [json.loads(line)["state"] for line in answer.text.splitlines()] == ["dead"] * 3


def test_exports_are_few_at_a_time(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventmq.web.app.EXPORTS_MAX", 1)
    assert [site.get("/jobs.jsonl").status_code for _ in range(3)] == [200] * 3
    site.dashboard.exporting = 1
    assert site.get("/jobs.jsonl").status_code == 503
    assert site.get("/jobs.jsonl", params={"q": "state:done"}).status_code == 400


def test_each_step_of_a_chart_leads_to_its_jobs(site: Site) -> None:
    page = site.get("/jobs", params={"q": "queue:mail since:7d"}).text
    links = re.findall(r'<a href="([^"]+)"><time', page)
    assert len(links) == 15
    site.client.get(html.unescape(links[2]))
    assert site.admin.selected["queue"] == "mail"
    assert site.admin.selected["until"] - site.admin.selected["since"] == 60


# ---- bounds ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "given"),
    [
        ("/", {"window": "9999d"}),
        ("/jobs", {"q": "colour:red"}),
        ("/jobs", {"q": "state:done"}),
        ("/jobs", {"q": "x" * 2_001}),
        ("/jobs", {"before": "-1"}),
        ("/jobs", {"before": "9" * 30}),
        ("/jobs", {"before": "\u0663"}),
        ("/jobs", {"q": "error:'"}),
        ("/jobs", {"q": "until:9999-12-31T23:59:59-23:59"}),
        ("/jobs", {"q": "until:0001-01-01T00:00+23:59"}),
        ("/queues", {"skip": "1e9"}),
        ("/queue", {}),
        ("/queue", {"name": "x" * 201}),
        ("/job", {"id": "x" * 65}),
        ("/types", {"window": "<script>"}),
    ],
)
def test_every_parameter_is_checked(site: Site, path: str, given: dict[str, str]) -> None:
    page = site.client.get(path, params=given)
    assert page.status_code == 400
    assert 'class="problem"' in page.text
    assert "hx-get" not in page.text  # it stays until it is read
    assert site.client.get(f"{'/overview' if path == '/' else path}.json", params=given).json()["error"]


def test_what_is_not_there_is_said(site: Site) -> None:
    assert site.get("/job", params={"id": "none"}).status_code == 404
    assert site.get("/queue", params={"name": "other"}).status_code == 404
    assert site.get("/act", params={"id": "other"}).status_code == 404
    assert site.post("/schedule/pause", id="none").status_code == 404
    assert site.post("/worker/drain", name="other").status_code == 404
    assert site.get("/nothing").status_code == 404


def test_a_form_that_is_too_large_is_refused(site: Site) -> None:
    assert site.post("/job/rerun", id="1f", arguments="x" * BODY_BYTES_MAX).status_code == 413
    assert site.admin.told == []


# ---- a Router that is not there ------------------------------------------------------------------------------


def test_pages_say_that_the_router_is_gone_and_recover(site: Site) -> None:
    site.admin.gone = True
    for path in PAGES:
        page = site.page(path)
        assert path == "/act" or (page.status_code, "no Router answers" in page.text) == (503, True)
        assert (page.status_code == 503) == ("refresh" in page.headers)
    site.admin.gone = False
    assert site.get("/").status_code == 200


# ---- forms ---------------------------------------------------------------------------------------------------

DOES = {
    "/queue/pause": ({"name": "mail"}, ("PAUSE", {"queue": "mail"})),
    "/queue/resume": ({"name": "mail"}, ("RESUME", {"queue": "mail"})),
    "/queue/drain": ({"name": "mail"}, ("DRAIN", {"queue": "mail"})),
    "/queue/limit": ({"name": "mail", "jobs_max": "10"}, ("LIMIT", {"queue": "mail", "jobs_max": 10})),
    "/queue/purge": ({"name": "mail", "typed": "mail"}, None),
    "/worker/drain": ({"name": "mail"}, ("DRAIN_MANAGER", {"manager": "mail"})),
    "/schedule/pause": ({"id": "daily"}, ("SCHEDULE", {"id": "daily", "act": "pause"})),
    "/schedule/resume": ({"id": "daily"}, ("SCHEDULE", {"id": "daily", "act": "resume"})),
    "/schedule/run": ({"id": "daily"}, ("SCHEDULE", {"id": "daily", "act": "run"})),
    "/schedule/remove": ({"id": "daily"}, ("SCHEDULE", {"id": "daily", "act": "remove"})),
    "/job/requeue": ({"id": "1f"}, ("REQUEUE", {"ids": ["1f"]})),
    "/job/cancel": ({"id": "1f"}, ("CANCEL", {"ids": ["1f"]})),
    "/job/purge": ({"id": "1f"}, ("PURGE", {"ids": ["1f"]})),
    "/job/rerun": ({"id": "1f"}, ("RERUN", {"id": "1f", "arguments": None})),
    "/acts": ({"do": "cancel", "which": "all", "q": "queue:mail"}, None),
    "/act/go": ({}, ("REQUEUE", {"queue": "mail"})),
    "/act/stop": ({}, None),
}


@pytest.mark.parametrize("path", FORMS)
def test_every_form_does_what_it_says(site: Site, path: str) -> None:
    fields, told = DOES[path]
    fields = fields or {"id": site.act()}
    answer = site.post(path, **fields)
    assert answer.status_code == 303
    assert site.client.get(answer.headers["location"]).status_code == 200
    wait_for(lambda: len(site.admin.told) == (told is not None))
    for command, params in site.admin.told:
        assert told is not None
        assert command == told[0]
        assert told[1].items() <= params.items()


def test_the_next_page_says_what_was_done_and_says_it_once(site: Site) -> None:
    answer = site.post("/queue/pause", name="mail")
    said = '<div id="told" role="status"><p>Queue mail is paused.</p></div>'
    assert said in site.client.get(answer.headers["location"]).text
    assert said not in site.client.get(answer.headers["location"]).text


def test_purging_a_queue_takes_its_name_and_then_the_number(site: Site) -> None:
    assert '<input name="typed"' in site.page("/queue").text
    assert site.post("/queue/purge", name="mail", typed="mial").status_code == 400
    answer = site.post("/queue/purge", name="mail", typed="mail")
    assert "Cancel 3 jobs?" in site.client.get(answer.headers["location"]).text
    assert site.admin.told == []


def test_an_act_on_many_jobs_states_their_number_and_does_nothing_before_it_is_told_to(site: Site) -> None:
    asked = site.post("/acts", do="requeue", which="all", q="queue:mail")
    page = site.client.get(asked.headers["location"])
    assert "Requeue 3 jobs?" in page.text
    assert site.admin.told == []
    id = page.url.params["id"]
    site.post("/act/go", id=id)
    wait_for(lambda: "Done: 3 of 3 jobs" in site.client.get(asked.headers["location"]).text)
    states = ["dead", "lost", "expired"]
    assert site.admin.told == [("REQUEUE", {"queue": "mail", "states": states, "before": 99, "limit": 3})]
    site.post("/act/go", id=id)
    assert len(site.admin.told) == 1


def test_an_act_is_about_those_selected_and_only_those_that_can(site: Site) -> None:
    asked = site.post("/acts", do="cancel", which="selected", id=["a1", "b2"])
    act = site.dashboard.bulk.find(asked.headers["location"].partition("=")[2])
    assert act is not None
    assert (act.selection.ids, act.selection.states) == (["a1", "b2"], ["waiting", "delayed", "running"])
    assert site.post("/acts", do="cancel", which="selected").status_code == 400
    assert site.post("/acts", do="cancel", which="all", q="state:dead").status_code == 400


def test_no_more_than_so_many_acts_go_on_at_a_time(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventmq.web.bulk.ACTS_RUNNING_MAX", 0)
    assert site.post("/acts", do="cancel", which="all", q="").status_code == 409


def test_acts_that_are_over_are_forgotten(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventmq.web.bulk.ACTS_MAX", 2)
    ids = [site.act() for _ in range(3)]
    assert [site.dashboard.bulk.find(id) is not None for id in ids] == [False, True, True]


# ---- what is hidden -------------------------------------------------------------------------------------------


def test_arguments_with_certain_names_are_on_no_page(site: Site) -> None:
    for path in ("/job", "/job.json"):
        shown = site.get(path, params={"id": "succeeded"}).text
        assert "hunter2" not in shown
        assert "db_password" in shown
        assert "access_token" in shown
    assert site.get("/jobs", params={"q": "arg.db_password:hunter2"}).status_code == 400


def test_who_runs_a_job_again_leaves_what_is_hidden_as_it_is(site: Site) -> None:
    edited = {"args": [2, "mail"], "kwargs": {"user_id": 43, "db_password": HIDDEN, "mail": "mail"}}
    assert site.post("/job/rerun", id="1f", arguments=json.dumps(edited)).status_code == 303
    ((_, params),) = site.admin.told
    assert params["arguments"] == edited | {"kwargs": edited["kwargs"] | {"db_password": "hunter2"}}


def test_a_job_that_is_run_again_unchanged_keeps_its_very_arguments(site: Site) -> None:
    page = site.page("/job", suffix=".json").json()
    site.post("/job/rerun", id="1f", arguments=page["editable"])
    assert site.admin.told[0][1]["arguments"] is None
    beyond = (f"{2**64}", '"\\ud800"', "[" * 100_000 + "]" * 100_000)
    wrongs = (
        "{",
        "[]",
        '{"args": {}, "kwargs": {}}',
        '{"args": []}',
        *(f'{{"args": [{each}], "kwargs": {{}}}}' for each in beyond),
    )
    for wrong in wrongs:
        assert site.post("/job/rerun", id="1f", arguments=wrong).status_code == 400


def test_hiding_goes_to_any_depth_and_back() -> None:
    redaction = Redaction(["token"])
    original = {"args": [{"token": 1, "x": [{"API_TOKEN": {"deep": 2}}]}], "kwargs": {}}
    shown = redaction.of(original)
    assert shown == {"args": [{"token": HIDDEN, "x": [{"API_TOKEN": HIDDEN}]}], "kwargs": {}}
    assert redaction.filled(shown, original) == original
    assert redaction.filled({"args": [HIDDEN], "kwargs": {"x": HIDDEN}}, original) == {
        "args": [HIDDEN],
        "kwargs": {"x": HIDDEN},
    }


def test_secrets_are_not_on_the_page_of_settings(admin: FakeAdmin) -> None:
    secret = "a secret of ours, long"
    site = Site(admin, web_admin_secret=secret)
    site.client.auth = ("admin", secret)
    page = site.page("/system")
    assert page.status_code == 200
    assert "web_admin_secret" in page.text
    assert secret not in page.text
    assert secret not in site.page("/system", suffix=".json").text
    assert secret not in repr(site.dashboard.settings)


def test_values_of_the_system_page_are_for_people(site: Site) -> None:
    plain = show.plain
    assert plain(None) == "–"
    assert plain({"paused": False, "jobs_max": 12345}) == "paused no, jobs_max 12\u202f345"
    assert plain(((15, "email"), (10, "default"))) == "email:15, default:10"
    assert plain((("email", 1000),)) == "email:1000"
    assert (plain(3661.0, "uptime_s"), plain(86400.0), plain(WALL, "wall")) == (
        "1 h 1 m",
        "86\u202f400",
        show.iso(WALL),
    )
    text = site.page("/system").text
    for raw in ("None", "True", "False", "{&#39;", "(&#39;", "((", str(1 << 40), str(WALL)):
        assert f"<td>{raw}" not in text


# ---- words ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "shown", "part"),
    [
        (0.25, "25%", 0.25),
        ({"done": 3, "total": 12, "text": "rows"}, "3 of 12 rows", 0.25),
        ({"done": 3, "total": None, "text": ""}, "3", None),
        ({"done": 9, "total": 3, "text": ""}, "9 of 3", 1.0),
        ("half", "half", None),
        ([1, 2], "[1, 2]", None),
        ({"done": "x", "total": 0, "text": "y"}, "x of 0 y", None),
    ],
)
def test_progress_is_shown_whatever_it_is(told: Any, shown: str, part: float | None) -> None:
    assert (show.progress(told), show.share(told)) == (shown, part)


def test_a_sparkline_stays_in_its_box() -> None:
    for values in ([], [0], [5, None, 10], [1e12, 0]):
        places = [tuple(map(float, point.split(","))) for point in charts.points(values).split()]
        assert len(places) == len(values)
        assert all(0 <= x <= charts.SPARK_WIDTH and 0 <= y <= charts.SPARK_HEIGHT for x, y in places)


# ---- hostile texts --------------------------------------------------------------------------------------------


class Markup(HTMLParser):
    """What a browser makes of a page, as far as it could do harm."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


@pytest.mark.parametrize("path", PAGES)
def test_a_text_of_a_peer_is_text_wherever_it_is_shown(path: str) -> None:
    tame, hostile = Site(FakeAdmin("mail")), Site(FakeAdmin(CANARY))
    page = hostile.page(path)
    assert page.status_code == 200
    assert CANARY not in page.text
    tags = Markup(page.text).tags
    assert [tag for tag, _ in tags] == [tag for tag, _ in Markup(tame.page(path).text).tags]
    for tag, attributes in tags:
        assert tag not in ("style", "iframe", "object", "base")
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        assert tag != "script" or (attributes["src"] or "").startswith("/static/")
        for name in ("href", "src", "action"):
            assert (attributes.get(name) or "/").startswith(("/", "#"))


def test_every_page_of_a_hostile_router_shows_its_texts(site: Site) -> None:
    """The test above would be worth nothing if a page showed none of them."""
    hostile = Site(FakeAdmin(CANARY))
    shown = [path for path in PAGES if "&lt;script&gt;alert(1)" in hostile.page(path).text]
    assert shown == [path for path in PAGES if path != "/act"]
    assert re.search("&lt;script&gt;", hostile.client.get("/jobs", params={"q": CANARY}).text)


def test_routes_are_named_once() -> None:
    assert len({route.path for route in ROUTES}) == len(ROUTES)
    assert DOES.keys() == FORMS.keys()
