"""`eventmq up`: a whole system in one terminal, from `pip install` to a running job in one line."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from eventmq import web as dashboard
from eventmq.cli import children as family
from eventmq.cli import serve, system
from eventmq.cli.ending import OK
from eventmq.net import address
from eventmq.settings import Settings, public

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
    addresses = system.scratch_addresses() if free_ports else system.addresses_of(router)
    shown = bool(web.web_addr) and dashboard.installed()
    addresses |= system.web_address("http://127.0.0.1:*" if free_ports else web.web_addr) if shown else {}
    assert router.source is not None
    environ = system.environ_of(os.environ, addresses, config_file=router.source.path, **router.source.flags)
    try:
        with family.Children(family.patience(manager.drain_s), _say, environ=environ) as children:
            system.start_router(children, addresses)
            system.start_manager(children, addresses)
            children.start("scheduler", "scheduler")
            if shown:
                system.start_dashboard(children, addresses)
            print(_banner(router, manager, web, addresses), flush=True)
            while True:
                children.pause(60)
    except family.Stopped:
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
