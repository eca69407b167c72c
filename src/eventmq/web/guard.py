"""The door: who may come in, as what, and from where; and what a browser is told to allow.

Everything here is decided from the request's headers, before a page is made. What each route needs is said in the table
of `app`; forms carry a token too, which a page of another site cannot know.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from eventmq.settings import Settings

ROLES = ("viewer", "operator", "admin")
"""Each may do what those before it may."""

LOCAL = frozenset({"localhost", "127.0.0.1", "[::1]"})

SESSION = "eventmq_session"
"""A cookie with a random text, which the token of forms is bound to."""

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def may(role: str, needed: str) -> bool:
    """Whether a role is enough."""
    return ROLES.index(role) >= ROLES.index(needed)


class Guard:
    """Wraps the application.

    Args:
        app: It.
        settings: Names, secrets, path.
        public: Paths for which nobody has to say who they are.
    """

    def __init__(self, app: ASGIApp, settings: Settings, public: frozenset[str]) -> None:
        self._app = app
        self._base = settings.web_path
        self._public = public
        self._secrets = _secrets(settings)
        self._named = frozenset(settings.web_hosts)
        self._hosts = LOCAL | self._named | {_host(urlsplit(settings.web_addr).netloc)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        path = scope["path"].removeprefix(self._base) if self._below(scope["path"]) else scope["path"]
        role, bearer = _role(request.headers.get("authorization", ""), self._secrets)
        answer = self._refusal(request, role or ("viewer" if path in self._public else ""))
        scope.update(path=self._base + path, root_path=self._base)
        scope.setdefault("state", {}).update(role=role, bearer=bearer)
        keep = "no-cache" if path.startswith("/static/") else "no-store"
        await (answer or self._app)(scope, receive, _with_headers(send, keep))

    def _below(self, path: str) -> bool:
        """Whether a proxy has left our path in front; others take it away."""
        return bool(self._base) and (path == self._base or path.startswith(self._base + "/"))

    def _refusal(self, request: Request, role: str) -> Response | None:
        host = request.headers.get("host", "").lower()
        if _host(host) not in self._hosts:
            return _refused(400, f"this dashboard is not known as {host[:200]!r}; web_hosts names what it is known as")
        if request.method not in ("GET", "HEAD") and not self._from_here(request.headers, host):
            return _refused(403, "that came from a page of another site")
        if not role:
            answer = _refused(401, "who are you? A name (viewer, operator, admin) and its password, or a bearer token")
            answer.headers["WWW-Authenticate"] = 'Basic realm="EventMQ", charset="UTF-8"'
            return answer
        return None

    def _from_here(self, headers: Mapping[str, str], host: str) -> bool:
        """Whether a page of ours has sent this, or no browser at all."""
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return False
        origin = headers.get("origin")
        place = (origin or "").lower().partition("://")[2]
        return origin is None or place == host or _host(place) in self._named


class Tokens:
    """The tokens of forms, each good for one browser and for as long as this process lives."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)

    def of(self, session: str) -> str:
        """The token of a session."""
        return hmac.new(self._key, session.encode(), hashlib.sha256).hexdigest()

    def fits(self, session: str, token: str) -> bool:
        """Whether it is that."""
        return bool(session) and hmac.compare_digest(self.of(session).encode(), token.encode())


def _secrets(settings: Settings) -> dict[str, bytes]:
    found: dict[str, str] = {role: getattr(settings, f"web_{role}_secret") for role in ROLES}
    return {role: secret.encode() for role, secret in found.items() if secret}


def _host(place: str) -> str:
    """A place without its port."""
    return place if place.endswith("]") else place.rpartition(":")[0] or place


def _role(authorization: str, known: Mapping[str, bytes]) -> tuple[str, bool]:
    """As what somebody comes, and whether by a token that no browser sends by itself. Without secrets, as admin."""
    if not known:
        return "admin", False
    scheme, _, given = authorization.partition(" ")
    bearer = scheme.lower() == "bearer"
    name, secret = ("", given.strip().encode()) if bearer else _basic(given)
    fitting = [
        role
        for role, right in known.items()
        if hmac.compare_digest(right, secret) and (bearer or hmac.compare_digest(role.encode(), name.encode()))
    ]
    return (fitting[-1] if fitting else ""), bearer


def _basic(given: str) -> tuple[str, bytes]:
    try:
        name, _, password = base64.b64decode(given, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "", b""
    return name, password.encode()


def _refused(status: int, text: str) -> Response:
    return PlainTextResponse(f"{text}\n", status, {"Cache-Control": "no-store"})


def _with_headers(send: Send, keep: str) -> Send:
    """Adds our headers; `keep` is what may be kept of the answer, `no-cache` being that which is asked for again."""

    async def sent(message: Message) -> Any:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
            headers.setdefault("Cache-Control", keep)
        await send(message)

    return sent
