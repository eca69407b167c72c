"""The times at which a rule is due, and which of them is to run next. Pure: a time in, a time out.

All times are wall times in seconds. A rule's times are a function of the rule and its `anchor` (when the schedule was
accepted), nothing else: whoever computes them, whenever, gets the same, as long as the time zone's data are the same.

At a change of the clocks an expression that names minute and hour runs once: what falls into a gap runs at its end,
what comes twice runs the first time. Any other expression (`*/15 * * * *`, or six fields) follows the clock on the
wall, so it runs in both of two hours that have the same name and in none that there is not. That is Debian's cron.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from itertools import islice, takewhile
from typing import Any
from zlib import crc32
from zoneinfo import ZoneInfo

from cronsim import CronSim

from eventmq.limits import DAY_S
from eventmq.schedules.rule import Rule, fields_of, zone

STEP_S = 7 * DAY_S
"""A zone's clock does not change twice in so short a time."""

INSTANT_S = 0.001
"""Shorter than any time between two runs, longer than what the calendar's microseconds round away."""

WINDOW_FACTOR = 60
"""How a search backwards widens; it starts at LISTED_S."""

LISTED, LISTED_S = 100, 60.0
"""So many times, and those in so short a stretch, are looked at one by one."""


def first_moment(rule: Rule, anchor: float) -> float:
    """The time after which a new schedule looks for its first run: just before `anchor` for an interval, which has
    haste."""
    has_haste = rule.interval_s and not rule.start and not rule.nohaste
    return anchor - INSTANT_S if has_haste else anchor


def after(rule: Rule, anchor: float, moment: float) -> float | None:
    """The first time behind `moment` at which the rule is due; None = never again."""
    if rule.start:
        moment = max(moment, rule.start - INSTANT_S)
    due = _after_cron(rule, moment) if rule.cron else _after_interval(rule, anchor, moment)
    return None if due is None or (rule.end and due > rule.end) else due


def times(rule: Rule, anchor: float, moment: float) -> Iterator[float]:
    """All times behind `moment`, in order."""
    while (due := after(rule, anchor, moment)) is not None:
        yield due
        moment = due


def coming(rule: Rule, told: Mapping[str, Any], now: float) -> Iterator[str]:
    """When a schedule that the Router tells of runs from now on, in its zone; late by its grace at most."""
    behind = max(told["last"], now - rule.grace_s) if told["runs"] else told["last"]
    place = zone(rule.tz) if rule.cron else UTC
    for due in times(rule, told["anchor"], behind):
        yield datetime.fromtimestamp(due, place).isoformat(" ", "seconds")


def _after_interval(rule: Rule, anchor: float, moment: float) -> float:
    base, interval = rule.start or anchor, rule.interval_s
    number = max(int(rule.nohaste), math.floor((moment - base) / interval))
    while base + number * interval <= moment:
        number += 1
    return base + number * interval


# ---- cron ------------------------------------------------------------------------------------------------


def _after_cron(rule: Rule, moment: float) -> float | None:
    fields = fields_of(rule.cron)
    names_time = len(fields) == 5 and not fields[0].startswith("*") and not fields[1].startswith("*")
    search = _after_named if names_time else _after_on_the_wall
    try:
        return search(" ".join(fields), zone(rule.tz), moment)
    except (StopIteration, OverflowError, ValueError):  # never again, or beyond the calendar
        return None


def _after_named(cron: str, place: ZoneInfo, moment: float) -> float:
    """For an expression that names minute and hour."""
    for local in CronSim(cron, _local(place, moment)):
        due = local.replace(tzinfo=place).timestamp()
        if _local(place, due) != local:  # in a gap
            due = _first_change(place, due - DAY_S, due) or due
        if due > moment:
            return due
    raise StopIteration


def _after_on_the_wall(cron: str, place: ZoneInfo, moment: float) -> float:
    """For any other: from one change of the clock to the next, local times and real ones run side by side."""
    behind, since = moment, moment
    while True:
        offset = _offset_s(place, since)
        due = next(CronSim(cron, _naive(behind + offset))).replace(tzinfo=UTC).timestamp() - offset
        change = _first_change(place, since, due)
        if change is None:
            return due
        behind, since = change - 1, change


def _first_change(place: ZoneInfo, since: float, until: float) -> float | None:
    """When the zone's clock changes first between two times, the later one included; None = it does not."""
    offset = _offset_s(place, since)
    low = math.floor(since)
    while low < until:
        high = min(low + STEP_S, math.ceil(until))
        if _offset_s(place, min(high, until)) != offset:
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (low, middle) if _offset_s(place, middle) != offset else (middle, high)
            return high
        low = high
    return None


def _offset_s(place: ZoneInfo, moment: float) -> float:
    offset = datetime.fromtimestamp(moment, place).utcoffset()
    assert offset is not None
    return offset.total_seconds()


def _local(place: ZoneInfo, moment: float) -> datetime:
    return datetime.fromtimestamp(moment, place).replace(tzinfo=None, fold=0)


def _naive(seconds: float) -> datetime:
    return datetime(1970, 1, 1) + timedelta(seconds=seconds)


# ---- what to run ---------------------------------------------------------------------------------------------


def next_run(rule: Rule, schedule: str, anchor: float, last: float, wall: float) -> float | None:
    """The time that is to run next, be it still to come or past, as seen at wall time `wall`.

    What is at most `grace_s` late always runs, each time once. Of what is later, `misfire` says what runs.

    Args:
        rule: The rule.
        schedule: Its schedule, which its jitter depends on.
        anchor: When the schedule was accepted.
        last: The time that ran last.
        wall: What time it is.
    """
    due = after(rule, anchor, last)
    if due is None or rule.misfire == "all" or in_time(rule, schedule, due, wall):
        return due
    if rule.misfire == "once":
        return _latest_misfire(rule, schedule, anchor, due, wall)
    oldest = wall - rule.grace_s - rule.jitter_s - INSTANT_S  # what has only this instant left is in time
    coming = times(rule, anchor, max(last, oldest))
    return next((due for due in coming if in_time(rule, schedule, due, wall)), None)


def _latest_misfire(rule: Rule, schedule: str, anchor: float, first: float, wall: float) -> float:
    """Of the times from `first` on, the last one that is too late. Looks back as far as there is one, and then halves
    the way from there, so that its cost does not depend on how many there are, nor on how they lie."""
    late_until = wall - rule.grace_s - rule.jitter_s
    window_s = LISTED_S
    latest = first
    while window_s < late_until - first:
        due = after(rule, anchor, late_until - window_s)
        if due is not None and due < late_until:
            latest = due
            break
        window_s *= WINDOW_FACTOR
    while True:
        coming = times(rule, anchor, latest - INSTANT_S)
        late = [*islice(takewhile(lambda due: not in_time(rule, schedule, due, wall), coming), LISTED)]
        if len(late) < LISTED:
            return late[-1]
        latest, end = late[-1], late_until
        while end - latest > LISTED_S:
            middle = (latest + end) / 2
            due = after(rule, anchor, middle)
            latest, end = (due, end) if due is not None and due < late_until else (latest, middle)


def in_time(rule: Rule, schedule: str, due: float, wall: float) -> bool:
    """Whether it is not too late for this run."""
    return wall <= runs_at(rule, schedule, due) + rule.grace_s


def runs_at(rule: Rule, schedule: str, due: float) -> float:
    """When the run that is due at `due` is to begin: its jitter later."""
    if not rule.jitter_s:
        return due
    return due + rule.jitter_s * crc32(f"{schedule}@{due}".encode()) / 2**32


def run_id(schedule: str, due: float) -> str:
    """The id of the job that runs a schedule at a time: always the same, and in the form of all ids (`client.ids`): its
    milliseconds first, so that the store's index stays fast, where others have chance a hash."""
    time_ms = round(due * 1000)
    digest = int.from_bytes(blake2b(f"{schedule}@{time_ms}".encode(), digest_size=10).digest())
    high = time_ms << 16 | 0x7000 | digest >> 68
    low = 0x8000_0000_0000_0000 | digest & (1 << 62) - 1
    return f"{high << 64 | low:032x}"
