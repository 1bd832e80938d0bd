"""Text for a terminal: wrapped paragraphs and columns, with Chinese characters two columns wide."""

from __future__ import annotations

import os
import sys

import pytest

from fulgurite.text.layout import (
    count_cells,
    format_blocks,
    format_labels,
    format_table,
    measure_width,
    pad,
    wrap,
    wrap_paragraph,
)


def test_labels_and_tables_are_aligned() -> None:
    assert format_labels([("a", "one two three"), ("bcd", "")], 14) == "  a    one two\n       three\n  bcd"
    assert format_table(["x", "yy"], [["100", "1"]]) == "x    yy\n100  1"


def test_wide_characters_take_two_columns() -> None:
    assert count_cells("lr 学习率") == 3 + 6
    assert pad("学", 4) == "学  "
    assert format_table(["名", "x"], [["ab", "1"]]) == "名  x\nab  1"


def test_ascii_is_wrapped_at_words_and_never_inside() -> None:
    assert wrap("one two-three", 8, "- ", "  ") == "- one\n  two-three"
    assert wrap_paragraph("one two", 6, indent=2) == "  one\n  two"


def test_chinese_is_wrapped_between_characters_but_not_before_punctuation() -> None:
    assert wrap("学习率很高", 6, "", "") == "学习率\n很高"
    assert wrap("学习率，高", 6, "", "") == "学习\n率，高"
    assert wrap("（学习率）。", 8, "", "") == "（学习\n率）。"
    assert wrap("取 optim.lr 为空", 11, "", "  ") == "取 optim.lr\n  为空"


def test_each_line_of_a_text_is_wrapped_beside_its_label() -> None:
    assert format_labels([("a", "one\ntwo three")], 9, indent=0) == "a  one\n   two\n   three"
    assert format_labels([], 80) == ""


@pytest.mark.parametrize(("columns", "width"), [(20, 40), (72, 72), (300, 100)])
def test_width_is_that_of_the_terminal_within_limits(
    columns: int, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("shutil.get_terminal_size", lambda fallback: os.terminal_size((columns, 24)))
    assert measure_width() == width


def test_width_of_a_pipe_is_80(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False, raising=False)
    monkeypatch.setenv("COLUMNS", "60")
    assert measure_width() == 80


def test_text_goes_below_labels_that_leave_no_room() -> None:
    rows = [("method.trainable_layers_of_all", "Layers that train."), ("seed", "Draws.")]
    assert format_labels(rows, 40) == (
        "  method.trainable_layers_of_all\n      Layers that train.\n  seed\n      Draws."
    )
    assert format_labels(rows[1:], 40) == "  seed  Draws."


def test_blocks_keep_headings_with_their_cells() -> None:
    table = format_blocks(["run", "state", "损失", "optim.lr"], [["a", "ended", "-", "1e-4"]], 40)
    assert table == "a\n  state ended  optim.lr 1e-4"
    narrow = format_blocks(["run", "state", "损失", "optim.lr"], [["a", "ended", "2.5", "1e-4"]], 20)
    assert narrow == "a\n  state ended\n  损失 2.5\n  optim.lr 1e-4"
