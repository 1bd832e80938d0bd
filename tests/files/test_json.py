"""JSON files of others: bounded in size and depth, and every fault is a ValueError."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from fulgurite.files.json import MOST_DEPTH, count_depth, name_type, read_json, read_object


def nested(levels: int) -> Any:
    value: Any = {}
    for _ in range(levels - 1):
        value = [value]
    return value


@pytest.mark.parametrize("value", [None, [1, {"a": "é"}], 3.5, nested(MOST_DEPTH)])
def test_a_value_is_read_as_it_was_written(value: Any, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    assert read_json(tmp_path / "a.json") == value


@pytest.mark.parametrize(("content", "reason"), [
    (b"{", "not JSON ("), (b"", "not JSON ("), (b'"\xff"', "not JSON (not UTF-8 text)"),
    (json.dumps(nested(MOST_DEPTH + 1)).encode(), "nested more than 64 levels deep"),
    (b"[" * 100_000, "nested more than 64 levels deep"),
])
def test_a_fault_is_a_value_error_with_the_reason(content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError) as caught:  # noqa: PT011  the reason is compared below
        read_json(tmp_path / "a.json")
    assert reason in str(caught.value)


def test_a_large_file_and_one_without_end_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b" " * 2_000_000)
    with pytest.raises(ValueError, match="the file has 2 MB, and at most 1 MB are read"):
        read_json(tmp_path / "a.json", most_bytes=1_000_000)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="not a regular file"):
        read_json(tmp_path / "pipe")
    with pytest.raises(OSError, match="No such file"):
        read_json(tmp_path / "gone")


@pytest.mark.parametrize(("content", "name"), [
    ("[]", "a list"), ("null", "null"), ("3", "a number"), ("true", "true or false"), ('"a"', "text"),
])
def test_a_value_that_is_no_object_is_named(content: str, name: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(ValueError, match=f"expected a JSON object, found {name}"):
        read_object(tmp_path / "a.json")
    (tmp_path / "a.json").write_text('{"a": 1}')
    assert read_object(tmp_path / "a.json") == {"a": 1}


def test_depth_counts_lists_and_objects_inside_each_other() -> None:
    assert [count_depth(value) for value in (1, [], {"a": 1}, [[], {"a": [1]}])] == [0, 1, 1, 3]
    assert count_depth(nested(3000)) == MOST_DEPTH + 1  # it stops counting there
    assert name_type(b"") == "bytes"
