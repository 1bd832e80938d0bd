"""The example that a record is converted to: its place, and a conversation or a text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, overload

from fulgurite.language.message import UserMessage, message


@dataclass(frozen=True, slots=True)
class Place:
    """The place of a record: its file, and the number of its line (or of the record, from 1)."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation, with the structure that a chat template reads."""

    role: str
    """system, user, assistant or tool."""
    content: str
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    """The calls of an assistant turn, each `{"type": "function", "function": {"name", "arguments"}}`, with its `id` if
    it has one.
    """
    reasoning: str = ""
    """The reasoning before the answer; templates read it as `reasoning_content`."""
    name: str = ""
    """The name of the speaker; in a tool turn the function that returned `content`."""
    call_id: str = ""
    """In a tool turn the `id` of the call that it answers."""
    learned: bool = True
    """Whether an assistant turn is trained on."""


def to_dicts(messages: Iterable[Message]) -> list[dict[str, Any]]:
    """Converts messages to the OpenAI chat format; keys without a value are left out."""
    return [
        {"role": m.role, "content": m.content}
        | ({"tool_calls": [dict(call) for call in m.tool_calls]} if m.tool_calls else {})
        | ({"reasoning_content": m.reasoning} if m.reasoning else {})
        | ({"name": m.name} if m.name else {})
        | ({"tool_call_id": m.call_id} if m.call_id else {})
        for m in messages
    ]


def from_dicts(turns: Iterable[Mapping[str, Any]]) -> list[Message]:
    """Converts the result of `to_dicts` back to messages."""
    return [
        Message(
            turn["role"],
            turn.get("content") or "",
            tuple(turn.get("tool_calls") or ()),
            turn.get("reasoning_content") or "",
            turn.get("name") or "",
            turn.get("tool_call_id") or "",
        )
        for turn in turns
    ]


@dataclass(frozen=True, slots=True)
class Conversation(Sequence[Message]):
    """Turns in order, the functions that may be called in them, and arguments of the template. A slice keeps both."""

    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    """JSON schemas of the functions, as transformers' `apply_chat_template(tools=...)` takes them."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of the chat template for this conversation alone; they override the template's own arguments.
    """

    @classmethod
    def of(cls, messages: Iterable[Message]) -> Conversation:
        """Makes a conversation of plain messages; returns a conversation as it is."""
        return messages if isinstance(messages, Conversation) else cls(tuple(messages))

    @overload
    def __getitem__(self, at: int) -> Message: ...
    @overload
    def __getitem__(self, at: slice) -> Conversation: ...
    def __getitem__(self, at: int | slice) -> Message | Conversation:
        # A slice is a conversation with the same functions and arguments.
        return replace(self, messages=self.messages[at]) if isinstance(at, slice) else self.messages[at]

    def __len__(self) -> int:
        return len(self.messages)

    def __iter__(self) -> Iterator[Message]:
        return iter(self.messages)


@dataclass(frozen=True, slots=True)
class Example:
    """A conversation, or a text; never both. A conversation may have a second, worse end, or a judgement."""

    place: Place
    messages: Conversation | None = None
    text: str | None = None
    file: int = 0
    """The number of the file in the given order."""
    rejected: Conversation | None = None
    """The same conversation with the worse of two last answers."""
    good: bool | None = None
    """Whether the last answer was judged good."""
    margin: float = 0.0
    """The margin by which the reward of the better answer should be larger."""
    columns: dict[str, Any] = field(default_factory=dict)
    """The other columns of a prompt's record; for rewards."""


@dataclass(frozen=True, slots=True)
class Bad:
    """A record that cannot be used: its place, the field, and the reason."""

    place: Place
    field: str
    reason: UserMessage

    def __str__(self) -> str:
        field, reason = shorten(self.field), shorten(str(self.reason), LONGEST_REASON)
        return str(message("{place}: field '{field}': {reason}", place=self.place, field=field, reason=reason))


LONGEST_NAME, LONGEST_REASON = 80, 1000


def shorten(text: str, most: int = LONGEST_NAME) -> str:
    """Cuts a foreign name or sentence to its first `most` characters."""
    if len(text) <= most:
        return text
    return f"{text[:most]}… {message('({count:,} characters)', count=len(text))}"
