"""The fixed prompts that are answered before, during and after training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from fulgurite.data.build import GUIDE
from fulgurite.data.dataset import AnyRows
from fulgurite.data.example import Bad, Conversation, Message
from fulgurite.data.source import Source

MANY = 5
WORDS = 12
"""Number of words of a document of running text that are the prompt."""


def choose_sample_prompts(asked: Sequence[str] | None, source: Source, val: AnyRows | None) -> list[Any]:
    """Returns the requested prompts; else the guide's own questions; else the beginnings of the first five validation
    examples."""
    if asked is not None:
        return list(asked)
    if source.config.conversations and not source.reads.running_text:
        lines = (GUIDE / "questions.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line)["messages"][0]["content"] for line in lines][:MANY]
    # The first places of the validation rows; without validation the first training examples.
    wanted = (
        list(dict.fromkeys(place for i in range(len(val)) for place in val.places(i)[:1]))[:MANY]
        if val is not None
        else None
    )
    found: list[Any] = []
    for example in source.examples():
        if isinstance(example, Bad) or (wanted is not None and str(example.place) not in wanted):
            continue
        if example.text is not None:
            found.append(" ".join(example.text.split()[:WORDS]))
        elif example.messages:
            end = len(example.messages) if source.reads.prompts else _find_first_answer(example.messages)
            turns = Conversation.of(example.messages[:end])
            prompt = turns if turns.tools or turns.arguments else list(turns)
            # Both halves of a pair that KTO splits have the same prompt.
            found += [prompt] if prompt not in found[-1:] else []
        if len(found) == MANY:
            break
    return found


def _find_first_answer(messages: Sequence[Message]) -> int:
    """Returns the position of the first answer to a question; an answer before any question is a greeting."""
    asked = next((n for n, message in enumerate(messages) if message.role == "user"), len(messages))
    return next((n for n in range(asked, len(messages)) if messages[n].role == "assistant"), len(messages))
