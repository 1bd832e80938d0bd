"""Pairs and judged answers, and the examples that they become."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fulgurite.data.build import build_source
from fulgurite.data.config import File
from fulgurite.data.example import Message

Write = Callable[[str, Any], Path]
Q, A, B = ({"role": r, "content": c} for r, c in (("user", "question"), ("assistant", "good"), ("assistant", "bad")))
S = {"role": "system", "content": "be brief"}
PAIR = {"prompt": "question", "chosen": "good", "rejected": "bad"}
TURNS = (Message("user", "question"), Message("assistant", "good"))


def examples(write: Write, record: dict[str, Any], stage: str) -> Any:
    source = build_source(File(path=[str(write("a.jsonl", [record]))]), stage=stage, seed=1)
    assert source.check().unread == {}
    return source.format, next(iter(source.examples()))
