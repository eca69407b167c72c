"""A schedule's rule: when something is due, and what happens when it cannot be in time. Made by `Every` and `Cron`.

What cannot be is refused here, with the text of the mistake, where the rule is written; the Router asks `check` again
of what comes over the wire. `due` reads a rule; nothing here knows what time it is.
"""

from __future__ import annotations

import difflib
import math
import zoneinfo
from datetime import datetime
from typing import Any, TypedDict, Unpack

import msgspec
from cronsim import CronSim, CronSimError

from eventmq import limits, values
from eventmq.errors import InvalidSchedule
from eventmq.values import Duration

MISFIRES = ("skip", "once", "all")
OVERLAPS = ("allow", "skip", "queue", "replace")

MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}

_FIELDS = {
    "second": "0 to 59",
    "minute": "0 to 59",
    "hour": "0 to 23",
    "day of the month": "1 to 31, L (the last) or LW (the last weekday)",
    "month": "1 to 12 or JAN to DEC",
    "day of the week": "0 to 7 or SUN to SAT, 1#2 (the second Monday) or 5L (the last Friday)",
}
"""The fields of an expression, the first one only where there are six."""


class Rule(msgspec.Struct, array_like=True, frozen=True):
    """When something is due. The same on the wire and in the store, fields by position.

    Attributes:
        interval_s: Time between two runs; 0 = `cron` says.
        cron: Five or six fields (seconds first), or `@hourly` and its kin; empty = `interval_s` says.
        tz: Time zone of `cron`.
        start: Wall time before which nothing is due; 0 = none. Intervals are counted from it.
        end: Wall time after which nothing is due; 0 = none.
        jitter_s: Each run is put off by up to this long, always as long for the same schedule and time.
        nohaste: An interval's first run comes after one interval, not at once.
        run_count: The schedule ends after so many runs; 0 = never.
        misfire: What becomes of a run that is later than `grace_s`: `skip` it, do it `once` for all of them, or `all`.
        grace_s: How late a run may be and still count as in time.
        overlap: What happens when the run before has not ended: `allow` both, `skip` the new one, `queue` one at most,
            `replace` the old one.
        overdue: Periods without success after which the Router raises the alarm; 0 = never.
    """

    interval_s: float = 0.0
    cron: str = ""
    tz: str = "UTC"
    start: float = 0.0
    end: float = 0.0
    jitter_s: float = 0.0
    nohaste: bool = False
    run_count: int = 0
    misfire: str = "once"
    grace_s: float = limits.GRACE_S
    overlap: str = "allow"
    overdue: int = limits.OVERDUE_PERIODS


class Timing(TypedDict, total=False):
    """What may be said of either kind of rule."""

    start: datetime | None
    end: datetime | None
    jitter: Duration
    run_count: int
    misfire: str
    grace: Duration
    overlap: str
    overdue: int


def Every(interval: Duration, /, *, nohaste: bool = False, **timing: Unpack[Timing]) -> Rule:
    """Due at once and then every so often: `Every("5m")`, `Every(60)`, `Every(timedelta(hours=2))`.

    Args:
        interval: Seconds, text, or a `timedelta`.
        nohaste: The first run comes after one interval, not at once.
        timing: `start` and `end` (datetimes with a time zone), `jitter`, `run_count`, `misfire`, `grace`, `overlap`,
            `overdue`; what they mean stands at `Rule`.

    Raises:
        InvalidSchedule: A `ValueError`: something that cannot be.
    """
    return check(
        Rule(interval_s=values.seconds("interval", interval, InvalidSchedule), nohaste=nohaste, **_plain(timing))
    )


def Cron(expression: str, /, *, tz: str = "UTC", **timing: Unpack[Timing]) -> Rule:
    """Due as a cron expression says: `Cron("0 9 * * 1-5", tz="Europe/Prague")`, `Cron("@hourly")`.

    Args:
        expression: Five fields, or six with seconds first.
        tz: Name of the time zone in which it is read.
        timing: As for `Every`.

    Raises:
        InvalidSchedule: A `ValueError`: something that cannot be.
    """
    for name, text in (("cron", expression), ("tz", tz)):
        if not isinstance(text, str):
            raise InvalidSchedule(f"{name} is {text!r}, expected text")
    if not expression.strip():
        raise InvalidSchedule("the cron expression is empty")
    try:
        return check(Rule(cron=" ".join(expression.split()), tz=tz, **_plain(timing)))
    except _UnknownZone as error:
        near = difflib.get_close_matches(tz, zoneinfo.available_timezones(), n=1)
        raise InvalidSchedule(f"{error}; did you mean {near[0]!r}?" if near else str(error)) from None


# ---- what cannot be ------------------------------------------------------------------------------------


class _UnknownZone(InvalidSchedule):
    pass


def check(rule: Rule) -> Rule:
    """The rule, if it can be.

    Raises:
        InvalidSchedule: A `ValueError` that says what is wrong.
    """
    if rule.cron and rule.interval_s:
        raise InvalidSchedule("expected an interval or a cron expression, got both")
    if rule.cron:
        _check_cron(rule.cron)
        zone(rule.tz)
    elif not limits.INTERVAL_S_MIN <= rule.interval_s <= limits.FUTURE_S_MAX:
        raise InvalidSchedule(f"the interval is {rule.interval_s:g} s, expected {limits.INTERVAL_S_MIN:g} s or more")
    for name, words in (("misfire", MISFIRES), ("overlap", OVERLAPS)):
        values.check_choice(name, getattr(rule, name), InvalidSchedule, words)
    for name in ("start", "end", "jitter_s", "grace_s"):
        if not 0 <= getattr(rule, name) <= limits.FUTURE_S_MAX:
            raise InvalidSchedule(f"{name} is {getattr(rule, name)!r}, expected 0 or more")
    if rule.end and rule.end < rule.start:
        raise InvalidSchedule("it ends before it starts")
    for name, most in (("run_count", limits.RUN_COUNT_MAX), ("overdue", limits.OVERDUE_PERIODS_MAX)):
        values.check_whole(name, getattr(rule, name), InvalidSchedule, 0, most)
    return rule


def zone(name: str) -> zoneinfo.ZoneInfo:
    """A time zone by its name.

    Raises:
        InvalidSchedule: There is none.
    """
    try:
        return zoneinfo.ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise _UnknownZone(f"there is no time zone {name[:80]!r}; expected a name as Europe/Prague or UTC") from None


def fields_of(cron: str) -> list[str]:
    """The fields of an expression, five or six if it is one."""
    return MACROS.get(cron.lower(), cron).split()


def _check_cron(cron: str) -> None:
    if len(cron) > limits.CRON_CHARS_MAX:
        raise InvalidSchedule(f"a cron expression has at most {limits.CRON_CHARS_MAX} characters")
    fields = fields_of(cron)
    if cron.startswith("@") and len(fields) == 1:
        raise InvalidSchedule(f"cron is {cron!r}, expected {', '.join(MACROS)}, or five or six fields")
    if len(fields) not in (5, 6):
        raise InvalidSchedule(
            f"cron is {cron!r}, which has {len(fields)} fields; expected five: minute, hour, day of the month, month, "
            "day of the week; or six with the second in front"
        )
    names = list(_FIELDS)[-len(fields) :]
    for number, (name, field) in enumerate(zip(names, fields, strict=True)):
        alone = ["*"] * len(fields)
        alone[number] = field
        if not _is_cron(alone):
            raise InvalidSchedule(f"cron is {cron!r}: {field!r} is no {name}; expected {_FIELDS[name]}")
    if not _is_cron(fields) or next(CronSim(" ".join(fields), datetime(2000, 1, 1)), None) is None:
        raise InvalidSchedule(f"cron is {cron!r}, which is never due: there is no such day")


def _is_cron(fields: list[str]) -> bool:
    try:
        CronSim(" ".join(fields), datetime(2000, 1, 1))
    except CronSimError:
        return False
    return True


# ---- from what people write ------------------------------------------------------------------------------


def _plain(timing: Timing) -> dict[str, Any]:
    """Timing as the fields of a rule."""
    found: dict[str, Any] = {}
    for name, value in timing.items():
        if name not in Timing.__annotations__:
            raise InvalidSchedule(f"a schedule has no {name!r}; it has {', '.join(Timing.__annotations__)}")
        if value is None:
            continue
        if name in ("jitter", "grace"):
            found[f"{name}_s"] = values.seconds(name, value, InvalidSchedule)
        else:
            found[name] = values.moment(name, value, InvalidSchedule) if name in ("start", "end") else value
    return found


# ---- in words ------------------------------------------------------------------------------------------------


def words(rule: Rule) -> str:
    """The rule as people say it: `every 5 minutes`, `at 09:00 on Monday through Friday (Europe/Prague)`."""
    if rule.cron:
        text = CronSim(" ".join(fields_of(rule.cron)), datetime(2000, 1, 1)).explain()
        return f"{text[0].lower()}{text[1:]} ({rule.tz})"
    for unit, seconds in (("day", 86400.0), ("hour", 3600.0), ("minute", 60.0), ("second", 1.0)):
        number = rule.interval_s / seconds
        if number >= 1 and math.isclose(number, round(number)):
            return f"every {unit}" if round(number) == 1 else f"every {round(number)} {unit}s"
    return f"every {rule.interval_s:g} seconds"
