"""Lines in bounded memory: long records are bad ones, and what has no end is given up in one line."""

from __future__ import annotations

import gzip
import json
import tracemalloc

import pytest
from tests.data.made_records import Write
from tests.data.read_values import read_values

from fulgurite.data import json_stream, lines
from fulgurite.data.readers import read_records
from fulgurite.errors import DataError


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Records of at most 100 characters, lines of 400, 300 blanks, 20 blank lines of CSV; chunks of 64."""
    for name, value in {"MOST_RECORD": 100, "MOST_LINE": 400, "MOST_BLANK": 300, "MOST_BLANK_LINES": 20,
        "CHUNK": 64}.items():
        monkeypatch.setattr(lines, name, value)
    monkeypatch.setattr(json_stream, "CHUNK", 64)


@pytest.mark.parametrize("kind", ["jsonl", "txt"])
def test_a_long_record_is_a_bad_one_and_those_around_it_are_read(kind: str, write: Write, small: None) -> None:
    texts = ["x", "y" * 150, "z", "w" * 380, "v" * 80, "u"]
    wrapped = [json.dumps({"text": t}) if kind == "jsonl" else t for t in texts]
    found = read_values(write(f"a.{kind}", "\n".join(wrapped)))
    assert [v["text"] if isinstance(v, dict) else v.place.line for v in found] == ["x", 2, "z", 4, "v" * 80, "u"]
    assert "longer than 100 characters, the maximum of one record; split it" in str(found[1])


ENDLESS = {
    "a.jsonl": '{"text": "' + "y" * 1000, "a.txt": "y" * 1000, "a.json": '[{"text": "' + "y" * 1000 + '"}]',
    "a.csv": "a,b\n1,2\n" + "y" * 1000,
    "b.csv": 'a,b\n1,"' + "y\n" * 200 + '"\n', "c.csv": "a,b\n" + "\n" * 50, "b.jsonl": "{}\n" + "\n" * 1000,
    "c.jsonl": " " * 1000 + "{}",
    "b.txt": "\n" * 1000, "b.json": "\n" * 9000, "c.json": "[" + " " * 1000, "d.json": "[{}" + " " * 1000,
}


@pytest.mark.parametrize("name", ENDLESS)
@pytest.mark.parametrize("zipped", [False, True])
def test_what_has_no_end_is_given_up_in_one_line(name: str, zipped: bool, write: Write, small: None) -> None:
    content = ENDLESS[name].encode()
    path = write(name + ".gz" * zipped, gzip.compress(content) if zipped else content)
    with pytest.raises(
        DataError, match=r"longer than 100 characters|more than (300 blank characters|20 blank lines) in a row"
    ) as caught:
        read_values(path)
    assert str(caught.value).startswith(f"{path}:")
    assert len(str(caught.value)) < len(str(path)) + 250


def test_blank_lines_are_skipped_with_their_numbers(write: Write, small: None) -> None:
    content = '\n' * 200 + '{"a": 1}\n' + " \n" * 120 + '  {"a": 2}\n' + "\n" * 130
    assert [raw[0].line for raw in read_records(write("a.jsonl", content))] == [201, 322]


def test_memory_does_not_grow_with_the_length_of_a_line(write: Write) -> None:
    path = write("a.jsonl.gz", gzip.compress(b'{"text": "' + b"a" * (200 << 20) + b'"}\n{}\n', compresslevel=1))
    tracemalloc.start()
    found = read_values(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [str(v).rpartition(":")[0] for v in found][:1] == [f"{path}:1: field 'record'"]
    assert found[1] == {}
    assert peak < 4 * lines.MOST_RECORD
