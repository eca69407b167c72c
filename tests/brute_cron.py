"""Cron by trying every minute that there is: slow, short, and written without a look at how the package does it.

Knows numbers, `*`, lists, ranges, steps, `L` and `1#2`. What names minute and hour (five fields, neither begins with a
star) is matched against a calendar without zones and then put on the clock; anything else is matched against the clock.
"""

from __future__ import annotations

import calendar
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

RANGES = ((0, 59), (0, 59), (0, 23), (1, 31), (1, 12), (0, 7))


def numbers(field: str, least: int, most: int) -> set[int]:
    found: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        if span == "*":
            low, high = least, most
        elif "-" in span:
            low, high = map(int, span.split("-"))
        else:
            low, high = int(span), most if step else int(span)
        found.update(range(low, high + 1, int(step or 1)))
    return found


class Brute:
    """One expression."""

    def __init__(self, expression: str) -> None:
        fields = expression.split()
        self.names_time = len(fields) == 5 and fields[0][0] != "*" and fields[1][0] != "*"
        fields = ["0", *fields] if len(fields) == 5 else fields
        self.day_text, self.weekday_text = fields[3], fields[5]
        texts = [text if text != "L" and "#" not in text else "*" for text in fields]
        self.sets = [numbers(text, *bounds) for text, bounds in zip(texts, RANGES, strict=True)]

    def _day(self, at: datetime) -> bool:
        return at.day == calendar.monthrange(at.year, at.month)[1] if self.day_text == "L" else at.day in self.sets[3]

    def _weekday(self, at: datetime) -> bool:
        number = at.isoweekday() % 7
        if "#" in self.weekday_text:
            day, nth = map(int, self.weekday_text.split("#"))
            return number == day % 7 and (at.day - 1) // 7 + 1 == nth
        return number in self.sets[5] or (number == 0 and 7 in self.sets[5])

    def matches_day(self, at: datetime) -> bool:
        either = self.day_text[0] != "*" and self.weekday_text[0] != "*"
        days = self._day(at), self._weekday(at)
        return at.month in self.sets[4] and (any(days) if either else all(days))

    def times(self, zone: ZoneInfo, since: datetime, until: datetime) -> Iterator[float]:
        """All times in (since, until], both in UTC."""
        if self.names_time:
            return iter(sorted(set(self._named(zone, since, until))))
        return self._on_the_wall(zone, since, until)

    def _on_the_wall(self, zone: ZoneInfo, since: datetime, until: datetime) -> Iterator[float]:
        minute = since.replace(second=0)
        while minute <= until:
            at = minute.astimezone(zone)
            if at.minute in self.sets[1] and at.hour in self.sets[2] and self.matches_day(at):
                found = (minute + timedelta(seconds=second) for second in sorted(self.sets[0]))
                yield from (each.timestamp() for each in found if since < each <= until)
            minute += timedelta(minutes=1)

    def _named(self, zone: ZoneInfo, since: datetime, until: datetime) -> Iterator[float]:
        midnight = (since - timedelta(days=2)).replace(tzinfo=None, hour=0, minute=0, second=0)
        while (midnight := midnight + timedelta(days=1)) <= until.replace(tzinfo=None) + timedelta(days=2):
            for hour in self.sets[2] if self.matches_day(midnight) else ():
                for minute in self.sets[1]:
                    at = on_the_clock(zone, midnight.replace(hour=hour, minute=minute))
                    if since < at <= until:
                        yield at.timestamp()


def on_the_clock(zone: ZoneInfo, local: datetime) -> datetime:
    """When a clock shows a time first; for a time that it skips, when it skips it."""
    at = local.replace(tzinfo=zone).astimezone(UTC)
    return at if at.astimezone(zone).replace(tzinfo=None) == local else end_of_gap(zone, at)


def end_of_gap(zone: ZoneInfo, at: datetime) -> datetime:
    """The moment of the clock's change shortly before `at`, minute by minute."""
    while (at - timedelta(minutes=1)).astimezone(zone).utcoffset() == at.astimezone(zone).utcoffset():
        at -= timedelta(minutes=1)
    return at
