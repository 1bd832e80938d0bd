"""A Chinese sentence is Chinese: no English words among its facts, no words of a library's error, no English reasons.

Names stay: parameters, options, commands, libraries, models, papers, units.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.contracts.test_messages import SENTENCE_AT, SOURCE
from tests.contracts.test_reasons import _derive, _list_runs

from fulgurite.config.schema import list_options
from fulgurite.language.current import use_language

TRANSLATE = {
    "translate_error", "translate_system_error", "translate_json_fault", "quote_foreign", "describe_error", "type",
    "isinstance", "getattr", "_last_line", "find_place",
}
"""Functions that make a fact of an exception."""
PHRASE = re.compile(r"[a-z]{2,} [a-z]{2,}|^ (or|and) $")
"""Two English words in a row, or a joint between two facts."""
COMMAND = re.compile(r"\bfulgurite [a-z]+")
"""A command stays as it is typed."""


def _get_name(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")


def _walk_fact(node: ast.AST) -> Iterator[ast.AST]:
    """Yields what a fact is made of, but for sentences inside it and exceptions that are translated."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.Call) and _get_name(child) in {*SENTENCE_AT, *TRANSLATE}):
            yield from _walk_fact(child)


def _list_facts(tree: ast.AST) -> Iterator[tuple[ast.keyword, list[ast.AST]]]:
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and _get_name(call) in SENTENCE_AT:
            for fact in call.keywords:
                made = isinstance(fact.value, ast.Call) and _get_name(fact.value) in {*SENTENCE_AT, *TRANSLATE}
                yield fact, [] if made else list(_walk_fact(fact.value))


def _read_trees() -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(SOURCE.rglob("*.py")):
        yield path.relative_to(SOURCE), ast.parse(path.read_text(encoding="utf-8"))


def test_no_fact_of_a_sentence_is_english_words() -> None:
    found = [
        f"{path}:{fact.value.lineno} {fact.arg}={node.value!r}"
        for path, tree in _read_trees() for fact, nodes in _list_facts(tree) for node in nodes
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and PHRASE.search(COMMAND.sub("", node.value))
    ]
    assert not found, "\n".join(found)


def test_no_fact_of_a_sentence_is_the_words_of_a_library() -> None:
    """An exception is translated or quoted; only its numbers and names (`error.line`) are facts as they are."""
    found = []
    for path, tree in _read_trees():
        handlers = [h for h in ast.walk(tree) if isinstance(h, ast.ExceptHandler) and h.name]
        for handler in handlers:
            for fact, nodes in _list_facts(handler):
                parts = [n for n in nodes if isinstance(n, ast.Attribute) and n.attr not in ("msg", "strerror")]
                plain = {id(part.value) for part in parts}
                if any(isinstance(n, ast.Name) and n.id == handler.name and id(n) not in plain for n in nodes):
                    found.append(f"{path}:{fact.value.lineno} {fact.arg}")
    assert not found, "\n".join(sorted(set(found)))


@pytest.mark.parametrize("stage", list_options("stage"))
def test_reasons_are_chinese(stage: str) -> None:
    runs = [run for run in _list_runs(stage) if run[1] in ("lora", "full", "rslora")]
    with use_language("zh"):
        for loss, method, optim, scheduler in runs:
            for decision in _derive(stage, loss, method, optim, scheduler):
                # two words in a row that begin with no capital are no name
                assert not PHRASE.search(decision.reason), (decision.parameter, decision.reason)
                assert "verified" not in decision.reason, decision.reason
