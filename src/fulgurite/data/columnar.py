"""Rows of Parquet and Arrow files, one at a time. A damaged file is one DataError, whatever pyarrow raises on it."""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from fulgurite.data import lines
from fulgurite.data.example import Bad, Place
from fulgurite.errors import DataError
from fulgurite.language.library_errors import translate_error

ROWS = 256
"""Rows of Parquet that are decoded at one time, if their values have the usual size."""
MOST_HELD = 1 << 30
"""Maximum bytes of the values decoded at one time, if a dictionary repeats them."""
SMALL_DICTIONARY = 4 << 20
"""Bytes of a dictionary that needs no special care: writers limit it to one or two megabytes."""
MOST_UNPACKED = 100
"""Maximum size of the content of a gzipped Parquet or Arrow file, as a multiple of the file; both are already
compressed inside."""
LEAST_UNPACKED = 64 << 20
MOST_DECODED = 1000
"""Maximum size of the decoded values beyond MOST_HELD, as a multiple of the file."""


def read_table(path: Path, kind: str) -> Iterator[tuple[Place, Any] | Bad]:
    """Yields each row of a file with its number from 1. Raises DataError if the rest of the file cannot be read."""
    number, decoded, most = 0, 0, MOST_HELD + MOST_DECODED * path.stat().st_size
    try:
        with path.open("rb") if path.suffix.lower() != ".gz" else _unzip(path) as file:
            for batch in _read_batches(file, kind):
                # The whole file is limited too: many small batches could repeat one long value.
                decoded += batch.nbytes
                if decoded > most:
                    raise DataError(
                        "{path}: contains more than {most:,} times its size: a few long values are repeated. Write the "
                        "file with fewer repetitions.",
                        path=path, most=MOST_DECODED,
                    )
                for row in _read_rows(batch):
                    number += 1
                    place = Place(str(path), number)
                    yield Bad(place, "record", lines.describe_too_long()) if row is None else (place, row)
    # `read_records` words the errors of the system.
    except (DataError, OSError, EOFError):
        raise
    # pyarrow raises ArrowException, ValueError, SystemError, OverflowError and more on damaged files.
    except Exception as error:
        raise DataError(
            "{path}: the {kind} file is damaged after record {number} ({reason}); write it again.",
            path=path, kind=kind, number=number, reason=translate_error(error, 300),
        ) from error


def _read_batches(file: IO[bytes], kind: str) -> Iterator[Any]:
    """Yields the batches of a file, each validated: reading an offset or a length that points outside would crash the
    process."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if kind == "parquet":
        whole = pq.ParquetFile(file)
        for group in range(whole.num_row_groups):
            # With contradictory metadata column() crashes the process; this call raises an exception (pyarrow 26).
            next(whole.iter_batches(batch_size=1, row_groups=[group]), None)
            for batch in whole.iter_batches(
                batch_size=_count_rows_at_once(whole.metadata.row_group(group)), row_groups=[group]
            ):
                batch.validate(full=True)
                yield batch
        return
    # A file of Arrow has a footer with the places of its batches; a stream, as HF datasets writes it, has none.
    mark = file.read(6)
    file.seek(0)
    opened = pa.ipc.open_file(file) if mark == b"ARROW1" else pa.ipc.open_stream(file)
    for batch in (opened.get_batch(n) for n in range(opened.num_record_batches)) if mark == b"ARROW1" else opened:
        batch.validate(full=True)
        yield batch


def _count_rows_at_once(group: Any) -> int:
    """Returns the number of rows of a row group to decode at one time.

    A dictionary stores a long value once, and decoding repeats it in every row: a file of 60 MB can contain a million
    records of 60 MB.
    """
    columns = [group.column(n) for n in range(group.num_columns)]
    careful = 0
    for column in columns:
        # A large dictionary, or values that compress very well, may repeat long values.
        packed, plain = max(column.total_compressed_size, 1), column.total_uncompressed_size
        dictionary = (
            (column.data_page_offset or 0) - (column.dictionary_page_offset or 0) if column.has_dictionary_page else 0
        )
        if (
            column.has_dictionary_page
            and plain > SMALL_DICTIONARY
            and (dictionary > SMALL_DICTIONARY or plain > 20 * packed)
        ):
            careful += plain
    return ROWS if not careful else max(1, min(ROWS, MOST_HELD // careful))


def _read_rows(batch: Any) -> Iterator[Any]:
    """Yields the rows of a batch as Python values; None instead of one that is longer than a record."""
    columns = list(zip(batch.schema.names, batch.columns, strict=True))
    may_be_long = batch.nbytes > lines.MOST_RECORD
    for n in range(batch.num_rows):
        # The size of a slice is known without making Python values of it.
        if may_be_long and sum(column.slice(n, 1).nbytes for _, column in columns) > lines.MOST_RECORD:
            yield None
        else:
            yield {name: column[n].as_py() for name, column in columns}


def _unzip(path: Path) -> IO[bytes]:
    """Unpacks to a temporary file, because both formats are read from several positions."""
    plain = tempfile.TemporaryFile()  # noqa: SIM115  closed by the caller
    most, size = max(LEAST_UNPACKED, MOST_UNPACKED * path.stat().st_size), 0
    with gzip.open(path, "rb") as packed:
        while piece := packed.read(1 << 20):
            size += len(piece)
            if size > most:
                plain.close()
                raise DataError(
                    "{path}: unpacks to more than {most} times its size; if you trust the file, unpack it yourself.",
                    path=path, most=MOST_UNPACKED,
                )
            plain.write(piece)
    plain.seek(0)
    return plain
