"""Files of every kind and encoding: the right text, or one line that says what is wrong and where."""

from __future__ import annotations

import gzip
import json
import time
from typing import Any

import pytest
from tests.data.made_records import Write
from tests.data.read_values import ROWS, read_values

from fulgurite.data.readers import read_records
from fulgurite.errors import DataError


def as_csv(delimiter: str = ",") -> str:
    cells = [["instruction", "output"], *([r["instruction"], r["output"]] for r in ROWS)]
    return "".join(delimiter.join('"' + c.replace('"', '""') + '"' for c in row) + "\r\n" for row in cells)


LINES = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in ROWS)
WHOLE = json.dumps(ROWS, ensure_ascii=False)
TEXTS = {
    "a.json": WHOLE, "b.json": json.dumps(ROWS, indent=2), "c.json": LINES, "d.jsonl": LINES, "e.ndjson": LINES,
    "f.csv": as_csv(),
    "g.tsv": as_csv("\t"),
}
CODINGS = {
    "utf-8": lambda t: t.encode(), "utf-8 with BOM": lambda t: t.encode("utf-8-sig"),
    "utf-16": lambda t: t.encode("utf-16"),
    "utf-16-be": lambda t: b"\xfe\xff" + t.encode("utf-16-be"), "utf-32": lambda t: t.encode("utf-32"),
    "CRLF": lambda t: t.replace("\r\n", "\n").replace("\n", "\r\n").encode() if not t.startswith('"') else t.encode(),
    "blank lines": lambda t: ("\n\n" * (not t.startswith('"')) + t + "\n \n" * (not t.startswith('"'))).encode(),
    "no last newline": lambda t: t.rstrip().encode(),
}


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("zipped", [False, True])
def test_every_kind_in_every_encoding_gives_the_same_records(
    name: str, coding: str, zipped: bool, write: Write
) -> None:
    content = CODINGS[coding](TEXTS[name])
    path = write(name + ".gz" * zipped, gzip.compress(content) if zipped else content)
    assert read_values(path) == ROWS


def test_text_has_a_document_a_line(write: Write) -> None:
    raw = list(read_records(write("a.txt", "one\n\n  \r\ntwo \r\nthree\u2028still three")))
    assert [(r[0].line, r[1]["text"]) for r in raw] == [(1, "one"), (4, "two "), (5, "three\u2028still three")]


def test_lines_are_counted_through_blank_ones(write: Write) -> None:
    raw = list(read_records(write("a.jsonl", '\n{"a": 1}\n\n{"b": 2}\n')))
    assert [r[0].line for r in raw] == [2, 4]


BROKEN = {
    "a.jsonl": ('{"a": 1}\n{"a": \n{"a": 3}\n',
        ["{'a': 1}", "a.jsonl:2: field 'record': not JSON (Expecting value", "{'a': 3}"]),
    "b.jsonl": ('{"a": 1} {"a": 2}\n', ["b.jsonl:1: field 'record': not JSON (more text follows after the record"]),
    "c.jsonl": ('{"a": 1, "b": {"a": 1, "a": 2}}\n', ["c.jsonl:1: field 'a': the key is repeated"]),
    "d.json": ('[{"a": 1, "a": 2}, {"b": 1}]', ["d.json:1: field 'a': the key is repeated", "{'b': 1}"]),
    "e.json": ('{"a": 1}', ["e.json:1: field 'record': expected a list of records"]),
    "f.json": ('{\n "a": 1\n}', ["f.json:1: field 'record': expected a list of records"]),
    "g.csv": ("a,b\n1,2,3\n4,5\n",
        ["g.csv:2: field 'record': more cells than the 2 names of the header", "{'a': '4', 'b': '5'}"]),
    "h.json": ('{"a": 1}\n{"a": \n{"a": 3}\n', ["{'a': 1}", "h.json:2: field 'record': not JSON", "{'a': 3}"]),
    "i.jsonl": ("[" * 100_000 + "\n", ["i.jsonl:1: field 'record': not JSON"]),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_record_is_named_and_the_others_are_read(name: str, write: Write) -> None:
    content, expected = BROKEN[name]
    found = [str(v) for v in read_values(write(name, content))]
    assert len(found) == len(expected)
    for text, part in zip(found, expected, strict=True):
        assert part in text


CSV: dict[str, tuple[str, list[Any]]] = {
    "semicolon": ("a;b\n1;2\n", [{"a": "1", "b": "2"}]),
    "semicolon with commas in the text": ("a;b\nx, y;z, w, v\n1;2\n",
        [{"a": "x, y", "b": "z, w, v"}, {"a": "1", "b": "2"}]),
    "commas in the header too": ("a, the first;b\n1;2\n3;4\n",
        [{"a, the first": "1", "b": "2"}, {"a, the first": "3", "b": "4"}]),
    "tab": ("a\tb\n1, 2\t3\n", [{"a": "1, 2", "b": "3"}]),
    "bar": ("a|b\n1|2\n", [{"a": "1", "b": "2"}]),
    "quoted": ('"a";"b"\n"x;\ny";"2"\n', [{"a": "x;\ny", "b": "2"}]),
    "comma with semicolons in the text": ("a,b\nx; y,z; w\n", [{"a": "x; y", "b": "z; w"}]),
    "one column": ("text\nfree; prose | here\n", [{"text": "free; prose | here"}]),
    "one column with a comma": ("text\nfree, prose\n", [{"text": "free", None: [" prose"]}]),
    "a short row": ("a,b\n1\n2,3\n", [{"a": "1"}, {"a": "2", "b": "3"}]),
}


@pytest.mark.parametrize("name", CSV)
def test_what_separates_the_cells_of_a_csv_file(name: str, write: Write) -> None:
    content, expected = CSV[name]
    found = read_values(write("a.csv", content))
    assert found == expected if None not in expected[-1] else "more cells than the 1 names" in str(found[0])


def test_a_long_csv_file_is_recognised_by_its_beginning(write: Write) -> None:
    rows = [{"a": "x, y " * 50, "b": str(n)} for n in range(900)]
    text = "a;b\n" + "".join(f"{row['a']};{row['b']}\n" for row in rows)
    assert len(text) > 2 * 65536
    assert read_values(write("a.csv", text)) == rows
    assert read_values(write("b.tsv", text)) == rows


FATAL = {
    "a.json": ('[{"a": 1},\n{"a": 2', "a.json:2: field 'record': not JSON"),
    "b.json": ('[{"a": 1},\n]', "b.json:2: field 'record': not JSON (a comma before the closing ])"),
    "c.json": ('[{"a": 1}\n{"b": 2}]', "c.json:2: field 'record': not JSON (expected , or ], found '{')"),
    "d.json": ('[{"a": 1}', "d.json:1: field 'record': not JSON (the list has no end)"),
    "e.json": ('[{"a": 1}]\n[]', "e.json:2: field 'record': not JSON (more text follows"),
    "f.json": ("instruction,output\na,b\n", "f.json:1: field 'record': not JSON (no list begins here)"),
    "g.json": ('[{"a": tru}]', "g.json:1: field 'record': not JSON"),
    "h.csv": ('a,b\n1,"2\n3,4\n', "h.csv:2: field 'record': not CSV (unexpected end of data)"),
    "i.csv": ("a,a\n1,2\n", "i.csv:1: field 'a': two columns have this name"),
    "j.jsonl": (b"PAR1\x00\x01", "j.jsonl: the extension is that of jsonl, but the content is Parquet"),
    "k.json": (gzip.compress(b"[]"), "k.json: the extension is that of json, but the content is gzip"),
    "l.jsonl": (b"\x80\x04\x95", "l.jsonl: the extension is that of jsonl, but the content is pickle"),
    "m.jsonl.gz": (b'{"a": 1}\n', "m.jsonl.gz: cannot be read (Not a gzipped file"),
    "n.jsonl.gz": (gzip.compress(b'{"a": 1}\n' * 9999)[:60], "n.jsonl.gz: cannot be read (Compressed file ended"),
    "o.parquet": (b'{"a": 1}\n', "o.parquet: the parquet file is damaged"),
    "p.parquet": (b"", "p.parquet: the parquet file is damaged"),
    "q.arrow": (b"ARROW1\0\0abc", "q.arrow: the arrow file is damaged"),
    "r.jsonl": ('{"a": 1}\n'.encode("utf-16-le"),
        "r.jsonl: looks like UTF-16 without a byte-order mark; save the file as UTF-8"),
    "s.jsonl": (b"\xff\xfe\x00\xd8\x00", "s.jsonl: is not valid utf-16"),
    "t.json": ("[" * 100_000, "t.json:1: field 'record': "),
}


@pytest.mark.parametrize("name", FATAL)
def test_what_hides_the_rest_of_a_file_stops_in_one_line(name: str, write: Write) -> None:
    content, expected = FATAL[name]
    with pytest.raises(DataError) as caught:
        read_values(write(name, content))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_record_of_5_megabytes_is_read_and_one_of_50_is_refused(write: Write) -> None:
    big, huge = {"text": "abc " * 1_300_000}, {"text": "abc " * 13_000_000}
    first, second, third = read_values(write("a.jsonl", [big, huge, {"text": "b"}]))
    assert (first, third) == (big, {"text": "b"})
    assert str(second).endswith("a.jsonl:2: field 'record': longer than 8,388,608 characters, the maximum of "
                                "one record; split it")


# -- bounds, tried with small ones ------------------------------------------------------------------------------------


def test_a_header_and_a_record_of_many_names_take_no_square_of_time(write: Write) -> None:
    names = [f"n{i}" for i in range(100_000)]
    begin = time.process_time()
    with pytest.raises(DataError, match=r"field 'n99999': two columns have this name"):
        read_values(write("a.csv", ",".join([*names, "n99999"]) + "\n1\n"))
    twice = "{" + ", ".join(f'"{name}": 1' for name in [*names, "n99999"]) + "}"
    assert "field 'n99999': the key is repeated" in str(read_values(write("a.jsonl", twice + "\n"))[0])
    assert time.process_time() - begin < 10  # a tenth of a second; minutes where each name is looked for among all


# -- which files ------------------------------------------------------------------------------------------------------
