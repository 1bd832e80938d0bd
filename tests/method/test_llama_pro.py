"""Block expansion: the model grows by copies that add nothing, and only they are trained."""

from __future__ import annotations

import pytest
import torch
from tests.method.models import FP32, build_adapted, build_base, compute_logits, find_trained
from transformers import Gemma2Config, Gemma2ForCausalLM, GPT2Config, GPT2LMHeadModel

from fulgurite.errors import ConfigError
from fulgurite.method.config import LlamaPro
from fulgurite.method.llama_pro import build


def test_new_layers_lie_between_the_old_and_alone_are_trained() -> None:
    model = build_adapted("llama_pro", "method.blocks=2")
    assert model.config.num_hidden_layers == 4
    assert {name.split("layers.")[1][0] for name in find_trained(model)} == {"1", "3"}
    assert [layer.self_attn.layer_idx for layer in model.model.layers] == [0, 1, 2, 3]
    with pytest.raises(ConfigError, match="cannot be spread over 2 layers; use one of 1, 2"):
        build_adapted("llama_pro", "method.blocks=3")


def test_a_new_layer_is_a_copy_of_the_one_below_whose_outputs_are_zero() -> None:
    model = build(LlamaPro(blocks=2), build_base(), FP32)
    old, new = model.model.layers[0], model.model.layers[1]
    theirs = dict(old.named_parameters())
    for name, parameter in new.named_parameters():
        expected = torch.zeros_like(parameter) if name.endswith(("o_proj.weight", "down_proj.weight")) else theirs[name]
        assert torch.equal(parameter, expected), name
        assert parameter.data_ptr() != theirs[name].data_ptr()
    assert torch.equal(compute_logits(model), compute_logits(build_base()))


def test_kinds_of_layers_grow_with_the_layers() -> None:
    shape = Gemma2Config(
        vocab_size=16, hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=4,
    )
    kinds = list(shape.layer_types)
    assert len(set(kinds)) == 2
    model = build(LlamaPro(blocks=2), Gemma2ForCausalLM(shape), FP32)
    assert model.config.layer_types == [kinds[0], kinds[0], kinds[1], kinds[1]]


def test_an_architecture_with_unknown_outputs_is_refused() -> None:
    model = GPT2LMHeadModel(GPT2Config(vocab_size=16, n_positions=8, n_embd=8, n_layer=1, n_head=2))
    with pytest.raises(ConfigError, match="does not know the output projections of GPT2Block; use another method"):
        build(LlamaPro(blocks=1), model, FP32)
