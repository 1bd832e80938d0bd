"""Curves in braille and as SVG, dot by dot."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

from fulgurite.text.plot import EDGE, HIGH, WIDE, Figure, draw_braille, draw_svg, draw_text

LINE = [(0.0, 0.0), (10.0, 1.0)]


def test_braille_dots_of_single_values() -> None:
    # two values a column: 1 is the topmost dot (bits 1 and 8), 0 the lowest (bits 40 and 80, hexadecimal)
    assert draw_braille([1, 1], 1, 1) == [chr(0x2800 + 0x01 + 0x08)]
    assert draw_braille([0, 0], 1, 1) == [chr(0x2800 + 0x40 + 0x80)]
    assert draw_braille([0, 0, 1, 1], 2, 2)[0][0] == "\u2800"


def test_braille_joins_neighbours_with_a_vertical_line() -> None:
    # from the lowest dot of the left half to the topmost of the right: the right half is full
    assert draw_braille([0, 1], 1, 1) == [chr(0x2800 + 0x40 + 0x08 + 0x10 + 0x20 + 0x80)]


def test_values_outside_are_drawn_at_the_edge() -> None:
    assert draw_braille([-3, 7], 1, 2) == draw_braille([0, 1], 1, 2)


def test_text_has_title_limits_axis_and_marks() -> None:
    text = draw_text(Figure("A curve", "step", "rate", LINE, marks=[("here", 5.0)]), width=40, height=4)
    title, blank, *rows, axis, labels, mark = text.split("\n")
    assert (title, blank, len(rows)) == ("A curve", "", 4)
    assert rows[0].startswith("1 ┤")
    assert rows[-1].startswith("0 ┤")
    assert rows[1].startswith("  │")
    assert axis.count("┴") == 1
    assert axis.index("┴") == pytest.approx(len(axis) / 2, abs=2)
    assert labels.split() == ["0", "step", "10"]
    assert mark.strip() == "^ here"
    assert max(map(len, text.split("\n"))) <= 40


def test_limits_of_y_come_from_the_line_and_those_of_x_from_all() -> None:
    figure = Figure("", "", "", LINE, points=[(20.0, 99.0)])
    assert figure.limits() == (0.0, 20.0, 0.0, 1.0)
    # a flat line still has a height
    assert Figure("", "", "", [(1.0, 3.0), (2.0, 3.0)]).limits() == (1.0, 2.0, 3.0, 4.0)


def test_logarithmic_axis_is_drawn_by_exponents_and_labelled_by_values() -> None:
    figure = Figure("", "rate", "loss", [(1e-4, 1.0), (1e-2, 0.0)], log=True)
    assert figure.position(1e-3) == pytest.approx(-3)
    assert draw_text(figure, 40, 4).split("\n")[-1].split() == ["0.0001", "rate", "0.01"]


def test_svg_has_line_points_and_marks_at_their_places() -> None:
    figure = Figure("A & B", "step", "rate", LINE, points=[(5.0, 0.5), (0.0, 7.0)], marks=[("here", 10.0)])
    root = ElementTree.fromstring(draw_svg(figure))
    names = [element.tag.partition("}")[2] for element in root]
    assert (names.count("polyline"), names.count("circle")) == (1, 2)
    line = next(element for element in root if element.tag.endswith("polyline"))
    assert line.get("points") == f"{EDGE:.1f},{HIGH - EDGE:.1f} {WIDE - EDGE:.1f},{EDGE:.1f}"
    circles = [(e.get("cx"), e.get("cy")) for e in root if e.tag.endswith("circle")]
    # the second lies above the line's range and is drawn at its top
    assert circles == [(f"{WIDE / 2:.1f}", f"{HIGH / 2:.1f}"), (f"{EDGE:.1f}", f"{EDGE:.1f}")]
    texts = [element.text for element in root if element.tag.endswith("text")]
    assert texts[0] == "A & B"
    assert " here" in texts
