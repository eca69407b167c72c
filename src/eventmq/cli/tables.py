"""Rows on stdout: a table for people at a terminal, tab-separated text for programs and pipes."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from eventmq.cli.ending import OK
from eventmq.values import UNIT_S


class Table(NamedTuple):
    """What to show.

    Attributes:
        title: Above the table, on a terminal only.
        columns: Headings.
        rows: Cells; numbers are set to the right.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


class Told(NamedTuple):
    """What a verb has to say.

    Attributes:
        document: As JSON.
        table: For people.
        text: Below the table, or instead of it.
        code: The verb's exit code.
    """

    document: Any
    table: Table | None = None
    text: str = ""
    code: int = OK


def tell(told: Told, as_json: bool) -> int:
    """Prints what a verb has to say, and returns its exit code."""
    if as_json:
        print(json.dumps(told.document, indent=2, ensure_ascii=False, default=str))
        return told.code
    if told.table is not None:
        show(told.table)
    for line in told.text.splitlines():
        print(printable(line))
    return told.code


def show(table: Table) -> None:
    """Prints a table in the form that suits where stdout goes."""
    if sys.stdout.isatty():
        _show_rich(table)
        return
    print("\t".join(table.columns))
    for row in table.rows:
        print("\t".join(printable(cell) for cell in row))


def printable(cell: Any) -> str:
    """A cell's or a line's text; what came from a peer cannot start a new cell or steer a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(cell))


def _show_rich(table: Table) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    shown = RichTable(title=table.title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    for number, column in enumerate(table.columns):
        right = any(isinstance(row[number], int | float) for row in table.rows)
        shown.add_column(column, justify="right" if right else "left", overflow="fold")
    for row in table.rows:
        shown.add_row(*(Text(printable(cell)) for cell in row))
    Console().print(shown)


def some(count: int, what: str) -> str:
    """A number of things, in words: `1 job`, `2 jobs`."""
    return f"{count:,} {what}" + ("" if count == 1 else "s")


def span(seconds: float) -> str:
    """A length of time as people say it: `4.2 s`, `3 m 5 s`, `2 d 4 h`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    units = [unit for unit in ("d", "h", "m", "s") if seconds >= UNIT_S[unit]]
    first, rest = divmod(seconds, UNIT_S[units[0]])
    second = int(rest // UNIT_S[units[1]]) if len(units) > 1 else 0
    return f"{first:.0f} {units[0]}" + (f" {second} {units[1]}" if second else "")
