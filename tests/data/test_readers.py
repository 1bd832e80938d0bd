"""Files of every kind and encoding: the right text, or one line that says what is wrong and where."""

from __future__ import annotations

import glob
import gzip
import io
import json
import os
import re
import struct
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fulgurite.data import columnar, json_stream, lines
from fulgurite.data.config import File
from fulgurite.data.example import Bad
from fulgurite.data.files import find_files
from fulgurite.data.glob import match_paths
from fulgurite.data.readers import read_records
from fulgurite.data.source import build_source
from fulgurite.errors import DataError

ROWS = [{"instruction": "Grüße?", "output": "Ça va, 你好 🙂"}, {"instruction": "two\nlines", "output": "\"quoted\", yes"}]
Write = Callable[[str, Any], Path]


def values(path: Path) -> list[Any]:
    return [raw if isinstance(raw, Bad) else raw[1] for raw in read_records(path)]


def as_csv(delimiter: str = ",") -> str:
    cells = [["instruction", "output"], *([r["instruction"], r["output"]] for r in ROWS)]
    return "".join(delimiter.join('"' + c.replace('"', '""') + '"' for c in row) + "\r\n" for row in cells)


LINES = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in ROWS)
WHOLE = json.dumps(ROWS, ensure_ascii=False)
TEXTS = {
    "a.json": WHOLE, "b.json": json.dumps(ROWS, indent=2), "c.json": LINES, "d.jsonl": LINES, "e.ndjson": LINES, "f.csv": as_csv(),
    "g.tsv": as_csv("\t"),
}
CODINGS = {
    "utf-8": lambda t: t.encode(), "utf-8 with BOM": lambda t: t.encode("utf-8-sig"), "utf-16": lambda t: t.encode("utf-16"),
    "utf-16-be": lambda t: b"\xfe\xff" + t.encode("utf-16-be"), "utf-32": lambda t: t.encode("utf-32"),
    "CRLF": lambda t: t.replace("\r\n", "\n").replace("\n", "\r\n").encode() if not t.startswith('"') else t.encode(),
    "blank lines": lambda t: ("\n\n" * (not t.startswith('"')) + t + "\n \n" * (not t.startswith('"'))).encode(),
    "no last newline": lambda t: t.rstrip().encode(),
}


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("zipped", [False, True])
def test_every_kind_in_every_encoding_gives_the_same_records(name: str, coding: str, zipped: bool, write: Write) -> None:
    content = CODINGS[coding](TEXTS[name])
    path = write(name + ".gz" * zipped, gzip.compress(content) if zipped else content)
    assert values(path) == ROWS


def test_parquet_and_arrow_files(tmp_path: Path) -> None:
    table = pa.Table.from_pylist([{"messages": [{"role": "user", "content": "a"}]}] * 700)
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=100)
    (tmp_path / "b.parquet.gz").write_bytes(gzip.compress((tmp_path / "a.parquet").read_bytes()))
    for name, new in (("c.arrow", pa.ipc.new_stream), ("d.arrow", pa.ipc.new_file)):
        with new(str(tmp_path / name), table.schema) as out:
            out.write_table(table)
    for path in sorted(tmp_path.iterdir()):
        assert values(path) == table.to_pylist(), path
    places = [raw[0].line for raw in read_records(tmp_path / "a.parquet")]
    assert places == list(range(1, 701))


def test_text_has_a_document_a_line(write: Write) -> None:
    raw = list(read_records(write("a.txt", "one\n\n  \r\ntwo \r\nthree\u2028still three")))
    assert [(r[0].line, r[1]["text"]) for r in raw] == [(1, "one"), (4, "two "), (5, "three\u2028still three")]


def test_lines_are_counted_through_blank_ones(write: Write) -> None:
    raw = list(read_records(write("a.jsonl", '\n{"a": 1}\n\n{"b": 2}\n')))
    assert [r[0].line for r in raw] == [2, 4]


BROKEN = {
    "a.jsonl": ('{"a": 1}\n{"a": \n{"a": 3}\n', ["{'a': 1}", "a.jsonl:2: field 'record': not JSON (Expecting value", "{'a': 3}"]),
    "b.jsonl": ('{"a": 1} {"a": 2}\n', ["b.jsonl:1: field 'record': not JSON (more follows after the record"]),
    "c.jsonl": ('{"a": 1, "b": {"a": 1, "a": 2}}\n', ["c.jsonl:1: field 'a': the key stands twice"]),
    "d.json": ('[{"a": 1, "a": 2}, {"b": 1}]', ["d.json:1: field 'a': the key stands twice", "{'b': 1}"]),
    "e.json": ('{"a": 1}', ["e.json:1: field 'record': one object where a list of records"]),
    "f.json": ('{\n "a": 1\n}', ["f.json:1: field 'record': one object where a list of records"]),
    "g.csv": ("a,b\n1,2,3\n4,5\n", ["g.csv:2: field 'record': more cells than the header's 2 names", "{'a': '4', 'b': '5'}"]),
    "h.json": ('{"a": 1}\n{"a": \n{"a": 3}\n', ["{'a': 1}", "h.json:2: field 'record': not JSON", "{'a': 3}"]),
    "i.jsonl": ("[" * 100_000 + "\n", ["i.jsonl:1: field 'record': not JSON"]),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_record_is_named_and_the_others_are_read(name: str, write: Write) -> None:
    content, expected = BROKEN[name]
    found = [str(v) for v in values(write(name, content))]
    assert len(found) == len(expected)
    for text, part in zip(found, expected, strict=True):
        assert part in text


CSV: dict[str, tuple[str, list[Any]]] = {
    "semicolon": ("a;b\n1;2\n", [{"a": "1", "b": "2"}]),
    "semicolon with commas in the text": ("a;b\nx, y;z, w, v\n1;2\n", [{"a": "x, y", "b": "z, w, v"}, {"a": "1", "b": "2"}]),
    "commas in the header too": ("a, the first;b\n1;2\n3;4\n", [{"a, the first": "1", "b": "2"}, {"a, the first": "3", "b": "4"}]),
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
    found = values(write("a.csv", content))
    assert found == expected if None not in expected[-1] else "more cells than the header's 1 names" in str(found[0])


def test_a_long_csv_file_is_recognised_by_its_beginning(write: Write) -> None:
    rows = [{"a": "x, y " * 50, "b": str(n)} for n in range(900)]
    text = "a;b\n" + "".join(f"{row['a']};{row['b']}\n" for row in rows)
    assert len(text) > 2 * 65536
    assert values(write("a.csv", text)) == rows
    assert values(write("b.tsv", text)) == rows


FATAL = {
    "a.json": ('[{"a": 1},\n{"a": 2', "a.json:2: field 'record': not JSON"),
    "b.json": ('[{"a": 1},\n]', "b.json:2: field 'record': not JSON (a comma before the closing ])"),
    "c.json": ('[{"a": 1}\n{"b": 2}]', "c.json:2: field 'record': not JSON ('{' stands where , or ] is due)"),
    "d.json": ('[{"a": 1}', "d.json:1: field 'record': not JSON (the list is cut off)"),
    "e.json": ('[{"a": 1}]\n[]', "e.json:2: field 'record': not JSON (more follows"),
    "f.json": ("instruction,output\na,b\n", "f.json:1: field 'record': not JSON (no list begins here)"),
    "g.json": ('[{"a": tru}]', "g.json:1: field 'record': not JSON"),
    "h.csv": ('a,b\n1,"2\n3,4\n', "h.csv:2: field 'record': not CSV (unexpected end of data)"),
    "i.csv": ("a,a\n1,2\n", "i.csv:1: field 'a': the column stands twice"),
    "j.jsonl": (b"PAR1\x00\x01", "j.jsonl: the ending says jsonl, the content is Parquet"),
    "k.json": (gzip.compress(b"[]"), "k.json: the ending says json, the content is gzip"),
    "l.jsonl": (b"\x80\x04\x95", "l.jsonl: the ending says jsonl, the content is a pickle"),
    "m.jsonl.gz": (b'{"a": 1}\n', "m.jsonl.gz: cannot be read (Not a gzipped file"),
    "n.jsonl.gz": (gzip.compress(b'{"a": 1}\n' * 9999)[:60], "n.jsonl.gz: cannot be read (Compressed file ended"),
    "o.parquet": (b'{"a": 1}\n', "o.parquet: is no whole parquet file"),
    "p.parquet": (b"", "p.parquet: is no whole parquet file"),
    "q.arrow": (b"ARROW1\0\0abc", "q.arrow: is no whole arrow file"),
    "r.jsonl": ('{"a": 1}\n'.encode("utf-16-le"), "r.jsonl: looks like UTF-16 without a byte-order mark; save the file as UTF-8"),
    "s.jsonl": (b"\xff\xfe\x00\xd8\x00", "s.jsonl: is no whole utf-16"),
    "t.json": ("[" * 100_000, "t.json:1: field 'record': "),
}


@pytest.mark.parametrize("name", FATAL)
def test_what_hides_the_rest_of_a_file_stops_in_one_line(name: str, write: Write) -> None:
    content, expected = FATAL[name]
    with pytest.raises(DataError) as caught:
        values(write(name, content))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [1, 2, 7, 64, 1000])
def test_a_json_array_is_read_in_pieces_of_any_size(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_stream, "CHUNK", size)
    items = [{"n": i, "t": "é\n\\\"" * i, "deep": [1.5e-7, None, True, {"x": [123456789012]}]} for i in range(30)] + [12345, "x", None]
    for indent in (None, 1):
        text = json.dumps(items, indent=indent)
        found = list(json_stream.read_items(io.StringIO(text)))
        assert [value for _, value, _ in found] == items
        lines = [line for line, _, _ in found]
        assert lines == [1] * len(items) if indent is None else lines == sorted(set(lines))


def test_a_record_of_5_megabytes_is_read_and_one_of_50_is_refused(write: Write) -> None:
    big, huge = {"text": "abc " * 1_300_000}, {"text": "abc " * 13_000_000}
    first, second, third = values(write("a.jsonl", [big, huge, {"text": "b"}]))
    assert (first, third) == (big, {"text": "b"})
    assert str(second).endswith("a.jsonl:2: field 'record': longer than 8,388,608 characters, which is the most that is read as one "
                                "record; split it")


# -- bounds, tried with small ones ------------------------------------------------------------------------------------


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Records of at most 100 characters, lines of 400, 300 blanks, 20 blank lines of CSV; chunks of 64."""
    for name, value in {"MOST_RECORD": 100, "MOST_LINE": 400, "MOST_BLANK": 300, "MOST_BLANK_LINES": 20, "CHUNK": 64}.items():
        monkeypatch.setattr(lines, name, value)
    monkeypatch.setattr(json_stream, "CHUNK", 64)


@pytest.mark.parametrize("kind", ["jsonl", "txt"])
def test_a_long_record_is_a_bad_one_and_those_around_it_are_read(kind: str, write: Write, small: None) -> None:
    texts = ["x", "y" * 150, "z", "w" * 380, "v" * 80, "u"]
    wrapped = [json.dumps({"text": t}) if kind == "jsonl" else t for t in texts]
    found = values(write(f"a.{kind}", "\n".join(wrapped)))
    assert [v["text"] if isinstance(v, dict) else v.place.line for v in found] == ["x", 2, "z", 4, "v" * 80, "u"]
    assert "longer than 100 characters, which is the most that is read as one record; split it" in str(found[1])


ENDLESS = {
    "a.jsonl": '{"text": "' + "y" * 1000, "a.txt": "y" * 1000, "a.json": '[{"text": "' + "y" * 1000 + '"}]',
    "a.csv": "a,b\n1,2\n" + "y" * 1000,
    "b.csv": 'a,b\n1,"' + "y\n" * 200 + '"\n', "c.csv": "a,b\n" + "\n" * 50, "b.jsonl": "{}\n" + "\n" * 1000, "c.jsonl": " " * 1000 + "{}",
    "b.txt": "\n" * 1000, "b.json": "\n" * 9000, "c.json": "[" + " " * 1000, "d.json": "[{}" + " " * 1000,
}


@pytest.mark.parametrize("name", ENDLESS)
@pytest.mark.parametrize("zipped", [False, True])
def test_what_has_no_end_is_given_up_in_one_line(name: str, zipped: bool, write: Write, small: None) -> None:
    content = ENDLESS[name].encode()
    path = write(name + ".gz" * zipped, gzip.compress(content) if zipped else content)
    with pytest.raises(DataError, match=r"longer than 100 characters|more than (300 blank characters|20 blank lines) in a row") as caught:
        values(path)
    assert str(caught.value).startswith(f"{path}:")
    assert len(str(caught.value)) < len(str(path)) + 250


def test_blank_lines_are_skipped_with_their_numbers(write: Write, small: None) -> None:
    content = '\n' * 200 + '{"a": 1}\n' + " \n" * 120 + '  {"a": 2}\n' + "\n" * 130
    assert [raw[0].line for raw in read_records(write("a.jsonl", content))] == [201, 322]


def test_memory_does_not_follow_what_a_line_unpacks_to(write: Write) -> None:
    path = write("a.jsonl.gz", gzip.compress(b'{"text": "' + b"a" * (200 << 20) + b'"}\n{}\n', compresslevel=1))
    tracemalloc.start()
    found = values(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [str(v).rpartition(":")[0] for v in found][:1] == [f"{path}:1: field 'record'"]
    assert found[1] == {}
    assert peak < 4 * lines.MOST_RECORD


@pytest.mark.parametrize("depth", [65, 900, 100_000])
def test_a_record_that_nests_without_end_is_a_bad_one(depth: int, write: Write) -> None:
    found = values(write("a.jsonl", '{"a": ' + "[" * depth + "]" * depth + "}\n{}\n"))
    assert "nested more than 64 deep" in str(found[0])
    assert found[1] == {}
    with pytest.raises(DataError, match="nested more than 64 deep"):
        values(write("a.json", "[" + "[" * depth + "]" * depth + "]"))


def test_long_values_in_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MOST_RECORD", 100)
    table = pa.table({"text": ["x", "y" * 150, "z"]})
    pq.write_table(table, tmp_path / "a.parquet")
    with pa.ipc.new_file(str(tmp_path / "b.arrow"), table.schema) as out:
        out.write_table(table)
    for path in sorted(tmp_path.iterdir()):
        first, second, third = values(path)
        assert (first, third) == ({"text": "x"}, {"text": "z"})
        assert str(second).startswith(f"{path}:2: field 'record': longer than 100 characters")


def test_a_dictionary_that_repeats_a_long_value_is_decoded_in_small_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    big = "abc " * 50_000
    pq.write_table(pa.table({"text": pa.DictionaryArray.from_arrays(pa.array([0] * 300, pa.int32()), pa.array([big]))}),
                   tmp_path / "a.parquet", dictionary_pagesize_limit=1 << 30)
    group = pq.ParquetFile(tmp_path / "a.parquet").metadata.row_group(0)
    assert columnar._count_rows_at_once(group) == columnar.ROWS  # a small dictionary is no reason for care
    monkeypatch.setattr(columnar, "SMALL_DICTIONARY", 1000)
    monkeypatch.setattr(columnar, "MOST_HELD", 1 << 20)
    assert columnar._count_rows_at_once(group) == (1 << 20) // group.column(0).total_uncompressed_size == 5
    with pytest.raises(DataError, match="holds more than 1,000 times its size"):
        values(tmp_path / "a.parquet")


def test_a_table_that_unpacks_to_more_than_a_hundred_times_its_size(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columnar, "LEAST_UNPACKED", 1 << 16)
    with pytest.raises(DataError, match="unpacks to more than 100 times its size"):
        values(write("a.parquet.gz", gzip.compress(b"PAR1" + b"\0" * (4 << 20))))


def test_a_header_and_a_record_of_many_names_take_no_square_of_time(write: Write) -> None:
    names = [f"n{i}" for i in range(100_000)]
    begin = time.process_time()
    with pytest.raises(DataError, match=r"field 'n99999': the column stands twice"):
        values(write("a.csv", ",".join([*names, "n99999"]) + "\n1\n"))
    twice = "{" + ", ".join(f'"{name}": 1' for name in [*names, "n99999"]) + "}"
    assert "field 'n99999': the key stands twice" in str(values(write("a.jsonl", twice + "\n"))[0])
    assert time.process_time() - begin < 10  # a tenth of a second; minutes where each name is looked for among all


# -- which files ------------------------------------------------------------------------------------------------------


def test_patterns_folders_and_lists_in_order(write: Write, tmp_path: Path) -> None:
    made = [write(name, ROWS) for name in ("d/b.jsonl", "d/a.jsonl", "d/c.json")]
    write("d/notes.md", "no data")
    assert find_files([str(tmp_path / "d")]) == [[made[1], made[0], made[2]]]
    assert find_files([str(tmp_path / "d/*.jsonl"), str(made[2])]) == [[made[1], made[0]], [made[2]]]
    assert find_files([str(tmp_path / "**/*.json")]) == [[made[2]]]


@pytest.mark.parametrize(("word", "said"), [
    ("data.jsno", r"no such file\. Did you mean .*data\.json\?"), ("*.parquet", "no such file"), ("d", "the folder holds no"),
    ("notes.md", r"the ending \.md is not read; there are \.json"), ("missing/x.json", "no such file"),
])
def test_a_path_that_names_no_data_is_refused(word: str, said: str, write: Write, tmp_path: Path) -> None:
    write("data.json", ROWS)
    write("notes.md", "no data")
    (tmp_path / "d").mkdir()
    with pytest.raises(DataError, match=said):
        find_files([str(tmp_path / word)])


@pytest.mark.parametrize("word", [
    "tatsu-lab/alpaca", "https://huggingface.co/datasets/tatsu-lab/alpaca", "hf://datasets/tatsu-lab/alpaca", "hf:tatsu-lab/alpaca",
])
def test_a_data_set_of_the_hub_is_named_with_its_words(word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"there is no such file\. For the data set of the hub, write data\.path=hub:tatsu-lab/alpaca\."):
        find_files([word])
    with pytest.raises(DataError) as caught:
        find_files(["data/alpaca.jsonl"])
    assert "hub" not in str(caught.value)


def _link(path: Path) -> None:
    path.symlink_to(path.parent / "gone")


ODD: dict[str, tuple[Callable[[Path], None], str]] = {
    "a link to nothing": (_link, "is a link to .*/gone, which does not exist, which cannot be read; remove it"),
    "a link to itself": (lambda path: path.symlink_to(path), "is a link to .*x.jsonl, in a ring of links"),
    "a pipe": (lambda path: os.mkfifo(path), "is a pipe, which cannot be read"),
    "a link to a device": (lambda path: path.symlink_to("/dev/zero"), "is a link to a device, which cannot be read"),
    "a folder": (lambda path: path.mkdir(), "is a folder; name the files in it"),
}


@pytest.mark.parametrize("name", ODD)
def test_what_is_no_file_is_not_left_out_in_silence(name: str, write: Write, tmp_path: Path) -> None:
    make, said = ODD[name]
    write("d/a.jsonl", ROWS)
    make(tmp_path / "d/x.jsonl")
    for word in ("d", "d/*.jsonl"):
        with pytest.raises(DataError, match=rf"data\.path=\S*{re.escape(word)}: x\.jsonl {said}"):
            find_files([str(tmp_path / word)])
    with pytest.raises(DataError) as caught:
        find_files([str(tmp_path / "d/x.jsonl")])
    assert "Did you mean" not in str(caught.value)
    (tmp_path / "d/x.jsonl").rename(tmp_path / "d/.x.jsonl")
    assert find_files([str(tmp_path / "d")]) == [[tmp_path / "d/a.jsonl"]]


def test_rings_of_links_end(write: Write, tmp_path: Path) -> None:
    inside = write("d/a.jsonl", ROWS)
    for name in ("one", "two"):
        (tmp_path / "d" / name).symlink_to(tmp_path / "d")
    for pattern in ("**/*.jsonl", "d/**/*.jsonl", "**/a.jsonl", "*/a.jsonl", "d/" + "*/" * 40 + "*.jsonl", "**/**/**/*.jsonl"):
        [[found]] = find_files([str(tmp_path / pattern)])
        assert found.resolve() == inside.resolve(), pattern


@pytest.mark.parametrize("word", ["itself.jsonl", "one.jsonl", "ring/x.jsonl"])
def test_a_ring_of_links_is_called_one(word: str, tmp_path: Path) -> None:
    for name, target in (("itself.jsonl", "itself.jsonl"), ("one.jsonl", "two.jsonl"), ("two.jsonl", "one.jsonl"), ("ring", "ring")):
        (tmp_path / name).symlink_to(target)
    with pytest.raises(DataError, match="is a ring of links, which lead to each other and to no file"):
        find_files([str(tmp_path / word)])
    with pytest.raises(DataError, match=r"is a link to itself\.jsonl, in a ring of links, which cannot be read"):
        find_files([str(tmp_path / "i*.jsonl")])


@pytest.mark.parametrize("word", ["x" * 300 + ".jsonl", "a/" * 3000, "a\0b.jsonl", "*" * 3000, "[" * 50, "[!", "**"])
def test_a_path_that_cannot_be_is_one_line(word: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be read|no such file|NUL"):
        find_files([f"{tmp_path}/{word}"])


def test_patterns_match_what_glob_matches(write: Write, tmp_path: Path) -> None:
    for name in ("a.jsonl", "b/a.jsonl", "b/c/a1.jsonl", "b/.hidden/a.jsonl", ".a.jsonl", "b/c/d/x.json", "e[1]/a.jsonl"):
        write(name, ROWS)
    patterns = ["*.jsonl", "**/*.jsonl", "b/**", "**/a?.jsonl", "[ab]/*.jsonl", "**/c/**/*", "b/.*/*", "b/../*.jsonl", "**", "e[[]1]/*"]
    for pattern in patterns:
        word = str(tmp_path / pattern)
        expected = {Path(p) for p in glob.glob(word, recursive=True) if Path(p).is_file()}
        assert {p for p in match_paths(Path(word)) if p.is_file()} == expected, pattern


def test_a_file_named_twice_is_refused(write: Write, tmp_path: Path) -> None:
    path = write("a.jsonl", ROWS)
    with pytest.raises(DataError, match=r"named twice in data\.path"):
        find_files([str(path), str(tmp_path / "*.jsonl")])


@pytest.fixture
def saved(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Path:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    whole = datasets.Dataset.from_list([{"instruction": f"q{i}", "output": f"a{i}"} for i in range(9)])
    whole.save_to_disk(tmp_path / "one", num_shards=2)
    datasets.DatasetDict({"train": whole.select([3, 1]), "test": whole.select([5])}).save_to_disk(tmp_path / "two")
    datasets.DatasetDict({"validation": whole.select([3, 1]), "test": whole.select([5])}).save_to_disk(tmp_path / "three")
    return tmp_path


def test_a_folder_saved_by_hf_datasets(saved: Path) -> None:
    def read(name: str) -> list[str]:
        source = build_source(File(path=[str(saved / name)]), stage="sft", seed=1)
        return [e.messages[0].content for e in source.examples()]  # type: ignore[union-attr,index]

    assert read("one") == [f"q{i}" for i in range(9)]
    assert read("two") == ["q3", "q1"], "the train split alone"
    assert read("two/test") == ["q5"]
    with pytest.raises(DataError, match=r"the splits are validation, test, none is train; name one: .*three/validation"):
        read("three")


@pytest.mark.parametrize("splits", ["[5]", '["."]', '[""]', '["../x"]', "{}", "[" * 100_000])
def test_a_saved_folder_with_splits_that_are_no_names(splits: str, write: Write, tmp_path: Path) -> None:
    write("dataset_dict.json", f'{{"splits": {splits}}}')
    with pytest.raises(DataError, match=r"dataset_dict\.json: field 'splits'"):
        find_files([str(tmp_path)])


def test_a_saved_folder_cannot_name_files_outside_of_it(saved: Path, tmp_path: Path) -> None:
    state = tmp_path / "one" / "state.json"
    state.write_text(json.dumps({"_data_files": [{"filename": "../../etc/passwd.arrow"}]}))
    with pytest.raises(DataError, match=r"names passwd\.arrow, which is no file in the folder"):
        find_files([str(tmp_path / "one")])
    state.write_text("{}")
    with pytest.raises(DataError, match=r"state\.json: field '_data_files'"):
        find_files([str(tmp_path / "one")])


def test_a_hub_id_without_a_network_is_one_line() -> None:
    pytest.importorskip("datasets")
    with pytest.raises(DataError, match=r"data\.path=hub:nobody/nothing: the hub has no such data set, or cannot be reached") as caught:
        find_files(["hub:nobody/nothing"])
    assert "\n" not in str(caught.value)


def arrow_bytes(new: Any) -> bytes:
    rows = [{"messages": [{"role": "user", "content": f"hi {i}"}, {"role": "assistant", "content": "x" * i}], "n": i} for i in range(20)]
    table = pa.Table.from_pylist(rows)
    sink = pa.BufferOutputStream()
    with new(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


MUTATE = """
import random, sys
from pathlib import Path
from fulgurite.data.readers import read_records
from fulgurite.errors import DataError
whole, place = Path(sys.argv[1]).read_bytes(), Path(sys.argv[2])
chance, refused = random.Random(0), 0
for n in range(400):
    mutated = bytearray(whole)
    at = chance.randrange(8, len(mutated))
    if n % 3 == 0:
        mutated[at] = chance.randrange(256)
    elif n % 3 == 1:
        mutated[at:at] = bytes(chance.randrange(256) for _ in range(chance.randrange(1, 9)))
    else:
        del mutated[at : at + chance.randrange(1, 9)]
    place.write_bytes(mutated)
    try:
        list(read_records(place))
    except DataError as error:
        refused += 1
        assert str(error).count(str(place)) == 1, error
print(refused)
"""


@pytest.mark.parametrize("new", [pa.ipc.new_stream, pa.ipc.new_file])
def test_a_mutated_arrow_file_is_read_or_refused_and_never_crashes(tmp_path: Path, new: Any) -> None:
    (tmp_path / "whole.arrow").write_bytes(arrow_bytes(new))
    words = [sys.executable, "-c", MUTATE, str(tmp_path / "whole.arrow"), str(tmp_path / "mutated.arrow")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-1000:]
    assert int(done.stdout) > 200


def test_arrow_offsets_that_point_outside_are_refused_before_they_are_read(tmp_path: Path) -> None:
    """The validity of the framing says nothing of the offsets inside: reading these would crash the process."""
    sink, batch = pa.BufferOutputStream(), pa.record_batch([["abcdefg", "hijkl"]], names=["text"])
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    whole, offsets = bytes(sink.getvalue()), struct.pack("<3i", 0, 7, 12)
    assert whole.count(offsets) == 1
    (tmp_path / "x.arrow").write_bytes(whole.replace(offsets, struct.pack("<3i", 0, 2_000_000_000, 1_000_000)))
    code = "import sys; from pathlib import Path; from fulgurite.data.readers import read_records; list(read_records(Path(sys.argv[1])))"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "x.arrow")], capture_output=True, text=True, check=False)
    assert done.returncode == 1, "a crash by a signal is negative"
    assert "DataError" in done.stderr.splitlines()[-1]


def test_parquet_metadata_that_contradict_themselves_are_one_line(tmp_path: Path) -> None:
    """Asking such a row group for its columns ends the process, so that it is tried in one of its own."""
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"messages": [[{"role": "user", "content": "a"}], []]}), path)
    whole = path.read_bytes()
    begin = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    code = (
        "import sys\nfrom pathlib import Path\nfrom fulgurite.data.readers import read_records\nfrom fulgurite.errors import DataError\n"
        "whole, path = Path(sys.argv[1]).read_bytes(), Path(sys.argv[1])\n"
        "for at in range(int(sys.argv[2]), len(whole) - 8):\n"
        "    path.write_bytes(whole[:at] + bytes([whole[at] ^ int(sys.argv[3])]) + whole[at + 1:])\n"
        "    try:\n        list(read_records(path))\n    except DataError as error:\n        print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path), str(begin), "16"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "histogram size mismatch" in done.stdout
