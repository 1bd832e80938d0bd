"""Curves of preference losses and schedules, in a terminal and as SVG."""

from __future__ import annotations

import pytest

from fulgurite.config.schema import list_options
from fulgurite.explain.curves import _shorten, draw_curve, draw_loss, draw_schedule, plot_loss
from fulgurite.scheduler.config import Cosine
from fulgurite.stage.preference_table import get_row, list_names


@pytest.mark.parametrize("loss", list_names())
def test_every_loss_is_drawn(loss: str) -> None:
    drawn = plot_loss(loss, {})
    assert max(map(len, drawn.splitlines())) <= 80
    assert drawn.startswith(f"stage.loss={loss} stage.{get_row(loss).weight}={get_row(loss).beta:g}: ")
    assert ("rises by half" in " ".join(drawn.split())) == get_row(loss).two_sided
    assert ("a token" in " ".join(drawn.split())) == get_row(loss).averaged
    picture = draw_loss(loss)
    assert picture.count("<polyline") == picture.count('class="zero"') == 1
    assert "nan" not in picture


def test_svg_has_its_values_from_top_to_bottom() -> None:
    picture = draw_curve([0.0, 1.0], "0", "", "9", "A & B")
    assert 'points="0.0,130.0 260.0,0.0"' in picture
    assert "A &amp; B" in picture
    assert draw_schedule(Cosine).count(",") > 100


@pytest.mark.parametrize(
    ("x", "words"),
    [(0.0, "0"), (0.1354, "0.135"), (2000.0, "2000"), (8.47e-4, "8.47e-4"), (4.5e6, "4.5e6"), (-40.0, "-40")]
)
def test_numbers_beside_a_picture_have_three_digits(x: float, words: str) -> None:
    assert _shorten(x) == words


def read_points(picture: str) -> list[tuple[float, float]]:
    text = picture.partition('points="')[2].partition('"')[0]
    return [(float(x), float(y)) for x, y in (pair.split(",") for pair in text.split())]


def test_linear_schedule_falls_from_the_warmup_to_zero_in_its_picture() -> None:
    points = read_points(draw_schedule(list_options("scheduler")["linear"]))
    heights = [y for _, y in points]
    top = heights.index(0.0)
    # the y axis of an SVG points down: 130 is a factor of 0
    assert (heights[0], heights[-1]) == (130.0, 130.0)
    assert heights[: top + 1] == sorted(heights[: top + 1], reverse=True)
    assert heights[top:] == sorted(heights[top:])


def test_picture_of_the_plateau_counts_evaluations() -> None:
    picture = draw_schedule(list_options("scheduler")["reduce_lr_on_plateau"])
    heights = [y for _, y in read_points(picture)]
    assert "by evaluation" in picture
    assert heights == sorted(heights)
    assert len(set(heights)) > 2
