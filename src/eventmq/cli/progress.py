"""How far something is: a bar at a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

PLAIN_STEPS = 4
"""Lines that a run prints where there is no terminal."""


class Progress:
    """Shows `done` of `total` under a name. Never waits, never fails the work that it shows."""

    def __init__(self, name: str, total: int) -> None:
        self._name = name
        self._total = total
        self._next_line = 1
        self._bar: Bar | None = None

    def __enter__(self) -> Progress:
        if sys.stdout.isatty():
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._bar = Progress(*columns)
            self._task = self._bar.add_task(self._name, total=self._total)
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, done: int) -> None:
        """So far, `done` are done."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done)
            return
        if done * PLAIN_STEPS >= self._next_line * self._total:
            print(f"{self._name}: {done:,} of {self._total:,}", flush=True)
            self._next_line = done * PLAIN_STEPS // self._total + 1

    def say(self, text: str) -> None:
        """A line of its own, above the bar."""
        if self._bar is not None:
            self._bar.print(text)
        else:
            print(text, flush=True)
