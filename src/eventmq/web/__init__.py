"""The dashboard: a process of its own that asks the Router over the administrative socket, as everybody does."""

from __future__ import annotations

from importlib.util import find_spec

from eventmq.errors import SettingsError
from eventmq.settings import Settings


def installed() -> bool:
    """Whether the packages are there that it needs."""
    return all(find_spec(name) for name in ("starlette", "uvicorn", "jinja2"))


def run(settings: Settings) -> int:
    """Serves the dashboard until SIGTERM or SIGINT.

    Raises:
        SettingsError: It cannot listen there, or its packages are not installed.
    """
    if not installed():
        raise SettingsError("the dashboard needs more packages: pip install 'eventmq[dashboard]'")
    from eventmq.web import server

    return server.run(settings)
