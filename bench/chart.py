"""The chart: end-to-end rates and idle latencies as bars, in one SVG without anything to load."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from xml.sax.saxutils import escape

from report import Medians, medians
from systems import OURS

WIDTH, LABEL, VALUE = 900, 150, 90
BAR, GAP, PANEL = 15, 4, 46
"""Pixels: a bar, the space under it, the space over a panel with its title."""

STYLE = """\
text { font: 12px system-ui, sans-serif; fill: #24292f } .title { font-weight: 600; font-size: 14px }
.end { text-anchor: end } .ours { fill: #2f6f4f } .peer { fill: #8c959f }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .ours { fill: #56b283 } .peer { fill: #6e7681 } }"""

PANELS: tuple[tuple[str, str, bool, Callable[[float], str]], ...] = (
    ("End to end, jobs per second (longer is better)", "through", False, lambda value: f"{value:,.0f}"),
    ("Idle, ms from .delay() to the job, median (shorter is better)", "idle_p50", True, lambda value: f"{value:.2f}"),
)
"""Title, figure, whether the smallest is best, form of a value."""


def chart(data: dict[str, Any]) -> str:
    """The SVG's text."""
    found = {name: figures for name, figures in medians(data).items() if "through" in figures}
    height = sum(PANEL + len(found) * (BAR + GAP) for _ in PANELS) + GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        "<title>EventMQ beside its peers</title>",
        f"<style>{STYLE}</style>",
    ]
    top = 0
    for title, figure, smallest_first, form in PANELS:
        parts += panel(found, title, figure, smallest_first, form, top)
        top += PANEL + len(found) * (BAR + GAP)
    return "\n".join([*parts, "</svg>", ""])


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
