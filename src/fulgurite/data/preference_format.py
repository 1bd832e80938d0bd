"""Reads records of preferences: a pair of a better and a worse answer, or an answer that was judged good or bad.

A pair is `{prompt, chosen, rejected}` with the prompt as text or messages, and answers as text, one message, or
messages; the prompt may also be inside both answers' messages or texts (`\\n\\nHuman: ... \\n\\nAssistant: ...`),
in `conversations` (LLaMA-Factory's ranking form), or in alpaca's fields; or the worse answer has a field beside
`messages` (ms-swift). A judged answer is `{prompt, completion, label}`, or a conversation with a `label`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from fulgurite.data.config import Format
from fulgurite.data.example import Conversation, Message
from fulgurite.data.fields import Fields, Wrong, describe_kind, is_blank, read_text, show_value, to_bool
from fulgurite.data.formats import (
    NOT_ANSWERED,
    REJECTED,
    build_conversation,
    convert_alpaca,
    convert_openai,
    read_question,
    wrap_in_list,
)
from fulgurite.data.messages import Turn, read_turns
from fulgurite.language.message import UserMessage, message

FORMATS = frozenset({Format.preference, Format.kto})
SPEAKER = re.compile(r"(?:^\s*|\n\n)(Human|Assistant):")
"""The beginning of a turn in the texts of Anthropic's HH pairs."""


def convert_preferences(record: Fields, format: Format) -> dict[str, Any]:
    """Returns fields of an Example: `messages`, and `rejected` and `margin`, or `good`. Raises Wrong."""
    return convert_pair(record) if format is Format.preference else convert_judged(record)


def convert_pair(record: Fields) -> dict[str, Any]:
    """Converts a pair of answers to one prompt. Raises Wrong if a side is missing, the sides are equal, or their
    prompts differ."""
    # ms-swift's form has the better answer inside messages.
    beside = None if record.has("chosen") else next((name for name in REJECTED if record.has(name)), None)
    if beside is not None:
        before, chosen, rejected = _read_beside(record, beside)
        prompt: list[Turn] | None = before
        also = before
    else:
        prompt = _read_prompt(record)
        (before, chosen), (also, rejected) = (_read_side(record, name, prompt) for name in ("chosen", "rejected"))
    if _said(before) != _said(also):
        raise Wrong("rejected", "its prompt differs from that of chosen")
    if not prompt and not before:
        raise Wrong("prompt", "is missing, and chosen and rejected do not begin with the prompt as messages")
    # A prompt in its own field may be repeated in both answers, with or without its system message.
    if prompt is not None and before and _said(before) not in (_said(prompt), _said(prompt, but_system=True)):
        raise Wrong("prompt", "differs from the prompt at the beginning of chosen and rejected")
    if (chosen.content.strip(), chosen.tool_calls) == (rejected.content.strip(), rejected.tool_calls):
        raise Wrong("rejected", "is the same text as chosen")
    turns = prompt if prompt is not None else before
    first, second = (
        _build_conversation(record, turns, answer, name)
        for answer, name in ((chosen, "chosen"), (rejected, "rejected"))
    )
    return {"messages": first, "rejected": second, "margin": _read_margin(record)}


def _read_beside(record: Fields, name: str) -> tuple[list[Turn], Message, Message]:
    """Reads the prompt and both answers in ms-swift's form: the better answer ends `messages`, the worse has a field of
    its own."""
    turns = read_turns(record.get("messages"), "messages", record.reading)
    prompt, chosen = _split_answer(turns)
    if not isinstance(record[name], list | Mapping):
        return prompt, chosen, Message("assistant", read_text(record, name))
    other = read_turns(wrap_in_list(record[name]), name, record.reading)
    before, rejected = _split_answer(other)
    if before and _said(before) != _said(prompt):
        raise Wrong(name, "its prompt differs from that of messages")
    return prompt, chosen, rejected


def convert_judged(record: Fields) -> dict[str, Any]:
    """Converts an answer with a label that is true or false. Raises Wrong."""
    if "label" not in record:
        raise Wrong("label", "is missing")
    good = to_bool(record["label"])
    if good is None:
        raise Wrong(
            "label",
            "expected true or false (or 1 and 0, yes and no), found {value}",
            value=_show_kind(record["label"]),
        )
    if "completion" in record:
        prompt = _read_prompt(record)
        before, answer = _read_side(record, "completion", prompt)
        if prompt is None and not before:
            raise Wrong("prompt", "is missing")
        return {
            "messages": _build_conversation(record, before if prompt is None else prompt, answer, "completion"),
            "good": good,
        }
    # Without completion the answer is the last turn of a conversation, or alpaca's output.
    one_exchange = record.has("instruction") or not (record.has("messages") or record.has("conversations"))
    messages, _ = convert_alpaca(record) if one_exchange else convert_openai(record)
    assert messages is not None
    # Turns after the last answer can be cut for learning, but a label judges the last turn.
    if NOT_ANSWERED in record.reading.remarks:
        raise Wrong("messages", "the last turn is not an answer: there is no answer to judge")
    _refuse_unlearned(messages[-1], "messages")
    return {"messages": messages, "good": good}


def _said(turns: Sequence[Turn], but_system: bool = False) -> list[Message]:
    # Two prompts are equal whether or not their turns are learned.
    messages = [replace(turn.message, learned=True) for turn in turns]
    return [message for message in messages if not (but_system and message.role == "system")]


def _read_side(record: Fields, name: str, prompt: list[Turn] | None) -> tuple[list[Turn], Message]:
    """Reads the turns before an answer in its own field, and the answer.

    A text that begins with another prompt is one answer.
    """
    value = record.get(name)
    if isinstance(value, list | Mapping):
        turns = read_turns(wrap_in_list(value), name, record.reading)
    else:
        text = read_text(record, name)
        turns = read_dialogue(text, name)
        if not turns or (prompt is not None and _said(turns[:-1]) != _said(prompt)):
            turns = [Turn(name, Message("assistant", text))]
    return _split_answer(turns)


def _split_answer(turns: list[Turn]) -> tuple[list[Turn], Message]:
    """Splits turns into the prompt and the last turn, the answer. Raises Wrong."""
    place, answer = turns[-1]
    if answer.role != "assistant":
        raise Wrong(place, "the last turn has the role {role}: there is no answer to compare", role=answer.role)
    _refuse_unlearned(answer, place)
    return turns[:-1], answer


def _refuse_unlearned(answer: Message, place: str) -> None:
    if not answer.learned:
        raise Wrong(place, "the answer to compare is flagged as not learned; remove the flag")


def read_dialogue(text: str, name: str) -> list[Turn]:
    """Reads the turns of `\\n\\nHuman: ... \\n\\nAssistant: ...`; returns none if a text has another form.

    An empty last answer is left out.
    """
    marks = list(SPEAKER.finditer(text))
    if len(marks) < 2 or marks[0].start() != 0 or marks[0][1] != "Human":
        return []
    turns = []
    for n, (mark, after) in enumerate(zip(marks, [*marks[1:], None], strict=True)):
        said = text[mark.end() : after.start() if after else None].strip()
        place = f"{name}[{n}]"
        if not said and after is None and mark[1] == "Assistant":
            break
        if not said:
            raise Wrong(place, "the text after {speaker}: is empty", speaker=mark[1])
        turns.append(Turn(place, Message("user" if mark[1] == "Human" else "assistant", said)))
    return turns


def _read_prompt(record: Fields) -> list[Turn] | None:
    """Reads the turns of the prompt if it has a field of its own."""
    if record.has("instruction"):
        return read_question(record)
    name = next((n for n in ("prompt", "conversations", "messages") if record.has(n)), None)
    if name is None:
        return None
    value = record[name]
    if isinstance(value, list | Mapping) or name != "prompt":
        return read_turns(wrap_in_list(value), name, record.reading)
    text = read_text(record, name)
    return read_dialogue(text, name) or [Turn(name, Message("user", text))]


def _build_conversation(record: Fields, prompt: list[Turn], answer: Message, name: str) -> Conversation:
    """Makes a conversation of prompt and answer. Raises Wrong."""
    if prompt[-1].message.role == "assistant":
        raise Wrong(name, "the prompt ends with an answer, so there are two answers in a row")
    return build_conversation(record, [*prompt, Turn(name, answer)])


def _read_margin(record: Fields) -> float:
    value = record.get("margin")
    if is_blank(value):
        return 0.0
    try:
        number = (
            float(value) if isinstance(value, str | int | float | Decimal) and not isinstance(value, bool) else None
        )
    except (ValueError, OverflowError):
        number = None
    if number is None:
        raise Wrong("margin", "expected a number, found {value}", value=_show_kind(value))
    if not math.isfinite(number) or number < 0:
        raise Wrong("margin", "expected a finite number of at least 0, found {value}", value=show_value(value))
    return number


def _show_kind(value: Any) -> UserMessage:
    """Returns the kind of a value, and the value itself."""
    if value is None or isinstance(value, bool):
        return describe_kind(value)
    return message("{kind} ({value})", kind=describe_kind(value), value=show_value(value))
