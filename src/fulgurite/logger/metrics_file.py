"""Writes and reads metrics.jsonl: one JSON object per logged step, complete even if a tracker fails."""

from __future__ import annotations

import errno
import json
import logging
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fulgurite.files.atomic import write_file
from fulgurite.language.library_errors import translate_system_error
from fulgurite.language.message import message

log = logging.getLogger(__name__)

Row = Mapping[str, float | int | None]
LARGEST_STEP = 1 << 53


class MetricsFile:
    """Appends rows to `path`, each in one write. A full disk raises nothing: the rows wait in memory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._waiting: list[bytes] = []
        self._seen: set[tuple[int, bool]] = set()
        self._warned = False

    def write(self, row: Row) -> None:
        """Appends one row with a `step`. NaN and infinity become null, because JSON cannot represent them."""
        # A step has at most one row of training and one of evaluation, also if a resumed run computes it again.
        place = (int(row.get("step") or 0), "val/loss" in row)
        if place in self._seen:
            return
        self._waiting.append(_encode_row(row))
        self._flush()

    def rewind(self, step: int) -> None:
        """Drops the rows after `step` and a half-written last line, so that a resumed run does not repeat them."""
        try:
            if not self.path.exists():
                return
            kept = [row for row in read_rows(self.path)[0] if row["step"] <= step]
            write_file(self.path, b"".join(_encode_row(row) for row in kept))
        except OSError as error:
            self._warn(error)
            return
        self._seen = {(row["step"], "val/loss" in row) for row in kept if row["step"] == step}

    def close(self) -> None:
        """Tries once more to write the waiting rows; warns about the number of lost rows if that fails."""
        if self._waiting:
            self._flush()
        if self._waiting:
            log.warning(message(
                "{count} rows are missing in {path}, because the disk refused them.",
                count=len(self._waiting), path=self.path,
            ))

    def _flush(self) -> None:
        try:
            _append(self.path, b"".join(self._waiting))
            self._waiting.clear()
        except OSError as error:
            self._warn(error)

    def _warn(self, error: OSError) -> None:
        if not self._warned:
            log.warning(message(
                "{path} cannot be written ({reason}); the run goes on, and the rows wait in memory. Free some space.",
                path=self.path, reason=translate_system_error(error),
            ))
            self._warned = True


def _encode_row(row: Row) -> bytes:
    clean = {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in row.items()}
    return json.dumps(clean, allow_nan=False).encode() + b"\n"


def _append(path: Path, data: bytes) -> None:
    """Appends all of `data` or nothing: a part that a full disk accepted is cut off again."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        size = os.fstat(handle).st_size
        try:
            written = os.write(handle, data)
        except OSError:
            written = 0
            os.ftruncate(handle, size)
            raise
        if written < len(data):
            os.ftruncate(handle, size)
            # os.write may accept a part without raising; 28 is ENOSPC.
            raise OSError(28, "No space left on device")
    finally:
        os.close(handle)


def read_rows(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Returns the rows that have a step, and the number of unreadable lines. Raises OSError, also for a pipe or a
    device."""
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "Not a regular file")
    rows, bad = [], 0
    for line in path.read_bytes().splitlines():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        step = row.get("step") if isinstance(row, dict) else None
        if row is not None and type(step) is int and 0 <= step < LARGEST_STEP:
            rows.append(row)
        else:
            bad += 1
    return rows, bad
