"""One foreign name, and what a file of names is built with."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fulgurite.language.message import UserMessage

VALUE = "{value}"
"""In the words of a foreign name: the place of the value that it was given."""
EMPTY = UserMessage()


@dataclass(frozen=True, slots=True)
class ForeignName:
    """A name of another trainer.

    `words` are a parameter (`optim.lr`), a group (`method`), or words of the command line (`method=qlora`); they are
    empty if nothing here corresponds, and `note` then gives the reason. `values` maps its values to words, in place of
    `words`. `carries` is false if its value means something else than ours, so that it cannot be copied.
    """

    name: str
    owner: str
    words: str
    note: UserMessage = EMPTY
    values: Mapping[str, str] = field(default_factory=dict)
    carries: bool = True

    @property
    def targets(self) -> tuple[str, ...]:
        """The parameters, groups and options of ours that `words` name: `method=freeze`, `method.trainable`."""
        found = []
        for word in self.words.split():
            head, _, value = word.partition("=")
            found.append(head if "." in head or not value or VALUE in value else word)
        return tuple(found)

    @property
    def is_switch(self) -> bool:
        """Whether the name is true or false, and true means `words`."""
        return "=" in self.words and VALUE not in self.words


def build_names(
    owner: str,
    words: Mapping[str, str],
    *,
    notes: Mapping[str, UserMessage] | None = None,
    values: Mapping[str, Mapping[str, str]] | None = None,
    computed: Sequence[str] = (),
) -> tuple[ForeignName, ...]:
    """Builds the names of an owner: `words` by name, and for some of them a note or words by value.

    Names with a note alone have no counterpart. The values of `computed` names cannot be copied.
    """
    notes, values = notes or {}, values or {}
    every = [*words, *(name for name in notes if name not in words)]
    found = []
    for name in every:
        note, known = notes.get(name, EMPTY), values.get(name, {})
        found.append(ForeignName(name, owner, words.get(name, ""), note, known, name not in computed))
    return tuple(found)


def normalize_name(name: str) -> str:
    """Returns a name in lower case and half width, without spaces and dashes: `LoRA 秩` becomes `lora秩`."""
    return "".join(sign for sign in unicodedata.normalize("NFKC", name).casefold() if sign not in " _-\t")
