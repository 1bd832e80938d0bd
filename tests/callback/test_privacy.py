"""privacy.json: written with each checkpoint and at each end, by the first process, and never the end of a run."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fulgurite.callback.privacy import PrivacyFile


def stage_of(epsilon: float) -> Any:
    return SimpleNamespace(mechanism=SimpleNamespace(report=lambda: {"epsilon": epsilon}))


FIRST, OTHER = SimpleNamespace(is_global_zero=True), SimpleNamespace(is_global_zero=False)


def test_each_checkpoint_and_each_end_writes_the_account_of_then(tmp_path: Path) -> None:
    file = PrivacyFile(tmp_path / "privacy.json")
    calls: list[Any] = [
        lambda stage: file.on_save_checkpoint(FIRST, stage, {}), lambda stage: file.on_train_end(FIRST, stage),
        lambda stage: file.on_exception(FIRST, stage, KeyboardInterrupt()),
    ]
    for epsilon, call in enumerate(calls):
        call(stage_of(float(epsilon)))
        assert json.loads(file.path.read_text()) == {"epsilon": float(epsilon)}


def test_other_processes_write_nothing(tmp_path: Path) -> None:
    PrivacyFile(tmp_path / "privacy.json").on_train_end(OTHER, stage_of(1.0))
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_refuses_is_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "folder").write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING):
        PrivacyFile(tmp_path / "folder" / "privacy.json").on_train_end(FIRST, stage_of(1.0))
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path / 'folder' / 'privacy.json'} cannot be written (Not a directory); the run goes on."
    ]
