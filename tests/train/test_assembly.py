"""The loaded model is asked before training, whatever its config led to expect."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

import fulgurite as fg
from fulgurite.config.compose import compose
from fulgurite.errors import ConfigError, ModelError
from fulgurite.model.load import Loaded
from fulgurite.model.twin import shrink_sizes
from fulgurite.train.assembly import refuse_unfit


class Lengths:
    """Rows of which only the lengths are asked."""

    def __init__(self, *lengths: int) -> None:
        self.lengths = np.array(lengths)


def refused(kind: str, *words: str, longest: int = 8, **values: Any) -> Loaded:
    config = shrink_sizes(AutoConfig.for_model(kind))
    for name, value in values.items():
        setattr(config, name, value)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    loaded = Loaded(model, None, 1000)  # type: ignore[arg-type]
    packing = str(compose(["logger=none", *words]).run.data.packing)
    refuse_unfit(packing, loaded, model, Lengths(longest))  # type: ignore[arg-type]
    return loaded


def test_a_model_that_sees_what_it_is_to_learn_is_refused() -> None:
    with pytest.raises(
        ModelError, match=r"In RobertaForCausalLM a later token changes an earlier prediction.*is_decoder=true"
    ):
        refused("roberta")


def test_packing_is_refused_by_what_the_loaded_model_does() -> None:
    with pytest.raises(ConfigError, match=r"OPTForCausalLM cannot keep packed examples apart.*set data.packing=none"):
        refused("opt", "stage=pt")
    refused("opt", "stage=pt", "data.packing=none")
    refused("llama", "stage=pt")


@pytest.mark.parametrize(("words", "expected"), [
    (["stage=pt"], "documents"), (["stage=pt", "model.attention=eager"], "eager"), (["stage=sft"], "documents"),
])
def test_rows_are_attended_by_documents(words: list[str], expected: str, tmp_path: Path) -> None:
    path = tmp_path / "text.jsonl"
    running = "stage=pt" in words
    lines = [{"text": f"part {n}"} if running else {"instruction": "say", "output": f"part {n}"} for n in range(9)]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    run = fg.experiment(
        *words, "model=tiny", "data=file", f"data.path={path}", "data.val_fraction=0", "trainer.max_steps=1",
        "logger=none", "method=full", f"run_dir={tmp_path / 'run'}",
    )
    assert run.module.model.config._attn_implementation == expected
    assert ("documents" in next(iter(run.data.train_dataloader()))) is running


def test_learned_positions_bound_rows_and_what_is_generated() -> None:
    assert refused("gpt2", longest=30, max_position_embeddings=30).length == 30
    assert refused("llama", longest=5000).length == 1000
    with pytest.raises(
        ConfigError, match=r"The longest example has 31 tokens, and GPT2LMHeadModel has 30 positions; lower"
    ):
        refused("gpt2", longest=31, max_position_embeddings=30)
