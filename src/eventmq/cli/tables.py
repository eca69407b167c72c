"""What a verb has to say, in the form that was asked for: the one owner of `-o`.

    table   for people: a table at a terminal, tab-separated text for pipes; times relative there, ISO 8601 here
    json    one document      jsonl   one line for each thing      id   the id or name of each

What stands on stdout is that and nothing else; whatever is said beside it goes to stderr.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from eventmq import values
from eventmq.cli.ending import OK
from eventmq.values import some as some
from eventmq.values import span as span

TIMES = frozenset(
    ("created", "due", "started", "finished", "kept_until", "at", "first", "last", "next", "anchor", "since", "until")
)
"""Names of wall times in documents. What has such a name and is no float is none."""

OF_USERS = frozenset(("arguments", "value", "progress"))
"""Names of what users' code has made: a number in it is a number."""

NAME_CHARS = 24
"""What is left of a name, but in the last column, where a table is too wide for the terminal."""

_STEERING = re.compile(r"[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""What JSON carries as it is, and a terminal obeys."""


class Moment(NamedTuple):
    """A cell: a wall time."""

    at: float


class Table(NamedTuple):
    """What to show.

    Attributes:
        title: Above the table, on a terminal only.
        columns: Headings.
        rows: Cells; numbers are set to the right.
        folds: On a terminal, rows take the lines that they need; else each is cut to one line.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    folds: bool = False


class Told(NamedTuple):
    """What a verb has to say.

    Attributes:
        document: As JSON. Several things are a list, or an iterator, or a mapping of mappings by name.
        table: For people; or what makes it of the document.
        text: Below the table, or instead of it.
        code: The verb's exit code.
    """

    document: Any
    table: Table | Callable[[Any], Table] | None = None
    text: str = ""
    code: int = OK


class Said(NamedTuple):
    """One line of something that goes on: as JSON, and for people."""

    document: Any
    text: str


def tell(told: Told | Iterator[Said], form: str) -> int:
    """Prints what a verb has to say, or each line that it says, at once; and returns its exit code."""
    if isinstance(told, Told):
        _tell(told, form)
        return told.code
    for said in told:
        document = said.document
        print(said.text if form == "table" else document.get("id", "") if form == "id" else json_of(document))
        sys.stdout.flush()
    return OK


def _tell(told: Told, form: str) -> None:
    document, table = told.document, told.table
    if isinstance(document, Iterator) and form in ("json", "table"):
        document = list(document)  # the other forms print each as it comes
    if form == "json":
        print(json_of(document, indent=2))
    elif form == "jsonl":
        for each in _things(document):
            print(json_of(each))
    elif form == "id":
        for each in _things(document):
            print(printable(each.get("id", each.get("name", "")) if isinstance(each, Mapping) else each))
    else:
        if table is not None:
            show(table(document) if callable(table) else table)
        for line in told.text.splitlines():
            print(printable(line))


def watched(show: Callable[[], int], every_s: float | None) -> int:
    """Shows something once, or again and again until it is interrupted: at a terminal in the same place."""
    while True:
        if every_s is not None and sys.stdout.isatty():
            print("\x1b[H\x1b[2J", end="")
        code = show()
        if every_s is None:
            return code
        sys.stdout.flush()
        time.sleep(every_s)


def json_of(document: Any, indent: int | None = None, name: str = "") -> str:
    """JSON, with its times in ISO 8601; `name` is what the document has in a larger one."""
    text = json.dumps(_dated(document, name), indent=indent, ensure_ascii=False, default=str)
    return _STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _dated(value: Any, name: Any) -> Any:
    if name in OF_USERS:
        return value
    if isinstance(value, Mapping):
        return {key: _dated(each, key) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_dated(each, "") for each in value]
    return iso(value) if isinstance(value, float) and value and name in TIMES else value


def _things(document: Any) -> Iterable[Any]:
    """What a document tells of, one by one."""
    if isinstance(document, Mapping) and document and all(isinstance(each, Mapping) for each in document.values()):
        return [{"name": name, **each} for name, each in document.items()]
    return document if isinstance(document, list | Iterator) else [document]


def show(table: Table) -> None:
    """Prints a table in the form that suits where stdout goes."""
    if sys.stdout.isatty():
        print(table.title if os.environ.get("NO_COLOR") else f"\x1b[1m{table.title}\x1b[0m")
        print(*drawn(table, shutil.get_terminal_size().columns), sep="\n")
        return
    print("\t".join(table.columns))
    for row in table.rows:
        print("\t".join(printable(iso(cell.at) if isinstance(cell, Moment) else cell) for cell in row))


def printable(cell: Any) -> str:
    """A cell's or a line's text; what came from a peer cannot start a new cell or steer a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(cell))


def facts(title: str, told: Mapping[str, Any]) -> Table:
    """All that is known of one thing, as a table."""
    rows = [(what, _fact(what, value)) for what, value in told.items() if value is not None]
    return Table(title, ("what", "value"), rows, folds=True)


def _fact(what: str, value: Any) -> Any:
    if isinstance(value, float) and value and what in TIMES:
        return Moment(value)
    return json_of(value, name=what) if isinstance(value, Mapping | list | tuple) else value


def drawn(table: Table, width: int) -> list[str]:
    """The lines of a table at a terminal, the headings first; of so many columns at most, unless its rows fold."""
    rows = [list(table.columns), *([_shown(cell) for cell in row] for row in table.rows)]
    lines = _aligned(rows, table)
    if table.folds or max(map(len, lines)) <= width:
        return lines
    names = [column != "id" for column in table.columns[:-1]]
    for row in rows:
        row[:-1] = [cut(cell, NAME_CHARS) if is_name else cell for cell, is_name in zip(row, names, strict=False)]
    return [cut(line, width) for line in _aligned(rows, table)]


def _aligned(rows: list[list[str]], table: Table) -> list[str]:
    rooms = [max(map(len, column)) for column in zip(*rows, strict=True)]
    numbers = [all(isinstance(cell, int | float) for cell in column) for column in zip(*table.rows, strict=True)]
    sides = [str.rjust if of_numbers else str.ljust for of_numbers in numbers or [False] * len(rooms)]
    return [
        "  ".join(side(cell, room) for side, cell, room in zip(sides, row, rooms, strict=True)).rstrip() for row in rows
    ]


def cut(text: str, chars_max: int) -> str:
    """The beginning of a text that is too long."""
    return text if len(text) <= chars_max else f"{text[: chars_max - 1]}…"


def _shown(cell: Any) -> str:
    return relative(cell.at, time.time()) if isinstance(cell, Moment) else printable(cell)


# ---- words ---------------------------------------------------------------------------------------------


def iso(at: float) -> str:
    """A wall time for programs: `2026-11-24T11:00:00.000Z`."""
    return values.iso(at, "milliseconds")


def relative(at: float, now: float) -> str:
    """A wall time as people say it: `3 m 5 s ago`, `in 10.0 s`."""
    return f"in {span(at - now)}" if at > now else f"{span(now - at)} ago"
