"""The web application: which path shows or does what, for whom, and how the answer goes out.

`ROUTES` is the one table of that. A page is made by its view in a thread, as data; the same data goes out as HTML, or
as JSON to who asks for it (`.json`, or Accept). Forms are answered with a redirect, so that nothing is done twice by
going back or reloading.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, quote, unquote

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from eventmq.client.acts import KINDS
from eventmq.client.admin import Admin
from eventmq.errors import BrokerUnavailable, EventMQError, NotFound
from eventmq.limits import ID_CHARS_MAX
from eventmq.monitoring.pages import of_router
from eventmq.net import address
from eventmq.protocol.administration import Selection
from eventmq.settings import Settings
from eventmq.web import acts, jobs, pages, show
from eventmq.web.ask import Ask, Page, Wrong
from eventmq.web.bulk import Bulk
from eventmq.web.guard import SESSION, Guard, Tokens, may
from eventmq.web.limits import AGAIN_S, BODY_BYTES_MAX, EXPORTS_MAX, ROWS
from eventmq.web.live import Live, Told

TOLD = "eventmq_told"
"""A cookie with what the last form did, for the next page to say."""

HERE = Path(__file__).parent


class Shows(NamedTuple):
    """A page: its path, what role it takes, its view, its template."""

    path: str
    role: str
    view: Callable[[Ask], Page]
    template: str


class Does(NamedTuple):
    """A form: its path, what role it takes, what it does."""

    path: str
    role: str
    act: Callable[[Ask], acts.Done]


ROUTES: tuple[Shows | Does, ...] = (
    Shows("/", "viewer", pages.overview, "overview"),
    Shows("/jobs", "viewer", jobs.jobs, "jobs"),
    Shows("/job", "viewer", jobs.job, "job"),
    Shows("/act", "viewer", jobs.act, "act"),
    Shows("/failures", "viewer", pages.failures, "failures"),
    Shows("/queues", "viewer", pages.queues, "queues"),
    Shows("/queue", "viewer", pages.queue, "queue"),
    Shows("/workers", "viewer", pages.workers, "workers"),
    Shows("/schedules", "viewer", pages.schedules, "schedules"),
    Shows("/types", "viewer", pages.types, "types"),
    Shows("/system", "admin", pages.system, "system"),
    Does("/queue/pause", "operator", acts.on_queue("pause", "is paused")),
    Does("/queue/resume", "operator", acts.on_queue("resume", "goes on")),
    Does("/queue/drain", "operator", acts.on_queue("drain", "takes nothing new")),
    Does("/queue/limit", "operator", acts.limit),
    Does("/queue/purge", "admin", acts.purge),
    Does("/worker/drain", "admin", acts.drain_worker),
    Does("/schedule/pause", "operator", acts.on_schedule("pause", "is paused")),
    Does("/schedule/resume", "operator", acts.on_schedule("resume", "goes on")),
    Does("/schedule/run", "operator", acts.on_schedule("run", "runs now")),
    Does("/schedule/remove", "admin", acts.on_schedule("remove", "is removed")),
    *(Does(f"/job/{do}", kind.role, acts.on_job(do)) for do, kind in KINDS.items()),
    Does("/job/rerun", "operator", acts.rerun),
    Does("/acts", "operator", acts.begin),
    Does("/act/go", "operator", acts.go),
    Does("/act/stop", "operator", acts.stop),
)
"""Who may do what. An act on many jobs checks the role for what is done to them besides."""

PUBLIC = frozenset({"/livez", "/healthz", "/readyz"})
"""For whoever asks: they say whether we live, and no more."""

CHANGES = ("jobs", "counts", "queues", "schedules", "schedulers", "managers", "expected_managers", "problems")
"""What of STATUS makes pages fetch themselves again."""

STATUS_OF: dict[type[Exception], int] = {BrokerUnavailable: 503, NotFound: 404, Wrong: 400, acts.Forbidden: 403}


class Dashboard:
    """The application's parts, and how a request goes through them.

    Args:
        settings: Ours.
        admin: A connection to the Router, for acts and exports.
        line: One whose answers pages share.
        changed: Called when something has changed: what was shared counts no more.
    """

    def __init__(self, settings: Settings, admin: Admin, line: Admin, changed: Told = lambda: None) -> None:
        self.settings = settings
        self.admin = admin
        self.line = line
        self.bulk = Bulk(admin)
        self.exporting = 0
        self.live = Live(self._look, changed)
        self.tokens = Tokens()
        self.monitoring = of_router(address.reachable(settings.administrative_addr))

    # ---- pages -------------------------------------------------------------------------------------------

    def shows(self, route: Shows) -> Callable[[Request], Response]:
        """The endpoint of a page. Starlette runs it in a thread, as it is no coroutine."""

        def endpoint(request: Request) -> Response:
            given = {name: request.query_params.getlist(name) for name in request.query_params}
            status, page = self._attempt(request, route.role, given, route.view)
            if wants_json(request):
                return Response(msgspec.json.encode(page), status, media_type="application/json")
            return self._html(request, status, route.template if status == 200 else "problem", page)

        return endpoint

    def _attempt(
        self, request: Request, role: str, given: Mapping[str, Sequence[str]], view: Callable[[Ask], Any]
    ) -> tuple[int, Any]:
        """The status of the answer, and what `view` says, or what stands in its way as {"error": sentence}."""
        if not may(request.state.role, role):
            return 403, {"error": f"that takes the role {role}; you are {request.state.role}"}
        try:
            return 200, view(Ask(self.line, given, time.time(), self.settings, self.bulk, request.state.role))
        except EventMQError as error:
            return STATUS_OF.get(type(error), 409), {"error": str(error)}

    def _html(self, request: Request, status: int, template: str, page: Any) -> Response:
        session = request.cookies.get(SESSION) or secrets.token_hex(16)
        fragment = request.headers.get("hx-request") == "true"
        text = show.page(
            template,
            request,
            self.settings.web_path,
            fragment=fragment,
            page=page,
            csrf=self.tokens.of(session),
            told=unquote(request.cookies.get(TOLD, "")),
        )
        response = Response(text, status, media_type="text/html")
        if SESSION not in request.cookies:
            self._set(request, response, SESSION, session)
        if status == 503 and request.method == "GET":
            response.headers["Refresh"] = str(AGAIN_S)
        if TOLD in request.cookies and not fragment:
            response.delete_cookie(TOLD, self.settings.web_path or "/")
        return response

    def _set(self, request: Request, response: Response, name: str, value: str) -> None:
        secure = request.url.scheme == "https"
        path = self.settings.web_path or "/"
        response.set_cookie(name, value, path=path, httponly=True, samesite="strict", secure=secure)

    # ---- forms -------------------------------------------------------------------------------------------

    def does(self, route: Does) -> Callable[[Request], Any]:
        """The endpoint of a form."""

        async def endpoint(request: Request) -> Response:
            form = await self._form(request)
            if form is None:
                return PlainTextResponse("that is too large to be a form of ours\n", 413)
            token = form.get("csrf", [""])[-1]
            if not request.state.bearer and not self.tokens.fits(request.cookies.get(SESSION, ""), token):
                return await run_in_threadpool(
                    self._answer, request, 403, {"error": "this form is out of date: go back, load its page again"}
                )
            status, done = await run_in_threadpool(self._attempt, request, route.role, form, route.act)
            return await run_in_threadpool(self._answer, request, status, done)

        return endpoint

    async def _form(self, request: Request) -> dict[str, list[str]] | None:
        """What was sent; None = too much, or not all."""
        body = b""
        try:
            async for chunk in request.stream():
                body += chunk
                if len(body) > BODY_BYTES_MAX:
                    return None
            return parse_qs(body.decode(), keep_blank_values=True, max_num_fields=ROWS + 20)
        except (ValueError, ClientDisconnect):
            return None

    def _answer(self, request: Request, status: int, done: Any) -> Response:
        if wants_json(request):
            told = done._asdict() if isinstance(done, acts.Done) else done
            return Response(msgspec.json.encode(told), status, media_type="application/json")
        if not isinstance(done, acts.Done):
            return self._html(request, status, "problem", done)
        response = RedirectResponse(self.settings.web_path + done.to, 303)
        if done.text:
            self._set(request, response, TOLD, quote(done.text))
        return response

    # ---- streams -----------------------------------------------------------------------------------------

    def events(self, request: Request) -> Response:
        """The event stream of a page: of the job `job`, of the act `act`, or of all."""
        given = request.query_params
        topic = next((f"{what}:{given[what]}" for what in ("job", "act") if what in given), "")
        if len(topic) > ID_CHARS_MAX + len("job:"):
            return PlainTextResponse("that is no job's id\n", 400)
        if self.live.full:
            return PlainTextResponse("too many watch; this page is not live\n", 503)
        headers = {"X-Accel-Buffering": "no", "Cache-Control": "no-store"}
        return StreamingResponse(self.live.stream(topic), media_type="text/event-stream", headers=headers)

    def _look(self, topic: str) -> Any:
        what, _, id = topic.partition(":")
        if what == "act":
            act = self.bulk.find(id)
            return act and [act.phase, act.jobs, act.done]
        try:
            if what == "job":
                return self.line.job(id)
            status = self.line.ask("STATUS")
            return [status[name] for name in CHANGES]
        except EventMQError as error:
            return str(error)

    def export(self, request: Request) -> Response:
        """What the query box selects, as JSON lines."""
        given = {name: request.query_params.getlist(name) for name in request.query_params}
        status, selection = self._attempt(request, "viewer", given, jobs.selection_of)
        if status == 200 and self.exporting >= EXPORTS_MAX:
            status, selection = 503, {"error": f"{EXPORTS_MAX} exports are going on; wait for one of them to end"}
        if status != 200:
            return Response(msgspec.json.encode(selection), status, media_type="application/json")
        headers = {"Content-Disposition": 'attachment; filename="jobs.jsonl"'}
        return StreamingResponse(self._exported(selection), 200, headers, "application/jsonl")

    def _exported(self, selection: Selection) -> Iterator[bytes]:
        self.exporting += 1
        try:
            yield from jobs.lines(self.admin, selection)
        finally:
            self.exporting -= 1

    def health(self, request: Request) -> Response:
        """What monitoring systems read; /metrics is for who may look only."""
        page = self.monitoring.get(f"{request.url.path.removeprefix(self.settings.web_path)}?{request.url.query}")
        return Response(page.body, page.status, media_type=page.content_type)

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """From start to end."""
        yield
        self.live.close()
        self.bulk.close()
        self.line.close()
        self.admin.close()


def wants_json(request: Request) -> bool:
    """Whether JSON is asked for: by the path, or before HTML in Accept."""
    accept = request.headers.get("accept", "")
    return request.url.path.endswith(".json") or ("application/json" in accept and "text/html" not in accept)


def create_app(dashboard: Dashboard) -> Guard:
    """The application, as a server runs it."""
    routes: list[Route | Mount] = []
    for route in ROUTES:
        if isinstance(route, Does):
            routes.append(Route(route.path, dashboard.does(route), methods=["POST"]))
            continue
        json = "/overview.json" if route.path == "/" else f"{route.path}.json"
        routes += [Route(path, dashboard.shows(route), methods=["GET"]) for path in (route.path, json)]
    routes += [
        Route("/events", dashboard.events, methods=["GET"]),
        Route("/jobs.jsonl", dashboard.export, methods=["GET"]),
        Mount("/static", StaticFiles(directory=HERE / "static")),
    ]
    routes += [Route(path, dashboard.health, methods=["GET"]) for path in dashboard.monitoring]
    app = Starlette(routes=routes, lifespan=dashboard.lifespan)
    return Guard(app, dashboard.settings, PUBLIC)
