"""Questions to a running Router, and how their answers are shown. The Router knows; this only asks and lays out."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any, Concatenate

from eventmq.cli.flags import asking, load, options, output, verb, watch
from eventmq.cli.tables import Said, Table, Told, span, tell, watched
from eventmq.client.admin import Admin
from eventmq.errors import BrokerUnavailable
from eventmq.net import address

PROBE_S = 1.0
"""How long a connection to a Router's port may take when we look why there was no answer."""

Question = Callable[Concatenate[Admin, ...], Told | Iterator[Said]]


def asks(question: Question, *more: Callable[..., Any]) -> Callable[..., int]:
    """Makes a verb that asks the Router named by its flags: it gets the connection, and what it returns is printed."""

    @options(*more, asking, output)
    @wraps(question)
    def run(
        config: str | None, addr: str | None, timeout: float, form: str, watch: float | None = None, **given: Any
    ) -> int:
        with router(config, addr, timeout) as admin:
            return watched(lambda: tell(question(admin, **given), form), watch)

    made: Callable[..., int] = run
    return made


def shows(question: Question) -> Callable[..., int]:
    """The same for a verb that changes nothing, so that it may be repeated: `--watch`."""
    return asks(question, watch)


@contextmanager
def router(config: str | None, addr: str | None, timeout_s: float) -> Iterator[Admin]:
    """A connection to the Router that these flags name, for as long as it answers.

    Raises:
        BrokerUnavailable: Nobody listens there.
        TimeoutError: Somebody does, but did not answer in time.
    """
    place = address.reachable(load("admin", config, administrative_addr=addr).administrative_addr)
    try:
        with Admin(place, timeout_s=timeout_s) as admin:
            yield admin
    except BrokerUnavailable:
        if listened_to(place):
            raise TimeoutError(f"{place} is open, but gave no answer within {timeout_s:g} s") from None
        raise BrokerUnavailable(f"no Router listens on {place}; start one, or name its address with -a") from None


def listened_to(text: str) -> bool:
    """Whether a connection can be made to an address: it tells "not there" from "does not answer"."""
    where = address.parse(address.reachable(str(address.parse_served(text))))
    family = socket.AF_UNIX if where.transport == "ipc" else socket.AF_INET6 if ":" in where.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.settimeout(PROBE_S)
        try:
            probe.connect(where.host if where.transport == "ipc" else (where.host, where.port))
        except OSError:
            return False
    return True


# ---- the Router ----------------------------------------------------------------------------------------


@verb
@shows
def status(admin: Admin) -> Told:
    """Show how the Router is: jobs, counts, store.

    \b
    eventmq status
    eventmq status --watch 5
    eventmq status -o json
    """
    told = admin.ask("STATUS")
    return Told(told, Table("Router", ("what", "value"), [*_rows_of(told)], folds=True))


def _rows_of(told: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield "state", "draining" if told["draining"] else "running"
    yield "up", span(told["uptime_s"])
    yield "job managers", told["managers"]
    yield "schedulers", told["schedulers"]
    yield from ((f"jobs {state}", number) for state, number in told["jobs"].items())
    yield from ((f"schedules {state}", number) for state, number in told["schedules"].items() if number)
    yield from (("expected back", name) for name in told["expected_managers"])
    yield from ((f"queue {queue}", said_about(rule)) for queue, rule in told["queues"].items())
    for word, map in (("counted", "counts"), ("refused", "refusals"), ("store", "store")):
        yield from ((f"{word} {name}", value) for name, value in told[map].items())


def said_about(rule: Mapping[str, Any]) -> str:
    """What operators said about a queue, and its bound."""
    words = [word for word in ("paused", "draining") if rule[word]]
    if rule["jobs_max"] is not None:
        words.append(f"bound to {rule['jobs_max']:,} waiting")
    return ", ".join(words)
