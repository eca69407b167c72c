"""For monitoring systems: `eventmq check`, one sentence and the exit code of Nagios and its kin; `eventmq metrics`.

A check decides by numbers and problems that the Router tells; thresholds are options. A queue is judged by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.resources import files
from typing import Any, NamedTuple

import click

from eventmq import values
from eventmq.cli import completion
from eventmq.cli.ask import router
from eventmq.cli.ending import OK
from eventmq.cli.flags import asking, options, output, verb
from eventmq.cli.tables import Told, some, span, tell
from eventmq.errors import BrokerUnavailable

LEVELS = ("OK", "WARNING", "CRITICAL", "UNKNOWN")
"""By exit code."""

OF_PROBLEMS = {"warning": 1, "critical": 2}


class Bounds(NamedTuple):
    """From where on something is a warning, and critical; None = never."""

    warning: float | None
    critical: float | None

    def level(self, value: float) -> int:
        """The exit code for a value."""
        if self.critical is not None and value >= self.critical:
            return 2
        return int(self.warning is not None and value >= self.warning)


def _bounds(flag: str, read: Callable[[str], float], help: str) -> Callable[[Any], Any]:
    """A flag as `1000,10000`: a warning from the first on, critical from the second; one alone is critical."""

    def bounds(text: str) -> Bounds:
        first, comma, second = text.partition(",")
        try:
            return Bounds(*(read(part) if part else None for part in ((first, second) if comma else ("", first))))
        except ValueError as error:
            raise click.BadParameter(f"{flag} {text!r}: expected one or two, each {error}") from None

    return click.option(flag, type=bounds, default="", metavar="WARN,CRIT", help=help)


@verb
@click.option("--queue", "queues", multiple=True, metavar="NAME", help="Look at this queue only; may be repeated.",
              shell_complete=completion.queues)  # fmt: skip
@_bounds("--waiting", values.whole(0), "Jobs that wait in a queue.")
@_bounds("--oldest", values.duration, "How long the oldest one has waited: 5m,1h.")
@_bounds("--dead", values.whole(0), "Dead and lost jobs that are kept.")
@click.option("--managers", type=click.IntRange(0), default=0, help="Critical with fewer job managers.")
@click.option("--ignore", multiple=True, metavar="KEY", help="Problems to overlook, as paused or draining.")
@options(asking, output)
def check(config: str | None, addr: str | None, timeout: float, form: str, **limits: Any) -> int:
    """Say in one sentence whether all is well, for monitoring systems.

    Problems that the Router sees count, too: no worker, a paused queue, no scheduler, an overdue schedule, a full disk.
    No Router at all is critical; one that does not answer in time is unknown.

    \b
    eventmq check
    eventmq check --waiting 1000,10000 --oldest 5m,1h --dead 1
    eventmq check --queue email --managers 2 --ignore paused
    """
    try:
        with router(config, addr, timeout) as admin:
            code, text = judged(admin.metrics(), admin.problems(), **limits)
    except BrokerUnavailable as error:
        code, text = 2, str(error)
    except TimeoutError as error:
        code, text = 3, str(error)
    return tell(Told({"level": LEVELS[code], "text": text}, text=f"{LEVELS[code]}: {text}", code=code), form)


check.epilog = "Exit codes: " + ", ".join(f"{code} {level}" for code, level in enumerate(LEVELS)) + "."


def judged(
    numbers: Mapping[str, Any],
    problems: Sequence[Mapping[str, Any]],
    queues: Sequence[str] = (),
    managers: int = 0,
    ignore: Sequence[str] = (),
    **bounds: Bounds,
) -> tuple[int, str]:
    """The exit code, and the sentence: the worst that was found, and how much else there is.

    Args:
        numbers: What METRICS answers.
        problems: What PROBLEMS answers.
        queues: The queues to look at; none = all.
        managers: So many job managers there should be.
        ignore: Keys of problems.
        bounds: `waiting`, `oldest` and `dead`.
    """
    looked = {name: each for name, each in numbers["queues"].items() if not queues or name in queues}
    found = [*_over(numbers, looked, managers, bounds)]
    found += [
        (OF_PROBLEMS[each["level"]], each["text"])
        for each in problems
        if each["key"] not in ignore and (not queues or each["about"].get("queue", queues[0]) in queues)
    ]
    if found:
        code, text = max(found, key=lambda each: each[0])
        more = f"; and {len(found) - 1} more" if len(found) > 1 else ""
        return code, text + more
    waiting = sum(each["waiting"] for each in looked.values())
    running = sum(each["running"] for each in looked.values())
    return 0, f"{some(waiting, 'job')} waiting, {running:,} running, {some(_serving(numbers), 'job manager')}"


def _serving(numbers: Mapping[str, Any]) -> int:
    return int(numbers["managers"].get("serving", 0))


def _over(
    numbers: Mapping[str, Any], queues: Mapping[str, Any], managers: int, bounds: Mapping[str, Bounds]
) -> Iterator[tuple[int, str]]:
    """What is over its bound."""
    for name, each in queues.items():
        if code := bounds["waiting"].level(each["waiting"]):
            yield code, f"queue {name!r} has {some(each['waiting'], 'waiting job')}"
        if code := bounds["oldest"].level(each["oldest_s"]):
            yield code, f"the oldest job in queue {name!r} has waited for {span(each['oldest_s'])}"
    dead = numbers["store"]["dead"]
    if code := bounds["dead"].level(dead):
        yield code, f"{some(dead, 'dead job')} kept"
    if _serving(numbers) < managers:
        yield 2, f"{some(_serving(numbers), 'job manager')}, expected at least {managers:,}"


# ---- files ---------------------------------------------------------------------------------------------------

FILES = {"dashboard": "dashboard.json", "rules": "rules.yaml"}


@verb
@click.argument("what", type=click.Choice(tuple(FILES)))
def metrics(what: str) -> int:
    """Print a dashboard for Grafana, to be imported there, or alert rules for Prometheus.

    \b
    eventmq metrics dashboard
    eventmq metrics rules
    """
    click.echo(files("eventmq.monitoring").joinpath("data", FILES[what]).read_text(), nl=False)
    return OK
