"""The drawing fits a terminal, shows the curve that trains, and marks the warmup."""

from __future__ import annotations

from typing import Any

import pytest

from fulgurite.config.schema import list_options
from fulgurite.scheduler import config as c
from fulgurite.scheduler.plot import plot
from fulgurite.text.plot import draw_braille


@pytest.mark.parametrize("name", list(list_options("scheduler")))
@pytest.mark.parametrize(("total", "lr"), [(1, 1e-3), (17, 2.5e-5), (1000, 1e-4), (1_000_000, 1.0)])
def test_fits_eighty_columns(name: str, total: int, lr: float) -> None:
    option: Any = list_options("scheduler")[name]
    lines = plot(option(), total=total, lr=lr).splitlines()
    assert max(map(len, lines)) <= 80
    assert f"scheduler={name}" in lines[0]


def test_axes_and_warmup_are_labelled() -> None:
    drawn = plot(c.Cosine(), total=1000, lr=2e-4)
    assert "2e-4 ┤" in drawn
    assert "1e-4 ┤" in drawn
    assert "step 1000" in drawn
    assert "┊ warmup ends at step 100" in drawn


def test_the_warmup_mark_is_at_the_end_of_the_warmup() -> None:
    lines = plot(c.Cosine(warmup_steps=500), total=1000).splitlines()
    [label] = [line for line in lines if "warmup ends" in line]
    axis = next(line for line in lines if "└" in line)
    assert abs(label.index("┊") - (axis.index("┬", axis.index("┬") + 1))) <= 1  # the axis' middle mark is step 500


def test_a_warmup_beyond_the_run_is_printed() -> None:
    assert "the warmup of 500 steps is longer than the run" in plot(c.Linear(warmup_steps=500), total=100)


def test_no_warmup_no_mark() -> None:
    assert "┊" not in plot(c.Constant())


def test_the_plateau_states_its_example() -> None:
    drawn = plot(c.ReduceLrOnPlateau(patience=3, factor=0.5))
    assert "An example" in " ".join(drawn.split())
    assert "patience 3" in " ".join(drawn.split())
    assert "evaluation 20" in drawn


def test_dots_by_hand() -> None:
    # one column, one line: top left is bit 0x01, bottom right 0x80; the jump between them fills the right column
    assert draw_braille([1.0, 1.0], 1, 1) == [chr(0x2800 + 0x01 + 0x08)]
    assert draw_braille([1.0, 0.0], 1, 1) == [chr(0x2800 + 0x01 + 0x08 + 0x10 + 0x20 + 0x80)]
    assert draw_braille([0.0, 0.0, 0.0, 0.0], 2, 1) == [chr(0x2800 + 0x40 + 0x80) * 2]


def test_another_curve_is_another_picture() -> None:
    shapes = (c.Linear, c.Cosine, c.Polynomial, c.WarmupStableDecay, c.Constant)
    assert len({plot(cls()).split("\n\n", 1)[1] for cls in shapes}) == 5
