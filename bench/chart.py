"""The charts, each one SVG without anything to load: rates and latencies as bars, and curves beside one another."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

from report import Medians, medians
from systems import OURS

WIDTH, LABEL, VALUE = 900, 150, 90
BAR, GAP, PANEL = 15, 4, 46
"""Pixels: a bar, the space under it, the space over a panel with its title."""

STYLE = """\
text { font: 12px system-ui, sans-serif; fill: #24292f } .title { font-weight: 600; font-size: 14px }
.end { text-anchor: end } .ours { fill: #2f6f4f } .peer { fill: #8c959f }
.small { font-size: 10px } .middle { text-anchor: middle } .axis { stroke: #8c959f }
.line { stroke: #2f6f4f; stroke-width: 2; fill: none }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .ours { fill: #56b283 } .peer { fill: #6e7681 } .line { stroke: #56b283 } }"""

PANELS: tuple[tuple[str, str, bool, Callable[[float], str]], ...] = (
    ("End to end, jobs per second (longer is better)", "through", False, lambda value: f"{value:,.0f}"),
    ("Idle, ms from .delay() to the job, median (shorter is better)", "idle_p50", True, lambda value: f"{value:.2f}"),
)
"""Title, figure, whether the smallest is best, form of a value."""


def chart(data: dict[str, Any]) -> str:
    """The SVG's text."""
    found = {name: figures for name, figures in medians(data).items() if "through" in figures}
    height = sum(PANEL + len(found) * (BAR + GAP) for _ in PANELS) + GAP
    parts = opened("EventMQ beside its peers", height)
    top = 0
    for title, figure, smallest_first, form in PANELS:
        parts += panel(found, title, figure, smallest_first, form, top)
        top += PANEL + len(found) * (BAR + GAP)
    return "\n".join([*parts, "</svg>", ""])


def opened(title: str, height: int) -> list[str]:
    """How each chart begins."""
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        f"<title>{escape(title)}</title>",
        f"<style>{STYLE}</style>",
    ]


def panel(
    found: Medians, title: str, figure: str, smallest_first: bool, form: Callable[[float], str], top: int
) -> list[str]:
    """One group of bars, best first, from `top` down."""
    longest = max((figures[figure] for figures in found.values()), default=1.0)
    parts = [f'<text class="title" x="0" y="{top + PANEL - 14}">{escape(title)}</text>']
    order = sorted(found, key=lambda name: found[name][figure], reverse=not smallest_first)
    for place, name in enumerate(order):
        value = found[name][figure]
        width = max(1.0, (WIDTH - LABEL - VALUE) * value / longest)
        y = top + PANEL + place * (BAR + GAP)
        kind = "ours" if name.startswith(f"{OURS}/") else "peer"
        parts += [
            f'<text class="end" x="{LABEL - 8}" y="{y + BAR - 3}">{escape(name)}</text>',
            f'<rect class="{kind}" x="{LABEL}" y="{y}" width="{width:.1f}" height="{BAR}" rx="2"/>',
            f'<text x="{LABEL + width + 6:.1f}" y="{y + BAR - 3}">{form(value)}</text>',
        ]
    return parts


# ---- curves ----------------------------------------------------------------------------------------------

PLOTS_IN_A_ROW = 2
PLOT_WIDTH, PLOT_HEIGHT, PLOT_TOP, PLOT_FOOT = WIDTH // PLOTS_IN_A_ROW - 20, 120, 46, 26


class Plot(NamedTuple):
    """A curve: what is on the horizontal axis, what is to be said of it, its points."""

    title: str
    said: str
    points: list[tuple[float, float]]


def plots(title: str, unit: str, found: list[Plot]) -> str:
    """The SVG's text: horizontal axes are logarithmic, vertical ones begin at 0."""
    each = PLOT_TOP + PLOT_HEIGHT + PLOT_FOOT
    parts = opened(title, -(-len(found) // PLOTS_IN_A_ROW) * each + PLOT_FOOT)
    parts.append(f'<text class="title" x="0" y="16">{escape(title)}, {escape(unit)}</text>')
    for place, plot in enumerate(found):
        row, column = divmod(place, PLOTS_IN_A_ROW)
        parts += _plot(plot, column * (PLOT_WIDTH + 20), row * each + PLOT_FOOT)
    return "\n".join([*parts, "</svg>", ""])


def _plot(plot: Plot, left: float, top: float) -> list[str]:
    base, inner = top + PLOT_TOP + PLOT_HEIGHT, PLOT_WIDTH - 60
    first, last = (math.log10(plot.points[end][0]) for end in (0, -1))
    highest = 1.15 * max(y for _, y in plot.points)
    spots = [
        (left + 30 + inner * (math.log10(x) - first) / ((last - first) or 1), base - PLOT_HEIGHT * y / highest)
        for x, y in plot.points
    ]
    parts = [
        f'<text class="title" x="{left}" y="{top + 18}">{escape(plot.title)}</text>',
        f'<text x="{left}" y="{top + 34}">{escape(plot.said)}</text>',
        f'<line class="axis" x1="{left}" y1="{base}" x2="{left + PLOT_WIDTH}" y2="{base}"/>',
        f'<polyline class="line" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in spots)}"/>',
    ]
    for (x, y), (at, value) in zip(spots, plot.points, strict=True):
        parts += [
            f'<circle class="ours" cx="{x:.1f}" cy="{y:.1f}" r="3"/>',
            f'<text class="small middle" x="{x:.1f}" y="{y - 8:.1f}">{value:,.0f}</text>',
            f'<text class="small middle" x="{x:.1f}" y="{base + 14}">{at:,.0f}</text>',
        ]
    return parts
