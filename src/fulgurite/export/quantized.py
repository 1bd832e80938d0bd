"""Quantises an exported model with bitsandbytes, in the form that transformers loads by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from fulgurite.config.export_arguments import Quantization
from fulgurite.model.quiet import silence


def build_settings(kind: Quantization) -> BitsAndBytesConfig:
    """Returns bitsandbytes' settings: NF4 with quantised scales (QLoRA, https://arxiv.org/abs/2305.14314), or LLM.int8
    (https://arxiv.org/abs/2208.07339). The output layer and the embedding are kept, as transformers does."""
    if kind is Quantization.int8:
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    )


def quantize_folder(whole: Path, out: Path, kind: Quantization, code: bool = False) -> Any:
    """Quantises the model of a folder and saves it into `out`; returns the quantised model, in evaluation mode.
    `code` allows the folder's own model code.

    It is saved before it computes anything: on a CPU the first forward pass of bitsandbytes 0.50 packs 4-bit weights
    anew, with scales in bfloat16, and what is saved afterwards is another model.
    """
    with silence():
        model = AutoModelForCausalLM.from_pretrained(
            whole, quantization_config=build_settings(kind), dtype=torch.float32, device_map={"": "cpu"},
            use_safetensors=True, trust_remote_code=code,
        )
        model.config.use_cache = True
        model.save_pretrained(out)
    return model.eval()
