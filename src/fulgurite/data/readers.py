"""Records out of files, one at a time: JSON, JSONL, CSV, Parquet, Arrow, text, each also gzipped; never a pickle.

Memory is a small multiple of the longest record, which has at most MOST_RECORD characters. Bytes that are no UTF-8 pass
as lone surrogates (PEP 383), so that the check of the field they stand in names the line; UTF-16 and UTF-32 are read
where a byte-order mark tells of them.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

from fulgurite.data.columnar import read_table
from fulgurite.data.example import Bad, Place, shorten
from fulgurite.data.files import guess_kind
from fulgurite.data.json_stream import Decoder, NotJson, read_items
from fulgurite.data.lines import MOST_RECORD, Endless, add_blank, describe_too_long, read_csv_lines, read_lines
from fulgurite.errors import DataError

BYTE_ORDER_MARKS = {b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
SIGNS = {
    b"PAR1": "Parquet",
    b"ARROW1": "Arrow",
    b"\xff\xff\xff\xff": "Arrow",
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "a zip archive",
    b"\x80\x02": "a pickle",
    b"\x80\x03": "a pickle",
    b"\x80\x04": "a pickle",
    b"\x80\x05": "a pickle",
    b"\x89HDF": "HDF5",
    b"%PDF": "a PDF",
}
"""What a file is by its first bytes, whatever its ending says."""
DELIMITERS = ",;\t|"
ONE_OBJECT = "one object where a list of records, or one a line, is due"
RECORD = frozenset({"messages", "conversations", "instruction", "prompt", "chosen"})
"""Fields of a record: an object with one of them is no envelope around a list of records."""
HEAD = 1 << 16
"""How many characters of a CSV file are looked at to find what separates its cells."""
csv.field_size_limit(MOST_RECORD)

Raw = tuple[Place, Any] | Bad


def read_records(path: Path) -> Iterator[Raw]:
    """Each record with its place, or what is wrong with it. Raises DataError where the rest of the file cannot be read.
    """
    kind = guess_kind(path) or "text"
    try:
        if kind in ("parquet", "arrow"):
            yield from read_table(path, kind)
            return
        with _open(path, kind) as stream:
            yield from READERS[kind](path, stream)
    except Endless as error:
        raise DataError(f"{path}:{error.line}: field 'record': {error}.") from error
    except UnicodeError as error:
        raise DataError(
            f"{path}: is no whole {getattr(error, 'encoding', 'text')} text; save the file as UTF-8."
        ) from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({' '.join(str(error).split())[:120]}).") from error


def _open(path: Path, kind: str) -> TextIO:
    # closed with its wrapper
    raw: Any = gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb")  # noqa: SIM115
    try:
        head = raw.peek(8)[:8]
        what = next((what for sign, what in SIGNS.items() if head.startswith(sign)), None)
        if what:
            raise DataError(
                f"{path}: the ending says {kind}, the content is {what}; give the file the ending of what it is."
            )
        encoding = next((e for mark, e in BYTE_ORDER_MARKS.items() if head.startswith(mark)), None)
        if encoding is None and b"\0" in head[:2] and len(head) > 1:
            raise DataError(f"{path}: looks like UTF-16 without a byte-order mark; save the file as UTF-8.")
    except BaseException:
        raw.close()
        raise
    newline = {"csv": "", "tsv": "", "text": None}.get(kind, "\n")
    return io.TextIOWrapper(
        raw, encoding or "utf-8-sig", errors="strict" if encoding else "surrogateescape", newline=newline
    )


def _read_jsonl(path: Path, stream: TextIO) -> Iterator[Raw]:
    decoder = Decoder()
    for number, line in read_lines(stream):
        place = Place(str(path), number)
        if line is None:
            yield Bad(place, "record", describe_too_long())
            continue
        text = line.strip()
        try:
            value, end = decoder.decode(text, 0)
        except ValueError as error:
            yield Bad(place, "record", f"not JSON ({error})")
            continue
        if end < len(text):
            yield Bad(place, "record", f"not JSON (more follows after the record, at column {end + 1})")
        else:
            yield _read_line(place, value, decoder.twin)


def _read_line(place: Place, value: Any, twin: str | None) -> Raw:
    return (place, value) if twin is None else Bad(place, twin, "the key stands twice")


def _read_json(path: Path, stream: TextIO) -> Iterator[Raw]:
    """An array of records, numbered from 1; or one record a line under the ending .json."""
    start = _peek_first(stream)
    if start == "{":
        with _open(path, "jsonl") as again:
            found = _read_jsonl(path, again)
            first, second = next(found, None), next(found, None)
        if second is None or (isinstance(first, Bad) and isinstance(second, Bad)):
            yield from _read_object(path)
            return
        with _open(path, "jsonl") as again:
            yield from _read_jsonl(path, again)
    elif start:
        with _open(path, "json") as again:
            try:
                for number, (_, value, twin) in enumerate(read_items(again), 1):
                    yield _read_line(Place(str(path), number), value, twin)
            except NotJson as error:
                # Unlike a bad line, a fault in a list hides what follows it: no number of tolerated records covers
                # that.
                raise DataError(f"{path}:{error.line}: field 'record': {error.reason}; mend the file.") from error


def _read_object(path: Path) -> Iterator[Raw]:
    """The records of a file that is one object: its only list of objects, or its lists of one length side by side."""
    with _open(path, "json") as stream:
        text = stream.read(MOST_RECORD + 1).strip()
    place, decoder = Place(str(path), 1), Decoder()
    if len(text) > MOST_RECORD:
        yield Bad(place, "record", f"{ONE_OBJECT}; write that list to a file of its own")
        return
    try:
        whole, end = decoder.decode(text, 0)
    except ValueError as error:
        yield Bad(place, "record", f"not JSON ({error})")
        return
    if end < len(text) or decoder.twin is not None:
        reason = "the key stands twice" if decoder.twin is not None else "not JSON (more follows after the object)"
        yield Bad(place, decoder.twin or "record", reason)
        return
    lists = {name: value for name, value in whole.items() if isinstance(value, list) and value}
    tables = [
        value
        for value in lists.values()
        if all(isinstance(item, dict) and not {"role", "from"} & {*item} for item in value)
    ]
    columns = len(lists) > 1 and len(lists) == len(whole) and len({len(value) for value in lists.values()}) == 1
    if len(tables) == 1 and not RECORD & {*whole}:
        yield from ((Place(str(path), number), record) for number, record in enumerate(tables[0], 1))
    elif columns and not tables:
        rows = zip(*lists.values(), strict=True)
        yield from (
            (Place(str(path), number), dict(zip(lists, row, strict=True))) for number, row in enumerate(rows, 1)
        )
    elif len(tables) > 1 and not RECORD & {*whole}:
        yield Bad(place, "record", f"{ONE_OBJECT}; write the list to learn from to a file of its own")
    else:
        yield Bad(place, "record", f"{ONE_OBJECT}; put it into a list: [{{...}}]")


def _peek_first(stream: TextIO) -> str:
    """The first character that is not blank, or ''."""
    blank = 0
    while piece := stream.read(4096):
        if text := piece.lstrip():
            return text[0]
        blank = add_blank(blank, len(piece), 1)
    return ""


def _read_csv(path: Path, stream: TextIO, usual: str = ",") -> Iterator[Raw]:
    with _open(path, "csv") as again:
        delimiter = _guess_delimiter(again.read(HEAD), usual)
    held = [0]
    reader, line = csv.DictReader(read_csv_lines(stream, held), delimiter=delimiter, strict=True), 1
    try:
        names = reader.fieldnames or []
        if len(set(names)) != len(names):
            twin = next(name for name, count in Counter(names).items() if count > 1)
            raise DataError(f"{path}:1: field '{shorten(twin)}': the column stands twice; rename one.")
        line = reader.line_num + 1
        for row in reader:
            place, held[0] = Place(str(path), line), 0
            if None in row:
                yield Bad(place, "record", f"more cells than the header's {len(names)} names")
            else:
                yield place, {name: cell for name, cell in row.items() if cell is not None}
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path}:{line}: field 'record': not CSV ({error}); mend the file.") from error


def _guess_delimiter(head: str, usual: str) -> str:
    """What separates the cells of a CSV file that begins with `head`: the usual one, unless only another makes several
    columns.

    csv.Sniffer was looked at: it takes letters of prose for a delimiter.
    """
    known = [usual, *(other for other in DELIMITERS if other != usual)]
    widths = {delimiter: _count_cells(head, delimiter) for delimiter in known}
    several = [delimiter for delimiter in known if widths[delimiter] and widths[delimiter][0] > 1]
    even = [delimiter for delimiter in several if len(set(widths[delimiter])) == 1]
    if usual in several and not (widths[usual][1:] and usual not in even and even):
        return usual
    return next(iter([*even, *several]), usual)


def _count_cells(head: str, delimiter: str) -> list[int]:
    """How many cells each whole row of `head` has; an unfinished last row is left out."""
    rows: list[int] = []
    try:
        for row in csv.reader(io.StringIO(head, newline=""), delimiter=delimiter, strict=True):
            rows.extend([len(row)] if row else [])
    except csv.Error:
        pass
    return rows[:-1] if len(head) == HEAD and len(rows) > 1 else rows


def _read_tsv(path: Path, stream: TextIO) -> Iterator[Raw]:
    return _read_csv(path, stream, "\t")


def _read_text(path: Path, stream: TextIO) -> Iterator[Raw]:
    """Each line that is not blank is a document."""
    for number, line in read_lines(stream):
        place = Place(str(path), number)
        yield Bad(place, "record", describe_too_long()) if line is None else (place, {"text": line})


READERS: dict[str, Callable[[Path, TextIO], Iterator[Raw]]] = {
    "json": _read_json,
    "jsonl": _read_jsonl,
    "csv": _read_csv,
    "tsv": _read_tsv,
    "text": _read_text,
}
