"""Records out of files, one at a time: JSON, JSONL, CSV, Parquet, Arrow, text, each also gzipped; never a pickle."""

from __future__ import annotations

import csv
import glob
import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from fulgurite.data.records import Bad, Place
from fulgurite.errors import DataError, nearest

KINDS = {".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".parquet": "parquet", ".arrow": "arrow", ".txt": "text", ".text": "text"}
MARKS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
csv.field_size_limit(1 << 28)

Raw = tuple[Place, Any] | Bad


def find(paths: list[str]) -> list[Path]:
    """The files that paths, patterns and folders name, in order. Raises DataError where one names nothing."""
    found: list[Path] = []
    for word in paths:
        path = Path(word).expanduser()
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.is_file() and kind_of(p) is not None and p.name not in {"state.json", "dataset_info.json"})
            if not inside:
                raise DataError(f"data.path={word}: the folder holds no {', '.join(KINDS)} file.")
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            matched = sorted(Path(p) for p in glob.glob(str(path), recursive=True))
            if not matched:
                raise DataError(f"data.path={word}: there is no such file.{_near(path)}")
            found += matched
    for path in found:
        if kind_of(path) is None:
            raise DataError(f"{path}: the ending {path.suffix or '(none)'} is not read; there are {', '.join(KINDS)}, each also with .gz.")
    return found


def _near(path: Path) -> str:
    names = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    close = nearest(path.name, names, 1)
    return f" Did you mean {path.parent / close[0]}?" if close else ""


def kind_of(path: Path) -> str | None:
    """json, jsonl, csv, parquet, arrow or text by the ending, or None."""
    endings = path.suffixes[-2:]
    if endings and endings[-1] == ".gz":
        endings = endings[:-1]
    return KINDS.get(endings[-1].lower()) if endings else None


def records(path: Path) -> Iterator[Raw]:
    """Each record with its place, or what is wrong with it; memory is that of one record (of one file for a JSON array)."""
    kind = kind_of(path)
    if kind == "parquet" or kind == "arrow":
        yield from _columnar(path, kind)
        return
    try:
        with _open(path) as stream:
            reader = {"json": _json, "jsonl": _jsonl, "csv": _csv, "text": _text}[kind or "text"]
            yield from reader(path, stream)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8.") from error
    except (OSError, EOFError) as error:
        raise DataError(f"{path}: cannot be read ({error}).") from error


def _open(path: Path) -> TextIO:
    raw: Any = gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")
    head = raw.peek(2)[:2] if hasattr(raw, "peek") else b""
    return io.TextIOWrapper(raw, encoding=MARKS.get(head, "utf-8-sig"), newline=None)


def _jsonl(path: Path, stream: TextIO) -> Iterator[Raw]:
    for number, line in enumerate(stream, 1):
        if line.strip():
            yield _parsed(Place(str(path), number), line)


def _parsed(place: Place, text: str) -> Raw:
    try:
        return place, json.loads(text, object_pairs_hook=_no_twins)
    except _Twin as twin:
        return Bad(place, str(twin), "the key stands twice")
    except (ValueError, RecursionError) as error:
        return Bad(place, "record", f"not JSON ({error})")


class _Twin(Exception):
    pass


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        raise _Twin(next(n for n in names if names.count(n) > 1))
    return made


def _json(path: Path, stream: TextIO) -> Iterator[Raw]:
    """An array of records, one record, or one a line under the ending .json."""
    text = stream.read()
    if not text.strip():
        return
    try:
        whole = json.loads(text, object_pairs_hook=_no_twins)
    except _Twin as twin:
        yield Bad(Place(str(path), 1), str(twin), "the key stands twice")
        return
    except (ValueError, RecursionError) as error:
        if text.lstrip().startswith("{") and "Extra data" in str(error):
            yield from _jsonl(path, io.StringIO(text))
        else:
            yield Bad(Place(str(path), getattr(error, "lineno", 1)), "record", f"not JSON ({error})")
        return
    if not isinstance(whole, list):
        yield Bad(Place(str(path), 1), "record", "one object where a list of records is due")
        return
    for number, record in enumerate(whole, 1):
        yield Place(str(path), number), record


def _csv(path: Path, stream: TextIO) -> Iterator[Raw]:
    reader = csv.DictReader(stream, strict=True)
    try:
        for row in reader:
            place = Place(str(path), reader.line_num)
            if None in row:
                yield Bad(place, "record", "more cells than the header has names")
            else:
                yield place, {k: v for k, v in row.items() if v is not None}
    except csv.Error as error:
        yield Bad(Place(str(path), reader.line_num), "record", f"not CSV ({error})")


def _text(path: Path, stream: TextIO) -> Iterator[Raw]:
    """Each line that is not blank is a document."""
    for number, line in enumerate(stream, 1):
        if line.strip():
            yield Place(str(path), number), {"text": line.rstrip("\n")}


def _columnar(path: Path, kind: str) -> Iterator[Raw]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if kind == "parquet":
            batches: Iterator[Any] = pq.ParquetFile(path).iter_batches(batch_size=256)
        else:
            batches = iter(pa.ipc.open_stream(pa.memory_map(str(path))))
        number = 0
        for batch in batches:
            for record in batch.to_pylist():
                number += 1
                yield Place(str(path), number), record
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: not a whole {kind} file ({' '.join(str(error).split())[:120]}).") from error
