"""Numbers over time: which steps a window has, and what a sparkline looks like. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from eventmq.client.admin import Admin
from eventmq.client.charts import History
from eventmq.web.ask import Ask, Page


class Window(NamedTuple):
    """A stretch of time up to now.

    Attributes:
        seconds: How long.
        step_s: Between two points: at most about 60 of them.
    """

    seconds: int
    step_s: int


WINDOWS = {
    "1h": Window(3600, 60),
    "15m": Window(900, 60),
    "24h": Window(86_400, 1_800),
    "7d": Window(604_800, 10_800),
}
"""By name; the first one is shown unless another is asked for."""

OUTCOMES = ("succeeded", "failed", "dead", "cancelled", "expired", "lost")
"""How runs end; `failed` counts attempts that failed, those that are tried again and the last ones."""

SPARK_WIDTH, SPARK_HEIGHT = 120, 24
"""Of a sparkline's drawing, in its own units."""


def history(admin: Admin, window: str, now: float, queue: str = "", name: str = "") -> History:
    """What happened in a window. It begins on a whole step, so that all who ask within one ask the same."""
    seconds, step_s = WINDOWS[window]
    return admin.history(queue=queue, name=name, since=now - now % step_s - seconds + step_s, step_s=step_s)


def past(ask: Ask, queue: str = "", name: str = "") -> Page:
    """What happened in the window that is asked for: to all jobs, those in a queue, those that call `name`."""
    window = ask.choice("window", list(WINDOWS))
    told = history(ask.admin, window, ask.now, queue, name)
    return {"window": window, "totals": totals(told), "history": told}


def totals(told: History) -> dict[str, int]:
    """Sums over a window, by outcome."""
    return {outcome: sum(told[outcome]) for outcome in ("enqueued", *OUTCOMES)}  # type: ignore[literal-required]


def points(values: Sequence[float | None]) -> str:
    """The points of a sparkline, from 0 at the bottom to the largest value at the top."""
    heights = [value or 0 for value in values]
    top = max(heights, default=0) or 1
    step = SPARK_WIDTH / max(len(values) - 1, 1)
    return " ".join(
        f"{number * step:.1f},{SPARK_HEIGHT - 1 - value / top * (SPARK_HEIGHT - 2):.1f}"
        for number, value in enumerate(heights)
    )
