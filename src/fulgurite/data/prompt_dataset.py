"""The prompts that a policy answers: their tokens, messages, and the columns that a reward reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fulgurite.data.dataset import TokenDataset
from fulgurite.data.example import Conversation, Example
from fulgurite.data.fingerprint import Fingerprint
from fulgurite.data.source import Source


class PromptDataset:
    """One prompt per row of `rows`. The records are kept in memory."""

    def __init__(self, source: Source, rows: TokenDataset) -> None:
        self._rows = rows
        wanted = {int(n) for n in rows.pieces[:, 0]}
        seal = Fingerprint()
        good = (e for e in seal.through(source.examples()) if isinstance(e, Example))
        # Only the examples of this part are kept; another pass over the files must read the same.
        self._examples = {n: example for n, example in enumerate(good) if n in wanted}
        if source.checked is not None:
            source.checked.seal.refuse_other(seal)
        self.names = sorted({name for example in self._examples.values() for name in example.columns})

    def __len__(self) -> int:
        return len(self._rows)

    def ids(self, row: int) -> list[int]:
        """Returns the tokens before the answer."""
        return [int(i) for i in self._rows[row].input_ids]

    def messages(self, row: int) -> Conversation:
        """Returns the conversation so far, with the functions that may be called in it."""
        return self._example(row).messages or Conversation(())

    def columns(self, row: int) -> Mapping[str, Any]:
        """Returns every column of the dataset by name; None if this record does not have it."""
        own = self._example(row).columns
        return {name: own.get(name) for name in self.names}

    def place(self, row: int) -> str:
        """Returns the place of the record, as file:line."""
        return self._rows.places(row)[0]

    def _example(self, row: int) -> Example:
        return self._examples[int(self._rows.pieces[self._rows.starts[row], 0])]
