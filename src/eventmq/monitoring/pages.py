"""What monitoring systems read over HTTP, without the HTTP: `listener` serves these pages, and so may the dashboard.

    /metrics            Prometheus text; of the Router only
    /livez, /healthz    200 while the process's loop turns
    /readyz             200 while it is of use to others

`?verbose` names every check. Whoever answers for the Router asks it over the administrative socket, as everybody does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from time import monotonic
from typing import Any, NamedTuple

from eventmq.client.admin import Admin
from eventmq.errors import EventMQError
from eventmq.limits import HTTP_REQUEST_S, LIVE_S

TEXT = "text/plain; charset=utf-8"

Checks = Callable[[], dict[str, str]]
"""By name of what is looked at: what is wrong with it; empty = nothing."""


class Page(NamedTuple):
    """One answer."""

    status: int
    body: bytes
    content_type: str = TEXT


class Pages:
    """The pages of one process.

    Args:
        live: Looks whether it lives.
        ready: Looks whether it is ready.
        metrics: Makes the text and content type of its metrics.
    """

    def __init__(self, live: Checks, ready: Checks, metrics: Callable[[], Page] | None = None) -> None:
        self._pages: dict[str, Callable[[bool], Page]] = {
            "/livez": partial(_checked, live),
            "/healthz": partial(_checked, live),
            "/readyz": partial(_checked, ready),
        }
        if metrics is not None:
            self._pages["/metrics"] = lambda verbose: metrics()

    def __iter__(self) -> Iterator[str]:
        """The paths."""
        return iter(self._pages)

    def get(self, target: str) -> Page:
        """The page at a path, with or without a query."""
        path, _, query = target.partition("?")
        page = self._pages.get(path)
        if page is None:
            return Page(404, f"there is no {path[:100]!r} here, only {', '.join(self._pages)}\n".encode())
        return page("verbose" in query)


def _checked(look: Checks, verbose: bool) -> Page:
    found = look()
    bad = any(found.values())
    shown = {name: wrong for name, wrong in found.items() if wrong or verbose}
    lines = [f"[{'-' if wrong else '+'}] {name}: {wrong or 'ok'}" for name, wrong in shown.items()]
    return Page(503 if bad else 200, "\n".join([*lines, "failed" if bad else "ok", ""]).encode())


def loop_turns(turned_at: Callable[[], float]) -> dict[str, str]:
    """The check whether a process's loop turns.

    Args:
        turned_at: Monotonic time at which it last did.
    """
    stood_s = monotonic() - turned_at()
    return {"loop": f"has not turned for {stood_s:.0f} s" if stood_s > LIVE_S else ""}


# ---- the Router ------------------------------------------------------------------------------------


def of_router(administrative_addr: str, turned_at: Callable[[], float] = monotonic, inside: bool = False) -> Pages:
    """The pages of the Router at this address.

    Args:
        turned_at: Monotonic time at which its loop last turned, for who shares a process with it.
        inside: This is the Router's process, so that its memory and time are its metrics, too.
    """
    ask = partial(_ask, administrative_addr)
    return Pages(partial(loop_turns, turned_at), partial(_router_is_ready, ask), partial(_metrics, ask, inside))


def _ask(administrative_addr: str) -> dict[str, Any]:
    with Admin(administrative_addr, HTTP_REQUEST_S / 2) as admin:
        return admin.metrics()


def _router_is_ready(ask: Callable[[], dict[str, Any]]) -> dict[str, str]:
    try:
        found = ask()
    except EventMQError as error:
        return {"answers": str(error)}
    return {
        "answers": "",
        "store": "" if found["store"]["room"] else "no room for new jobs",
        "accepting": "told to end" if found["draining"] else "",
    }


def _metrics(ask: Callable[[], dict[str, Any]], inside: bool) -> Page:
    try:
        from eventmq.monitoring import metrics
    except ImportError:
        return Page(501, b"metrics need the package prometheus-client: pip install 'eventmq[metrics]'\n")
    try:
        return Page(200, *metrics.text_of(ask(), inside))
    except EventMQError as error:
        return Page(503, f"{error}\n".encode())
