"""A Chinese sentence is Chinese: no English words among its facts, no words of a library's error, no English reasons.

Names stay: parameters, options, commands, libraries, models, papers, units.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from tests.contracts.test_messages import ERRORS, SENTENCE_AT, SOURCE
from tests.contracts.test_reasons import _derive, _list_runs

from fulgurite.config.schema import list_options
from fulgurite.language.current import use_language

TRANSLATE = {
    "translate_error", "translate_system_error", "translate_json_fault", "quote_foreign", "describe_error", "type",
    "isinstance", "getattr", "_last_line", "find_place", "translate_argparse", "format_kind",
}
"""Functions that make a fact of an exception, or of the type of a parameter."""
PHRASE = re.compile(r"[a-z]{2,} [a-z]{2,}|^ (or|and) $")
"""Two English words in a row, or a joint between two facts."""
COMMAND = re.compile(r"\bfulgurite [a-z]+")
"""A command stays as it is typed."""
NAMES = re.compile(r"\b(fulgurite|wandb) [a-z]+|[a-z_.]+=[\w.:]*( [a-z_.]+=)*")
"""Commands and settings stay as they are typed."""
LONE = re.compile(r"^\W*(?!fulgurite )[A-Z]?[a-z]{3,} $")
"""One word before a place of an f-string."""
EXCEPTION = re.compile(r"(Error|Exception)\b")


def _get_name(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")


def _walk_fact(node: ast.AST) -> Iterator[ast.AST]:
    """Yields what a fact is made of, but for sentences inside it and exceptions that are translated."""
    yield node
    for child in ast.iter_child_nodes(node):
        is_condition = isinstance(node, ast.IfExp) and child is node.test
        if not is_condition and not (isinstance(child, ast.Call) and _get_name(child) in {*SENTENCE_AT, *TRANSLATE}):
            yield from _walk_fact(child)


def _list_facts(tree: ast.AST) -> Iterator[tuple[ast.keyword, list[ast.AST]]]:
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and _get_name(call) in SENTENCE_AT:
            for fact in call.keywords:
                made = isinstance(fact.value, ast.Call) and _get_name(fact.value) in {*SENTENCE_AT, *TRANSLATE}
                yield fact, [] if made else list(_walk_fact(fact.value))


@cache
def _read_trees() -> tuple[tuple[Path, ast.Module], ...]:
    paths = sorted(SOURCE.rglob("*.py"))
    return tuple((path.relative_to(SOURCE), ast.parse(path.read_text(encoding="utf-8"))) for path in paths)


def _is_made(value: ast.AST) -> bool:
    """Returns whether a value is a sentence, or the translation or quotation of an exception."""
    return isinstance(value, ast.Call) and _get_name(value) in {*SENTENCE_AT, *TRANSLATE}


def _walk_own(function: ast.AST) -> Iterator[ast.AST]:
    """Yields the nodes of a function, without those of the functions inside it."""
    for child in ast.iter_child_nodes(function):
        if not isinstance(child, ast.FunctionDef):
            yield child
            yield from _walk_own(child)


def _list_functions(tree: ast.AST) -> list[ast.FunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


def _list_bindings(function: ast.FunctionDef) -> dict[str, list[ast.expr]]:
    """Returns the values that each variable of a function gets."""
    found: dict[str, list[ast.expr]] = defaultdict(list)
    for node in _walk_own(function):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        value = getattr(node, "value", None)
        for target in targets if value is not None else ():
            pairs = [(target, value)]
            if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
                pairs = list(zip(target.elts, value.elts, strict=True))
            for name, part in pairs:
                if isinstance(name, ast.Name):
                    found[name.id].append(part)
    return found


@cache
def _list_returns() -> dict[str, dict[str, list[ast.expr]]]:
    """Returns what each function of each module returns, by the module's dotted name."""
    return {
        ".".join(("fulgurite", *path.with_suffix("").parts)): {
            function.name: [n.value for n in _walk_own(function) if isinstance(n, ast.Return) and n.value]
            for function in _list_functions(tree)
        }
        for path, tree in _read_trees()
    }


def _find_returned(path: Path, tree: ast.AST) -> dict[str, list[ast.expr]]:
    """Returns what the functions that a module defines or imports by name return."""
    known = _list_returns()
    found = dict(known[".".join(("fulgurite", *path.with_suffix("").parts))])
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in known:
            found |= {a.asname or a.name: known[node.module].get(a.name, []) for a in node.names}
    return found


def _follow(value: ast.expr, bound: dict[str, list[ast.expr]], returned: dict[str, list[ast.expr]]) -> set[ast.expr]:
    """Returns the expressions that a fact comes from: its own, those of its variables, those its functions return."""
    found: set[ast.expr] = set()
    todo = [value]
    while todo:
        part = todo.pop()
        if part in found or _is_made(part):
            continue
        found.add(part)
        for node in _walk_fact(part):
            if isinstance(node, ast.Name):
                todo += bound.get(node.id, [])
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                # a variable of the other function is followed no further: it has other names
                found |= {r for r in returned.get(node.func.id, []) if not _is_made(r)}
    return found


def _list_origins() -> Iterator[tuple[str, ast.FunctionDef, set[ast.expr]]]:
    """Yields the place of each fact, the function around it, and the expressions that it comes from."""
    for path, tree in _read_trees():
        returned = _find_returned(path, tree)
        for function in _list_functions(tree):
            bound = _list_bindings(function)
            for call in _walk_own(function):
                for fact in call.keywords if isinstance(call, ast.Call) and _get_name(call) in SENTENCE_AT else ():
                    place = f"{path}:{fact.value.lineno} {fact.arg}"
                    yield place, function, _follow(fact.value, bound, returned)


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


def test_no_variable_or_function_brings_english_words() -> None:
    """The same through a variable and through what a function returns: `reason = "not there"`."""
    found = [
        f"{place} {node.value!r}"
        for place, _, origins in _list_origins() for origin in origins for node in _walk_fact(origin)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        and (PHRASE.search(text := NAMES.sub("", node.value)) or LONE.search(text))
    ]
    assert not found, "\n".join(sorted(found))


def test_no_variable_brings_the_words_of_a_library() -> None:
    found = []
    for place, function, origins in _list_origins():
        caught = [n for n in _walk_own(function) if isinstance(n, ast.ExceptHandler) and n.name]
        errors = {h.name for h in caught if not (isinstance(h.type, ast.Name) and h.type.id in ERRORS)}
        errors |= {a.arg for a in function.args.args if a.annotation and EXCEPTION.search(ast.unparse(a.annotation))}
        for origin in origins:
            texts = [n for n in _walk_fact(origin) if isinstance(n, ast.Call) and _get_name(n) == "str"]
            if any(isinstance(n, ast.Name) and n.id in errors for text in texts for n in ast.walk(text)):
                found.append(f"{place} {ast.unparse(origin)}")
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
