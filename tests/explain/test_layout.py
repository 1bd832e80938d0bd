"""Values, ranges and types as words."""

from __future__ import annotations

import pytest

from fulgurite.config.schema import Range
from fulgurite.explain.layout import format_kind, format_usual, format_value
from fulgurite.language.current import use_language


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "empty"), (True, "true"), (0.0005, "5e-4"), (1e-07, "1e-7"), (0.05, "0.05"), (2.0, "2"), (1, "1"),
        ([0.9, 0.999], "[0.9, 0.999]"), ("", "''"), ({}, "{}"), (2.5e-5, "2.5e-5"), (1e6, "1000000"),
        (float("inf"), "inf"),
    ],
)
def test_values_are_written_as_on_the_command_line(value: object, words: str) -> None:
    assert format_value(value) == words


def test_ranges_and_lists_in_words() -> None:
    assert format_usual(Range(1e-5, 1e-3)) == "1e-5 to 1e-3"
    assert format_usual(Range(0, 1, open_low=True)) == "0 to 1, 0 excluded"
    assert format_usual((8, 16, 32)) == "8, 16 or 32"
    assert format_usual((1024,)) == "1024"


def test_ranges_in_chinese_have_their_own_order() -> None:
    with use_language("zh"):
        assert format_usual(Range(1e-5, 1e-3)) == "1e-5 至 1e-3"
        assert format_usual(Range(0, 1, open_low=True)) == "0 至 1（不含 0）"
        assert format_usual(Range(5, None)) == "至少 5"
        assert format_usual(Range(5, None, open_low=True)) == "大于 5"
        assert format_usual(Range(None, 5)) == "至多 5"
        assert format_usual((8, 16)) == "8 或 16"


def test_kinds_are_translated_part_by_part() -> None:
    assert format_kind("list of one of a, b") == "list of one of a, b"
    with use_language("zh"):
        assert format_kind("list of one of a, b") == "列表，元素为 取其一： a, b"
