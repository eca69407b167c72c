"""The table: medians over the rounds, their spread, and ours against the best peer."""

from __future__ import annotations

from statistics import median
from typing import Any, NamedTuple

from systems import OURS, PEERS


class Column(NamedTuple):
    """One column: one rate, or the percentiles of one time."""

    title: str
    figures: tuple[str, ...]

    @property
    def is_time(self) -> bool:
        return len(self.figures) > 1


def percentiles(name: str) -> tuple[str, ...]:
    return tuple(f"{name}_p{percent}" for percent in (50, 95, 99))


COLUMNS = (
    Column("bulk enqueue", ("bulk",)),
    Column("one by one", ("one",)),
    Column("16 callers", ("callers",)),
    Column("drain", ("drain",)),
    Column("end to end", ("through",)),
    Column("with results", ("through_result",)),
    Column("to run, ms", percentiles("idle")),
    Column("to result, ms", percentiles("result")),
)

RATIOS = (("full", "off"), ("full", "everysec"), ("full", "always"), ("process", "off"), ("none", "off"))
"""Our durability against the peers' persistence; the first one is the promise."""

Medians = dict[str, dict[str, float]]


def medians(data: dict[str, Any]) -> Medians:
    """By contender and figure."""
    return {
        name: {figure: median(each[figure] for each in entry["rounds"]) for figure in entry["rounds"][0]}
        for name, entry in data["contenders"].items()
        if entry["rounds"]
    }


def spread(data: dict[str, Any], contender: str, figure: str) -> str:
    """Half the range over the rounds, in percent of the median; nothing is said of a single round."""
    values = [each[figure] for each in data["contenders"][contender]["rounds"]]
    return f" ±{50 * (max(values) - min(values)) / median(values):.0f}" if len(values) > 1 else ""


def best_peer(found: Medians, mode: str, figure: str, smallest: bool) -> str:
    """The peer that is best at this, of those that were measured in this mode."""
    peers = [name for peer in PEERS if (name := f"{peer}/{mode}") in found]
    return (min if smallest else max)(peers, key=lambda name: found[name][figure])


def table(data: dict[str, Any]) -> str:
    """Markdown, aligned so that it can be read as it is."""
    found = medians(data)
    rows = [["jobs/s, median ± half the range in %", *(column.title for column in COLUMNS)]]
    rows += [
        [name, *(_cell(data, found, name, column) for column in COLUMNS)] for name in found if "bulk" in found[name]
    ]
    rows += [row for ours, theirs in RATIOS if (row := _ratios(found, ours, theirs))]
    old = [_old_wire(data, found, "emqp1", "a few lines"), _old_wire(data, found, "emqp1-peers", "its own peers")]
    parts = [_aligned(rows) if len(rows) > 1 else "", *old, _conditions(data), *_failures(data)]
    return "\n\n".join(part for part in parts if part)


def _cell(data: dict[str, Any], found: Medians, name: str, column: Column) -> str:
    values = [found[name][figure] for figure in column.figures]
    if column.is_time:
        return " / ".join(f"{value:.2f}" for value in values)
    return f"{values[0]:,.0f}{spread(data, name, column.figures[0])}"


def _ratios(found: Medians, ours: str, theirs: str) -> list[str] | None:
    """Ours as a multiple of the best peer's, which is named; of times, the smaller the better."""
    mine = found.get(f"{OURS}/{ours}")
    if mine is None or not any(f"{peer}/{theirs}" in found for peer in PEERS):
        return None
    row = [f"{ours} ÷ best peer on {theirs}"]
    for column in COLUMNS:
        best = [best_peer(found, theirs, figure, column.is_time) for figure in column.figures]
        against = [
            (mine[figure] / found[peer][figure], peer) for figure, peer in zip(column.figures, best, strict=True)
        ]
        row.append(" / ".join(f"{multiple:.2g} {peer.split('/')[0]}" for multiple, peer in against))
    return row


def _aligned(rows: list[list[str]]) -> str:
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def _old_wire(data: dict[str, Any], found: Medians, name: str, peers: str) -> str:
    """eMQP/1.0 through both Routers, between some peers."""
    by_router = {router: found[each] for router in ("eventmq", "2020") if (each := f"{name}/{router}") in found}
    if not by_router:
        return ""
    said = ", ".join(
        f"{figures['old']:,.0f}{spread(data, f'{name}/{router}', 'old')} jobs/s through {router}'s"
        + (f" ({figures['cpu_us']:.0f} µs of its CPU each)" if "cpu_us" in figures else "")
        for router, figures in by_router.items()
    )
    times = (
        f": {by_router['eventmq']['old'] / by_router['2020']['old']:.1f} times as many" if len(by_router) == 2 else ""
    )
    return f"eMQP/1.0, one job in a message, between {peers}, by Router: {said}{times}."


def _conditions(data: dict[str, Any]) -> str:
    """The machine, and the versions of what was measured."""
    versions = {
        name.split("/")[0]: ", ".join(f"{what} {version}" for what, version in entry["versions"].items())
        for name, entry in data["contenders"].items()
        if entry["versions"]
    }
    machine = ", ".join(f"{what}: {text}" for what, text in data["machine"].items() if text)
    return "\n".join([f"Measured on {machine}", *(f"{name}: {text}" for name, text in versions.items())])


def _failures(data: dict[str, Any]) -> list[str]:
    return [
        f"{name} failed {len(entry['failures'])} times, the last time: {entry['failures'][-1]}"
        for name, entry in data["contenders"].items()
        if entry["failures"]
    ]
