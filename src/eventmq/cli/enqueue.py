"""`eventmq enqueue` and `eventmq result`: hand in a job by name, and see what became of it, as user code would."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import click

from eventmq.broker.lifecycle import TERMINAL, UNKNOWN
from eventmq.cli.ending import Mistake
from eventmq.cli.flags import config, frontend, load, options, output, verb
from eventmq.cli.tables import Told, json_of, tell

within = click.option("--within", metavar="SPAN", default="60s", show_default=True, help="How long --wait waits.")


@verb
@click.argument("target", metavar="CALL")
@click.argument("args", nargs=-1, metavar="[JSON]...")
@click.option("--arg", "kwargs", multiple=True, metavar="K=JSON", help="A named argument; what is no JSON is text.")
@click.option("--queue", metavar="NAME", help="Queue where it waits. Default: default.")
@click.option("--in", "countdown", metavar="SPAN", help="Not before so long from now: 10s, 5m, 1h30m.")
@click.option("--at", "eta", metavar="TIME", help="Not before: 2026-12-24T18:00, here or with a zone (…+01:00, …Z).")
@click.option("--priority", type=click.IntRange(-100, 100), help="Higher first within its queue. Default: 0.")
@click.option("--retries", type=click.IntRange(0), help="How often it is tried again when it fails.")
@click.option("--timeout", metavar="SPAN", help="Its worker process is killed when it has run this long.")
@click.option("--unique", metavar="KEY", help="Its key: there is one job of this call with it at a time.")
@click.option("--id", metavar="ID", help="Its id, instead of a new one: the same id again is the same job.")
@click.option("--wait", is_flag=True, help="Wait until it has ended, and show its value.")
@options(within, frontend, config, output)
def enqueue(
    target: str, args: Sequence[str], kwargs: Sequence[str], wait: bool, within: str, form: str, **given: Any
) -> int:
    """Hand in a job: CALL is module.function, what follows are its arguments as JSON; what is no JSON is text.

    Nothing is imported here, so the worker checks the arguments. The id is printed when the job is durable.

    \b
    eventmq enqueue shop.tasks.send 7 Welcome
    eventmq enqueue shop.tasks.send 7 --arg subject=Welcome --queue email --in 10m
    eventmq enqueue shop.tasks.report '{"year": 2026}' --at 2026-12-24T18:00 --retries 3
    eventmq enqueue shop.tasks.add 2 3 --wait       prints 5
    """
    from eventmq.client.enqueue import defer_job

    sending(given.pop("config"), given.pop("scheduler_addr"))
    named = dict(_named(text) for text in kwargs)
    given["eta"] = _moment(given["eta"]) if given["eta"] else None
    handle = defer_job(target, [_value(text) for text in args], named, **{k: v for k, v in given.items() if v})
    if not wait:
        return tell(Told({"id": str(handle), "created": handle.created}, text=handle), form)
    return _ended(handle, within, form)


@verb
@click.argument("id")
@click.option("--wait", is_flag=True, help="Wait until it has ended.")
@options(within, frontend, config, output)
def result(id: str, wait: bool, within: str, scheduler_addr: str | None, config: str | None, form: str) -> int:
    """Show what a job returned, as JSON; of one that failed, how, with exit code 1. 75: it has not ended.

    \b
    eventmq result 019be0a7c1e27b60b8d2f3b0c4c1a9d5
    eventmq result 019be0a7c1e27b60b8d2f3b0c4c1a9d5 --wait --within 10m
    """
    from eventmq.client.handles import JobHandle

    sending(config, scheduler_addr)
    handle: JobHandle[Any] = JobHandle(id)
    if not wait and (state := handle.status) not in {*TERMINAL, UNKNOWN}:
        raise TimeoutError(f"job {id} has not ended: it is {state}; --wait waits for that")
    return _ended(handle, within, form)


def _ended(handle: Any, within: str, form: str) -> int:
    """Prints a job's value.

    Raises:
        JobError: It has none.
        TimeoutError: It has not ended in time.
    """
    from eventmq.errors import JobFailed

    try:
        value = handle.result(timeout=within)
    except ValueError as error:
        raise Mistake(str(error)) from None
    except JobFailed as error:
        print(error.traceback, end="", file=sys.stderr)
        raise
    return tell(Told({"id": str(handle), "value": value}, text=json_of(value, name="value")), form)


def sending(config: str | None, frontend_addr: str | None) -> None:
    """Makes the process's client one of the Router that the flags name, else the settings of clients or schedulers."""
    from eventmq.client.default import configure
    from eventmq.net import address

    settings = load("scheduler", config, scheduler_addr=frontend_addr or load("client", config).broker_addr or None)
    configure(broker_addr=address.reachable(settings.scheduler_addr))


def json_as(flag: str, text: str, kind: type) -> Any:
    """A flag's value as JSON of this kind: a list or an object."""
    value = _value(text)
    if not isinstance(value, kind):
        raise Mistake(f"{flag} is {text!r}, expected a JSON {'list' if kind is list else 'object'}")
    return value


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _named(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not (equals and name.isidentifier()):
        raise Mistake(f"--arg is {text!r}, expected name=JSON")
    return name, _value(value)


def _moment(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError:
        raise Mistake(f"--at is {text!r}, expected a time as 2026-12-24T18:00 or 2026-12-24T18:00+01:00") from None
