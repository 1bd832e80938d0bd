"""Tests mirror the source: `src/fulgurite/data/sampler.py` has `tests/data/test_sampler.py`."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "fulgurite"
AT_LEAST = 0.99
"""The share of source files that have a test file of their own. It is only ever raised."""


def _has_code(path: Path) -> bool:
    """Whether a file defines a function or a class; files of names and data alone need no test."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return any(isinstance(node, ast.FunctionDef | ast.ClassDef) for node in body)


def test_source_files_have_a_test_file_at_the_same_place() -> None:
    named = [path for path in SOURCE.rglob("*.py") if not path.name.startswith("__")]
    files = [path.relative_to(SOURCE) for path in named if _has_code(path)]
    missing = [path for path in files if not (ROOT / "tests" / path.parent / f"test_{path.name}").is_file()]
    share = 1 - len(missing) / len(files)
    assert share >= AT_LEAST, f"{share:.0%} of {len(files)} files; without one: {', '.join(map(str, sorted(missing)))}"


def test_a_test_file_at_the_top_has_its_source_there() -> None:
    loose = {path.stem.removeprefix("test_") for path in (ROOT / "tests").glob("test_*.py")}
    assert loose <= {path.stem for path in (ROOT / "src" / "fulgurite").glob("*.py")}
