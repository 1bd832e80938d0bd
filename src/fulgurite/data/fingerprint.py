"""A hash of what was read of a data set, which a later pass over the files must give again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from fulgurite.data.example import Bad, Conversation, Example
from fulgurite.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator


class Fingerprint:
    """Counts and hashes records, file by file. Names of files do not matter, their order does."""

    def __init__(self) -> None:
        self._hashes: dict[str, Any] = {}
        self.counts: dict[str, int] = {}
        self.longest = 0
        """Characters of the longest message."""

    def add(self, record: Example | Bad) -> None:
        """Take in the next record of the data set."""
        file = record.place.file
        if file not in self._hashes:
            self._hashes[file], self.counts[file] = hashlib.blake2b(digest_size=32), 0
        self.counts[file] += 1
        if isinstance(record, Example):
            self.longest = max(self.longest, len(find_longest_content(record)))
        for part in _list_parts(record):
            body = part.encode("utf-8", "surrogatepass")
            self._hashes[file].update(len(body).to_bytes(8, "little"))
            self._hashes[file].update(body)

    def through(self, records: Iterable[Example | Bad]) -> Iterator[Example | Bad]:
        """Pass the records on, and take in each."""
        for record in records:
            self.add(record)
            yield record

    def hex(self) -> str:
        """The hash of all files in their order."""
        return hashlib.sha256(b"".join(found.digest() for found in self._hashes.values())).hexdigest()

    def refuse_other(self, now: Fingerprint) -> None:
        """Raise DataError if a later pass found something else."""
        for file in {**self.counts, **now.counts}:
            before, after = self._hashes.get(file), now._hashes.get(file)
            if before is None or after is None or before.digest() != after.digest():
                raise DataError(
                    f"{file} changed while it was read: {self.counts.get(file, 0):,} records at the check, "
                    f"{now.counts.get(file, 0):,} "
                    "after it; start again once nothing writes to it. Nothing was kept of this reading."
                )


def find_longest_content(example: Example) -> str:
    """The longest thing that a message of the example says."""
    return max((m.content for side in (example.messages, example.rejected) for m in side or ()), key=len, default="")


def _list_parts(record: Example | Bad) -> tuple[str, ...]:
    if isinstance(record, Bad):
        return "bad", str(record.place.line), record.field, record.reason
    sides = [Conversation.of(side) if side is not None else None for side in (record.messages, record.rejected)]
    rest = (record.place.line, record.file, *sides, record.good, record.margin, record.columns)
    return (repr(rest), record.text or "")
