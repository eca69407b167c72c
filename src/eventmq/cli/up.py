"""`eventmq up`: a whole system in one terminal, from `pip install` to a running job in one line."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from eventmq.cli import children as family
from eventmq.cli import serve, system
from eventmq.cli.ending import OK
from eventmq.net import address
from eventmq.settings import Settings, public

BANNER = """\
EventMQ is up. Ctrl-C ends it in order; a second one at once.

  clients          {frontend}
  job managers     {backend}
  emq-cli          {administrative}
  store            {store}
  workers          {workers}, importing {modules}

In another terminal:

  export EMQ_BROKER_ADDR={client}
"""


def up(router: Settings, manager: Settings, free_ports: bool) -> int:
    """Runs a Router, a job manager and a scheduler until told to end.

    Args:
        router: What the Router's settings will be, but for its addresses.
        manager: What the job manager's will be.
        free_ports: Use free ports in the place of the Router's addresses.

    Raises:
        Ended: One of them ended by itself; the others have been stopped.
    """
    serve.import_from_here()
    serve.require_modules(manager.modules)
    addresses = system.scratch_addresses() if free_ports else system.addresses_of(router)
    assert router.source is not None
    environ = system.environ_of(os.environ, addresses, config_file=router.source.path, **router.source.flags)
    try:
        with family.Children(family.patience(manager.drain_s), _say, environ=environ) as children:
            system.start_router(children, addresses)
            system.start_manager(children, addresses)
            children.start("scheduler", "scheduler")
            print(_banner(router, manager, addresses), flush=True)
            while True:
                children.pause(60)
    except family.Stopped:
        return OK


def _banner(router: Settings, manager: Settings, addresses: Mapping[str, str]) -> str:
    return BANNER.format(
        frontend=addresses["frontend_addr"],
        backend=addresses["backend_addr"],
        administrative=addresses["administrative_addr"],
        store=public(router.store),
        workers=manager.concurrent_jobs,
        modules=", ".join(manager.modules) or "nothing yet",
        client=address.reachable(addresses["frontend_addr"]),
    )


def _say(text: str) -> None:
    print(f"eventmq up: {text}", file=sys.stderr, flush=True)
