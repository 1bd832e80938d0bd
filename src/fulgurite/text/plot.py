"""Points and curves drawn in the terminal and as SVG. No torch.

matplotlib was looked at: 60 MB and a second of import for two files. Optuna's own plots need it, or plotly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from fulgurite.scheduler.plot import braille

WIDE, HIGH, EDGE = 720, 400, 60
"""An SVG's size and margin, in pixels."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A curve over x (logarithmic where `log`), the points it was drawn from, and named places on the x axis."""

    title: str
    x_name: str
    y_name: str
    line: Sequence[tuple[float, float]]
    points: Sequence[tuple[float, float]] = ()
    marks: Sequence[tuple[str, float]] = ()
    log: bool = False

    def spans(self) -> tuple[float, float, float, float]:
        """The ends of x (as drawn) and y; y by the line alone, which a wild point must not flatten."""
        xs = [self.at(x) for x, _ in (*self.line, *self.points)]
        ys = [y for _, y in self.line]
        low, high = min(ys), max(ys)
        return min(xs), max(xs), low, high if high > low else low + 1

    def at(self, x: float) -> float:
        """Where `x` lies on the axis."""
        return math.log10(x) if self.log else x


def text(figure: Figure, width: int = 80, height: int = 12) -> str:
    """The curve in braille with its ends labelled and a line of marks under the axis."""
    left, right, low, high = figure.spans()
    ticks = {0: f"{high:.4g}", height - 1: f"{low:.4g}"}
    margin = max(map(len, ticks.values()))
    columns = width - margin - 3
    along = [left + (right - left) * i / (2 * columns - 1) for i in range(2 * columns)]
    levels = [(_between(figure, x) - low) / (high - low) for x in along]
    lines = [figure.title, ""]
    for row, cell in enumerate(braille(levels, columns, height)):
        lines.append(f"{ticks.get(row, ''):>{margin}} {'┤' if row in ticks else '│'}{cell}".replace("\u2800", " ").rstrip())
    places = {_column(figure.at(x), left, right, columns): name for name, x in figure.marks}
    lines.append(" " * (margin + 1) + "└" + "".join("┴" if i in places else "─" for i in range(columns)))
    begin, end = (10**left, 10**right) if figure.log else (left, right)
    label = f"{begin:.3g}"
    lines.append(" " * (margin + 2) + label + f"{figure.x_name} {end:.3g}".rjust(columns - len(label)))
    for column, name in sorted(places.items()):
        lines.append(" " * (margin + 2 + min(column, max(0, columns - len(name) - 2))) + f"^ {name}")
    return "\n".join(lines)


def svg(figure: Figure) -> str:
    """The same as an SVG file: the line, every point, dashed marks."""
    left, right, low, high = figure.spans()

    def place(x: float, y: float) -> str:
        across = EDGE + (figure.at(x) - left) / ((right - left) or 1) * (WIDE - 2 * EDGE)
        down = HIGH - EDGE - (min(max(y, low), high) - low) / (high - low) * (HIGH - 2 * EDGE)
        return f"{across:.1f},{down:.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDE} {HIGH}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDE}" height="{HIGH}" fill="white"/><text x="{EDGE}" y="24" font-size="15">{escape(figure.title)}</text>',
        f'<path d="M{EDGE} {EDGE}V{HIGH - EDGE}H{WIDE - EDGE}" fill="none" stroke="#444"/>',
    ]
    begin, end = (10**left, 10**right) if figure.log else (left, right)
    for left_of, top_of, anchor, label in (
        (EDGE - 6, EDGE + 4, "end", f"{high:.4g}"), (EDGE - 6, HIGH - EDGE, "end", f"{low:.4g}"), (EDGE, EDGE - 10, "start", figure.y_name),
        (EDGE, HIGH - EDGE + 16, "middle", f"{begin:.3g}"), (WIDE - EDGE, HIGH - EDGE + 16, "end", f"{end:.3g}"),
        (WIDE / 2, HIGH - EDGE + 34, "middle", figure.x_name),
    ):
        parts.append(f'<text x="{left_of}" y="{top_of}" text-anchor="{anchor}">{escape(label)}</text>')
    for x, y in figure.points:
        across, down = place(x, y).split(",")
        parts.append(f'<circle cx="{across}" cy="{down}" r="3" fill="#999"/>')
    parts.append(f'<polyline points="{" ".join(place(x, y) for x, y in figure.line)}" fill="none" stroke="#c2410c" stroke-width="2"/>')
    for n, (name, x) in enumerate(figure.marks):
        across = place(x, low).split(",")[0]
        parts.append(f'<path d="M{across} {EDGE}V{HIGH - EDGE}" stroke="#1d4ed8" stroke-dasharray="4 4"/>')
        parts.append(f'<text x="{across}" y="{EDGE + 14 + 15 * n}" fill="#1d4ed8"> {escape(name)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _between(figure: Figure, x: float) -> float:
    """The line's height at a place on the axis, straight between its neighbours."""
    points = [(figure.at(a), b) for a, b in figure.line]
    for (x0, y0), (x1, y1) in pairwise(points):
        if x <= x1:
            return y0 + (y1 - y0) * (x - x0) / ((x1 - x0) or 1)
    return points[-1][1]


def _column(x: float, left: float, right: float, columns: int) -> int:
    return round((x - left) / ((right - left) or 1) * (columns - 1))
