"""Runs that are evaluated: trained once, never changed."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.end_to_end.runs import tiny

WORDS = ("optim.lr=1e-2", "scheduler=constant", "trainer.max_steps=4", "trainer.eval_every=2")
PAIRS = ("data=guide_preference", "data.max_samples=48", "data.val_fraction=0.3")


@pytest.fixture(scope="session")
def sft(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of stage=sft, evaluated at steps 2 and 4."""
    return tiny(tmp_path_factory.mktemp("sft") / "run", *WORDS, "logger=[csv]")


@pytest.fixture(scope="session")
def dpo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory.mktemp("dpo") / "run", *WORDS, "stage=dpo", *PAIRS)


@pytest.fixture(scope="session")
def rm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory.mktemp("rm") / "run", *WORDS, "stage=rm", *PAIRS)


@pytest.fixture(scope="session")
def kto(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory.mktemp("kto") / "run", *WORDS, "stage=kto", *PAIRS)


@pytest.fixture(scope="session")
def grpo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    words = ("stage=grpo", "stage.reward=[regex:e]", "stage.max_new_tokens=4", "stage.num_generations=2")
    return tiny(tmp_path_factory.mktemp("grpo") / "run", *words, "trainer.max_steps=1", "data.max_samples=8")
