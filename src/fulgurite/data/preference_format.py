"""Reads records of answers to compare: a pair of which one is better, or an answer that was judged good or bad.

A pair is `{prompt, chosen, rejected}` with the prompt as text or messages, and answers as text, one message, or
messages; the prompt may also stand inside both answers' messages or texts (`\\n\\nHuman: ... \\n\\nAssistant: ...`),
in `conversations` (LLaMA-Factory's ranking form), or in alpaca's fields; or the worse answer stands in a field beside
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

FORMATS = frozenset({Format.preference, Format.kto})
SPEAKER = re.compile(r"(?:^\s*|\n\n)(Human|Assistant):")
"""How a turn begins in the texts of Anthropic's HH pairs."""


def convert_preferences(record: Fields, format: Format) -> dict[str, Any]:
    """The fields of an Example: `messages`, and `rejected` and `margin`, or `good`. Raises Wrong."""
    return convert_pair(record) if format is Format.preference else convert_judged(record)


def convert_pair(record: Fields) -> dict[str, Any]:
    """A pair of answers to one prompt. Raises Wrong if a side is missing, the sides are equal, or their prompts differ.
    """
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
        raise Wrong("prompt", "is missing, and chosen and rejected are no messages that begin with it")
    if prompt is not None and before and _said(before) not in (_said(prompt), _said(prompt, but_system=True)):
        raise Wrong("prompt", "is not the prompt with which chosen and rejected begin")
    if (chosen.content.strip(), chosen.tool_calls) == (rejected.content.strip(), rejected.tool_calls):
        raise Wrong("rejected", "is the same text as chosen")
    turns = prompt if prompt is not None else before
    first, second = (
        _build_conversation(record, turns, answer, name)
        for answer, name in ((chosen, "chosen"), (rejected, "rejected"))
    )
    return {"messages": first, "rejected": second, "margin": _read_margin(record)}


def _read_beside(record: Fields, name: str) -> tuple[list[Turn], Message, Message]:
    """The prompt and both answers in ms-swift's form: the better answer ends `messages`, the worse has a field of its
    own.
    """
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
    """An answer with a label that is true or false. Raises Wrong."""
    if "label" not in record:
        raise Wrong("label", "is missing")
    good = to_bool(record["label"])
    if good is None:
        raise Wrong(
            "label",
            f"true or false is due and this is {_show_kind(record['label'])}; 1 and 0, yes and no are read as well",
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
    one_exchange = record.has("instruction") or not (record.has("messages") or record.has("conversations"))
    messages, _ = convert_alpaca(record) if one_exchange else convert_openai(record)
    assert messages is not None
    if NOT_ANSWERED in record.reading.remarks:
        raise Wrong("messages", "the last turn is no answer: there is no answer to judge")
    _refuse_unlearned(messages[-1], "messages")
    return {"messages": messages, "good": good}


def _said(turns: Sequence[Turn], but_system: bool = False) -> list[Message]:
    messages = [replace(turn.message, learned=True) for turn in turns]
    return [message for message in messages if not (but_system and message.role == "system")]


def _read_side(record: Fields, name: str, prompt: list[Turn] | None) -> tuple[list[Turn], Message]:
    """The turns that stand before an answer in its own field, and the answer.

    A text in which another prompt stands is all answer.
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
    """The turns before the last, and the answer that is the last. Raises Wrong."""
    place, answer = turns[-1]
    if answer.role != "assistant":
        raise Wrong(place, f"the last turn is the {answer.role}'s: there is no answer to compare")
    _refuse_unlearned(answer, place)
    return turns[:-1], answer


def _refuse_unlearned(answer: Message, place: str) -> None:
    if not answer.learned:
        raise Wrong(place, "is flagged as not learned, and it is the answer to compare")


def read_dialogue(text: str, name: str) -> list[Turn]:
    """The turns of `\\n\\nHuman: ... \\n\\nAssistant: ...`; none if a text is not of this form.

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
            raise Wrong(place, f"the text after {mark[1]}: is empty")
        turns.append(Turn(place, Message("user" if mark[1] == "Human" else "assistant", said)))
    return turns


def _read_prompt(record: Fields) -> list[Turn] | None:
    """The turns of the prompt if it has a field of its own."""
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
    """Prompt and answer, if they are a conversation."""
    if prompt[-1].message.role == "assistant":
        raise Wrong(name, "the prompt ends with an answer, so that two would follow each other")
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
        raise Wrong("margin", f"a number is due and this is {_show_kind(value)}")
    if not math.isfinite(number) or number < 0:
        raise Wrong("margin", f"{show_value(value)} is not allowed: a finite number of at least 0 is due")
    return number


def _show_kind(value: Any) -> str:
    """The kind of a value, and the value if it is short enough for a line to be of use."""
    return (
        describe_kind(value)
        if value is None or isinstance(value, bool)
        else f"{describe_kind(value)} ({show_value(value)})"
    )
