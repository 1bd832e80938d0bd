"""Curves for people: the preference losses in a terminal, and losses and schedules as small SVGs for the page. No
torch.

matplotlib would draw them too, but takes a second to import and writes 30 kB a picture; these are one polyline each.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from fulgurite.explain.losses import compute_course
from fulgurite.language.catalogue import translate
from fulgurite.scheduler.config import Scheduler
from fulgurite.scheduler.equivalence import build_curve, fill_config
from fulgurite.scheduler.plateau_curve import compute_plateau_factors
from fulgurite.scheduler.plot import EXAMPLE
from fulgurite.stage.preference_table import get_row
from fulgurite.text.plot import draw_braille

WIDTH, HEIGHT = 260, 130
"""An SVG's inner measure."""


def plot_loss(loss: str, given: dict[str, float], width: int = 80, height: int = 11) -> str:
    """A loss over the margin, in braille; the dotted line is a margin of 0, at which training starts."""
    beta = given.get("beta", get_row(loss).beta)
    margin = 9
    columns = width - margin - 3
    # a braille cell has two columns of dots
    margins, values = compute_course(loss, 2 * columns, **given)
    low, high = min(values), max(values)
    ticks = {0: _shorten(high), height // 2: _shorten((low + high) / 2), height - 1: _shorten(low)}
    middle = (columns - 1) // 2
    lines = [*textwrap.wrap(describe_loss(loss, beta), width), ""]
    for at, cell in enumerate(draw_braille([(v - low) / ((high - low) or 1) for v in values], columns, height)):
        drawn = "".join("┊" if i == middle and c == "\u2800" else c for i, c in enumerate(cell))
        line = f"{ticks.get(at, ''):>{margin}} {'┤' if at in ticks else '│'}{drawn}"
        lines.append(line.replace("\u2800", " ").rstrip())
    lines.append(
        " " * (margin + 1) + "└" + "".join("┬" if i in (0, middle, columns - 1) else "─" for i in range(columns))
    )
    left, right = _shorten(margins[0]), _shorten(margins[-1])
    lines.append(" " * (margin + 2) + left.ljust(middle) + "0" + right.rjust(columns - max(middle, len(left)) - 1))
    return "\n".join(lines)


def describe_loss(loss: str, beta: float) -> str:
    """What is drawn, in words."""
    found = get_row(loss)
    unit = translate("a token") if found.averaged else translate("an answer")
    against = translate("against the reference") if found.reference else translate("without a reference")
    both = translate("; the chosen answer rises by half of it, the rejected falls by half") if found.two_sided else ""
    words = translate("the loss over the margin of log-probabilities, in nats {unit}, {against}").format(
        unit=unit, against=against
    )
    return f"stage.loss={loss} stage.{found.weight}={beta:g}: {words}{both}"


def draw_curve(values: Sequence[float], left: str, middle: str, right: str, label: str, zero: bool = False) -> str:
    """A small picture of values from left to right, its range at the left edge; `zero` marks the middle."""
    low, high = min(values), max(values)
    # SVG counts y from the top, so that the highest value has y = 0; a flat curve has no range to divide by
    step, scale = WIDTH / (len(values) - 1), HEIGHT / ((high - low) or 1)
    points = " ".join(f"{i * step:.1f},{HEIGHT - (v - low) * scale:.1f}" for i, v in enumerate(values))
    mark = f'<line class="zero" x1="{WIDTH / 2:g}" y1="0" x2="{WIDTH / 2:g}" y2="{HEIGHT}"/>' if zero else ""
    texts: list[tuple[float, float, str, str]]
    texts = [(-4, 9, "end", _shorten(high)), (-4, HEIGHT, "end", _shorten(low)), (0, HEIGHT + 14, "start", left)]
    texts += [(WIDTH / 2, HEIGHT + 14, "middle", middle), (WIDTH, HEIGHT + 14, "end", right)]
    words = "".join(f'<text x="{x:g}" y="{y:g}" text-anchor="{a}">{escape(t)}</text>' for x, y, a, t in texts)
    return (
        f'<svg viewBox="-56 -6 {WIDTH + 64} {HEIGHT + 26}" role="img" '
        f'aria-label="{escape(label)}">'
        f'<path class="axis" d="M0 0V{HEIGHT}H{WIDTH}"/>{mark}<polyline points="{points}"/>{words}</svg>'
    )


def draw_loss(loss: str) -> str:
    """The loss at its own beta."""
    margins, values = compute_course(loss, 61)
    return draw_curve(
        values, _shorten(margins[0]), "0", _shorten(margins[-1]), describe_loss(loss, get_row(loss).beta), zero=True
    )


def draw_schedule(cls: Callable[[], Scheduler], total: int = 1000) -> str:
    """The schedule's factor on the peak rate; the plateau's by evaluation, on an example."""
    config: Any = cls()
    if config.monitors:
        factors = [1.0, *compute_plateau_factors(EXAMPLE, patience=config.patience, factor=config.factor)]
        return draw_curve(
            factors, "0", "", str(len(factors) - 1), translate("The share of optim.lr by evaluation, an example")
        )
    shape = build_curve(fill_config(config, total), total, 1e-4)
    values = [shape(i * total // 100) for i in range(101)]
    return draw_curve(values, "0", str(total // 2), str(total), translate("The share of optim.lr by optimizer step"))


def _shorten(x: float) -> str:
    """Three digits, in at most seven characters: `0.135`, `2000`, `8.47e-4`."""
    if x == 0 or 0.01 <= abs(x) < 1000:
        return f"{x:.3g}"
    if 1000 <= abs(x) < 1e5:
        return f"{x:.0f}"
    digits, _, exponent = f"{x:.2e}".partition("e")
    return f"{digits.rstrip('0').rstrip('.')}e{int(exponent)}"
