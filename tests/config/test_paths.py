"""Words that name files become absolute paths; all other words stay as they were typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fulgurite.config.compose import compose
from fulgurite.config.paths import resolve_function, resolve_path, resolve_pattern


def test_existing_paths_become_absolute_and_other_words_stay(here: Path) -> None:
    assert resolve_path("base") == str(here / "base")
    assert resolve_path("./base/../mine.jsonl") == str(here / "mine.jsonl")
    assert resolve_path("link.jsonl") == str(here / "link.jsonl")
    assert resolve_path("owner/name") == str(here / "owner" / "name")  # such a folder is here
    for word in ("owner/other", "hub:owner/name", "", "a\0b", "x" * 5000, "/no/where", "regex:a"):
        assert resolve_path(word) == word
    assert resolve_pattern("data/*.jsonl") == str(here / "data" / "*.jsonl")
    assert resolve_pattern("none/*.jsonl") == "none/*.jsonl"
    assert resolve_function("reward.py:score") == f"{here}/reward.py:score"
    assert resolve_function("length:50") == "length:50"
    assert resolve_function("other.py:score") == "other.py:score"


@pytest.mark.parametrize("word", ["stage=dpo stage.reference=base", "method.adapter_path=base", "stage=grpo "
    "stage.reward=[reward.py:score,base]"])
def test_each_parameter_that_holds_a_path_is_stored_as_absolute(word: str, here: Path) -> None:
    *_, (name, _, _) = (part.partition("=") for part in word.split())
    found = compose(word.split()).provenance[name].value
    assert str(here) in json.dumps(found)
    assert "=base" not in json.dumps(found)
