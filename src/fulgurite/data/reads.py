"""What a stage reads of a data set's records.

A stage declares it (`Stage.reads`), and everything that reads data asks for it here.

Standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass

from fulgurite.config.run import load_options
from fulgurite.config.schema import find_option
from fulgurite.data.config import Format

CHAT = frozenset({Format.alpaca, Format.sharegpt, Format.openai})
"""The formats of conversations."""


@dataclass(frozen=True, slots=True)
class Reads:
    """The formats that a stage reads, and the words for them in messages.

    The default reads conversations and learns their answers.
    """

    formats: frozenset[Format] = CHAT
    assumed: Format = Format.openai
    """The format of a file in which no record tells its format: it has none, or the first is no object."""
    forms: tuple[tuple[str, ...], ...] = (("messages",), ("instruction", "output"))
    """The fields that a record must have, in each form that it may take; columns of other names are suggested for
    these.
    """
    fields: str = "instruction: ..., output: ..."
    """The fields of `data.columns`, as an error message shows them."""
    learns: str = "learns answers to questions"
    running_text: bool = False
    """Whether documents are cut into pieces of `data.max_length`, and every token is learned."""
    prompts: bool = False
    """Whether a record is a prompt: its other columns go to the reward."""
    splits_pairs: bool = False
    """Whether a pair is one good answer and one bad."""
    margins: bool = False
    """Whether the field `margin` of a pair is read."""

    @property
    def compares(self) -> bool:
        """Whether pairs of answers are read."""
        return Format.preference in self.formats


CONVERSATIONS = Reads()
PAIRS = Reads(
    frozenset({Format.preference}),
    Format.preference,
    (("prompt", "chosen", "rejected"),),
    "prompt: ..., chosen: ..., rejected: ...",
    "learns from pairs of answers",
)
JUDGED = Reads(
    frozenset({Format.kto, Format.preference}),
    Format.openai,
    (("prompt", "completion", "label"), ("messages", "label")),
    "prompt: ..., completion: ..., label: ...",
    "learns from answers with a label",
    splits_pairs=True,
)
PROMPTS = Reads(CHAT | {Format.prompts}, Format.prompts, (("prompt",),), "prompt: ...", "answers prompts", prompts=True)
TEXT = Reads(frozenset({Format.text}), Format.text, (("text",),), "text: ...", "reads running text", running_text=True)


def reads_of(stage: str) -> Reads:
    """What the stage of this name declares to read; conversations for a name without a declaration."""
    load_options()
    found: Reads = getattr(find_option("stage", stage), "reads", CONVERSATIONS)
    return found
