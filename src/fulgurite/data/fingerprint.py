"""A hash of the records of a dataset. A later pass over the files must give the same hash."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from fulgurite.data.example import Bad, Conversation, Example
from fulgurite.errors import DataError
from fulgurite.language.message import get_english

if TYPE_CHECKING:
    from collections.abc import Iterator


class Fingerprint:
    """Counts and hashes records, file by file. It depends on the order of the files, not on their names."""

    def __init__(self) -> None:
        self._hashes: dict[str, Any] = {}
        self.counts: dict[str, int] = {}
        self.longest = 0
        """Characters of the longest message."""

    def add(self, record: Example | Bad) -> None:
        """Adds the next record of the dataset."""
        file = record.place.file
        if file not in self._hashes:
            self._hashes[file], self.counts[file] = hashlib.blake2b(digest_size=32), 0
        self.counts[file] += 1
        if isinstance(record, Example):
            self.longest = max(self.longest, len(find_longest_content(record)))
        for part in _list_parts(record):
            # Lone surrogates represent bytes that are not UTF-8; a bad record with them is hashed as well.
            body = part.encode("utf-8", "surrogatepass")
            # The length before each part makes the hash unambiguous.
            self._hashes[file].update(len(body).to_bytes(8, "little"))
            self._hashes[file].update(body)

    def through(self, records: Iterable[Example | Bad]) -> Iterator[Example | Bad]:
        """Yields the records unchanged, and adds each."""
        for record in records:
            self.add(record)
            yield record

    def hex(self) -> str:
        """Returns the hash of all files in their order."""
        return hashlib.sha256(b"".join(found.digest() for found in self._hashes.values())).hexdigest()

    def refuse_other(self, now: Fingerprint) -> None:
        """Raises DataError if a later pass found other records."""
        for file in {**self.counts, **now.counts}:
            before, after = self._hashes.get(file), now._hashes.get(file)
            if before is None or after is None or before.digest() != after.digest():
                raise DataError(
                    "{file} changed while it was read: {before:,} records at the check, {after:,} after it. Nothing "
                    "was stored; start again when no other program writes to the file.",
                    file=file, before=self.counts.get(file, 0), after=now.counts.get(file, 0),
                )


def find_longest_content(example: Example) -> str:
    """Returns the longest content of a message of the example."""
    return max((m.content for side in (example.messages, example.rejected) for m in side or ()), key=len, default="")


def _list_parts(record: Example | Bad) -> tuple[str, ...]:
    if isinstance(record, Bad):
        return "bad", str(record.place.line), record.field, get_english(record.reason)
    sides = [Conversation.of(side) if side is not None else None for side in (record.messages, record.rejected)]
    rest = (record.place.line, record.file, *sides, record.good, record.margin, record.columns)
    return (repr(rest), record.text or "")
