"""What a record of answers to compare says: a pair of which one is better, or an answer that was judged good or bad.

A pair is `{prompt, chosen, rejected}` with the prompt as text or messages, and answers as text, one message, or messages; the
prompt may also stand inside both answers' messages, in `conversations` (LLaMA-Factory's ranking form), or in alpaca's fields.
A judged answer is `{prompt, completion, label}`, or a conversation with a `label`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from fulgurite.data.config import Format
from fulgurite.data.formats import Wrong, alpaca, checked, headed, kind_of, openai, renamed, turn_of, words
from fulgurite.data.records import Message

Turns = list[Message]
FORMATS = frozenset({Format.preference, Format.kto})


def convert(record: Any, format: Format, columns: Mapping[str, str]) -> dict[str, Any]:
    """The fields of an Example: `messages`, and `rejected` and `margin`, or `good`. Raises Wrong."""
    record = renamed(record, columns)
    return preference(record) if format is Format.preference else judged(record)


def preference(record: Mapping[str, Any]) -> dict[str, Any]:
    """A pair of answers to one prompt. Raises Wrong where a side is missing, the sides are equal, or their prompts differ."""
    (before, chosen), (also, rejected) = (_side(record, name) for name in ("chosen", "rejected"))
    if before != also:
        raise Wrong("rejected", "its prompt differs from that of chosen")
    prompt = _prompt(record)
    if prompt is None and not before:
        raise Wrong("prompt", "is missing")
    if prompt is not None and before and before not in (prompt, [turn for turn in prompt if turn.role != "system"]):
        raise Wrong("prompt", "is not the prompt with which chosen and rejected begin")
    if chosen.content.strip() == rejected.content.strip():
        raise Wrong("rejected", "is the same text as chosen")
    turns = prompt if prompt is not None else headed(record, before)
    first, second = (tuple(_conversation(turns, answer, name)) for answer, name in ((chosen, "chosen"), (rejected, "rejected")))
    return {"messages": first, "rejected": second, "margin": _margin(record)}


def judged(record: Mapping[str, Any]) -> dict[str, Any]:
    """An answer with a label that is true or false. Raises Wrong."""
    if "label" not in record:
        raise Wrong("label", "is missing")
    label = record["label"]
    if not isinstance(label, bool):
        raise Wrong("label", f"true or false is due and this is {kind_of(label)}")
    if "completion" in record:
        _, answer = _side(record, "completion")
        prompt = _prompt(record)
        if prompt is None:
            raise Wrong("prompt", "is missing")
        return {"messages": tuple(_conversation(prompt, answer, "completion")), "good": label}
    messages, _ = alpaca(record) if "instruction" in record else openai(record)
    return {"messages": messages, "good": label}


def _side(record: Mapping[str, Any], name: str) -> tuple[Turns, Message]:
    """The turns that stand before an answer in its own field, and the answer."""
    value = record.get(name)
    if isinstance(value, str) or value is None:
        return [], Message("assistant", words(record, name, name))
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, list):
        raise Wrong(name, f"text or messages are due and this is {kind_of(value)}")
    if not value:
        raise Wrong(name, "is empty")
    turns = [turn_of(turn, f"{name}[{n}]") for n, turn in enumerate(value)]
    if turns[-1].role != "assistant":
        raise Wrong(f"{name}[{len(turns) - 1}]", f"the last turn is the {turns[-1].role}'s: there is no answer to compare")
    return turns[:-1], turns[-1]


def _prompt(record: Mapping[str, Any]) -> Turns | None:
    """The turns of the prompt where it has a field of its own, under the record's system message."""
    if "instruction" in record:
        messages, _ = alpaca({**record, "output": "(the answer)"})
        return list(messages or ())[:-1]
    name = next((n for n in ("prompt", "conversations", "messages") if record.get(n) is not None), None)
    if name is None:
        return None
    value = record[name]
    if isinstance(value, str) and name == "prompt":
        return headed(record, [Message("user", words(record, name, name))])
    if not isinstance(value, list):
        raise Wrong(name, f"{'text or messages are' if name == 'prompt' else 'a list is'} due and this is {kind_of(value)}")
    if not value:
        raise Wrong(name, "is empty")
    return headed(record, [turn_of(turn, f"{name}[{n}]") for n, turn in enumerate(value)])


def _conversation(prompt: Turns, answer: Message, name: str) -> Turns:
    """Prompt and answer, if they are a conversation."""
    if prompt[-1].role == "assistant":
        raise Wrong(name, "the prompt ends with an answer, so that two would follow each other")
    return checked([*prompt, answer], "prompt")


def _margin(record: Mapping[str, Any]) -> float:
    value = record.get("margin")
    if value is None:
        return 0.0
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Wrong("margin", f"a number is due and this is {kind_of(value)}")
    if not math.isfinite(value) or value < 0:
        raise Wrong("margin", f"{value} is not allowed: a finite number of at least 0 is due")
    return float(value)
