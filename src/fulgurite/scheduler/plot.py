"""Draws a schedule in the terminal, from the function that training uses. No torch."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from typing import Any

from fulgurite.scheduler.config import Scheduler
from fulgurite.scheduler.equivalence import build_curve, fill_config
from fulgurite.scheduler.plateau_curve import plateau_factors
from fulgurite.text.plot import draw_braille

EXAMPLE = (*(2.0 - 0.1 * i for i in range(8)), *(1.3 for _ in range(12)))
"""Validation losses of the plateau's example: better at eight evaluations in a row, then never again."""


def plot(config: Scheduler, total: int = 1000, lr: float = 1e-4, width: int = 80, height: int = 13) -> str:
    """The rate over `total` optimizer steps with the peak `lr`, `width` columns wide, `height` lines above the axis."""
    if config.monitors:
        return _plateau(config, lr, width, height)
    given = fill_config(config, total)
    shape = build_curve(config, total, lr)
    warmup = getattr(given, "warmup_steps", 0)
    title = f"scheduler={config.name}: learning rate by optimizer step, {total} steps with optim.lr={_rate(lr)}"
    return _figure(title, shape, total, lr, warmup, "step", width, height)


def _plateau(config: Any, lr: float, width: int, height: int) -> str:
    factors = [1.0, *plateau_factors(EXAMPLE, patience=config.patience, factor=config.factor)]
    last = len(factors) - 1
    title = (
        f"scheduler={config.name}: learning rate by evaluation. An example, since the rate follows the "
        "validation loss: here the loss falls until evaluation 8 and then never again; "
        f"patience {config.patience}, factor {config.factor:g}, optim.lr={_rate(lr)}"
    )
    return _figure(title, factors.__getitem__, last, lr, 0, "evaluation", width, height)


def _figure(
    title: str, factor: Callable[[int], float], last: int, lr: float, warmup: int, unit: str, width: int, height: int
) -> str:
    ticks = {0: _rate(lr), height // 2: _rate(lr / 2), height - 1: "0"}
    margin = max(map(len, ticks.values()))
    columns = width - margin - 3
    dots = 2 * columns
    values = [factor(i * last // (dots - 1)) for i in range(dots)]
    cells = draw_braille(values, columns, height)
    mark = warmup * (dots - 1) // last // 2 if 0 < warmup <= last else -1
    lines = [*textwrap.wrap(title, width), ""]
    for row, cell in enumerate(cells):
        # the warmup's end: a dotted line wherever the curve itself leaves the column free
        drawn = "".join("┊" if i == mark and c == "\u2800" else c for i, c in enumerate(cell))
        line = f"{ticks.get(row, ''):>{margin}} {'┤' if row in ticks else '│'}{drawn}"
        lines.append(line.replace("\u2800", " ").rstrip())
    lines.append(" " * (margin + 1) + "└" + "".join("┬" if i in _marks(columns) else "─" for i in range(columns)))
    lines.append(" " * (margin + 2) + _labels(columns, last, unit))
    if warmup:
        beyond = f"the warmup of {warmup} steps is longer than the run"
        words = f"┊ warmup ends at step {warmup}" if mark >= 0 else beyond
        lines.append(" " * (margin + 2 + min(max(mark, 0), columns - len(words))) + words)
    return "\n".join(lines)


def _marks(columns: int) -> tuple[int, ...]:
    return (0, (columns - 1) // 2, columns - 1)


def _labels(columns: int, last: int, unit: str) -> str:
    middle, end = str(last // 2), f"{unit} {last}"
    line = "0".ljust(max(1, (columns - 1) // 2 - len(middle) // 2)) + middle
    return line + end.rjust(columns - len(line))


def _rate(x: float) -> str:
    """`1e-4` rather than `0.0001`, as rates are spoken of."""
    digits, _, exponent = f"{x:.2e}".partition("e")
    return f"{digits.rstrip('0').rstrip('.')}e{int(exponent)}"
