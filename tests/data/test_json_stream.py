"""A JSON array read one record at a time, in pieces of any size."""

from __future__ import annotations

import io
import json

import pytest
from tests.data.made_records import Write
from tests.data.read_values import read_values

from fulgurite.data import json_stream
from fulgurite.errors import DataError


@pytest.mark.parametrize("size", [1, 2, 7, 64, 1000])
def test_a_json_array_is_read_in_pieces_of_any_size(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_stream, "CHUNK", size)
    items = [{"n": i, "t": "é\n\\\"" * i, "deep": [1.5e-7, None, True, {"x": [123456789012]}]}
        for i in range(30)] + [12345, "x", None]
    for indent in (None, 1):
        text = json.dumps(items, indent=indent)
        found = list(json_stream.read_items(io.StringIO(text)))
        assert [value for _, value, _ in found] == items
        lines = [line for line, _, _ in found]
        assert lines == [1] * len(items) if indent is None else lines == sorted(set(lines))


@pytest.mark.parametrize("depth", [65, 900, 100_000])
def test_a_record_nested_too_deep_is_a_bad_one(depth: int, write: Write) -> None:
    found = read_values(write("a.jsonl", '{"a": ' + "[" * depth + "]" * depth + "}\n{}\n"))
    assert "nested more than 64 levels deep" in str(found[0])
    assert found[1] == {}
    with pytest.raises(DataError, match="nested more than 64 levels deep"):
        read_values(write("a.json", "[" + "[" * depth + "]" * depth + "]"))
