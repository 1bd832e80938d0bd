"""The text of a special token inside a message: found, marked, and encoded as plain text.

A template writes `<|im_end|>` to end a turn. If a message contains that text, the tokenizer reads the same token, and
the turn ends there. transformers 5.23 has `apply_chat_template(..., sanitize_control_tokens=True)` for this, but it
returns tokens, while the text is needed here, and it takes `<think>` for a control token as well. The marks and the
pieces are the same as there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from transformers import PreTrainedTokenizerBase

from fulgurite.data.example import Conversation, Message
from fulgurite.errors import DataError

START, END = "\ufdd0", "\ufdd1"
"""Marks around such a text: code points that Unicode assigns to no character."""


class SpecialTexts:
    """The texts of the special tokens of a tokenizer, without added tokens that are not special.

    In an answer the tags of reasoning, such as `<think>`, do not count: the model is to write them there.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        # Both: some tokenizers list a special token in only one of the two places.
        special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
        # Longer texts first, so that the pattern prefers <|im_end|> to a part of it.
        written: list[str] = sorted(
            {text for text in special | {*map(str, tokenizer.all_special_tokens)} if text.strip()},
            key=len,
            reverse=True,
        )
        self.texts, pattern = written, _build_pattern(written)
        self._special, self._marked = re.compile(pattern), re.compile(f"{START}({pattern}){END}")
        self._in_answer = re.compile(_build_pattern([text for text in written if "think" not in text.lower()]))
        self._marks = re.compile(f"{START}({pattern}){END}|[{START}{END}]")

    def inside(self, text: str) -> bool:
        """Returns whether a text contains that of a special token."""
        return self._special.search(text) is not None

    def inside_any(self, messages: Sequence[Message]) -> bool:
        """Returns whether a part of a conversation contains one."""
        conversation = Conversation.of(messages)
        return any(self._finds(turn) for turn in conversation) or any(
            map(self.inside, _list_strings(conversation.tools))
        )

    def _finds(self, turn: Message) -> bool:
        others = _list_strings([turn.reasoning, turn.name, turn.tool_calls])
        return self._pattern(turn).search(turn.content) is not None or any(map(self.inside, others))

    def _pattern(self, turn: Message) -> re.Pattern[str]:
        return self._in_answer if turn.role == "assistant" else self._special

    def mark(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Puts marks around such texts in a conversation; a marked conversation is returned as it is. Raises DataError.
        """
        conversation = Conversation.of(messages)
        if not self.inside_any(conversation) and not any(
            START in text or END in text for text in _list_strings(conversation)
        ):
            return messages
        turns = tuple(
            replace(
                turn, content=self._mark(turn.content, self._pattern(turn)), reasoning=self._mark(turn.reasoning),
                tool_calls=self._mark(turn.tool_calls), name=self._mark(turn.name),
            )
            for turn in conversation
        )
        return replace(conversation, messages=turns, tools=self._mark(conversation.tools))

    def unmarked(self, text: str) -> str:
        """Returns a text without its marked parts."""
        return self._marked.sub("", text)

    def _mark(self, value: Any, pattern: re.Pattern[str] | None = None) -> Any:
        if isinstance(value, str):
            # A text that is marked already is returned as it is; marks in the data themselves are refused.
            pattern, bare = pattern or self._special, self.unmarked(value)
            if START in bare or END in bare or (bare != value and pattern.search(bare)):
                raise DataError(
                    "contains U+{start:04X} or U+{end:04X}, which are not characters; remove it",
                    start=ord(START), end=ord(END),
                )
            # A text with marks was marked before, by an earlier call on the same conversation.
            return value if bare != value else pattern.sub(f"{START}\\g<0>{END}", value)
        if isinstance(value, Mapping):
            return {self._mark(name): self._mark(item) for name, item in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(map(self._mark, value))
        return value

    def encode(self, text: str) -> list[int]:
        """Encodes a marked text; marked parts are encoded as plain text, each part separately."""
        # The pattern has one group: pieces with odd numbers are the marked texts.
        pieces = self._marks.split(text)
        ids = self._encode(pieces[0], False)
        newline = self._encode("\n", False)
        for number, piece in enumerate(pieces[1:], start=1):
            if piece:
                plain = number % 2 == 1
                # After a line break, because SentencePiece puts a space before the first word of a text.
                inside = self._encode("\n" + piece, plain)
                # The tokens of the line break are removed again, if they are still there as a whole.
                ids += inside[len(newline) :] if inside[: len(newline)] == newline else self._encode(piece, plain)
        return ids

    def encode_document(self, text: str) -> list[int]:
        """Encodes running text as plain text, with the tokens that the tokenizer adds around it."""
        found: list[int] = self._tokenizer(text, split_special_tokens=True, verbose=False)["input_ids"]
        return found

    def _encode(self, text: str, plain: bool) -> list[int]:
        found: list[int] = self._tokenizer(text, add_special_tokens=False, split_special_tokens=plain, verbose=False)[
            "input_ids"
        ]
        return found


def _build_pattern(texts: Sequence[str]) -> str:
    """Returns a pattern for any of the texts; one that matches nothing if there are none."""
    return "|".join(map(re.escape, texts)) or "(?!)"


def _list_strings(value: Any) -> Iterable[str]:
    """Yields every text of the record in a conversation."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Conversation):
        for turn in value:
            yield from _list_strings([turn.content, turn.reasoning, turn.name, turn.tool_calls])
        yield from _list_strings(value.tools)
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _list_strings([name, item])
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _list_strings(item)
