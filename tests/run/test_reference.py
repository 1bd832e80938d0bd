"""The model of `stage.reference`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.export.exports import save_tiny

from fulgurite.config.compose import compose
from fulgurite.config.schema import build
from fulgurite.errors import ConfigError
from fulgurite.precision.policy import Dtypes
from fulgurite.precision.policy import build as settle
from fulgurite.run.load import apply_method, load_start
from fulgurite.run.reference import take_reference
from fulgurite.stage.preference import PreferenceModule


def build_stage(*words: str) -> tuple[PreferenceModule, object]:
    run = compose(["model=tiny", "stage=dpo", "precision=fp32", *words]).run
    dtypes: Dtypes = settle(run.precision, "cpu")
    found = load_start(run.model, run.method, False, dtypes)
    stage: PreferenceModule = build(run.stage, apply_method(run.method, False, found, dtypes), run, dtypes, 1)
    return stage, found.tokenizer


def test_a_run_without_another_reference_keeps_its_own() -> None:
    stage, tokenizer = build_stage()
    take_reference(stage, tokenizer)
    assert stage._parts["other"] is None


def test_another_reference_is_loaded(tmp_path: Path) -> None:
    stage, tokenizer = build_stage(f"stage.reference={save_tiny(tmp_path / 'base')}")
    take_reference(stage, tokenizer)
    assert isinstance(stage._parts["other"], torch.nn.Module)


def test_a_reference_with_another_tokenizer_is_refused(tmp_path: Path) -> None:
    stage, _ = build_stage(f"stage.reference={save_tiny(tmp_path / 'base')}")

    class Other:
        def get_vocab(self) -> dict[str, int]:
            return {"a": 0}

    with pytest.raises(ConfigError, match="has another tokenizer than the model"):
        take_reference(stage, Other())
