"""Exports of small runs, and the models that others read from them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from fulgurite.config.compose import compose
from fulgurite.config.schema import build
from fulgurite.export.model import export_main

IDS = torch.arange(3, 63).reshape(2, 30)


def compute_logits(model: Any) -> torch.Tensor:
    """The logits of fixed tokens, without a cache."""
    with torch.no_grad():
        found: torch.Tensor = model.eval()(input_ids=IDS, use_cache=False).logits
    return found


def load_plain(folder: Path) -> Any:
    """The model of an exported folder, as plain transformers loads it."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def export(run: Path, out: Path, *words: str) -> Path:
    """Exports a run into a folder, which is returned."""
    assert export_main([f"run={run}", f"out={out}", *words]) == 0
    return out


def save_tiny(folder: Path, dtype: torch.dtype = torch.float32, **generation: Any) -> Path:
    """Saves the tiny model in transformers' own form, in `dtype`; `generation` goes into its generation config."""
    loaded = build(compose(["model=tiny"]).run.model, torch.float32)
    loaded.model.to(dtype).save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    if generation:
        config = {"eos_token_id": 2, "transformers_version": "4.31.0"} | generation
        (folder / "generation_config.json").write_text(json.dumps(config))
    return folder
