"""Reads records from files, one at a time: JSON, JSONL, CSV, Parquet, Arrow, text, each also gzipped; never a pickle.

Memory is a small multiple of the longest record, which has at most MOST_RECORD characters. Bytes that are not UTF-8
become lone surrogates (PEP 383), so that the check of their field reports the line; UTF-16 and UTF-32 are read if the
file has a byte-order mark.
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
from fulgurite.language.library_errors import translate_error
from fulgurite.language.message import UserMessage, message

# UTF-32 comes first, because one of its marks begins with that of UTF-16.
BYTE_ORDER_MARKS = {b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
SIGNS = {
    b"PAR1": "Parquet",
    b"ARROW1": "Arrow",
    b"\xff\xff\xff\xff": "Arrow",
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "zip",
    b"\x80\x02": "pickle",
    b"\x80\x03": "pickle",
    b"\x80\x04": "pickle",
    b"\x80\x05": "pickle",
    b"\x89HDF": "HDF5",
    b"%PDF": "PDF",
}
"""The format of a file by its first bytes."""
DELIMITERS = ",;\t|"
RECORD = frozenset({"messages", "conversations", "instruction", "prompt", "chosen"})
"""Fields of a record: an object with one of them is a record, not an envelope around a list of records."""
HEAD = 1 << 16
"""Characters of a CSV file that are read to find its delimiter."""
csv.field_size_limit(MOST_RECORD)

Raw = tuple[Place, Any] | Bad


def read_records(path: Path) -> Iterator[Raw]:
    """Yields each record with its place, or a Bad with the reason. Raises DataError if the rest of the file cannot be
    read."""
    kind = guess_kind(path) or "text"
    try:
        if kind in ("parquet", "arrow"):
            yield from read_table(path, kind)
            return
        with _open(path, kind) as stream:
            yield from READERS[kind](path, stream)
    except Endless as error:
        raise DataError(
            "{path}:{line}: field 'record': {reason}.", path=path, line=error.line, reason=error.args[0]
        ) from error
    except UnicodeError as error:
        raise DataError(
            "{path}: is not valid {encoding}; save the file as UTF-8.",
            path=path, encoding=getattr(error, "encoding", "text"),
        ) from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            "{path}: cannot be read ({reason}).", path=path, reason=translate_error(error, 120)
        ) from error


def _open(path: Path, kind: str) -> TextIO:
    # Closed together with its wrapper.
    raw: Any = gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb")  # noqa: SIM115
    try:
        head = raw.peek(8)[:8]
        # The content decides: a wrong extension would give bad records without a reason.
        what = next((what for sign, what in SIGNS.items() if head.startswith(sign)), None)
        if what:
            raise DataError(
                "{path}: the extension is that of {kind}, but the content is {content}; correct the extension.",
                path=path, kind=kind, content=what,
            )
        encoding = next((e for mark, e in BYTE_ORDER_MARKS.items() if head.startswith(mark)), None)
        if encoding is None and b"\0" in head[:2] and len(head) > 1:
            raise DataError(
                "{path}: looks like UTF-16 without a byte-order mark; save the file as UTF-8.", path=path
            )
    except BaseException:
        raw.close()
        raise
    # csv handles line ends itself; JSON lines must not be split at a lone carriage return.
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
            yield Bad(place, "record", message("not JSON ({reason})", reason=translate_error(error)))
            continue
        if end < len(text):
            yield Bad(
                place, "record",
                message("not JSON (more text follows after the record, at column {column})", column=end + 1),
            )
        else:
            yield _read_line(place, value, decoder.twin)


def _read_line(place: Place, value: Any, twin: str | None) -> Raw:
    return (place, value) if twin is None else Bad(place, twin, message("the key is repeated"))


def _read_json(path: Path, stream: TextIO) -> Iterator[Raw]:
    """Reads an array of records, numbered from 1; or one record per line in a file with the extension .json."""
    start = _peek_first(stream)
    # Some programs write one record per line into a file with the extension .json.
    if start == "{":
        with _open(path, "jsonl") as again:
            found = _read_jsonl(path, again)
            # Two good lines are JSONL; otherwise the file is one object over several lines.
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
                # The rest of a list cannot be read after an error, unlike the lines after a bad one: data.max_drop
                # does not apply.
                raise DataError(
                    "{path}:{line}: field 'record': {reason}; correct the file.",
                    path=path, line=error.line, reason=error.reason,
                ) from error


def _read_object(path: Path) -> Iterator[Raw]:
    """Reads the records of a file that is one object: its only list of objects, or its lists of equal length as
    columns."""
    with _open(path, "json") as stream:
        text = stream.read(MOST_RECORD + 1).strip()
    place, decoder = Place(str(path), 1), Decoder()
    if len(text) > MOST_RECORD:
        yield Bad(place, "record", _describe_object(message("write its list to a file of its own")))
        return
    try:
        whole, end = decoder.decode(text, 0)
    except ValueError as error:
        yield Bad(place, "record", message("not JSON ({reason})", reason=translate_error(error)))
        return
    if decoder.twin is not None:
        yield Bad(place, decoder.twin, message("the key is repeated"))
        return
    if end < len(text):
        yield Bad(place, "record", message("not JSON (more text follows after the object)"))
        return
    lists = {name: value for name, value in whole.items() if isinstance(value, list) and value}
    # A list of objects is a table of records, unless the objects are the turns of one conversation.
    tables = [
        value
        for value in lists.values()
        if all(isinstance(item, dict) and not {"role", "from"} & {*item} for item in value)
    ]
    # Every field is a list of the same length: the object is a table of columns.
    columns = len(lists) > 1 and len(lists) == len(whole) and len({len(value) for value in lists.values()}) == 1
    if len(tables) == 1 and not RECORD & {*whole}:
        yield from ((Place(str(path), number), record) for number, record in enumerate(tables[0], 1))
    elif columns and not tables:
        rows = zip(*lists.values(), strict=True)
        yield from (
            (Place(str(path), number), dict(zip(lists, row, strict=True))) for number, row in enumerate(rows, 1)
        )
    elif len(tables) > 1 and not RECORD & {*whole}:
        yield Bad(place, "record", _describe_object(message("write the list to learn from to a file of its own")))
    else:
        yield Bad(place, "record", _describe_object(message("put it into a list: [{...}]")))


def _describe_object(remedy: UserMessage) -> UserMessage:
    return message("expected a list of records, or one record per line, found one object; {remedy}", remedy=remedy)


def _peek_first(stream: TextIO) -> str:
    """Returns the first character that is not blank, or ''."""
    blank = 0
    while piece := stream.read(4096):
        if text := piece.lstrip():
            return text[0]
        blank = add_blank(blank, len(piece), 1)
    return ""


def _read_csv(path: Path, stream: TextIO, usual: str = ",") -> Iterator[Raw]:
    with _open(path, "csv") as again:
        delimiter = _guess_delimiter(again.read(HEAD), usual)
    # A list, so that this function can reset the count of `read_csv_lines` after each record.
    held = [0]
    reader, line = csv.DictReader(read_csv_lines(stream, held), delimiter=delimiter, strict=True), 1
    try:
        # csv.DictReader would silently keep the last of two columns with one name.
        names = reader.fieldnames or []
        if len(set(names)) != len(names):
            twin = next(name for name, count in Counter(names).items() if count > 1)
            raise DataError(
                "{path}:1: field '{name}': two columns have this name; rename one.", path=path, name=shorten(twin)
            )
        # line_num is the last line that was read; a record is reported at its first line.
        line = reader.line_num + 1
        for row in reader:
            place, held[0] = Place(str(path), line), 0
            if None in row:
                yield Bad(
                    place, "record", message("more cells than the {count} names of the header", count=len(names))
                )
            else:
                yield place, {name: cell for name, cell in row.items() if cell is not None}
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            "{path}:{line}: field 'record': not CSV ({reason}); correct the file.",
            path=path, line=line, reason=translate_error(error),
        ) from error


def _guess_delimiter(head: str, usual: str) -> str:
    """Returns the delimiter of a CSV file that begins with `head`: the usual one, unless only another one gives several
    columns.

    csv.Sniffer is not used: it takes letters of prose for a delimiter.
    """
    known = [usual, *(other for other in DELIMITERS if other != usual)]
    # A delimiter is plausible if it gives several cells, best the same number in each row.
    widths = {delimiter: _count_cells(head, delimiter) for delimiter in known}
    several = [delimiter for delimiter in known if widths[delimiter] and widths[delimiter][0] > 1]
    even = [delimiter for delimiter in several if len(set(widths[delimiter])) == 1]
    if usual in several and not (widths[usual][1:] and usual not in even and even):
        return usual
    return next(iter([*even, *several]), usual)


def _count_cells(head: str, delimiter: str) -> list[int]:
    """Counts the cells of each complete row of `head`; leaves out an incomplete last row."""
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
    """Reads each line that is not blank as a document."""
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
