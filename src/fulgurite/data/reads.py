"""The declaration of the records that a stage reads.

A stage declares it (`Stage.reads`), and everything that reads data uses it. Standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass

from fulgurite.config.run import load_options
from fulgurite.config.schema import find_option
from fulgurite.data.config import Format
from fulgurite.language.message import UserMessage, message

ANSWERS = message("answers to learn")
CHAT = frozenset({Format.alpaca, Format.sharegpt, Format.openai})
"""The formats of conversations."""


@dataclass(frozen=True, slots=True)
class Reads:
    """The formats that a stage reads, and their descriptions in messages.

    The default reads conversations and learns their answers.
    """

    formats: frozenset[Format] = CHAT
    assumed: Format = Format.openai
    """The format of a file if no record shows it: the file has no record, or the first is not an object."""
    forms: tuple[tuple[str, ...], ...] = (("messages",), ("instruction", "output"))
    """The fields that a record must have, in each possible form; errors suggest columns with other names for these."""
    fields: str = "instruction: ..., output: ..."
    """The fields of `data.columns`, for an error message."""
    expected: UserMessage = ANSWERS
    """The content that the stage expects, for an error message."""
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
    message("pairs of answers"),
)
JUDGED = Reads(
    frozenset({Format.kto, Format.preference}),
    Format.openai,
    (("prompt", "completion", "label"), ("messages", "label")),
    "prompt: ..., completion: ..., label: ...",
    message("answers with a label"),
    splits_pairs=True,
)
PROMPTS = Reads(
    CHAT | {Format.prompts}, Format.prompts, (("prompt",),), "prompt: ...", message("prompts"), prompts=True
)
TEXT = Reads(
    frozenset({Format.text}), Format.text, (("text",),), "text: ...", message("running text"), running_text=True
)


def reads_of(stage: str) -> Reads:
    """Returns the declaration of the stage of this name; the default for a stage without one."""
    # Options register themselves when their module is imported.
    load_options()
    found: Reads = getattr(find_option("stage", stage), "reads", CONVERSATIONS)
    return found
