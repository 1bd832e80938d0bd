"""Plots a schedule in the terminal, from the function that training uses. No torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fulgurite.language.message import UserMessage, message
from fulgurite.scheduler.config import Scheduler
from fulgurite.scheduler.equivalence import build_curve, fill_config
from fulgurite.scheduler.plateau_curve import compute_plateau_factors
from fulgurite.text.layout import count_cells, wrap_paragraph
from fulgurite.text.plot import draw_braille

EXAMPLE = (*(2.0 - 0.1 * i for i in range(8)), *(1.3 for _ in range(12)))
"""Validation losses of the plateau's example: lower at each of the first eight evaluations, then constant."""


def plot(config: Scheduler, total: int = 1000, lr: float = 1e-4, width: int = 80, height: int = 13) -> str:
    """Plots the rate over `total` optimizer steps with the peak `lr`, in `width` columns and `height` lines above the
    axis."""
    if config.monitors:
        return _plateau(config, lr, width, height)
    given = fill_config(config, total)
    shape = build_curve(config, total, lr)
    warmup = getattr(given, "warmup_steps", 0)
    title = message(
        "scheduler={name}: learning rate by optimizer step, {total} steps with optim.lr={lr}",
        name=config.name, total=total, lr=_rate(lr),
    )
    return _figure(title, shape, total, lr, warmup, message("step {last}", last=total), width, height)


def _plateau(config: Any, lr: float, width: int, height: int) -> str:
    factors = [1.0, *compute_plateau_factors(EXAMPLE, patience=config.patience, factor=config.factor)]
    last = len(factors) - 1
    title = message(
        "scheduler={name}: learning rate by evaluation. An example, since the rate follows the validation loss: here "
        "the loss falls until evaluation 8 and then no more; patience {patience}, factor {factor:g}, optim.lr={lr}",
        name=config.name, patience=config.patience, factor=config.factor, lr=_rate(lr),
    )
    end = message("evaluation {last}", last=last)
    return _figure(title, factors.__getitem__, last, lr, 0, end, width, height)


def _figure(
    title: UserMessage, factor: Callable[[int], float], last: int, lr: float, warmup: int, end: UserMessage,
    width: int, height: int,
) -> str:
    ticks = {0: _rate(lr), height // 2: _rate(lr / 2), height - 1: "0"}
    margin = max(map(len, ticks.values()))
    columns = width - margin - 3
    dots = 2 * columns
    values = [factor(i * last // (dots - 1)) for i in range(dots)]
    cells = draw_braille(values, columns, height)
    mark = warmup * (dots - 1) // last // 2 if 0 < warmup <= last else -1
    lines = [wrap_paragraph(str(title), width), ""]
    for row, cell in enumerate(cells):
        # the end of the warmup: a dotted line in the cells that the curve leaves free
        drawn = "".join("┊" if i == mark and c == "\u2800" else c for i, c in enumerate(cell))
        line = f"{ticks.get(row, ''):>{margin}} {'┤' if row in ticks else '│'}{drawn}"
        lines.append(line.replace("\u2800", " ").rstrip())
    lines.append(" " * (margin + 1) + "└" + "".join("┬" if i in _marks(columns) else "─" for i in range(columns)))
    lines.append(" " * (margin + 2) + _labels(columns, last, str(end)))
    if warmup:
        label = str(
            message("┊ warmup ends at step {warmup}", warmup=warmup)
            if mark >= 0
            else message("the warmup of {warmup} steps is longer than the run", warmup=warmup)
        )
        lines.append(" " * (margin + 2 + min(max(mark, 0), columns - count_cells(label))) + label)
    return "\n".join(lines)


def _marks(columns: int) -> tuple[int, ...]:
    return (0, (columns - 1) // 2, columns - 1)


def _labels(columns: int, last: int, end: str) -> str:
    middle = str(last // 2)
    line = "0".ljust(max(1, (columns - 1) // 2 - len(middle) // 2)) + middle
    return line + " " * (columns - len(line) - count_cells(end)) + end


def _rate(x: float) -> str:
    """Formats a rate as `1e-4` rather than `0.0001`."""
    digits, _, exponent = f"{x:.2e}".partition("e")
    return f"{digits.rstrip('0').rstrip('.')}e{int(exponent)}"
