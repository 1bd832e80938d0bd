"""Reads metrics.jsonl of a run for its curves: only what was appended since the last time, and few points of each.

orjson reads 100,000 rows in a third of the time of `json` (0.13 s for 0.4 s), which decides how fast a long run opens.
"""

from __future__ import annotations

import json
import math
import stat
import threading
import zlib
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, BinaryIO

from fulgurite.logger.metrics_file import LARGEST_STEP
from fulgurite.logger.smoothing import RunningMean

_load_fast: Callable[[bytes], Any]
try:
    import orjson

    _load_fast = orjson.loads
except ImportError:  # it is part of the extra `board`, and only makes this faster
    _load_fast = json.loads

LOSS, SMOOTHED, CLIPPED, CLIPPED_SHARE = "train/loss", "smoothed", "train/clipped", "clipped_share"
BESIDE = ("step", "epoch", "tokens")
"""Numbers of a row that are no curves."""
RECENT = 100
"""The steps over which the share of clipped ones is taken."""
FEWEST, MOST = 16, 5_000
"""Points of a curve that a page may ask for."""
TAIL = 256
"""Bytes before an offset by which a file is known to be the one that was read: a resumed run rewrites it."""
_get_step = itemgetter("step")
BLOCK = 1 << 20
"""Bytes that are read into rows at a time."""
MOST_AT_ONCE = 1 << 20
"""Bytes of new rows that are sent one by one; after more, the page gets the whole curves again."""


@dataclass(slots=True)
class MetricCurve:
    """The steps and the values of one number; NaN is a value that is no finite number."""

    steps: array[int] = field(default_factory=lambda: array("q"))
    values: array[float] = field(default_factory=lambda: array("d"))
    gaps: int = 0
    """How many values are NaN."""

    def extend(self, steps: Iterable[int], values: Sequence[float]) -> None:
        """Appends points."""
        self.steps.extend(steps)
        self.values.extend(values)
        if not math.isfinite(sum(values)):  # one NaN makes the sum NaN
            self.gaps += len(values) - sum(map(math.isfinite, values))

    def list_finite(self) -> Sequence[float]:
        """Returns the finite values, without a copy if all of them are: a run of 100,000 steps is asked each second."""
        return [value for value in self.values if math.isfinite(value)] if self.gaps else self.values

    def get_last(self) -> float | None:
        """Returns the newest finite value."""
        return next((value for value in reversed(self.values) if math.isfinite(value)), None)


class MetricsReader:
    """The rows of one metrics.jsonl as curves. Methods can be called from several threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.RLock()
        self._forget()

    def _forget(self) -> None:
        self.curves: dict[str, MetricCurve] = {}
        self.rows, self.bad, self.offset, self.step = 0, 0, 0, 0
        self.last: dict[str, Any] = {}
        self._tail, self._seen = b"", (0, 0, 0)
        self._mean = RunningMean()
        self._drawn: dict[tuple[Any, ...], dict[str, list[list[float | None]]]] = {}

    @property
    def mark(self) -> str:
        """The place up to which the file was read: an offset and a checksum of the bytes before it."""
        return f"{self.offset}-{zlib.crc32(self._tail):08x}"

    def refresh(self) -> bool:
        """Reads what was appended; a half-written last line waits. Returns whether all was read anew, because the file
        is another one or was rewound."""
        with self._lock:
            try:
                found = self._path.lstat()
                seen = found.st_ino, found.st_size, found.st_mtime_ns
                # a link could lead out of the folders of the board, and a pipe never ends
                if seen == self._seen or not stat.S_ISREG(found.st_mode):
                    return False
                with self._path.open("rb") as stream:
                    again = self.offset > 0 and not self._is_continued(stream)
                    if again:
                        self._forget()
                    stream.seek(self.offset)
                    self._take(stream.read())
            except OSError:
                again = self.rows > 0
                self._forget()
                return again
            self._seen = seen
            return again

    def _is_continued(self, stream: BinaryIO) -> bool:
        return _read_tail(stream, self.offset) == self._tail

    def _take(self, data: bytes) -> None:
        end = data.rfind(b"\n") + 1
        begin = 0
        while begin < end:
            # in blocks, so that the rows of one are freed before the next is read: faster than one large block
            stop = data.find(b"\n", min(begin + BLOCK, end - 1)) + 1
            rows, bad = parse_rows(data[begin:stop])
            self.rows, self.bad = self.rows + len(rows), self.bad + bad
            self._add(rows)
            begin = stop
        if end:
            self.offset += end
            self._tail = (self._tail + data[max(end - TAIL, 0):end])[-TAIL:]
            self._drawn.clear()

    def _add(self, rows: Sequence[dict[str, Any]]) -> None:
        if not rows:
            return
        before = len(self.curves[LOSS].steps) if LOSS in self.curves else 0
        # rows of one kind follow each other, so that whole columns can be appended at a time
        for names, part in groupby(rows, key=tuple):
            same = list(part)
            steps = array("q", map(_get_step, same))
            self.step = max(self.step, max(steps))
            for name in names:
                if name in BESIDE:
                    continue
                values = _read_column(list(map(itemgetter(name), same)))
                if values is not None:
                    self.curves.setdefault(name, MetricCurve()).extend(steps, values)
        self.last = rows[-1]
        self._smooth(before)

    def _smooth(self, before: int) -> None:
        """Adds what is computed of other curves: the smoothed loss, and the share of clipped steps."""
        if (loss := self.curves.get(LOSS)) is not None:
            new = [(s, x) for s, x in zip(loss.steps[before:], loss.values[before:], strict=True) if math.isfinite(x)]
            smoothed = self.curves.setdefault(SMOOTHED, MetricCurve())
            smoothed.extend([s for s, _ in new], self._mean.extend([x for _, x in new]))
        if (clipped := self.curves.get(CLIPPED)) is not None:
            import numpy as np  # 0.07 s, which the start of the server does not need

            share = self.curves.setdefault(CLIPPED_SHARE, MetricCurve())
            done = len(share.steps)
            start = max(0, done - RECENT + 1)
            # Prefix sums from `start`, RECENT - 1 steps before the first new one: the clipped ones of the last RECENT
            # steps are then the difference of two sums; shares has one value for each new step.
            sums = np.concatenate([[0.0], np.cumsum(np.nan_to_num(np.array(clipped.values[start:])))])
            ends = np.arange(done, len(clipped.steps)) + 1
            starts = np.maximum(ends - RECENT, 0)
            shares = (sums[ends - start] - sums[starts - start]) / (ends - starts)
            share.extend(clipped.steps[done:], shares.tolist())

    def draw(self, points: int, keep: Iterable[int] = ()) -> dict[str, list[list[float | None]]]:
        """Returns each curve as at most about `points` pairs of step and value; the steps in `keep` are among them."""
        points = min(max(points, FEWEST), MOST)
        with self._lock:
            key = (points, *sorted(set(keep)))
            if key not in self._drawn:
                self._drawn[key] = {name: thin(curve, points, key[1:]) for name, curve in self.curves.items()}
            return self._drawn[key]

    def describe(self, points: int, keep: Iterable[int] = ()) -> dict[str, Any]:
        """Returns the answer for the page: the curves, the newest row, and the mark from which new rows follow."""
        with self._lock:
            return {
                "rows": self.rows, "series": self.draw(points, keep), "last": to_json_row(self.last),
                "offset": self.offset, "after": self.mark,
            }

    def read_after(self, mark: str) -> dict[str, Any] | None:
        """Returns the rows after a mark, with the smoothed loss, and the next mark; None if they cannot follow it: the
        file was rewound, or too much is new."""
        offset, _, checksum = mark.partition("-")
        with self._lock:
            if not offset.isdecimal() or len(offset) > 15 or self.offset - int(offset) > MOST_AT_ONCE:
                return None
            begin = int(offset)
            if begin > self.offset:
                return None
            try:
                with self._path.open("rb") as stream:
                    tail = _read_tail(stream, begin)
                    # without a checksum any offset at the end of a line is taken
                    if f"{zlib.crc32(tail):08x}" != checksum if checksum else tail[-1:] not in (b"", b"\n"):
                        return None
                    data = stream.read(self.offset - begin)
            except OSError:
                return None
            if (tail + data)[-len(self._tail):] != self._tail[-len(tail + data):]:
                return None  # the file was rewound since it was read
            rows, _ = parse_rows(data)
            shown = self._add_computed([to_json_row(row) for row in rows])
            return {"rows": shown, "offset": self.offset, "after": self.mark}

    def _add_computed(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Adds to the newest rows what is computed of their numbers, so that a page that follows draws it too."""
        for source, name in ((LOSS, SMOOTHED), (CLIPPED, CLIPPED_SHARE)):
            curve = self.curves.get(name, MetricCurve())
            having = [row for row in rows if row.get(source) is not None]
            newest = curve.values[len(curve.values) - len(having):]
            for row, value in zip(having, newest, strict=False):
                row[name] = value
        return rows


def parse_rows(data: bytes) -> tuple[list[dict[str, Any]], int]:
    """Returns the rows of whole lines that have a step, and the number of the other lines."""
    lines = data.splitlines()
    try:
        found = list(map(_load_fast, lines))
    except (ValueError, RecursionError):
        found = [_parse_line(line) for line in lines]
    # the exact type, because True is an int too
    rows = [row for row in found if type(row) is dict and type(row.get("step")) is int]
    if rows and not 0 <= min(map(_get_step, rows)) <= max(map(_get_step, rows)) < LARGEST_STEP:
        rows = [row for row in rows if 0 <= row["step"] < LARGEST_STEP]
    return rows, len(lines) - len(rows)


def _parse_line(line: bytes) -> Any:
    """Returns what a line holds, None if it is no JSON; `json` reads NaN and integers of any size too."""
    for load in (_load_fast, json.loads):
        try:
            return load(line)
        except (ValueError, RecursionError):
            continue
    return None


def _read_tail(stream: BinaryIO, offset: int) -> bytes:
    """Returns the bytes before an offset, by which a file is recognised; the stream is then at the offset."""
    begin = max(offset - TAIL, 0)
    stream.seek(begin)
    return stream.read(offset - begin)


def _read_column(found: list[Any]) -> array[float] | None:
    """Returns the values of one number; None if none of them is a number."""
    try:
        return array("d", found)
    except (TypeError, OverflowError):
        values = array("d", [to_number(x) for x in found])
        return values if any(x is None or isinstance(x, int | float) for x in found) else None


def to_number(value: Any) -> float:
    """Returns a value of a row as a float, NaN if it is none."""
    try:
        return float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:
        return math.nan


def to_json_row(row: dict[str, Any]) -> dict[str, Any]:
    """Returns the numbers of a row, with null for those that are not finite."""
    return {
        name: value if not isinstance(value, float) or math.isfinite(value) else None
        for name, value in row.items() if value is None or isinstance(value, int | float)
    }


def thin(curve: MetricCurve, points: int, keep: Sequence[int] = ()) -> list[list[float | None]]:
    """Returns few points of a curve that look like all of them: of each stretch the lowest and the highest value, the
    first and the last point, those of the steps in `keep`, and the first that is no number."""
    steps, values = curve.steps, curve.values
    if len(steps) > points:
        import numpy as np

        # two points are the first and the last, and at most a quarter is reserved for `keep`
        chosen = _choose(np.array(values), points - 2 - min(len(keep), points // 4))
        places = np.searchsorted(np.array(steps), np.array(keep, dtype=np.int64)) if keep else chosen[:0]
        named = places[places < len(steps)]
        index = np.unique(np.concatenate([chosen, named, [0, len(steps) - 1]])).tolist()
        steps, values = array("q", (steps[n] for n in index)), array("d", (values[n] for n in index))
    return [[step, value if math.isfinite(value) else None] for step, value in zip(steps, values, strict=True)]


def _choose(values: Any, points: int) -> Any:
    """Returns the indices of the lowest and the highest value of each of `points` / 2 stretches."""
    import numpy as np

    # Rounded up. The first `whole` values are reshaped to (stretches, size); what is left is a shorter stretch.
    size = -(-len(values) // max(points // 2, 1))
    whole = len(values) // size * size
    missing = ~np.isfinite(values)
    found = []
    for fill, pick in ((np.inf, np.argmin), (-np.inf, np.argmax)):
        filled = np.where(missing, fill, values)
        found.append(np.arange(0, whole, size) + pick(filled[:whole].reshape(-1, size), axis=1))
        if whole < len(values):
            found.append(np.array([whole + pick(filled[whole:])]))
    if missing.any():  # a gap in the curve stays one
        found.append(np.arange(0, whole, size) + np.argmax(missing[:whole].reshape(-1, size), axis=1))
    return np.concatenate(found)


def list_finite(reader: MetricsReader, name: str) -> Sequence[float]:
    """Returns the finite values of one number."""
    curve = reader.curves.get(name)
    return [] if curve is None else curve.list_finite()
