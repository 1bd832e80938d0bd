"""A run that is served: trained once, never changed."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.end_to_end.runs import tiny


@pytest.fixture(scope="session")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter that has moved far, in bf16."""
    words = ["optim.lr=1e-2", "scheduler=constant", "trainer.max_steps=4", "precision=bf16"]
    return tiny(tmp_path_factory.mktemp("served") / "my-run", *words)
