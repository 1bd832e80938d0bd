"""Parquet and Arrow files: rows in bounded memory, and a damaged file is one line."""

from __future__ import annotations

import gzip
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.data.made_records import Write
from tests.data.read_values import read_values

from fulgurite.data import columnar, lines
from fulgurite.data.readers import read_records
from fulgurite.errors import DataError


def test_parquet_and_arrow_files(tmp_path: Path) -> None:
    table = pa.Table.from_pylist([{"messages": [{"role": "user", "content": "a"}]}] * 700)
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=100)
    (tmp_path / "b.parquet.gz").write_bytes(gzip.compress((tmp_path / "a.parquet").read_bytes()))
    for name, new in (("c.arrow", pa.ipc.new_stream), ("d.arrow", pa.ipc.new_file)):
        with new(str(tmp_path / name), table.schema) as out:
            out.write_table(table)
    for path in sorted(tmp_path.iterdir()):
        assert read_values(path) == table.to_pylist(), path
    places = [raw[0].line for raw in read_records(tmp_path / "a.parquet")]
    assert places == list(range(1, 701))


def test_a_long_value_in_a_table_is_a_bad_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MOST_RECORD", 100)
    table = pa.table({"text": ["x", "y" * 150, "z"]})
    pq.write_table(table, tmp_path / "a.parquet")
    with pa.ipc.new_file(str(tmp_path / "b.arrow"), table.schema) as out:
        out.write_table(table)
    for path in sorted(tmp_path.iterdir()):
        first, second, third = read_values(path)
        assert (first, third) == ({"text": "x"}, {"text": "z"})
        assert str(second).startswith(f"{path}:2: field 'record': longer than 100 characters")


def test_a_dictionary_that_repeats_a_long_value_is_decoded_in_small_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    big = "abc " * 50_000
    pq.write_table(pa.table({"text": pa.DictionaryArray.from_arrays(pa.array([0] * 300, pa.int32()), pa.array([big]))}),
                   tmp_path / "a.parquet", dictionary_pagesize_limit=1 << 30)
    group = pq.ParquetFile(tmp_path / "a.parquet").metadata.row_group(0)
    assert columnar._count_rows_at_once(group) == columnar.ROWS  # a small dictionary is no reason for care
    monkeypatch.setattr(columnar, "SMALL_DICTIONARY", 1000)
    monkeypatch.setattr(columnar, "MOST_HELD", 1 << 20)
    assert columnar._count_rows_at_once(group) == (1 << 20) // group.column(0).total_uncompressed_size == 5
    with pytest.raises(DataError, match="contains more than 1,000 times its size"):
        read_values(tmp_path / "a.parquet")


def test_a_table_that_unpacks_to_100_times_its_size_is_refused(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columnar, "LEAST_UNPACKED", 1 << 16)
    with pytest.raises(DataError, match="unpacks to more than 100 times its size"):
        read_values(write("a.parquet.gz", gzip.compress(b"PAR1" + b"\0" * (4 << 20))))


def arrow_bytes(new: Any) -> bytes:
    rows = [{"messages": [{"role": "user", "content": f"hi {i}"}, {"role": "assistant", "content": "x" * i}], "n": i}
        for i in range(20)]
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
    code = (
        "import sys; from pathlib import Path; from fulgurite.data.readers import read_records; "
        "list(read_records(Path(sys.argv[1])))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "x.arrow")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, "a crash by a signal is negative"
    assert "DataError" in done.stderr.splitlines()[-1]


def test_parquet_metadata_that_contradict_themselves_are_one_line(tmp_path: Path) -> None:
    """Asking such a row group for its columns ends the process, so that it is tried in one of its own."""
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"messages": [[{"role": "user", "content": "a"}], []]}), path)
    whole = path.read_bytes()
    begin = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    code = (
        "import sys\nfrom pathlib import Path\nfrom fulgurite.data.readers import read_records\nfrom fulgurite.errors "
        "import DataError\n"
        "whole, path = Path(sys.argv[1]).read_bytes(), Path(sys.argv[1])\n"
        "for at in range(int(sys.argv[2]), len(whole) - 8):\n"
        "    path.write_bytes(whole[:at] + bytes([whole[at] ^ int(sys.argv[3])]) + whole[at + 1:])\n"
        "    try:\n        list(read_records(path))\n    except DataError as error:\n        print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), str(begin), "16"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "histogram size mismatch" in done.stdout
