"""What a record says, as a conversation or a text: alpaca, sharegpt, openai messages, raw text.

Tool use is kept as text: a call is an answer, as JSON; what came back is a turn of the role `tool`; the list of functions,
where a record has one, goes to the end of the system message.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fulgurite.data.config import Format
from fulgurite.data.records import Message
from fulgurite.errors import did_you_mean

ROLES = {
    "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "chatgpt": "assistant", "model": "assistant",
    "system": "system", "developer": "system", "function_call": "assistant", "observation": "tool", "tool": "tool", "function": "tool",
}
PAIR = "a pair of answers to compare stands where one answer to learn is due"
TOOLS = "You may call these functions:"
Found = tuple[tuple[Message, ...] | None, str | None]


class Wrong(Exception):
    """A record cannot be used: the field and the reason."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"field '{field}': {reason}")
        self.field, self.reason = field, reason


def detect(record: Any, stage: str = "") -> Format | None:
    """The format of a record by its fields, or None. A label makes it a judged answer where the stage compares answers."""
    if not isinstance(record, Mapping):
        return None
    if "chosen" in record and "rejected" in record:
        return Format.preference
    if "label" in record and (stage == "kto" or (stage in ("dpo", "rm") and _answers(record))):
        return Format.kto
    if "messages" in record:
        return Format.openai
    if "conversations" in record:
        return Format.sharegpt
    if "instruction" in record or ("prompt" in record and "response" in record):
        return Format.alpaca
    if "prompt" in record:
        return Format.prompts
    return Format.text if "text" in record else None


def _answers(record: Mapping[str, Any]) -> bool:
    return any(name in record for name in ("messages", "conversations", "instruction", "completion"))


def convert(record: Any, format: Format, columns: Mapping[str, str]) -> Found:
    """The messages or the text of a record; `columns` maps our field names to its own. Raises Wrong."""
    record = renamed(record, columns)
    if format is not Format.text and "chosen" in record and "rejected" in record:
        raise Wrong("rejected", PAIR)
    return CONVERTERS[format](record)


def renamed(record: Any, columns: Mapping[str, str]) -> Mapping[str, Any]:
    """The record under our field names. Raises Wrong."""
    if not isinstance(record, Mapping):
        raise Wrong("record", f"an object is due and this is {kind_of(record)}")
    for ours, theirs in columns.items():
        if theirs not in record:
            raise Wrong(theirs, f"data.columns takes {ours} from it, and it is not there.{did_you_mean(theirs, map(str, record))}")
    return dict(record) | {ours: record[theirs] for ours, theirs in columns.items()} if columns else record


def unread(record: Any, format: Format, columns: Mapping[str, str], stage: str = "") -> Iterable[str]:
    """The record's fields that nothing is made of."""
    known = (FIELDS[format] | set(columns.values())) - (set() if stage == "rm" else {"margin"})
    return [str(name) for name in record if name not in known] if isinstance(record, Mapping) else []


def text(record: Mapping[str, Any]) -> Found:
    """`{text}`."""
    return None, words(record, "text", "text")


def alpaca(record: Mapping[str, Any]) -> Found:
    """`{instruction, input, output, system, history}`; `{prompt, response}` as well."""
    names = ("instruction", "output") if "instruction" in record else ("prompt", "response")
    question, answer = words(record, names[0], names[0]), words(record, names[1], names[1])
    if not _blank(record.get("input")):
        question += "\n" + words(record, "input", "input")
    turns = []
    history = record.get("history") or []
    if not isinstance(history, list):
        raise Wrong("history", f"a list is due and this is {kind_of(history)}")
    for n, pair in enumerate(history):
        place = f"history[{n}]"
        if not isinstance(pair, list) or len(pair) != 2:
            raise Wrong(place, "a pair of question and answer is due")
        said = {place: pair[0], f"{place}[1]": pair[1]}
        turns += [Message(role, words(said, name, name)) for role, name in zip(("user", "assistant"), said, strict=True)]
    turns += [Message("user", question), Message("assistant", answer)]
    return tuple(headed(record, turns)), None


def sharegpt(record: Mapping[str, Any]) -> Found:
    """`{conversations: [{from, value}], system, tools}`."""
    return _conversation(record, "conversations" if "conversations" in record or "messages" not in record else "messages")


def openai(record: Mapping[str, Any]) -> Found:
    """`{messages: [{role, content}], tools}`; a call of tools stands in `tool_calls`."""
    return _conversation(record, "messages" if "messages" in record or "conversations" not in record else "conversations")


def prompts(record: Mapping[str, Any]) -> Found:
    """`{prompt, system}`: a text, or messages of which the last is a question. What else the record has goes to the reward."""
    if not isinstance(record.get("prompt"), list):
        return tuple(headed(record, [Message("user", words(record, "prompt", "prompt"))])), None
    if not record["prompt"]:
        raise Wrong("prompt", "is empty")
    turns = [turn_of(said, f"prompt[{n}]") for n, said in enumerate(record["prompt"])]
    return tuple(headed(record, checked(turns, "prompt", answered=False))), None


def asked(messages: tuple[Message, ...], record: Mapping[str, Any], format: Format) -> tuple[tuple[Message, ...], dict[str, Any]]:
    """The conversation up to its last question, and what goes to the reward: the last answer, and all columns that are not read."""
    columns = {str(name): value for name, value in record.items() if name not in FIELDS[format]}
    if messages[-1].role == "assistant":
        columns = {"answer": messages[-1].content} | columns
        messages = messages[:-1]
    return messages, columns


def _conversation(record: Mapping[str, Any], field: str) -> Found:
    if field not in record:
        raise Wrong(field, "is missing")
    turns = record[field]
    if not isinstance(turns, list):
        raise Wrong(field, f"a list is due and this is {kind_of(turns)}")
    if not turns:
        raise Wrong(field, "is empty")
    made = [turn_of(turn, f"{field}[{n}]") for n, turn in enumerate(turns)]
    return tuple(headed(record, checked(made, field))), None


def turn_of(turn: Any, place: str) -> Message:
    """A turn as a message. Raises Wrong."""
    if not isinstance(turn, Mapping):
        raise Wrong(place, f"an object is due and this is {kind_of(turn)}")
    role, content = ("from", "value") if "from" in turn else ("role", "content")
    who = turn.get(role)
    if not isinstance(who, str) or who not in ROLES:
        raise Wrong(f"{place}.{role}", f"{who!r} is no known role; there are {', '.join(sorted(ROLES))}")
    if turn.get("weight") == 0:
        raise Wrong(f"{place}.weight", "0 says not to learn this answer, which is not read; leave the record out")
    calls = turn.get("tool_calls")
    if not calls:
        return Message(ROLES[who], words(turn, content, f"{place}.{content}"))
    said = [words(turn, content, f"{place}.{content}")] if turn.get(content) else []
    return Message("assistant", "\n".join([*said, *_calls(calls, f"{place}.tool_calls")]))


def _calls(calls: Any, place: str) -> list[str]:
    """Each call as `{"name": ..., "arguments": {...}}`."""
    try:
        named = [(call["function"]["name"], call["function"]["arguments"]) for call in calls]
        read = [(name, json.loads(given) if isinstance(given, str) else given) for name, given in named]
    except (KeyError, TypeError, ValueError):
        raise Wrong(place, "a list of {function: {name, arguments}} is due") from None
    return [json.dumps({"name": name, "arguments": given}, ensure_ascii=False) for name, given in read]


def headed(record: Mapping[str, Any], turns: list[Message]) -> list[Message]:
    """The turns with the record's own system message and its functions put first."""
    parts = []
    if not _blank(record.get("system")):
        if turns[0].role == "system":
            raise Wrong("system", "the conversation has a system message of its own")
        parts.append(words(record, "system", "system"))
    elif turns[0].role == "system":
        parts, turns = [turns[0].content], turns[1:]
    tools = record.get("tools")
    if tools and tools != "[]":
        listed = tools if isinstance(tools, str) else json.dumps(tools, ensure_ascii=False)
        parts.append(f"{TOOLS}\n{words({'tools': listed}, 'tools', 'tools')}")
    return [Message("system", "\n\n".join(parts)), *turns] if parts else turns


def checked(turns: list[Message], field: str, answered: bool = True) -> list[Message]:
    """The turns, if they are a conversation: system first, then questions and answers in turn, an answer last (or a question)."""
    for n, turn in enumerate(turns):
        before = turns[n - 1].role if n else ""
        place = f"{field}[{n}]"
        if turn.role == "system" and n > 0:
            raise Wrong(place, "a system message stands in the middle")
        if turn.role in ("assistant", "tool") and before in ("", "system"):
            raise Wrong(place, "the answer comes before any question")
        if turn.role == before and turn.role in ("assistant", "user"):
            raise Wrong(place, f"two {turn.role} turns follow each other")
        if (turn.role, before) in (("user", "tool"), ("tool", "user")):
            raise Wrong(place, f"a {turn.role} turn follows a {before} turn, and no answer stands between")
    if not answered and turns[-1].role == "assistant":
        raise Wrong(f"{field}[{len(turns) - 1}]", "the last turn is an answer: there is no question to answer")
    if not answered and turns[-1].role == "system":
        raise Wrong(f"{field}[{len(turns) - 1}]", "a system message alone: there is no question to answer")
    if answered and turns[-1].role != "assistant":
        raise Wrong(f"{field}[{len(turns) - 1}]", f"the last turn is the {turns[-1].role}'s: there is no answer to learn")
    return turns


def _blank(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def words(record: Mapping[str, Any], name: str, place: str) -> str:
    """A field's text, which is neither empty nor damaged. Raises Wrong."""
    value = record.get(name)
    if name not in record:
        raise Wrong(place, "is missing")
    if not isinstance(value, str):
        raise Wrong(place, f"text is due and this is {kind_of(value)}")
    if not value.strip():
        raise Wrong(place, "is empty")
    if "\0" in value:
        raise Wrong(place, "holds a NUL character")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        code = ord(value[error.start])
        if 0xDC80 <= code <= 0xDCFF:  # how a byte that is no UTF-8 comes out of the reader
            raise Wrong(place, f"byte 0x{code - 0xDC00:02X} at character {error.start + 1} is not UTF-8; save the file as UTF-8") from None
        raise Wrong(place, f"holds half of a surrogate pair (\\u{code:04x}) at character {error.start + 1}") from None
    return value


def kind_of(value: Any) -> str:
    """What a value is, as a person says it."""
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number", type(None): "null"}
    return names.get(type(value), type(value).__name__)


CONVERTERS: dict[Format, Callable[[Mapping[str, Any]], Found]] = {
    Format.alpaca: alpaca, Format.sharegpt: sharegpt, Format.openai: openai, Format.text: text,
    Format.prompts: prompts,
}
FIELDS: dict[Format, frozenset[str]] = {
    Format.alpaca: frozenset({"instruction", "input", "output", "system", "history", "tools", "prompt", "response", "id"}),
    Format.sharegpt: frozenset({"conversations", "messages", "system", "tools", "id"}),
    Format.openai: frozenset({"messages", "conversations", "system", "tools", "id"}),
    Format.text: frozenset({"text", "id"}),
    Format.prompts: frozenset({"prompt", "system", "tools", "id"}),
    Format.preference: frozenset({
        "prompt", "chosen", "rejected", "margin", "messages", "conversations", "instruction", "input", "history", "system", "tools", "id",
    }),
    Format.kto: frozenset({
        "prompt", "completion", "label", "messages", "conversations", "instruction", "input", "output", "history", "system", "tools", "id",
    }),
}
"""What is read of a record; `id` only to see that none stands twice."""
