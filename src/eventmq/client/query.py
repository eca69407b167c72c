"""The query language in which people select jobs, on the command line and in the dashboard's box. Text in, text out.

    state:dead,lost queue:mail error:'Connection reset' since:2h arg.user_id:42

Words stand apart by spaces, quotes hold a word together as in a shell, and all words have to fit. A word without a
field is an id if it looks like one, else what the job calls.
"""

from __future__ import annotations

import re
import shlex
from datetime import UTC, datetime
from typing import Any

import msgspec

from eventmq import values
from eventmq.protocol.administration import STATES, Selection

WORDS = {
    "state": "one or more of " + ",".join(STATES),
    "queue": "the name of its queue",
    "name": "what it calls: module.function",
    "worker": "the name of the manager that runs it, or ran it last",
    "error": "stands in the type or message of its last failure",
    "id": "one or more ids",
    "since": "accepted in the last 2h, or since 2026-11-01T12:00Z",
    "until": "accepted before: 2h ago, or 2026-11-01T12:00Z",
    "arg.": "an argument: arg.user_id:42 by keyword, arg.0:42 by position, arg.user.id:42 inside",
}
"""The fields, and what stands behind them: for help, suggestions and completion."""

ARGUMENT = "arg."
LISTS = {"state": "states", "id": "ids"}
TIMES = ("since", "until")
ID = re.compile(r"[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


class QueryError(ValueError):
    """A query that says nothing, with the word and what was expected."""


def parse(text: str, now: float) -> Selection:
    """What a query selects.

    Args:
        text: The query; empty = all jobs.
        now: Wall time from which `since:2h` counts back.

    Raises:
        QueryError: It cannot be understood.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise QueryError(f"{text!r}: {error}; a quote in a word stands in quotes of the other kind") from None
    given: dict[str, Any] = {}
    for word in words:
        field, colon, value = word.partition(":")
        if not colon:
            field, value = "id" if ID.fullmatch(word) else "name", word
        _take(given, word, field, value, now)
    try:
        return msgspec.convert(given, Selection)
    except msgspec.ValidationError as error:
        raise QueryError(f"{text!r}: {error}") from None


def _take(given: dict[str, Any], word: str, field: str, value: str, now: float) -> None:
    """One word more.

    Raises:
        QueryError: It cannot be, or not beside what is given already.
    """
    into: dict[str, Any] = given
    if field.startswith(ARGUMENT) and field != ARGUMENT:
        into, key = given.setdefault("arguments", {}), field.removeprefix(ARGUMENT)
    elif field in WORDS and field != ARGUMENT:
        key = LISTS.get(field, field)
    else:
        raise QueryError(f"{word!r}: there is no field {field!r}; there are {', '.join(WORDS)}")
    if not value and into is given:
        raise QueryError(f"{word!r}: expected {WORDS[field]}")
    if field in LISTS:
        given[key] = [*given.get(key, ()), *filter(None, value.split(","))]
        if unknown := set(given["states"]).difference(STATES) if field == "state" else ():
            raise QueryError(f"{word!r}: no job is ever {min(unknown)!r}; the states are {', '.join(STATES)}")
        return
    if key in into:
        raise QueryError(f"{word!r}: {field} is given twice, and both would have to hold")
    into[key] = _moment(word, value, now) if field in TIMES else value


def _moment(word: str, value: str, now: float) -> float:
    """Wall time: so long before `now`, or the time that is written; in UTC if it names no zone."""
    try:
        return max(0.0, now - values.duration(value))
    except ValueError:
        pass
    try:
        when = datetime.fromisoformat(value)
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).astimezone(UTC).timestamp()
    except (ValueError, OverflowError):
        text = f"{word!r}: expected a span of time as 30m or 2h, or a time as 2026-11-01 or 2026-11-01T12:00Z"
        raise QueryError(text) from None


def text_of(selection: Selection) -> str:
    """The query that selects the same, its times written out: for titles and addresses."""
    words = [("state", ",".join(selection.states))] if selection.states else []
    words += [(name, value) for name in ("queue", "name", "worker", "error") if (value := getattr(selection, name))]
    words += [("id", ",".join(selection.ids) or ",")] if selection.ids is not None else []
    words += [(name, values.iso(at)) for name in TIMES if (at := getattr(selection, name)) is not None]
    words += [(f"{ARGUMENT}{path}", text) for path, text in selection.arguments.items()]
    return " ".join(f"{_quoted(field)}:{_quoted(value)}" for field, value in words)


def _quoted(text: str) -> str:
    return shlex.quote(text) if text else ""
