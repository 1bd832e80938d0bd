"""A folder of the tiny model."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.model.folders import load_model

from fulgurite.model.config import Tiny


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What save_pretrained writes of the tiny model and its tokenizer."""
    loaded = load_model(Tiny())
    loaded.model.save_pretrained(tmp_path / "m")
    loaded.tokenizer.save_pretrained(tmp_path / "m")
    return tmp_path / "m"
