"""A dashboard on a Router of a test's own, seen as a browser would see it."""

from __future__ import annotations

import re
from typing import Any

from fake_admin import FakeAdmin
from starlette.testclient import TestClient

from eventmq.settings import Settings
from eventmq.web.app import ROUTES, Dashboard, Does, Shows, create_app

PAGES = {route.path: route for route in ROUTES if isinstance(route, Shows)}
FORMS = {route.path: route for route in ROUTES if isinstance(route, Does)}
CANARY = "<script>alert(1)</script>'\"><img src=x onerror=alert(2)>{{7*7}}"


class Site:
    """One dashboard.

    Args:
        admin: The Router.
        base: How a browser names it.
        settings: Those that are not as ever.
    """

    def __init__(self, admin: FakeAdmin, base: str = "http://localhost", **settings: Any) -> None:
        self.admin = admin
        self.dashboard = Dashboard(Settings(**settings), admin, admin)
        self.client = TestClient(create_app(self.dashboard), base, follow_redirects=False)

    def get(self, path: str, **given: Any) -> Any:
        return self.client.get(path, **given)

    def page(self, path: str, suffix: str = "", **given: Any) -> Any:
        """A page, with the parameters that it needs."""
        name = self.admin.text
        params = {"/job": {"id": "1f"}, "/queue": {"name": name}}.get(path)
        if path == "/act":
            params = {"id": self.act()}
        if suffix and path == "/":
            path = "/overview"
        return self.client.get(path + suffix, params=params, **given)

    def act(self) -> str:
        """The id of an act whose jobs have been counted."""
        gone, self.admin.gone = self.admin.gone, False
        location: str = self.post("/acts", do="requeue", which="all", q="queue:mail").headers["location"]
        self.admin.gone = gone
        return location.partition("=")[2]

    def token(self) -> str:
        """The token of our forms."""
        found = re.search(r'name="csrf" value="(\w+)"', self.client.get("/jobs").text)
        return found[1] if found else ""

    def post(self, path: str, headers: dict[str, str] | None = None, **fields: Any) -> Any:
        """A form that is sent."""
        return self.client.post(path, data={"csrf": self.token(), **fields}, headers=headers)
