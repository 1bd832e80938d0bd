"""Paths that a pattern matches: those of glob.glob, in bounded time whatever links lead where."""

from __future__ import annotations

import glob
from pathlib import Path

from tests.data.made_records import Write
from tests.data.read_values import ROWS

from fulgurite.data.files import find_files
from fulgurite.data.glob import match_paths


def test_rings_of_links_end(write: Write, tmp_path: Path) -> None:
    inside = write("d/a.jsonl", ROWS)
    for name in ("one", "two"):
        (tmp_path / "d" / name).symlink_to(tmp_path / "d")
    for pattern in (
        "**/*.jsonl", "d/**/*.jsonl", "**/a.jsonl", "*/a.jsonl", "d/" + "*/" * 40 + "*.jsonl", "**/**/**/*.jsonl"
    ):
        [[found]] = find_files([str(tmp_path / pattern)])
        assert found.resolve() == inside.resolve(), pattern


def test_patterns_match_what_glob_matches(write: Write, tmp_path: Path) -> None:
    for name in (
        "a.jsonl", "b/a.jsonl", "b/c/a1.jsonl", "b/.hidden/a.jsonl", ".a.jsonl", "b/c/d/x.json", "e[1]/a.jsonl"
    ):
        write(name, ROWS)
    patterns = ["*.jsonl", "**/*.jsonl", "b/**", "**/a?.jsonl", "[ab]/*.jsonl", "**/c/**/*", "b/.*/*", "b/../*.jsonl",
        "**", "e[[]1]/*"]
    for pattern in patterns:
        word = str(tmp_path / pattern)
        expected = {Path(p) for p in glob.glob(word, recursive=True) if Path(p).is_file()}
        assert {p for p in match_paths(Path(word)) if p.is_file()} == expected, pattern
