"""What operators ask about the past: HISTORY and TYPES. Answered from what the store keeps and memory has.

An answer reads about `HISTORY_POINTS` points and says where to go on. Wall time, in seconds.
"""

from __future__ import annotations

from typing import Any

from eventmq.broker import sketch
from eventmq.broker.history import History, start_of
from eventmq.broker.tally import COUNTS, Tally
from eventmq.limits import DAY_S, HISTORY_POINTS, HISTORY_S, HISTORY_STEPS
from eventmq.protocol.administration import Chart, Types

QUANTILES = {"p50_s": 0.5, "p95_s": 0.95, "p99_s": 0.99}

CHART_POINTS = 400
"""In a chart that leaves it to us how long its steps are, at most, if they are not the longest anyway."""

TYPES_POINTS = 31
"""The same for each job type."""


def chart(history: History, asked: Chart, wall: float, waiting: int | None) -> dict[str, Any]:
    """HISTORY: one list for each thing that is counted or measured, a number for each step of time.

    Args:
        waiting: How many jobs wait now; None: nobody counts that.
    """
    until = wall if asked.until is None else min(asked.until, wall)
    since = max(until - 3600.0 if asked.since is None else asked.since, wall - HISTORY_S)
    length_s = _length_s(since, until, wall, CHART_POINTS, asked.step_s)
    step_s = max(asked.step_s // length_s, 1) * length_s
    first = start_of(since, step_s)
    end = min(start_of(until, step_s) + step_s, first + max(HISTORY_POINTS * length_s // step_s, 1) * step_s)
    tallies = [Tally() for _ in range(first, end, step_s)]
    for start, tally in history.read((asked.queue, asked.name), length_s, first, end):
        tallies[(start - first) // step_s].add(tally)
    if tallies and end > wall and waiting is not None:
        tallies[-1].waiting = waiting
    measured = [_measured(tally) for tally in tallies]
    return {
        "step_s": step_s,
        "since": first,
        "until": until,
        **{word: [tally.counts[word] for tally in tallies] for word in COUNTS},
        **{word: [each[word] for each in measured] for word in _measured(Tally())},
        "waiting": [None if waiting is None else tally.waiting for tally in tallies],
        "next": end if end <= until else None,
    }


def types(history: History, asked: Types, wall: float) -> dict[str, Any]:
    """TYPES: what has become of the jobs of each type."""
    since = max(wall - DAY_S if asked.since is None else asked.since, wall - HISTORY_S)
    length_s = _length_s(since, wall, wall, TYPES_POINTS)
    first = start_of(since, length_s)
    rows: list[dict[str, Any]] = []
    points = 0
    for name in sorted(name for queue, name in history.series if queue == asked.queue and name > asked.after):
        total = Tally()
        points += 1
        for _, tally in history.read((asked.queue, name), length_s, first, int(wall) + 1):
            total.add(tally)
            points += 1
        if total.counts.total():
            queues = sorted(queue for queue, each in history.series if queue and each == name)
            counts = {word: total.counts[word] for word in COUNTS}
            runs = counts["succeeded"] + counts["failed"]
            rows.append({"name": name, "queues": queues, "runs": runs, **counts, **_measured(total)})
        if points >= HISTORY_POINTS:
            return {"types": rows, "since": first, "next": name}
    return {"types": rows, "since": first, "next": None}


def _length_s(since: float, until: float, wall: float, points_max: int, step_s: int = 0) -> int:
    """Which points to read: the shortest that are kept for so long, of which there are not too many; or the longest
    that fit into a step that was asked for."""
    lengths = [length_s for length_s, kept_s in HISTORY_STEPS if since >= wall - kept_s] or [HISTORY_STEPS[-1].length_s]
    if step_s:
        return max((length_s for length_s in lengths if length_s <= step_s), default=lengths[0])
    few = (length_s for length_s in lengths if (until - since) / length_s <= points_max)
    return next(few, lengths[-1])


def _measured(tally: Tally) -> dict[str, float | None]:
    return {
        f"{what}_{word}": value
        for what, durations in (("wait", tally.wait), ("run", tally.run))
        for word, value in zip(QUANTILES, sketch.quantiles(durations, list(QUANTILES.values())), strict=True)
    }
