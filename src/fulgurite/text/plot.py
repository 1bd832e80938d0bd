"""Draws points and curves in the terminal, and as SVG. No torch.

Alternatives that were measured: matplotlib (60 MB, a second of import; Optuna's plots need it, or plotly), plotext
(global state, 11,000 lines, 0.15 s of import), plotille (its axis labels cannot mark the warmup). The terminal part
needs 15 lines.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

WIDE, HIGH, EDGE = 720, 400, 60
"""An SVG's size and margin, in pixels."""

_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
"""The bits of a braille cell, by column and row from the top; the character is U+2800 plus their sum."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A curve over x (logarithmic if `log`), the points it is drawn from, and named places on the x axis."""

    title: str
    x_name: str
    y_name: str
    line: Sequence[tuple[float, float]]
    points: Sequence[tuple[float, float]] = ()
    marks: Sequence[tuple[str, float]] = ()
    log: bool = False

    def limits(self) -> tuple[float, float, float, float]:
        """Returns the limits of x (as drawn) and of y.

        Only the line decides those of y: an outlier must not flatten it.
        """
        xs = [self.position(x) for x, _ in (*self.line, *self.points)]
        ys = [y for _, y in self.line]
        low, high = min(ys), max(ys)
        # A flat line needs a height, too, because positions are divided by it.
        return min(xs), max(xs), low, high if high > low else low + 1

    def position(self, x: float) -> float:
        """Returns the position of `x` on the axis."""
        return math.log10(x) if self.log else x


def draw_text(figure: Figure, width: int = 80, height: int = 12) -> str:
    """Draws the curve in braille, with labels at the ends of the axes and a line of marks below."""
    left, right, low, high = figure.limits()
    ticks = {0: f"{high:.4g}", height - 1: f"{low:.4g}"}
    margin = max(map(len, ticks.values()))
    columns = width - margin - 3
    # A braille cell has two dots across, so the curve is sampled at twice as many places as there are columns.
    along = [left + (right - left) * i / (2 * columns - 1) for i in range(2 * columns)]
    levels = [(_interpolate(figure, x) - low) / (high - low) for x in along]
    lines = [figure.title, ""]
    for row, cell in enumerate(draw_braille(levels, columns, height)):
        # U+2800 is a cell without dots. As a space it can be stripped from the end of the line.
        lines.append(
            f"{ticks.get(row, ''):>{margin}} {'┤' if row in ticks else '│'}{cell}".replace("\u2800", " ").rstrip()
        )
    places = {_find_column(figure.position(x), left, right, columns): name for name, x in figure.marks}
    lines.append(" " * (margin + 1) + "└" + "".join("┴" if i in places else "─" for i in range(columns)))
    begin, end = (10**left, 10**right) if figure.log else (left, right)
    label = f"{begin:.3g}"
    lines.append(" " * (margin + 2) + label + f"{figure.x_name} {end:.3g}".rjust(columns - len(label)))
    for column, name in sorted(places.items()):
        lines.append(" " * (margin + 2 + min(column, max(0, columns - len(name) - 2))) + f"^ {name}")
    return "\n".join(lines)


def draw_svg(figure: Figure) -> str:
    """Draws the same as an SVG file: the line, every point, dashed marks."""
    left, right, low, high = figure.limits()

    def place(x: float, y: float) -> str:
        across = EDGE + (figure.position(x) - left) / ((right - left) or 1) * (WIDE - 2 * EDGE)
        # SVG counts y from the top; a point outside of the limits is drawn at the edge.
        down = HIGH - EDGE - (min(max(y, low), high) - low) / (high - low) * (HIGH - 2 * EDGE)
        return f"{across:.1f},{down:.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDE} {HIGH}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDE}" height="{HIGH}" fill="white"/>'
        f'<text x="{EDGE}" y="24" font-size="15">{escape(figure.title)}</text>',
        f'<path d="M{EDGE} {EDGE}V{HIGH - EDGE}H{WIDE - EDGE}" fill="none" stroke="#444"/>',
    ]
    begin, end = (10**left, 10**right) if figure.log else (left, right)
    labels = (
        (EDGE - 6, EDGE + 4, "end", f"{high:.4g}"), (EDGE - 6, HIGH - EDGE, "end", f"{low:.4g}"),
        (EDGE, EDGE - 10, "start", figure.y_name), (EDGE, HIGH - EDGE + 16, "middle", f"{begin:.3g}"),
        (WIDE - EDGE, HIGH - EDGE + 16, "end", f"{end:.3g}"), (WIDE / 2, HIGH - EDGE + 34, "middle", figure.x_name),
    )
    for at_x, at_y, anchor, label in labels:
        parts.append(f'<text x="{at_x}" y="{at_y}" text-anchor="{anchor}">{escape(label)}</text>')
    for x, y in figure.points:
        across, down = place(x, y).split(",")
        parts.append(f'<circle cx="{across}" cy="{down}" r="3" fill="#999"/>')
    line = " ".join(place(x, y) for x, y in figure.line)
    parts.append(f'<polyline points="{line}" fill="none" stroke="#c2410c" stroke-width="2"/>')
    for n, (name, x) in enumerate(figure.marks):
        across = place(x, low).split(",")[0]
        parts.append(f'<path d="M{across} {EDGE}V{HIGH - EDGE}" stroke="#1d4ed8" stroke-dasharray="4 4"/>')
        # Each name one line lower, so that the names of close marks do not overlap.
        parts.append(f'<text x="{across}" y="{EDGE + 14 + 15 * n}" fill="#1d4ed8"> {escape(name)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def draw_braille(values: Sequence[float], columns: int, height: int) -> list[str]:
    """Draws values in [0, 1], two per column, as `height` lines of braille; a vertical line joins neighbours."""
    top = 4 * height - 1
    grid = [[0] * columns for _ in range(height)]
    before = None
    for x, value in enumerate(values):
        # y counts dots from the top; a cell has four of them.
        y = round((1 - min(max(value, 0.0), 1.0)) * top)
        # Neighbours that are more than a dot apart are joined by a vertical stroke.
        start, stop = (y, y) if before is None or abs(before - y) < 2 else (min(before, y), max(before, y))
        for dot in range(start, stop + 1):
            # A braille cell has two columns of four dots.
            grid[dot // 4][x // 2] |= _DOTS[x % 2][dot % 4]
        before = y
    return ["".join(chr(0x2800 + bits) for bits in line) for line in grid]


def _interpolate(figure: Figure, x: float) -> float:
    """Interpolates the line at a position on the axis."""
    points = [(figure.position(a), b) for a, b in figure.line]
    for (x0, y0), (x1, y1) in pairwise(points):
        if x <= x1:
            # `or 1`: two points may have the same x.
            return y0 + (y1 - y0) * (x - x0) / ((x1 - x0) or 1)
    return points[-1][1]


def _find_column(x: float, left: float, right: float, columns: int) -> int:
    return round((x - left) / ((right - left) or 1) * (columns - 1))
