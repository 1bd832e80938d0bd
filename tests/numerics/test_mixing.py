"""Which architectures keep packed documents apart by their positions alone, and which do not: plan/rules/bands.py lists these."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from fulgurite.plan.rules.bands import MIXING

SIZES = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16, "intermediate_size": 64,
    "ffn_dim": 64, "word_embed_proj_dim": 32, "n_embd": 32, "n_layer": 2, "n_head": 2, "d_model": 32, "n_layers": 2, "n_heads": 2,
    "vocab_size": 128, "max_position_embeddings": 64, "max_seq_len": 64, "num_local_experts": 4, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2,
}
LENGTH = 12


def leak(kind: str) -> tuple[str, float]:
    """A small model's class, and how far the second document's logits move when the first one is another."""
    known = AutoConfig.for_model(kind)
    config = type(known)(**{name: value for name, value in SIZES.items() if hasattr(known, name)})
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    ids = torch.randint(5, 120, (1, 2 * LENGTH))
    other = torch.cat([torch.randint(5, 120, (1, LENGTH)), ids[:, LENGTH:]], dim=1)
    positions = torch.arange(LENGTH).repeat(2)[None]
    with torch.no_grad():
        first, second = (model(input_ids=x, position_ids=positions, use_cache=False).logits[:, LENGTH:] for x in (ids, other))
    return type(model).__name__, float((first - second).abs().max())


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen2", "gpt2", "gpt_neox", "mixtral"])
def test_these_keep_documents_apart_and_are_not_listed(kind: str) -> None:
    name, moved = leak(kind)
    assert moved < 1e-6
    assert not name.startswith(MIXING)


@pytest.mark.parametrize("kind", ["bloom", "mpt", "opt", "xglm", "mamba", "gpt_oss"])
def test_these_do_not_and_are_listed(kind: str) -> None:
    name, moved = leak(kind)
    assert moved > 1e-4
    assert name.startswith(MIXING)
