"""The config of a run is set in config/resolve.py alone, and few functions take the whole of it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src" / "fulgurite"
FILES = sorted(SOURCE.rglob("*.py"))
SETS = {"config/resolve.py"}
"""The file that may set values of a config."""
THAWS = SETS | {"config/frozen.py"}
CONFIG = {"run", "composed", "provenance", "config_run"}
"""The names under which code has a run's config, or the decisions on it."""
OTHER_RUNS = {"run/listing.py"}
"""Where `run` is another thing: a row of `fulgurite runs`."""
WHOLE = {"RunConfig", "Composed"}
LIMIT = 30
"""Functions that take the whole config. This only shrinks."""
RULES = re.compile(r"plan/rules/|(?!config/)[a-z]+/config[./]|optim/default_lrs|method/default_rank")
"""A rule may look at all of a run: those of `plan`, and those of the parameters (their values if empty, their
refusals)."""


def chain(node: ast.AST) -> list[str]:
    """The names of `a.b["c"].d`, from the left."""
    names: list[str] = []
    while isinstance(node, ast.Attribute | ast.Subscript):
        names += [node.attr] if isinstance(node, ast.Attribute) else []
        node = node.value
    return [*names, node.id][::-1] if isinstance(node, ast.Name) else names[::-1]


def targets(node: ast.AST) -> list[ast.expr]:
    """What a statement or a call of setattr assigns to."""
    if isinstance(node, ast.Assign | ast.Delete):
        return [item for t in node.targets for item in (t.elts if isinstance(t, ast.Tuple) else [t])]
    if isinstance(node, ast.AugAssign | ast.AnnAssign):
        return [node.target]
    if isinstance(node, ast.Call) and ast.unparse(node.func) in {"setattr", "delattr", "object.__setattr__"}:
        return [ast.Attribute(node.args[0], "any")]
    return []


def assignments(tree: ast.AST) -> list[str]:
    """Assignments to a part of a config: `run.optim.lr = 1`, `provenance[name] = x`, `setattr(self.run.optim, ...)`."""
    found = []
    for node in ast.walk(tree):
        for target in targets(node):
            names = chain(target)
            parents = names if isinstance(target, ast.Subscript) else names[:-1]
            if CONFIG & set(parents):
                found.append(f"{getattr(node, 'lineno', 0)}: {ast.unparse(node)}")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_config_is_set_in_resolve_alone(path: Path) -> None:
    place, tree = str(path.relative_to(SOURCE)), ast.parse(path.read_text())
    if place not in SETS | OTHER_RUNS:
        assert assignments(tree) == []
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert "thaw" not in names or place in THAWS


@pytest.mark.parametrize("code", [
    "run.optim.lr = 1", "self.run.trainer.epochs += 1", "composed.provenance['optim.lr'] = x",
    "setattr(run.optim, 'lr', 1)",
    "del run.logger['csv']", "stage.run.stage.prompts, x = [], 1",
])
def test_the_contract_sees_an_assignment(code: str) -> None:
    assert assignments(ast.parse(code))


def whole_config_functions() -> list[str]:
    """Functions one of whose parameters is the whole config, by its annotation."""
    found = []
    for path in FILES:
        place = str(path.relative_to(SOURCE))
        if RULES.match(place):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.FunctionDef) or node.name in {"find_refusal", "find_usual"}:
                continue
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            kinds = {ast.unparse(a.annotation).removesuffix(" | None") for a in arguments if a.annotation is not None}
            if WHOLE & kinds:
                found.append(f"{place}:{node.name}")
    return found


def test_few_functions_take_the_whole_config() -> None:
    found = whole_config_functions()
    assert len(found) <= LIMIT, "\n".join(found)
