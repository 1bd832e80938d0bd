"""What a record becomes: a place, and a conversation or a text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, overload


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record stands: its file, and the number of its line (or of the record, from 1)."""

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
    """The text that the assistant thinks before it answers; templates read it as `reasoning_content`."""
    name: str = ""
    """The name of the speaker; in a tool turn the function that returned `content`."""
    call_id: str = ""
    """In a tool turn the `id` of the call that it answers."""
    learned: bool = True
    """Whether an assistant turn is trained on."""


def to_dicts(messages: Iterable[Message]) -> list[dict[str, Any]]:
    """Messages as the OpenAI chat format has them, with the keys that say something."""
    return [
        {"role": m.role, "content": m.content}
        | ({"tool_calls": [dict(call) for call in m.tool_calls]} if m.tool_calls else {})
        | ({"reasoning_content": m.reasoning} if m.reasoning else {})
        | ({"name": m.name} if m.name else {})
        | ({"tool_call_id": m.call_id} if m.call_id else {})
        for m in messages
    ]


def from_dicts(turns: Iterable[Mapping[str, Any]]) -> list[Message]:
    """What `to_dicts` gave, as messages again."""
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
    """What the chat template reads besides, for this conversation alone; it goes before the template's own arguments.
    """

    @classmethod
    def of(cls, messages: Iterable[Message]) -> Conversation:
        """A conversation from plain messages; one that is a conversation already is returned as it is."""
        return messages if isinstance(messages, Conversation) else cls(tuple(messages))

    @overload
    def __getitem__(self, at: int) -> Message: ...
    @overload
    def __getitem__(self, at: slice) -> Conversation: ...
    def __getitem__(self, at: int | slice) -> Message | Conversation:
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
    """The number of the file in the order they were given."""
    rejected: Conversation | None = None
    """The same conversation with the worse of two last answers."""
    good: bool | None = None
    """Whether the last answer was judged good."""
    margin: float = 0.0
    """By how much the better answer must win."""
    columns: dict[str, Any] = field(default_factory=dict)
    """What the record says besides its prompt; for rewards."""


@dataclass(frozen=True, slots=True)
class Bad:
    """A record that cannot be used: where, which field, why."""

    place: Place
    field: str
    reason: str

    def __str__(self) -> str:
        return f"{self.place}: field '{shorten(self.field)}': {shorten(self.reason, LONGEST_REASON)}"


LONGEST_NAME, LONGEST_REASON = 80, 1000


def shorten(text: str, most: int = LONGEST_NAME) -> str:
    """Returns a foreign name or sentence without what is beyond its first `most` characters."""
    return text if len(text) <= most else f"{text[:most]}… ({len(text):,} characters)"
