"""What a record says, as a conversation or a text: alpaca, sharegpt, openai messages, raw text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fulgurite.data.config import Format
from fulgurite.data.records import Message
from fulgurite.errors import did_you_mean

ROLES = {
    "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system", "chatgpt": "assistant", "model": "assistant",
    "function_call": "assistant", "observation": "tool", "tool": "tool", "function": "tool",
}
Found = tuple[tuple[Message, ...] | None, str | None]


class Wrong(Exception):
    """A record cannot be used: the field and the reason."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"field '{field}': {reason}")
        self.field, self.reason = field, reason


def detect(record: Any) -> Format | None:
    """The format of a record by its fields, or None."""
    if not isinstance(record, Mapping):
        return None
    if "messages" in record:
        return Format.openai
    if "conversations" in record:
        return Format.sharegpt
    if "instruction" in record or ("prompt" in record and "response" in record):
        return Format.alpaca
    return Format.text if "text" in record else None


def convert(record: Any, format: Format, columns: Mapping[str, str]) -> Found:
    """The messages or the text of a record. Raises Wrong."""
    if not isinstance(record, Mapping):
        raise Wrong("record", f"an object is due and this is {_kind(record)}")
    for ours, theirs in columns.items():
        if theirs not in record:
            raise Wrong(ours, f"data.columns names the column {theirs}, which is not there.{did_you_mean(theirs, map(str, record))}")
    record = dict(record) | {ours: record[theirs] for ours, theirs in columns.items()}
    return CONVERTERS[format](record)


def text(record: Mapping[str, Any]) -> Found:
    """`{text}`."""
    return None, _words(record, "text", "text")


def alpaca(record: Mapping[str, Any]) -> Found:
    """`{instruction, input, output, system, history}`; `{prompt, response}` as well."""
    names = ("instruction", "output") if "instruction" in record else ("prompt", "response")
    question, answer = _words(record, names[0], names[0]), _words(record, names[1], names[1])
    more = record.get("input")
    if more is not None and not isinstance(more, str):
        raise Wrong("input", f"text is due and this is {_kind(more)}")
    turns = []
    if record.get("system"):
        turns.append(Message("system", _words(record, "system", "system")))
    for n, pair in enumerate(record.get("history") or []):
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not all(isinstance(x, str) and x.strip() for x in pair):
            raise Wrong(f"history[{n}]", "a pair of question and answer is due")
        turns += [Message("user", pair[0]), Message("assistant", pair[1])]
    turns += [Message("user", f"{question}\n{more}" if more else question), Message("assistant", answer)]
    return tuple(turns), None


def sharegpt(record: Mapping[str, Any]) -> Found:
    """`{conversations: [{from, value}], system}`."""
    turns = _turns(record, "conversations", "from", "value")
    if record.get("system"):
        turns = [Message("system", _words(record, "system", "system")), *turns]
    return checked(turns, "conversations"), None


def openai(record: Mapping[str, Any]) -> Found:
    """`{messages: [{role, content}]}`."""
    return checked(_turns(record, "messages", "role", "content"), "messages"), None


def _turns(record: Mapping[str, Any], field: str, role: str, content: str) -> list[Message]:
    turns = record.get(field)
    if field not in record:
        raise Wrong(field, "is missing")
    if not isinstance(turns, list):
        raise Wrong(field, f"a list is due and this is {_kind(turns)}")
    if not turns:
        raise Wrong(field, "is empty")
    made = []
    for n, turn in enumerate(turns):
        if not isinstance(turn, Mapping):
            raise Wrong(f"{field}[{n}]", f"an object is due and this is {_kind(turn)}")
        who = turn.get(role)
        if who not in ROLES:
            raise Wrong(f"{field}[{n}].{role}", f"{who!r} is no known role; there are {', '.join(sorted(ROLES))}")
        made.append(Message(ROLES[who], _words(turn, content, f"{field}[{n}].{content}")))
    return made


def checked(turns: list[Message], field: str) -> tuple[Message, ...]:
    """The turns, if they are a conversation to learn from: system first, then questions and answers in turn, an answer last."""
    for n, turn in enumerate(turns):
        place = f"{field}[{n}]"
        if turn.role == "system" and n > 0:
            raise Wrong(place, "a system message stands in the middle")
        before = turns[n - 1].role if n else ""
        if turn.role == "assistant" and before in ("", "system"):
            raise Wrong(place, "the answer comes before any question")
        if turn.role == before and turn.role in ("assistant", "user"):
            raise Wrong(place, f"two {turn.role} turns follow each other")
    if turns[-1].role != "assistant":
        raise Wrong(f"{field}[{len(turns) - 1}]", f"the last turn is the {turns[-1].role}'s: there is no answer to learn")
    return tuple(turns)


def _words(record: Mapping[str, Any], name: str, place: str) -> str:
    value = record.get(name)
    if name not in record:
        raise Wrong(place, "is missing")
    if not isinstance(value, str):
        raise Wrong(place, f"text is due and this is {_kind(value)}")
    if not value.strip():
        raise Wrong(place, "is empty")
    if "\0" in value:
        raise Wrong(place, "holds a NUL character")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise Wrong(place, "holds half of a surrogate pair") from None
    return value


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number", type(None): "null"}
    return names.get(type(value), type(value).__name__)


CONVERTERS: dict[Format, Callable[[Mapping[str, Any]], Found]] = {
    Format.alpaca: alpaca, Format.sharegpt: sharegpt, Format.openai: openai, Format.text: text,
}
