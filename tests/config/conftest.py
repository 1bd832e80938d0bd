"""Files for tests of paths."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a file and a folder of each kind."""
    for folder in ("base", "owner/name", "data"):
        (tmp_path / folder).mkdir(parents=True)
    for file in ("mine.jsonl", "data/a.jsonl", "reward.py"):
        (tmp_path / file).write_text("{}")
    (tmp_path / "link.jsonl").symlink_to("data/a.jsonl")
    monkeypatch.chdir(tmp_path)
    return tmp_path
