"""The dashboard's door: names and passwords, roles, other sites' pages, proxies, what browsers are told to allow."""

from __future__ import annotations

import asyncio
import hashlib
import tomllib
from pathlib import Path
from typing import Any

import pytest
from fake_admin import FakeAdmin
from web_site import FORMS, PAGES, Site

from eventmq import web
from eventmq.errors import SettingsError
from eventmq.settings import load
from eventmq.web.app import create_app
from eventmq.web.guard import ROLES

SECRETS = {role: f"the secret of a {role}" for role in ROLES}
GUARDED = {f"web_{role}_secret": secret for role, secret in SECRETS.items()}
STATIC = Path(web.__file__).parent / "static"


def as_(role: str) -> tuple[str, str]:
    return role, SECRETS[role]


@pytest.fixture
def guarded() -> Site:
    return Site(FakeAdmin(), **GUARDED)


@pytest.fixture
def site() -> Site:
    return Site(FakeAdmin())


# ---- who -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*PAGES, "/events", "/jobs.jsonl", "/static/dashboard.js", "/metrics", "/nothing"])
@pytest.mark.parametrize("auth", [None, ("admin", "wrong"), ("viewer", SECRETS["admin"]), ("", SECRETS["admin"])])
def test_nobody_gets_in_without_a_name_and_its_password(guarded: Site, path: str, auth: Any) -> None:
    answer = guarded.client.get(path, auth=auth)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Basic ")
    assert guarded.admin.asked == []


@pytest.mark.parametrize(
    "header", ["Basic", "Basic ???", "Basic /w==", "Bearer", "Bearer ", "Digest x", "Bearer " + "ÿ" * 20]
)
def test_what_is_no_name_and_password_is_none(guarded: Site, header: str) -> None:
    assert guarded.client.get("/", headers={"Authorization": header.encode("latin-1")}).status_code == 401


@pytest.mark.parametrize("role", ROLES)
def test_each_role_may_do_what_the_table_says_and_no_more(guarded: Site, role: str) -> None:
    guarded.client.auth = as_("admin")
    acts = {path: guarded.act() for path in ("/act/go", "/act/stop")}
    token = guarded.token()
    told = len(guarded.admin.told)
    guarded.client.auth = as_(role)
    for path, page in PAGES.items():
        allowed = ROLES.index(role) >= ROLES.index(page.role)
        params = {"/job": {"id": "1f"}, "/queue": {"name": "mail"}, "/act": {"id": acts["/act/go"]}}.get(path)
        assert guarded.client.get(path, params=params).status_code == (200 if allowed else 403), path
    for path, form in FORMS.items():
        allowed = ROLES.index(role) >= ROLES.index(form.role)
        fields = {
            "csrf": token,
            "id": acts.get(path, "1f"),
            "name": "mail",
            "typed": "mail",
            "do": "cancel",
            "which": "all",
        }
        answer = guarded.client.post(path, data=fields)
        assert answer.status_code == (303 if allowed else 403), path
    assert role != "viewer" or len(guarded.admin.told) == told


def test_what_an_act_does_takes_its_own_role_whoever_may_begin_one(guarded: Site) -> None:
    guarded.client.auth = as_("admin")
    location = guarded.post("/acts", do="purge", which="all", q="").headers["location"]
    guarded.client.auth = as_("operator")
    assert guarded.post("/acts", do="purge", which="all", q="").status_code == 403
    assert guarded.post("/act/go", id=location.partition("=")[2]).status_code == 403
    assert guarded.admin.told == []


def test_a_viewer_is_shown_no_button_that_does_not_work(guarded: Site) -> None:
    guarded.client.auth = as_("viewer")
    for path in PAGES:
        if path not in ("/act", "/system"):
            assert 'method="post"' not in guarded.page(path).text, path


def test_a_bearer_token_needs_no_token_of_a_form(guarded: Site) -> None:
    headers = {"Authorization": f"Bearer {SECRETS['operator']}", "Accept": "application/json"}
    answer = guarded.client.post("/queue/pause", data={"name": "mail"}, headers=headers)
    assert (answer.status_code, answer.json()["text"]) == (200, "Queue mail is paused.")
    assert guarded.client.post("/queue/purge", data={"name": "mail"}, headers=headers).status_code == 403


# ---- from where --------------------------------------------------------------------------------------------


def test_a_name_that_is_not_ours_is_refused(site: Site) -> None:
    for host in ("evil.example", "localhost.evil.example", "", "127.0.0.1.evil.example:47296"):
        answer = site.client.get("/", headers={"Host": host})
        assert answer.status_code == 400
        assert "web_hosts" in answer.text
    for host in ("localhost", "LOCALHOST:1", "127.0.0.1:47296", "[::1]:47296"):
        assert site.client.get("/", headers={"Host": host}).status_code == 200
    named = Site(FakeAdmin(), web_hosts=("jobs.example.com",))
    assert named.client.get("/", headers={"Host": "jobs.example.com"}).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 303),
        ({"Origin": "http://localhost"}, 303),
        ({"Sec-Fetch-Site": "same-origin"}, 303),
        ({"Origin": "http://localhost:3000"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://[::"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Origin": "http://localhost"}, 403),
    ],
)
def test_a_form_comes_from_a_page_of_ours(site: Site, headers: dict[str, str], status: int) -> None:
    assert site.post("/queue/pause", name="mail", headers=headers).status_code == status
    assert len(site.admin.told) == (status == 303)


def test_a_form_carries_the_token_of_its_own_browser(site: Site) -> None:
    token = site.token()
    other = Site(site.admin)
    for csrf in ("", "0" * 64, "ÿ", other.token()):
        assert site.client.post("/queue/pause", data={"name": "mail", "csrf": csrf}).status_code == 403
    site.client.cookies.clear()
    assert site.client.post("/queue/pause", data={"name": "mail", "csrf": token}).status_code == 403
    assert site.admin.told == []


def test_who_leaves_in_the_middle_of_a_form_does_nothing_and_fills_no_log(site: Site) -> None:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/queue/pause",
        "query_string": b"",
        "headers": [(b"host", b"localhost")],
    }
    asyncio.run(create_app(site.dashboard)(scope, receive, send))
    assert sent[0]["status"] == 413
    assert not site.admin.told


def test_cookies_are_for_us_alone(site: Site) -> None:
    cookie = site.client.get("/").headers["set-cookie"]
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
    secure = Site(FakeAdmin(), base="https://localhost")
    assert "Secure" in secure.client.get("/").headers["set-cookie"]


def test_nothing_is_done_by_getting(site: Site) -> None:
    for path in FORMS:
        assert site.client.get(path, params={"name": "mail", "id": "1f"}).status_code == 405
    assert site.admin.told == []


# ---- proxies -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("front", ["", "/eventmq"])
def test_it_works_below_a_path_whether_the_proxy_takes_it_away_or_not(front: str) -> None:
    site = Site(FakeAdmin(), web_path="/eventmq")
    page = site.client.get(f"{front}/jobs")
    assert page.status_code == 200
    assert 'href="/eventmq/queues"' in page.text
    assert 'src="/eventmq/static/dashboard.js"' in page.text
    assert 'href="/queues"' not in page.text
    assert site.client.get(f"{front}/static/dashboard.css").status_code == 200
    assert site.client.get(f"{front}/livez").status_code == 200
    token = page.text.partition('name="csrf" value="')[2][:64]
    answer = site.client.post(
        f"{front}/queue/pause", data={"name": "mail", "csrf": token}, headers={"Cookie": cookie(page)}
    )
    assert answer.headers["location"] == "/eventmq/queue?name=mail"


def cookie(page: Any) -> str:
    return str(page.headers["set-cookie"].partition(";")[0])


# ---- what browsers are told ------------------------------------------------------------------------------------


def test_every_answer_tells_the_browser_to_allow_nothing_but_ours(guarded: Site) -> None:
    answers = [guarded.client.get(path) for path in ("/", "/livez", "/nothing")]
    guarded.client.auth = as_("admin")
    answers += [guarded.client.get(path) for path in ("/", "/jobs.json", "/static/dashboard.css", "/nothing", "/job")]
    answers += [guarded.post("/queue/pause", name="mail"), guarded.post("/queue/pause")]
    for answer in answers:
        policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == policy["form-action"] == "'self'"
        assert policy["frame-ancestors"] == "'none'"
        assert "unsafe" not in str(policy)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"
        keep = "no-cache" if "/static/" in str(answer.url) else "no-store"
        assert answer.headers["cache-control"] == keep


# ---- settings ----------------------------------------------------------------------------------------------------


def test_other_machines_get_in_with_a_password_only() -> None:
    for addr in ("http://0.0.0.0:47296", "http://*:47296", "http://[::]:47296"):
        with pytest.raises(SettingsError, match=r"open to other machines.*web_admin_secret"):
            load("web", {"web_addr": addr}, {})
        assert load("web", {"web_addr": addr, "web_viewer_secret": SECRETS["viewer"]}, {})
    assert load("web", {"web_addr": "http://127.0.0.1:47296"}, {})
    assert load("web", {"web_addr": ""}, {})


def test_secrets_are_long_and_never_told(tmp_path: Path) -> None:
    file = tmp_path / "eventmq.ini"
    file.write_text("[web]\nweb_admin_secret = short\n")
    for environ, path in (({"EVENTMQ_WEB_ADMIN_SECRET": "short"}, None), ({}, file)):
        with pytest.raises(SettingsError, match="16 to") as caught:
            load("web", {}, environ, path)
        assert "short" not in str(caught.value)
    loaded = load("web", {}, {"EVENTMQ_WEB_ADMIN_SECRET": SECRETS["admin"], "EVENTMQ_WEB_HIDDEN": "pin, Salary"})
    assert loaded.web_admin_secret == SECRETS["admin"]
    assert SECRETS["admin"] not in repr(loaded)
    assert loaded.web_hidden == ("pin", "salary")
    with pytest.raises(SettingsError, match="a path"):
        load("web", {}, {"EVENTMQ_WEB_PATH": "no path"})


# ---- what others have written ------------------------------------------------------------------------------------


def test_what_is_vendored_is_what_was_fetched() -> None:
    vendored = tomllib.loads((STATIC / "VENDOR.toml").read_text())
    files = [file for package in vendored.values() for file in package["files"]]
    for file in files:
        assert hashlib.sha256((STATIC / "vendor" / file["name"]).read_bytes()).hexdigest() == file["sha256"], file[
            "name"
        ]
    assert {file["name"] for file in files} == {path.name for path in (STATIC / "vendor").iterdir()}
    for name, package in vendored.items():
        assert f"LICENSE.{name}.txt" in {file["name"] for file in package["files"]}
        assert package["licence"]


def test_our_own_script_is_short_and_evaluates_nothing() -> None:
    script = (STATIC / "dashboard.js").read_text()
    assert len(script.splitlines()) < 300
    for word in ("eval(", "new Function", "innerHTML", "document.write", "insertAdjacentHTML"):
        assert word not in script
