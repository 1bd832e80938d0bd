"""How a run is assembled: one short module, and no Trainer that is changed after it was built."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENT = ROOT / "src" / "fulgurite" / "train" / "experiment.py"
FILES = sorted(p for folder in ("src", "benchmarks", "examples") for p in (ROOT / folder).rglob("*.py"))


def test_the_experiment_is_short_and_imports_little() -> None:
    tree = ast.parse(EXPERIMENT.read_text(encoding="utf-8"))
    ours = {
        n.module
        for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and (n.module or "").startswith("fulgurite")
    }
    assert len(EXPERIMENT.read_text(encoding="utf-8").splitlines()) <= 120
    assert 0 < len(ours) <= 15


CHANGES = ("append", "insert", "extend", "remove", "clear")


def changed(node: ast.AST) -> str:
    """`callbacks` or `loggers` of a Trainer, if the statement assigns them, changes them, or takes one by its
    position."""
    targets: list[ast.expr] = []
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, ast.AugAssign | ast.AnnAssign):
        targets = [node.target]
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CHANGES:
        targets = [node.func.value]
    elif isinstance(node, ast.Subscript):
        targets = [node.value]
    for target in targets:
        held = (
            isinstance(target, ast.Attribute)
            and target.attr in ("callbacks", "loggers")
            and ast.unparse(target.value)
        )
        if held and "trainer" in held.lower():
            return f"{ast.unparse(node)}"
    return ""


@pytest.mark.parametrize("folder", ["src", "benchmarks", "examples"])
def test_nobody_changes_the_callbacks_or_loggers_of_a_trainer(folder: str) -> None:
    files = [path for path in FILES if path.is_relative_to(ROOT / folder)]
    found = [
        f"{p.name}: {said}"
        for p in files for node in ast.walk(ast.parse(p.read_text(encoding="utf-8"))) if (said := changed(node))
    ]
    assert found == []


@pytest.mark.parametrize(
    "line",
    ["trainer.callbacks = [x]", "a.trainer.loggers += [x]", "trainer.callbacks[-1]", "trainer.callbacks.append(x)"]
)
def test_the_check_sees_what_it_looks_for(line: str) -> None:
    assert any(changed(node) for node in ast.walk(ast.parse(line)))
