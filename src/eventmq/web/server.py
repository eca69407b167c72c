"""The process around the dashboard: listens, serves, and ends when it is told to.

An event stream never ends by itself, and a server that waits for its requests would wait for ever; so a signal ends the
streams first.
"""

from __future__ import annotations

import logging
import signal
from types import FrameType

import uvicorn

from eventmq.client.admin import Admin
from eventmq.errors import SettingsError
from eventmq.monitoring.listener import listen
from eventmq.net import address
from eventmq.settings import Settings
from eventmq.web.app import Dashboard, create_app
from eventmq.web.limits import CONNECTIONS_MAX, STOP_S
from eventmq.web.lines import Line

log = logging.getLogger("eventmq.web")


class Server(uvicorn.Server):
    """Ends the streams when it is told to end."""

    def __init__(self, config: uvicorn.Config, dashboard: Dashboard) -> None:
        super().__init__(config)
        self._dashboard = dashboard

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGTERM or SIGINT."""
        self._dashboard.live.close()
        super().handle_exit(sig, frame)


def run(settings: Settings) -> int:
    """Serves the dashboard until SIGTERM or SIGINT.

    Raises:
        SettingsError: It cannot listen there.
    """
    if not settings.web_addr:
        raise SettingsError("web_addr is empty: expected where the dashboard is to listen, as 127.0.0.1:47296")
    addr = address.reachable(settings.administrative_addr)
    line = Line(addr)
    dashboard = Dashboard(settings, Admin(addr), line, line.answers.forget)
    config = uvicorn.Config(
        create_app(dashboard),
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        ws="none",
        lifespan="on",
        timeout_graceful_shutdown=STOP_S,
        limit_concurrency=CONNECTIONS_MAX,
    )
    listener, bound = listen(settings.web_addr)
    with listener:
        log.info("listening: %s%s/ for the Router at %s", bound, settings.web_path, addr)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)  # uvicorn raises it again when it has ended in order
        Server(config, dashboard).run([listener])
    return 0
