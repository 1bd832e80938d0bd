"""Small records, and short ways to read them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fulgurite.data import formats
from fulgurite.data.build import build_source
from fulgurite.data.config import File, Format
from fulgurite.data.example import Conversation, Example
from fulgurite.data.fields import Reading, Wrong
from fulgurite.data.source import Source

Write = Callable[[str, Any], Path]
Q, A = {"role": "user", "content": "question"}, {"role": "assistant", "content": "answer"}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": {"town": "Bern", "days": 2}}}


def call(name: Any = "weather", arguments: Any = "{}") -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": name, "arguments": arguments}}]}


def read(
    record: Any, format: Format = Format.openai, columnar: bool = False, **roles: str
) -> tuple[Conversation, Reading]:
    reading = Reading(roles, columnar=columnar)
    messages, _ = formats.convert_record(formats.rename_fields(record, {}, reading), format)
    assert messages is not None
    return messages, reading


def refused(record: Any, format: Format = Format.openai, columnar: bool = False) -> str:
    with pytest.raises(Wrong) as caught:
        read(record, format, columnar)
    return str(caught.value)


def source_of(write: Write, records: list[Any], stage: str = "sft", **more: Any) -> Source:
    return build_source(File(path=[str(write("a.jsonl", records))], **more), stage=stage, seed=1)


def pairs_of(source: Source) -> list[list[tuple[str, str]]]:
    examples = list(source.examples())
    assert all(isinstance(example, Example) for example in examples), examples
    return [[(m.role, m.content) for m in example.messages or ()] for example in examples]  # type: ignore[union-attr]


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value
