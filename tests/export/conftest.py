"""Runs that are exported: trained once, never changed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.end_to_end.runs import tiny
from tests.export.exports import save_tiny


@pytest.fixture(scope="session")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter that has moved far, over a base in float32."""
    words = ["optim.lr=1e-2", "scheduler=constant", "trainer.max_steps=6", "trainer.eval_every=3"]
    return tiny(tmp_path_factory.mktemp("lora") / "run", *words)


@pytest.fixture(scope="session")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory.mktemp("full") / "run", "method=full", "optim.lr=1e-2", "trainer.max_steps=4")


@pytest.fixture(scope="session")
def on_bf16(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter over a base in bfloat16 with a generation config that transformers refuses to save."""
    base = save_tiny(tmp_path_factory.mktemp("base") / "base", torch.bfloat16, temperature=0.6, top_p=0.9)
    words = ["model=hf", f"model.path={base}", "optim.lr=1e-2", "scheduler=constant", "trainer.max_steps=3"]
    return tiny(tmp_path_factory.mktemp("bf16") / "run", *words)
