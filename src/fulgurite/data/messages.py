"""Turns of a conversation as messages: roles, content, calls, reasoning and the flags that say what is learned."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from fulgurite.data.example import Message
from fulgurite.data.fields import (
    Fields,
    Reading,
    Wrong,
    describe_kind,
    find_root,
    is_blank,
    is_nothing,
    list_unread_paths,
    parse_json,
    read_text,
    rename_keys,
    show_value,
    to_bool,
    to_text,
)
from fulgurite.data.tool_calls import read_calls

TURN_KEYS = ("role", "content")
"""Keys of a turn that data.columns can name."""
CALL = "function_call"
"""The role of a turn whose content is a call, as JSON."""
TARGETS = ("user", "assistant", "system", "tool", CALL)
ROLES = {
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(
        ("assistant", "gpt", "chatgpt", "model", "bot", "chatbot", "ai", "bard", "bing", "claude"), "assistant"
    ),
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("tool", "function", "observation", "tool_response", "function_response", "ipython"), "tool"),
    **dict.fromkeys((CALL, "tool_call"), CALL),
}
"""Names of roles in the data of ShareGPT, OpenAI, LLaMA-Factory, axolotl, ms-swift, FastChat, OpenAssistant and Llama.
"""
FLAGS = ("train", "loss", "weight", "loss_weight")
"""Names under which axolotl, ms-swift, OpenAI and LLaMA-Factory say whether a turn is learned."""
REASONING = ("reasoning_content", "thinking", "reasoning")
TEXT_PARTS = (None, "text", "input_text", "output_text")
REFUSAL = "refusal"
"""Where OpenAI puts an answer that declines: a key of the turn, or a part of its content."""
ASKED = ("human", "user", "input", "question", "query", "instruction", "prompt")
ANSWERED = ("assistant", "gpt", "bot", "output", "answer", "response")
"""Names of a question and its answer that stand together in one object of a list, as in Capybara and ms-swift."""
TALKS = ("messages", "conversations")
"""The fields in which questions and answers may stand together, or without a role."""
SPEAKERS = ("user", "assistant")
BY_TURNS = "a list of texts read as question and answer by turns"
JOINED = "two {} turns in a row joined into one"
NOT_LEARNED = "a flag asks to learn a turn that is no answer, which is not learned"


class Turn(NamedTuple):
    """A message and its place in the record."""

    place: str
    message: Message


def read_turns(value: Any, field: str, reading: Reading) -> list[Turn]:
    """A list of turns, or an object of lists; empty system turns are left out. Raises Wrong."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        value = parse_json(value, field)
    if isinstance(value, Mapping):
        value = _transpose(value, field, reading)
    if not isinstance(value, list):
        raise Wrong(field, f"a list is due and this is {describe_kind(value)}")
    if not value:
        raise Wrong(field, "is empty")
    turns = [
        turn for n, item in enumerate(value) for turn in _read_item(item, n, field, reading, _are_all_texts(value))
    ]
    kept = [turn for turn in turns if turn.message.role != "system" or turn.message.content.strip()]
    if not kept:
        raise Wrong(f"{field}[0]", "is an empty system turn, and no other turn follows")
    return kept


def _are_all_texts(value: list[Any]) -> bool:
    return len(value) > 1 and all(isinstance(item, str) for item in value)


def _read_item(item: Any, n: int, field: str, reading: Reading, texts: bool) -> list[Turn]:
    """The turn of an item of a list; two of an item that has a question and its answer. Raises Wrong."""
    place = f"{field}[{n}]"
    if field not in TALKS:  # a list of answers is no conversation
        return [Turn(place, read_turn(item, place, reading))]
    if texts:
        reading.remarks.add(BY_TURNS)
        return [Turn(place, Message("assistant" if n % 2 else "user", to_text(item, place, reading)))]
    if isinstance(item, list) and len(item) == 2 and _are_all_texts(item):
        return [
            Turn(f"{place}[{k}]", Message(role, to_text(item[k], f"{place}[{k}]", reading)))
            for k, role in enumerate(SPEAKERS)
        ]
    if not isinstance(item, Mapping) or "role" in item or "from" in item or reading.turn_keys:
        return [Turn(place, read_turn(item, place, reading))]
    both = Fields(item, reading, place)
    asked, answered = both.first(*ASKED), both.first(*ANSWERED)
    if asked is None or answered is None:
        return [Turn(place, read_turn(item, place, reading))]
    pair = [Turn(both.at(asked), Message("user", read_text(both, asked))),
            Turn(both.at(answered), Message("assistant", read_text(both, answered)))]
    if not is_blank(both.get("system")):
        pair.insert(0, Turn(both.at("system"), Message("system", read_text(both, "system"))))
    both.note_unread()
    return pair


def is_turns(value: Any) -> bool:
    """Whether a value is a list of turns, or an object of lists that are turns when put side by side."""
    if isinstance(value, list):
        return bool(value) and all(isinstance(turn, Mapping) and ("role" in turn or "from" in turn) for turn in value)
    return isinstance(value, Mapping) and any(isinstance(value.get(name), list) for name in ("role", "from"))


def _transpose(value: Mapping[str, Any], field: str, reading: Reading) -> list[dict[str, Any]]:
    """`{"role": [...], "content": [...]}`, as HF datasets keeps a list of objects, as the list of objects."""
    if not is_turns(value):
        raise Wrong(field, "a list is due and this is an object")
    lists = {name: column for name, column in value.items() if isinstance(column, list)}
    reading.unread.update(f"{field}.{name}" for name in value if name not in lists and value[name] is not None)
    if len({len(column) for column in lists.values()}) > 1:
        sizes = ", ".join(f"{name} {len(column)}" for name, column in lists.items())
        raise Wrong(field, f"its lists differ in length: {sizes}")
    return [dict(zip(lists, cells, strict=True)) for cells in zip(*lists.values(), strict=True)]


def read_turn(value: Any, place: str, reading: Reading) -> Message:
    """A turn as a message. Raises Wrong."""
    if not isinstance(value, Mapping):
        raise Wrong(place, f"an object is due and this is {describe_kind(value)}")
    if (
        len(value) == 2
        and not reading.roles
        and not reading.turn_keys
        and (plain := _read_plain(value, place, reading)) is not None
    ):
        return plain
    turn = Fields(rename_keys(value, reading.turn_keys), reading, place)
    role_key = turn.first("role", "from") or "role"
    pairs = ("value", "content", "text") if role_key == "from" else ("content", "value", "text")
    key = turn.first(*pairs) or pairs[0]
    role = _read_role(turn, role_key)
    calls = _read_calls(turn, role, key)
    if role == "assistant" and not calls and is_blank(turn.get(key)) and turn.has(REFUSAL):
        key = REFUSAL
    reasoning = "" if role not in ("assistant", CALL) else _read_reasoning(turn)
    if role == CALL:
        role, content = "assistant", ""
    else:
        content = read_parts(turn, key, empty=role in ("system", "tool") or bool(calls))
    message = Message(
        role, content, calls, reasoning,
        name="" if is_blank(turn.get("name")) else read_text(turn, "name"),
        call_id="" if role != "tool" or is_blank(turn.get("tool_call_id")) else read_text(turn, "tool_call_id"),
        learned=_read_flags(turn, role),
    )
    turn.note_unread()
    if reading.turn_keys:
        _note_rest(value, reading, place)
    return message


def _note_rest(turn: Mapping[str, Any], reading: Reading, place: str) -> None:
    """Counts what is left unread of a key that data.columns looks into."""
    inner = {find_root(turn, key) for key in reading.turn_keys.values() if key not in turn}
    where = re.sub(r"\[\d+\]", "[]", place)
    for root in inner & {*turn}:
        reading.unread.update(
            f"{where}.{path}" for path in list_unread_paths(turn[root], root, reading.turn_keys.values())
        )


def _read_plain(value: Mapping[str, Any], place: str, reading: Reading) -> Message | None:
    """A turn of a known role and a text alone, which most are: read without the search for other keys, which takes four
    times as long.
    """
    for role_key, key in (("role", "content"), ("from", "value")):
        who, content = value.get(role_key), value.get(key)
        if isinstance(who, str) and isinstance(content, str):
            role = ROLES.get(who)
            if role is None or role == CALL:
                return None
            return Message(role, to_text(content, f"{place}.{key}", reading, empty=role in ("system", "tool")))
    return None


def _read_role(turn: Fields, key: str) -> str:
    who = turn.get(key)
    if isinstance(who, str):
        for roles in (turn.reading.roles, ROLES):
            if role := roles.get(who) or roles.get(who.strip().lower()):
                return role
    hint = "; name the keys of a turn with data.columns={role: ..., content: ...}" if key not in turn else ""
    if isinstance(who, str) and who.strip() and len(who) <= 40:
        hint = f"; name the role that it stands for with data.roles={{{who}: user}}"
    raise Wrong(turn.at(key), f"{show_value(who)} is no known role{hint}; there are {', '.join(sorted(ROLES))}")


def _read_calls(turn: Fields, role: str, key: str) -> tuple[Mapping[str, Any], ...]:
    """The calls of a turn, from `tool_calls`, OpenAI's older `function_call`, or the content of a turn of that role."""
    named = [
        n
        for n in ("tool_calls", "function_call")
        if not (is_nothing(turn.get(n)) or is_blank(turn[n]) or turn[n] == [])
    ]
    if len(named) > 1:
        raise Wrong(turn.at("function_call"), "stands beside tool_calls; keep one of them")
    if named and role not in ("assistant", CALL):
        raise Wrong(turn.at(named[0]), f"only an assistant turn can call functions, and this is a {role} turn")
    if role == CALL:
        if named:
            raise Wrong(turn.at(named[0]), f"stands beside a call in {key}; keep one of them")
        calls = read_calls(turn.get(key), turn.at(key), turn.reading)
        if not calls:
            raise Wrong(turn.at(key), "a call as JSON {name, arguments} is due and this is empty")
        return calls
    return read_calls(turn[named[0]], turn.at(named[0]), turn.reading) if named else ()


def _read_reasoning(turn: Fields) -> str:
    names = [name for name in REASONING if turn.has(name)]
    return read_text(turn, names[0], empty=True) if names else ""


def read_parts(turn: Fields, key: str, empty: bool = False) -> str:
    """The text of a field; parts of type text are joined. Raises Wrong."""
    if key not in turn:
        if empty and (turn.has("tool_calls") or turn.has("function_call")):
            return ""
        raise Wrong(turn.at(key), "is missing")
    value, place = turn[key], turn.at(key)
    parts = [value] if isinstance(value, Mapping) and "text" in value else value
    if not isinstance(parts, list):
        return to_text(value, place, turn.reading, empty)
    text = "".join(_read_part(part, f"{place}[{n}]", turn.reading) for n, part in enumerate(parts))
    if not empty and not text.strip():
        raise Wrong(place, "is empty")
    return text


def _read_part(value: Any, place: str, reading: Reading) -> str:
    if not isinstance(value, Mapping):
        raise Wrong(place, f"an object {{type: text, text: ...}} is due and this is {describe_kind(value)}")
    part = Fields(value, reading, place)
    if part.get("type") == REFUSAL:
        text = read_text(part, REFUSAL)
        part.note_unread()
        return text
    if part.get("type") not in TEXT_PARTS:
        raise Wrong(
            part.at("type"), f"a part of type {show_value(part['type'])} is not read; only parts of type text are"
        )
    text = read_text(part, "text", empty=True)
    part.note_unread()
    return text


def _read_flags(turn: Fields, role: str) -> bool:
    """Whether an assistant turn is learned: by the flags of the turn, and true without one."""
    given: dict[str, bool] = {}
    for name in FLAGS:
        if not turn.has(name):
            continue
        flag = to_bool(turn[name])
        if flag is None:
            shown = show_value(turn[name])
            raise Wrong(
                turn.at(name), f"{shown} is not read: 0 or false leaves the turn unlearned, 1 or true learns it"
            )
        given[name] = flag
    if len(set(given.values())) > 1:
        yes, no = (next(name for name, flag in given.items() if flag is wanted) for wanted in (True, False))
        raise Wrong(turn.at(no), f"leaves the turn unlearned, and {yes} learns it; keep one of them")
    learned = next(iter(given.values()), True)
    if given and learned and role != "assistant":
        turn.reading.remarks.add(NOT_LEARNED)
    return learned or role != "assistant"


def join_turns(first: Message, second: Turn, reading: Reading) -> Message:
    """Two turns in a row of one speaker as one turn: texts a blank line apart, calls together. Raises Wrong."""
    place, also = second
    twice = f"two {first.role} turns follow each other"
    if first.name != also.name:
        raise Wrong(place, f"{twice} under different names; put an answer between them")
    if first.learned != also.learned:
        raise Wrong(place, f"{twice}, and only one of them is learned; give both the same flag")
    if first.tool_calls and also.content:
        raise Wrong(place, f"{twice}: the first calls a function, and no tool turn with its result stands between")
    if also.reasoning and (first.content or first.tool_calls):
        raise Wrong(place, f"{twice}: the second begins with reasoning, which can only begin a turn")
    calls = (*first.tool_calls, *also.tool_calls)
    reading.remarks.add(JOINED.format(first.role))
    content = "\n\n".join(text for text in (first.content, also.content) if text)
    return replace(first, content=content, tool_calls=calls, reasoning=first.reasoning or also.reasoning)
