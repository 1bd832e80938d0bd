"""The process that unpacks the bundled model: its exit status, and what it prints."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fulgurite.board.worker import unpack
from fulgurite.errors import ModelError
from fulgurite.model import smollm2


@pytest.fixture(autouse=True)
def _same_priority(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "nice", lambda steps: steps)


def test_model_that_is_made_ends_with_0(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(smollm2, "here", lambda weights: asked.append(weights) or tmp_path)
    assert unpack.main() == 0
    assert asked == [False]


def test_model_that_cannot_be_made_ends_with_3(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(weights: bool) -> Path:
        raise ModelError("The disk is full.")

    monkeypatch.setattr(smollm2, "here", refuse)
    assert unpack.main() == 3
    assert capsys.readouterr().err == "The disk is full.\n"


def test_model_needs_unpacking_if_the_package_is_there_and_the_folder_is_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FULGURITE_CACHE", str(tmp_path))
    monkeypatch.setattr(smollm2, "packaged", lambda: tmp_path)
    assert smollm2.needs_unpacking()
    monkeypatch.setattr(smollm2, "packaged", lambda: None)
    assert not smollm2.needs_unpacking()
