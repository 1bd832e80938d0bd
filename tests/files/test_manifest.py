"""Folders with a manifest: what is wrong with one is found, and named."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from fulgurite.files.manifest import MANIFEST, find_damage, hash_file, write_manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.bin").write_bytes(b"some bytes")
    (tmp_path / "b.bin").write_bytes(b"")
    write_manifest(tmp_path, durable=True)
    return tmp_path


def test_a_whole_folder_has_no_damage(folder: Path) -> None:
    assert hash_file(folder / "a.bin") == hashlib.sha256(b"some bytes").hexdigest()
    assert find_damage(folder, required=["a.bin", "b.bin"], closed=True) == []


def test_each_damage_is_named(folder: Path) -> None:
    (folder / "a.bin").write_bytes(b"same size!")
    assert list(map(str, find_damage(folder))) == ["a.bin differs from its sha256"]
    assert find_damage(folder, is_hashed=lambda name: name != "a.bin") == []
    (folder / "a.bin").write_bytes(b"short")
    (folder / "b.bin").unlink()
    assert list(map(str, find_damage(folder))) == ["a.bin has 5 bytes instead of 10", "b.bin is missing"]


def test_a_closed_folder_has_no_other_file(folder: Path) -> None:
    (folder / "c.py").write_text("")
    assert find_damage(folder) == []
    assert list(map(str, find_damage(folder, closed=True))) == [f"c.py is not in {MANIFEST}"]


def test_a_manifest_lists_what_is_required(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert list(map(str, find_damage(folder, required=["c.bin"]))) == [f"{MANIFEST} does not list c.bin"]
    empty = tmp_path_factory.mktemp("empty")
    assert list(map(str, find_damage(empty))) == [f"{MANIFEST} is missing"]
    write_manifest(empty)
    assert list(map(str, find_damage(empty))) == [f"{MANIFEST} lists no files"]
    assert list(map(str, find_damage(empty / "nowhere"))) == ["it is not a folder"]
