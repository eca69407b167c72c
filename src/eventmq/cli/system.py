"""A whole system as child processes, on addresses that are known to be free: its parts, and all of them in one terminal
(`eventmq up`)."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from eventmq import web as dashboard
from eventmq.cli import serve
from eventmq.cli.ask import listened_to
from eventmq.cli.children import Children, Stopped, patience
from eventmq.cli.ending import OK
from eventmq.client.admin import Admin
from eventmq.errors import BrokerUnavailable, SettingsError
from eventmq.net import address
from eventmq.settings import PREFIX, Settings, public

LISTENING = ("frontend_addr", "backend_addr", "administrative_addr")

START_S = 20.0
"""A Router answers within half a second, a manager somewhat later; a busy machine may need far longer."""

ASK_S = 0.5
"""A question to a Router that may not listen yet."""


def scratch_addresses() -> dict[str, str]:
    """Addresses on free ports of this machine."""
    return with_ports(dict.fromkeys(LISTENING, "tcp://127.0.0.1:*"))


def addresses_of(settings: Settings) -> dict[str, str]:
    """Where the Router is to listen, every port a number.

    Raises:
        SettingsError: Somebody listens there already.
    """
    addresses = with_ports({name: getattr(settings, name) for name in LISTENING})
    for name, text in addresses.items():
        _require_free(name, text, "a Router run already? Stop it (emq-cli shutdown)")
    return addresses


def web_address(web_addr: str) -> dict[str, str]:
    """The same of the dashboard."""
    place = with_ports({"web_addr": str(address.parse_served(web_addr))})["web_addr"]
    _require_free("web_addr", place, "a dashboard run already? Stop it")
    return {"web_addr": address.to_serve(place)}


def _require_free(name: str, text: str, guess: str) -> None:
    """Looks whether a process listens there; what else may be in the way the Router finds out."""
    if listened_to(text):
        raise SettingsError(f"{name} {text} is in use: does {guess}, or start this one with --free-ports")


def with_ports(addresses: Mapping[str, str]) -> dict[str, str]:
    """The addresses with a free port in the place of each `*`. All are held until all are found."""
    chosen = {}
    with ExitStack() as held:
        for name, text in addresses.items():
            where = address.parse(text)
            if where.transport == "tcp" and not where.port:
                family = socket.AF_INET6 if ":" in where.host else socket.AF_INET
                place = held.enter_context(socket.socket(family))
                place.bind(("" if where.host == "*" else where.host, 0))
                where = where._replace(port=place.getsockname()[1])
            chosen[name] = str(where)
    return chosen


def environ_of(environ: Mapping[str, str], addresses: Mapping[str, str], **settings: Any) -> dict[str, str]:
    """An environment in which a Router, managers and schedulers have these settings and find one another; those that
    are None are as they were."""
    given = settings | {
        **addresses,
        "worker_addr": address.reachable(addresses["backend_addr"]),
        "scheduler_addr": address.reachable(addresses["frontend_addr"]),
    }
    return {**environ, **{PREFIX + name.upper(): str(value) for name, value in given.items() if value is not None}}


def start_router(children: Children, addresses: Mapping[str, str]) -> int:
    """Starts the Router and waits until it answers.

    Returns:
        Its process id.

    Raises:
        Ended: It does not.
    """
    place = address.reachable(addresses["administrative_addr"])
    pid = children.start("Router", "router")
    children.until(lambda: _managers(place) is not None, START_S, f"the Router did not answer on {place}")
    return pid


def start_manager(children: Children, addresses: Mapping[str, str]) -> int:
    """Starts a job manager and waits until the Router knows it.

    Returns:
        Its process id.

    Raises:
        Ended: It did not get there.
    """
    place = address.reachable(addresses["administrative_addr"])
    pid = children.start("job manager", "jobmanager")
    children.until(lambda: bool(_managers(place)), START_S, "the job manager did not reach the Router")
    return pid


def start_dashboard(children: Children, addresses: Mapping[str, str]) -> None:
    """Starts the dashboard and waits until it listens.

    Raises:
        Ended: It does not.
    """
    place = addresses["web_addr"]
    children.start("dashboard", "web")
    children.until(lambda: listened_to(place), START_S, f"the dashboard did not listen on {place}")


def _managers(administrative_addr: str) -> int | None:
    """How many job managers the Router knows; None while it does not answer."""
    try:
        with Admin(administrative_addr, timeout_s=ASK_S) as admin:
            return len(admin.managers())
    except BrokerUnavailable:
        return None


# ---- eventmq up ------------------------------------------------------------------------------------------------

BANNER = """\
EventMQ is up. Ctrl-C ends it in order; a second one at once.

  clients          {frontend}
  job managers     {backend}
  operators        {administrative}
  dashboard        {web}
  store            {store}
  workers          {workers}, importing {modules}

In another terminal:

  export EMQ_BROKER_ADDR={client}
  export EVENTMQ_ADMINISTRATIVE_ADDR={operator}
"""


def up(router: Settings, manager: Settings, web: Settings, free_ports: bool) -> int:
    """Runs a Router, a job manager, a scheduler and, if it is installed, the dashboard until told to end.

    Args:
        router: What the Router's settings will be, but for its addresses.
        manager: What the job manager's will be.
        web: What the dashboard's will be, but for its addresses.
        free_ports: Use free ports in the place of their addresses.

    Raises:
        Ended: One of them ended by itself; the others have been stopped.
    """
    serve.import_from_here()
    serve.require_modules(manager.modules)
    addresses = scratch_addresses() if free_ports else addresses_of(router)
    shown = bool(web.web_addr) and dashboard.installed()
    addresses |= web_address("http://127.0.0.1:*" if free_ports else web.web_addr) if shown else {}
    assert router.source is not None
    environ = environ_of(os.environ, addresses, config_file=router.source.path, **router.source.flags)
    try:
        with Children(patience(manager.drain_s), _say, environ=environ) as children:
            start_router(children, addresses)
            start_manager(children, addresses)
            children.start("scheduler", "scheduler")
            if shown:
                start_dashboard(children, addresses)
            print(_banner(router, manager, web, addresses), flush=True)
            while True:
                children.pause(60)
    except Stopped:
        return OK


def _banner(router: Settings, manager: Settings, web: Settings, addresses: Mapping[str, str]) -> str:
    place = addresses.get("web_addr")
    missing = "switched off" if dashboard.installed() else "not installed: pip install 'eventmq[dashboard]'"
    return BANNER.format(
        frontend=addresses["frontend_addr"],
        backend=addresses["backend_addr"],
        administrative=addresses["administrative_addr"],
        web=f"{place}{web.web_path}/" if place else missing,
        store=public(router.store),
        workers=manager.concurrent_jobs,
        modules=", ".join(manager.modules) or "nothing yet",
        client=address.reachable(addresses["frontend_addr"]),
        operator=address.reachable(addresses["administrative_addr"]),
    )


def _say(text: str) -> None:
    print(f"eventmq up: {text}", file=sys.stderr, flush=True)
