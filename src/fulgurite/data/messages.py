"""Turns of a conversation as messages: roles, content, calls, reasoning, and flags that exclude a turn from the loss.
"""

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
from fulgurite.data.report import Reason
from fulgurite.data.tool_calls import read_calls
from fulgurite.language.message import message

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
"""Names of the flag whether a turn is learned, in axolotl, ms-swift, OpenAI and LLaMA-Factory."""
REASONING = ("reasoning_content", "thinking", "reasoning")
TEXT_PARTS = (None, "text", "input_text", "output_text")
REFUSAL = "refusal"
"""OpenAI's key of an answer that declines: a key of the turn, or a part of its content."""
ASKED = ("human", "user", "input", "question", "query", "instruction", "prompt")
ANSWERED = ("assistant", "gpt", "bot", "output", "answer", "response")
"""Names of a question and its answer in one object of a list, as in Capybara and ms-swift."""
TALKS = ("messages", "conversations")
"""The fields in which one item may have a question and its answer, or no role."""
SPEAKERS = ("user", "assistant")
BY_TURNS = Reason(message("a list of texts read as alternating questions and answers"))
NOT_LEARNED = Reason(message("a flag to learn a turn that is not an answer; it is not learned"))


class Turn(NamedTuple):
    """A message and its place in the record."""

    place: str
    message: Message


def read_turns(value: Any, field: str, reading: Reading) -> list[Turn]:
    """Reads a list of turns, or an object of lists; leaves out empty system turns. Raises Wrong."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        value = parse_json(value, field)
    if isinstance(value, Mapping):
        value = _transpose(value, field, reading)
    if not isinstance(value, list):
        raise Wrong(field, "expected a list, found {kind}", kind=describe_kind(value))
    if not value:
        raise Wrong(field, "is empty")
    turns = [
        turn for n, item in enumerate(value) for turn in _read_item(item, n, field, reading, _are_all_texts(value))
    ]
    # An empty system turn means that there is no system message.
    kept = [turn for turn in turns if turn.message.role != "system" or turn.message.content.strip()]
    if not kept:
        raise Wrong(f"{field}[0]", "is an empty system turn, and no other turn follows")
    return kept


def _are_all_texts(value: list[Any]) -> bool:
    return len(value) > 1 and all(isinstance(item, str) for item in value)


def _read_item(item: Any, n: int, field: str, reading: Reading, texts: bool) -> list[Turn]:
    """Reads the turns of an item of a list: two if the item has a question and its answer. Raises Wrong."""
    place = f"{field}[{n}]"
    # In other fields, such as chosen, an item is one turn.
    if field not in TALKS:
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
    """Returns whether a value is a list of turns, or an object of lists that form turns."""
    if isinstance(value, list):
        return bool(value) and all(isinstance(turn, Mapping) and ("role" in turn or "from" in turn) for turn in value)
    return isinstance(value, Mapping) and any(isinstance(value.get(name), list) for name in ("role", "from"))


def _transpose(value: Mapping[str, Any], field: str, reading: Reading) -> list[dict[str, Any]]:
    """Converts `{"role": [...], "content": [...]}`, HF datasets' form of a list of objects, to the list of objects."""
    if not is_turns(value):
        raise Wrong(field, "expected a list, found {kind}", kind=describe_kind({}))
    lists = {name: column for name, column in value.items() if isinstance(column, list)}
    # A value beside the lists belongs to no turn.
    reading.unread.update(f"{field}.{name}" for name in value if name not in lists and value[name] is not None)
    if len({len(column) for column in lists.values()}) > 1:
        sizes = ", ".join(f"{name} {len(column)}" for name, column in lists.items())
        raise Wrong(field, "its lists differ in length: {sizes}", sizes=sizes)
    return [dict(zip(lists, cells, strict=True)) for cells in zip(*lists.values(), strict=True)]


def read_turn(value: Any, place: str, reading: Reading) -> Message:
    """Reads a turn as a message. Raises Wrong."""
    if not isinstance(value, Mapping):
        raise Wrong(place, "expected an object, found {kind}", kind=describe_kind(value))
    # The short way first, unless data.roles or data.columns rename something.
    if (
        len(value) == 2
        and not reading.roles
        and not reading.turn_keys
        and (plain := _read_plain(value, place, reading)) is not None
    ):
        return plain
    turn = Fields(rename_keys(value, reading.turn_keys), reading, place)
    # OpenAI's role goes with content, ShareGPT's from with value; the other names are a fallback.
    role_key = turn.first("role", "from") or "role"
    pairs = ("value", "content", "text") if role_key == "from" else ("content", "value", "text")
    key = turn.first(*pairs) or pairs[0]
    role = _read_role(turn, role_key)
    calls = _read_calls(turn, role, key)
    # An answer that declines has its text under another key.
    if role == "assistant" and not calls and is_blank(turn.get(key)) and turn.has(REFUSAL):
        key = REFUSAL
    reasoning = "" if role not in ("assistant", CALL) else _read_reasoning(turn)
    # A turn whose role names a call is an answer that consists of the call.
    if role == CALL:
        role, content = "assistant", ""
    else:
        # Text may be empty beside calls, as the result of a tool, and in a system turn, which is left out later.
        content = read_parts(turn, key, empty=role in ("system", "tool") or bool(calls))
    made = Message(
        role, content, calls, reasoning,
        name="" if is_blank(turn.get("name")) else read_text(turn, "name"),
        call_id="" if role != "tool" or is_blank(turn.get("tool_call_id")) else read_text(turn, "tool_call_id"),
        learned=_read_flags(turn, role),
    )
    turn.note_unread()
    if reading.turn_keys:
        _note_rest(value, reading, place)
    return made


def _note_rest(turn: Mapping[str, Any], reading: Reading, place: str) -> None:
    """Counts the unread parts of a key from which data.columns takes one."""
    inner = {find_root(turn, key) for key in reading.turn_keys.values() if key not in turn}
    parent = re.sub(r"\[\d+\]", "[]", place)
    for root in inner & {*turn}:
        reading.unread.update(
            f"{parent}.{path}" for path in list_unread_paths(turn[root], root, reading.turn_keys.values())
        )


def _read_plain(value: Mapping[str, Any], place: str, reading: Reading) -> Message | None:
    """Reads a turn that has only a known role and a text, as most have; the general way takes four times as long.
    Returns None for another turn."""
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
        # data.roles comes first, so that it can give a known name another role.
        for roles in (turn.reading.roles, ROLES):
            if role := roles.get(who) or roles.get(who.strip().lower()):
                return role
    known = {"role": show_value(who), "known": ", ".join(sorted(ROLES))}
    # A longer text is hardly the name of a role, so no mapping is suggested for it.
    if isinstance(who, str) and who.strip() and len(who) <= 40:
        raise Wrong(
            turn.at(key),
            "{role} is not a known role; map it to one with data.roles={{{name}: user}}. Known roles: {known}",
            **known, name=who,
        )
    if key not in turn:
        raise Wrong(
            turn.at(key),
            "the turn has no role; name the keys of a turn with data.columns={{role: ..., content: ...}}. Known roles: "
            "{known}",
            known=known["known"],
        )
    raise Wrong(turn.at(key), "{role} is not a known role. Known roles: {known}", **known)


def _read_calls(turn: Fields, role: str, key: str) -> tuple[Mapping[str, Any], ...]:
    """Reads the calls of a turn, from `tool_calls`, OpenAI's older `function_call`, or the content of a turn of that
    role."""
    # Both keys may be present: one without a value does not count.
    named = [
        n
        for n in ("tool_calls", "function_call")
        if not (is_nothing(turn.get(n)) or is_blank(turn[n]) or turn[n] == [])
    ]
    if len(named) > 1:
        raise Wrong(turn.at("function_call"), "the turn has tool_calls too; keep one of them")
    if named and role not in ("assistant", CALL):
        raise Wrong(
            turn.at(named[0]), "only an assistant turn can call functions, but this is a {role} turn", role=role
        )
    if role == CALL:
        if named:
            raise Wrong(turn.at(named[0]), "the turn has a call in {key} too; keep one of them", key=key)
        calls = read_calls(turn.get(key), turn.at(key), turn.reading)
        if not calls:
            raise Wrong(turn.at(key), "expected a call as JSON {name, arguments}, found an empty value")
        return calls
    return read_calls(turn[named[0]], turn.at(named[0]), turn.reading) if named else ()


def _read_reasoning(turn: Fields) -> str:
    names = [name for name in REASONING if turn.has(name)]
    return read_text(turn, names[0], empty=True) if names else ""


def read_parts(turn: Fields, key: str, empty: bool = False) -> str:
    """Reads the text of a field; joins parts of type text. Raises Wrong."""
    if key not in turn:
        # An answer that only calls functions may lack its content.
        if empty and (turn.has("tool_calls") or turn.has("function_call")):
            return ""
        raise Wrong(turn.at(key), "is missing")
    value, place = turn[key], turn.at(key)
    # A single part may come without its list.
    parts = [value] if isinstance(value, Mapping) and "text" in value else value
    if not isinstance(parts, list):
        return to_text(value, place, turn.reading, empty)
    text = "".join(_read_part(part, f"{place}[{n}]", turn.reading) for n, part in enumerate(parts))
    if not empty and not text.strip():
        raise Wrong(place, "is empty")
    return text


def _read_part(value: Any, place: str, reading: Reading) -> str:
    if not isinstance(value, Mapping):
        raise Wrong(
            place, "expected an object {{type: text, text: ...}}, found {kind}", kind=describe_kind(value)
        )
    part = Fields(value, reading, place)
    if part.get("type") == REFUSAL:
        text = read_text(part, REFUSAL)
        part.note_unread()
        return text
    if part.get("type") not in TEXT_PARTS:
        raise Wrong(
            part.at("type"), "expected a part of type text, found type {type}", type=show_value(part["type"])
        )
    text = read_text(part, "text", empty=True)
    part.note_unread()
    return text


def _read_flags(turn: Fields, role: str) -> bool:
    """Returns whether an assistant turn is learned: the value of its flags, true if it has none."""
    given: dict[str, bool] = {}
    for name in FLAGS:
        if not turn.has(name):
            continue
        flag = to_bool(turn[name])
        if flag is None:
            raise Wrong(
                turn.at(name),
                "expected 0 or false (the turn is not learned), or 1 or true (it is learned), found {value}",
                value=show_value(turn[name]),
            )
        given[name] = flag
    if len(set(given.values())) > 1:
        yes, no = (next(name for name, flag in given.items() if flag is wanted) for wanted in (True, False))
        raise Wrong(
            turn.at(no), "excludes the turn from learning, but {other} includes it; keep one of them", other=yes
        )
    learned = next(iter(given.values()), True)
    if given and learned and role != "assistant":
        turn.reading.remarks.add(NOT_LEARNED)
    # The flag matters for answers only. Other turns keep true, so that `join_turns` finds no difference.
    return learned or role != "assistant"


def join_turns(first: Message, second: Turn, reading: Reading) -> Message:
    """Joins two turns in a row of one speaker: texts with a blank line between, calls in one list. Raises Wrong."""
    place, also = second
    if first.name != also.name:
        raise Wrong(
            place, "two {role} turns in a row have different names; put an answer between them", role=first.role
        )
    if first.learned != also.learned:
        raise Wrong(
            place, "of two {role} turns in a row only one is learned; give both the same flag", role=first.role
        )
    if first.tool_calls and also.content:
        raise Wrong(
            place,
            "two {role} turns in a row: the first calls a function, but no tool turn with its result follows it",
            role=first.role,
        )
    # Reasoning begins a turn: it cannot follow the text or the calls of the first one.
    if also.reasoning and (first.content or first.tool_calls):
        raise Wrong(
            place, "two {role} turns in a row: the second has reasoning, which only the first may have", role=first.role
        )
    calls = (*first.tool_calls, *also.tool_calls)
    reading.remarks.add(Reason(message("two {role} turns in a row joined into one", role=first.role)))
    content = "\n\n".join(text for text in (first.content, also.content) if text)
    return replace(first, content=content, tool_calls=calls, reasoning=first.reasoning or also.reasoning)
