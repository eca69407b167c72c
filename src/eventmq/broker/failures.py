"""Why attempts failed: grouped by exception, place in the user's code, and job type. Pure; wall time, in seconds.

A group has one of `FAILURES_MAX` numbered places, under which it is kept as a fact; the group that was seen last the
longest time ago makes room for a new one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from eventmq.limits import ERROR_CHARS_MAX, FAILURES_MAX, HISTORY_S, NAME_CHARS_MAX
from eventmq.protocol.v2 import Failure, Job, decode, pack

FACT = "failure:"

Cause = tuple[str, str, str]
"""Exception, place, name of the job type."""


class Group(msgspec.Struct):
    """Attempts that failed for the same cause.

    Attributes:
        exception: Its qualified name.
        place: Last line of the user's own code: `shop/pay.py:41 charge`. Empty where no code of theirs failed.
        name: What the jobs call.
        count: How many attempts.
        first: Wall time of the first one.
        last: Of the last one.
        sample: The job of the last one.
        message: What its exception said.
    """

    exception: str
    place: str
    name: str
    count: int = 0
    first: float = 0.0
    last: float = 0.0
    sample: str = ""
    message: str = ""


class Failures:
    """All groups."""

    def __init__(self, facts: Mapping[str, bytes]) -> None:
        self._groups: dict[Cause, tuple[int, Group]] = {}
        self._changed: dict[Cause, None] = {}
        for name, value in facts.items():
            if name.startswith(FACT):
                group = decode(value, Group)
                self._groups[group.exception, group.place, group.name] = int(name.removeprefix(FACT)), group

    def count(self, failed: Iterable[tuple[Job, Failure, float]], wall: float) -> None:
        """Attempts failed."""
        for job, failure, _ in failed:
            cause = (failure.type[:NAME_CHARS_MAX], failure.place[:NAME_CHARS_MAX], job.name)
            place = self._groups.get(cause)
            if place is None or place[1].last < wall - HISTORY_S:
                place = self._groups[cause] = self._place(place), Group(*cause, first=wall)
            group = place[1]
            group.count += 1
            group.last, group.sample, group.message = wall, job.id, failure.message[:ERROR_CHARS_MAX]
            self._changed[cause] = None

    def _place(self, own: tuple[int, Group] | None) -> int:
        """A number for a new group: its own from before, a free one, or that of the oldest."""
        if own is not None:
            return own[0]
        if len(self._groups) < FAILURES_MAX:
            return len(self._groups)
        oldest = min(self._groups, key=lambda cause: self._groups[cause][1].last)
        self._changed.pop(oldest, None)
        return self._groups.pop(oldest)[0]

    def changed(self) -> Iterator[tuple[str, bytes]]:
        """Facts to be kept: the groups that have changed."""
        for cause in self._changed:
            number, group = self._groups[cause]
            yield f"{FACT}{number}", pack(group)
        self._changed = {}

    def since(self, wall: float) -> list[Group]:
        """Those seen since then, newest first."""
        groups = (group for _, group in self._groups.values() if group.last >= wall)
        return sorted(groups, key=lambda group: group.last, reverse=True)
