"""Sizes and names of the package: files, functions, lines, class names, modules at the top."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2] / "src" / "fulgurite"
FILES = sorted(SOURCE.rglob("*.py"))
SCRIPTS = sorted(path for path in (SOURCE / "board").rglob("*.js") if "vendor" not in path.parts)
FILE, FUNCTION, LINE, TOP = 400, 60, 120, 3
"""Lines of a file and of a function, characters of a line, loose modules at the top of the package."""
VAGUE = {"utils", "helpers", "common", "misc"}


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


def measure_lines(files: list[Path]) -> dict[str, int]:
    counts = {
        name_of(path): sum(len(line) > LINE for line in path.read_text(encoding="utf-8").splitlines()) for path in files
    }
    return {name: count for name, count in counts.items() if count}


def repeated_classes() -> set[str]:
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in FILES]
    counts = Counter(node.name for tree in trees for node in tree.body if isinstance(node, ast.ClassDef))
    return {name for name, count in counts.items() if count > 1}


def test_there_are_files_to_measure() -> None:
    assert len(FILES) > 200


def test_files_are_short() -> None:
    assert measure_files() == {}


def test_functions_are_short() -> None:
    assert measure_functions() == {}


def test_lines_are_narrow() -> None:
    assert measure_lines(FILES) == {}


def test_scripts_of_the_page_are_narrow_and_short() -> None:
    assert len(SCRIPTS) > 40
    assert measure_lines(SCRIPTS) == {}
    assert {name_of(path) for path in SCRIPTS if len(path.read_text(encoding="utf-8").splitlines()) > FILE} == set()


def test_class_names_are_unique() -> None:
    assert repeated_classes() == set()


def test_few_modules_are_loose() -> None:
    loose = {path.stem for path in SOURCE.glob("*.py")} - {"__init__", "__main__"}
    assert len(loose) <= TOP, loose


def test_no_module_has_a_vague_name() -> None:
    for path in FILES:
        assert not VAGUE & {*path.relative_to(SOURCE).parts, path.stem}, path
