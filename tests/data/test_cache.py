"""Where converted models and tokenised data are kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from fulgurite.data.cache import find_cache_root


def test_the_environment_names_the_folder_else_it_is_in_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FULGURITE_CACHE", str(tmp_path / "a"))
    assert find_cache_root() == tmp_path / "a"
    monkeypatch.setenv("HOME", str(tmp_path))
    for unset in (lambda: monkeypatch.setenv("FULGURITE_CACHE", ""), lambda: monkeypatch.delenv("FULGURITE_CACHE")):
        unset()
        assert find_cache_root() == tmp_path / ".cache" / "fulgurite"
