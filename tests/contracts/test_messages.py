"""Sentences for people are templates with facts, and each template has its Chinese.

Read from the source: what errors, reasons and findings are made of. An f-string there would be a sentence that no
catalogue can find.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from fulgurite.language.catalogue import LETTER, PLACE, list_message_files, load_messages
from fulgurite.plan.rules import RULES

SOURCE = Path(__file__).resolve().parents[2] / "src" / "fulgurite"
ERRORS = {
    "FulguriteError", "RequestError", "ConfigError", "DataError", "ModelError", "CheckpointError", "TrainingFailed",
    "Pruned", "Interrupted",
}
OF_RECORDS = {"Wrong": 1, "Bad": 2, "Endless": 1}
SENTENCE_AT = {"message": 0, "say": 0, "Finding": 0, "Derived": 1} | OF_RECORDS | dict.fromkeys(ERRORS, 0)
"""The argument of each function or class that is a sentence for people."""
REMAINING = 0
"""f-strings that are still to become templates."""
UNTRANSLATED = 0
"""Templates that still have no Chinese."""


def _read_calls() -> Iterator[tuple[Path, str, ast.expr]]:
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
                at = SENTENCE_AT.get(name)
                if at is not None and len(node.args) > at:
                    yield path, name, node.args[at]


@cache
def list_templates() -> tuple[str, ...]:
    """Every literal sentence of the source that has words, and what `plan --rules` says of each rule."""
    found = [rule.meaning for rule in RULES.values()]
    found += [arg.value for _, _, arg in _read_calls() if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
    return tuple(sorted({text for text in found if LETTER.search(PLACE.sub("", text))}))


def _hold_fstring(expression: ast.expr) -> bool:
    return any(isinstance(node, ast.JoinedStr) for node in ast.walk(expression))


def test_no_sentence_is_an_fstring() -> None:
    found = [f"{path.relative_to(SOURCE)}:{arg.lineno}" for path, _, arg in _read_calls() if _hold_fstring(arg)]
    assert len(found) <= REMAINING, "\n".join(found)


def test_every_sentence_has_its_chinese() -> None:
    held = load_messages("zh")
    missing = [text for text in list_templates() if text not in held]
    assert len(missing) <= UNTRANSLATED, "\n".join(missing)


def test_no_translation_is_stale() -> None:
    assert sorted(set(load_messages("zh")) - set(list_templates())) == []


@pytest.mark.parametrize("file", list_message_files("zh"), ids=lambda path: path.stem)
def test_translations_keep_facts_and_names(file: Path) -> None:
    """Chinese has the same facts, names of parameters, addresses and commands, and its own punctuation."""
    import yaml

    names = re.compile(r"https?://[^\s,;:)]+|`[^`]+`|\b[a-z]+(?:\.[a-z_]+)+\b|\b[a-z]+_[a-z_]+\b|--[a-z-]+")
    for english, chinese in yaml.safe_load(file.read_text(encoding="utf-8")).items():
        facts = [{p.partition(":")[0].strip("{}").split("!")[0] for p in PLACE.findall(t)} for t in (english, chinese)]
        assert facts[0] == facts[1], english
        bare = PLACE.sub("", english)
        assert not [name for name in names.findall(bare) if name.rstrip(".") not in chinese], (english, chinese)
        assert re.search(r"[\u4e00-\u9fff]", chinese), english
        assert not re.search(r"[\u4e00-\u9fff][,;:?!](?!\S)", chinese), f"ASCII punctuation after Chinese: {chinese}"
