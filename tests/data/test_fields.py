"""Fields of a record: text, numbers, JSON and paths, and a note of what was read."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import pytest
from tests.data.made_records import nested

from fulgurite.data.fields import (
    NUMBER_AS_TEXT,
    Fields,
    Reading,
    Wrong,
    copy_json,
    describe_kind,
    find_column,
    find_root,
    has_column,
    is_blank,
    is_nothing,
    list_unread_paths,
    parse_json,
    read_list,
    read_text,
    rename_keys,
    show_value,
    to_bool,
    to_text,
)


def test_fields_remember_what_was_read() -> None:
    fields = Fields({"a": 1, "b": None, "c": 2}, Reading(), "messages[7]")
    assert fields.has("a")
    assert not fields.has("b")
    assert fields.unread() == ["a", "c"]
    assert fields.get("a") == fields["a"] == 1
    fields.note_unread()
    assert fields.reading.unread == {"messages[].c"}


def test_a_field_is_missing_empty_or_of_another_kind() -> None:
    fields = Fields({"a": "x", "empty": " ", "null": None, "list": []}, Reading(), "messages[0]")
    assert read_text(fields, "a") == "x"
    assert read_text(fields, "null", empty=True) == ""
    for name, reason in (
        ("b", "is missing"), ("empty", "is empty"), ("null", "expected text, found null"),
        ("list", "expected text, found a list"),
    ):
        with pytest.raises(Wrong) as caught:
            read_text(fields, name)
        assert str(caught.value) == f"field 'messages[0].{name}': {reason}"


def test_the_first_of_several_names_is_the_one_with_a_value() -> None:
    fields = Fields({"a": None, "b": 0, "c": 1}, Reading())
    assert fields.first("x", "a", "b", "c") == "b"
    assert fields.first("x", "a") == "a"
    assert fields.first("x") is None
    assert (fields.at("a"), Fields({}, Reading(), "tools[1]").at("a")) == ("a", "tools[1].a")


def test_a_path_into_a_column_is_followed_and_the_rest_is_unread() -> None:
    record = {"a.b": 1, "body": {"q": {"text": ["x", "y"]}, "n": 2, "e": None}}
    assert (find_column(record, "a.b"), find_column(record, "body.q.text.1")) == (1, "y")
    for missing in ("body.q.text.2", "body.q.text.-1", "body.x", "c", "body.n.1"):
        assert not has_column(record, missing)
    assert (find_root(record, "a.b"), find_root(record, "body.q")) == ("a.b", "body")
    assert list_unread_paths(record["body"], "body", ["body.q.text.1"]) == ["body.q.text (other items)", "body.n"]
    assert list_unread_paths(record["body"], "body", ["body"]) == []


def test_renamed_keys_hide_the_columns_that_they_are_read_from() -> None:
    record = {"question": "q", "answer": "a", "output": "old", "level": 1}
    assert rename_keys(record, {"instruction": "question", "output": "answer"}) == {
        "instruction": "q", "output": "a", "level": 1,
    }
    assert rename_keys(record, {"instruction": "nothing"}) == record
    assert rename_keys([1], {"a": "b"}) == [1]


@pytest.mark.parametrize(("value", "text"), [
    (True, "true"), (3, "3"), (0.5, "0.5"), (Decimal("1E+2"), "100"), (Decimal("1.50"), "1.50"),
])
def test_numbers_and_booleans_as_text(value: Any, text: str) -> None:
    reading = Reading()
    assert to_text(value, "a", reading) == text
    assert reading.remarks == {NUMBER_AS_TEXT}


@pytest.mark.parametrize(("value", "reason"), [
    (float("nan"), "which is not a number"), (Decimal("Infinity"), "which is not a number"),
    (10**4000, "a number of more than 4,000 digits"), (Decimal("1E+5000"), "a number of more than 4,000 digits"),
    ("a\0b", "contains a NUL character"), ("ab\udcff", "byte 0xFF at character 3 is not UTF-8"),
    ("a\ud83d", "contains half of a surrogate pair"),
])
def test_text_that_cannot_be_kept_is_refused(value: Any, reason: str) -> None:
    with pytest.raises(Wrong) as caught:
        to_text(value, "a", Reading())
    assert reason in str(caught.value)


@pytest.mark.parametrize(("value", "expected"), [
    (True, True), (0, False), (1.0, True), (Decimal(0), False), (" Yes ", True), ("FALSE", False), ("0.0", False),
    (2, None), ("maybe", None), (None, None), ([], None), (float("nan"), None),
])
def test_what_is_true_or_false(value: Any, expected: bool | None) -> None:
    assert to_bool(value) is expected


@pytest.mark.parametrize(("text", "reason"), [
    ("{", "is not JSON"), ("[1] 2", "is not JSON (more text follows at column 4)"),
    ('{"a": 1, "a": 2}', "has the key 'a' twice"),
])
def test_json_text_that_is_wrong_is_named(text: str, reason: str) -> None:
    with pytest.raises(Wrong) as caught:
        parse_json(text, "tools")
    assert reason in str(caught.value)


def test_a_list_may_be_written_as_json_text() -> None:
    fields = Fields({"a": [1], "b": ' [1, {"x": 2}] ', "c": "x", "d": "[1"}, Reading())
    assert (read_list(fields, "a"), read_list(fields, "b")) == ([1], [1, {"x": 2}])
    for name, reason in (("c", "expected a list, found text"), ("d", "is not JSON")):
        with pytest.raises(Wrong, match=reason):
            read_list(fields, name)


def test_a_copy_of_json_drops_nulls_only_where_it_may() -> None:
    value = {"a": None, "b": [None, {"c": None, "d": 1}], "map": [("k", 1), ("l", None)]}
    assert copy_json(value, "p", drop_nulls=False) == {**value, "map": {"k": 1, "l": None}}
    assert copy_json(value, "p", drop_nulls=True) == {"b": [None, {"d": 1}], "map": {"k": 1}}
    for other in (b"x", float("inf"), 10**4000, {"a": Decimal(1)}, nested(70)):
        with pytest.raises(Wrong, match=r"^field 'p': "):
            copy_json(other, "p", drop_nulls=False)


def test_a_value_in_an_error_line_is_short() -> None:
    assert show_value("a") == "'a'"
    assert show_value("a" * 100) == "'" + "a" * 59 + "…"
    assert str(show_value(10**5000)) == "a number"
    assert tuple(map(str, map(describe_kind, (None, {}, datetime.date(2020, 1, 1))))) == (
        "null", "an object", "a date"
    )


@pytest.mark.parametrize(("value", "nothing", "blank"), [
    (None, True, True), ([], True, False), ({"a": {"b": None}}, True, False), (" \n", False, True), (0, False, False),
])
def test_nothing_and_blank(value: Any, nothing: bool, blank: bool) -> None:
    assert (is_nothing(value), is_blank(value)) == (nothing, blank)
