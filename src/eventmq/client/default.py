"""The client that `.delay()` and handles use: one for the process, made at the first use.

Its address comes from `configure`, else from EMQ_BROKER_ADDR, EVENTMQ_BROKER_ADDR or the INI file (`settings`). Without
any there is no client: jobs run where they are called, as in 0.3.13, after one warning.
"""

from __future__ import annotations

import os
import threading
import warnings

from eventmq import settings
from eventmq.client.client import Client
from eventmq.errors import BrokerUnavailable
from eventmq.limits import ENQUEUE_TIMEOUT_S
from eventmq.values import Duration

HOW = "set EMQ_BROKER_ADDR=tcp://127.0.0.1:47291 or call eventmq.configure(broker_addr=…)"

_lock = threading.Lock()
_client: Client | None = None
_broker_addr: str | None = None
_enqueue_timeout: Duration = ENQUEUE_TIMEOUT_S
_warned = False


def configure(*, broker_addr: str | None = None, enqueue_timeout: Duration = ENQUEUE_TIMEOUT_S) -> None:
    """Says which Router this process uses. The former one's connections are closed.

    Args:
        broker_addr: The Router's frontend, as `tcp://127.0.0.1:47291`; None: as the environment or the INI file say.
        enqueue_timeout: `.delay()` raises BrokerUnavailable when the Router is silent for this long.

    Raises:
        SettingsError: Not such an address or time.
    """
    global _client, _broker_addr, _enqueue_timeout
    client = Client(broker_addr, enqueue_timeout=enqueue_timeout) if broker_addr is not None else None
    with _lock:
        former, _client = _client, client
        _broker_addr, _enqueue_timeout = broker_addr, enqueue_timeout
    if former is not None:
        former.close()


def client() -> Client | None:
    """The process's client; None when no Router is configured.

    Raises:
        SettingsError: The environment or the INI file has a mistake.
    """
    return _client or _made()


def required() -> Client:
    """The process's client.

    Raises:
        BrokerUnavailable: No Router is configured.
    """
    found = client()
    if found is None:
        raise BrokerUnavailable(f"no Router is configured: {HOW}")
    return found


def warn_in_place(stacklevel: int) -> None:
    """Says once that jobs run where they are called."""
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(
            f"no Router is configured, so jobs run here and now: {HOW}", RuntimeWarning, stacklevel=stacklevel + 1
        )


def _made() -> Client | None:
    global _client
    with _lock:
        if _client is None:
            address = _broker_addr or settings.load("client").broker_addr
            _client = Client(address, enqueue_timeout=_enqueue_timeout) if address else None
        return _client


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
