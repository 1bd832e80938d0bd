"""Sizes and names of the package: files, functions, lines, class names, modules at the top."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2] / "src" / "fulgurite"
FILES = sorted(SOURCE.rglob("*.py"))
FILE, FUNCTION, LINE, TOP = 400, 60, 120, 3
"""Lines of a file and of a function, characters of a line, loose modules at the top of the package."""
VAGUE = {"utils", "helpers", "common", "misc"}

# What is still larger, with its size; the lists only shrink.
LONG_FILES: dict[str, int] = {
    "config/schema.py": 403,
}
LONG_FUNCTIONS: dict[str, int] = {}
WIDE_LINES: dict[str, int] = {
    "__init__.py": 1,
    "callback/config.py": 5,
    "checkpoint/io.py": 1,
    "config/arguments.py": 2,
    "config/choices.py": 7,
    "config/compose.py": 3,
    "config/decision.py": 3,
    "config/export_arguments.py": 2,
    "config/frozen.py": 1,
    "config/guard.py": 12,
    "config/hydra_app.py": 9,
    "config/hydra_errors.py": 5,
    "config/losses.py": 4,
    "config/lr_finder.py": 3,
    "config/override_checks.py": 7,
    "config/overrides.py": 7,
    "config/paths.py": 3,
    "config/provenance.py": 1,
    "config/registry.py": 1,
    "config/renamed.py": 2,
    "config/resolve.py": 5,
    "config/run.py": 6,
    "config/schema.py": 14,
    "config/secrets.py": 3,
    "config/stored.py": 9,
    "config/sweep.py": 14,
    "data/config.py": 32,
    "data/readers.py": 1,
    "data/suggest.py": 1,
    "data/tokenized.py": 23,
    "explain/html.py": 4,
    "logger/config.py": 2,
    "method/config/lora.py": 29,
    "optim/config/base.py": 4,
    "optim/config/structured.py": 1,
    "stage/config/language.py": 1,
    "stage/config/preference.py": 41,
    "stage/config/rollout.py": 43,
    "strategy/build.py": 3,
    "strategy/config.py": 1,
    "strategy/ranks.py": 17,
    "train/assembly.py": 9,
    "train/callbacks.py": 5,
    "train/experiment.py": 7,
    "train/fit.py": 4,
    "train/launcher.py": 15,
    "train/lightning.py": 7,
    "train/lr_curve.py": 10,
    "train/lr_finder.py": 6,
    "train/memory_trial.py": 8,
    "train/messages.py": 4,
    "train/oom.py": 7,
    "train/pieces.py": 6,
    "train/probe.py": 4,
    "train/rank_process.py": 3,
    "trainer/build.py": 5,
    "trainer/config.py": 32,
    "trainer/device.py": 1,
}
"""By file: how many lines are wider."""
REPEATED_CLASSES: set[str] = set()


def name_of(path: Path) -> str:
    return str(path.relative_to(SOURCE))


def measure_files() -> dict[str, int]:
    sizes = {name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    return {name: size for name, size in sizes.items() if size > FILE}


def measure_functions() -> dict[str, int]:
    sizes = {}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
                sizes[f"{name_of(path)}:{node.name}"] = node.end_lineno - node.lineno + 1
    return {name: size for name, size in sizes.items() if size > FUNCTION}


def measure_lines() -> dict[str, int]:
    counts = {
        name_of(path): sum(len(line) > LINE for line in path.read_text(encoding="utf-8").splitlines()) for path in FILES
    }
    return {name: count for name, count in counts.items() if count}


def repeated_classes() -> set[str]:
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in FILES]
    counts = Counter(node.name for tree in trees for node in tree.body if isinstance(node, ast.ClassDef))
    return {name for name, count in counts.items() if count > 1}


def beyond(found: dict[str, int], known: dict[str, int]) -> dict[str, int]:
    """What is larger than the list of exceptions allows."""
    return {name: size for name, size in found.items() if size > known.get(name, 0)}


def test_there_are_files_to_measure() -> None:
    assert len(FILES) > 200


def test_files_are_short() -> None:
    assert beyond(measure_files(), LONG_FILES) == {}


def test_functions_are_short() -> None:
    assert beyond(measure_functions(), LONG_FUNCTIONS) == {}


def test_lines_are_narrow() -> None:
    assert beyond(measure_lines(), WIDE_LINES) == {}


def test_class_names_are_unique() -> None:
    assert repeated_classes() <= REPEATED_CLASSES


def test_few_modules_are_loose() -> None:
    loose = {path.stem for path in SOURCE.glob("*.py")} - {"__init__", "__main__"}
    assert len(loose) <= TOP, loose


def test_no_module_has_a_vague_name() -> None:
    for path in FILES:
        assert not VAGUE & {*path.relative_to(SOURCE).parts, path.stem}, path
