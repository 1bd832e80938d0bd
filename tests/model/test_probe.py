"""What a model does, asked of the model: causality, packing, a plain output layer, learned positions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.model.folders import build_architecture
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
)

from fulgurite.errors import ModelError
from fulgurite.model.config import Tiny
from fulgurite.model.probe import find_learned_positions, find_plain_head, measure
from fulgurite.model.reward_head import add_reward_head
from fulgurite.model.tiny import build


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen2", "gpt2", "gpt_neox", "mixtral", "gemma2", "deepseek_v3"])
def test_architectures_that_keep_documents_apart_are_recognised(kind: str) -> None:
    found = measure(build_architecture(kind))
    assert (found.causal, found.packs) == (True, True)


@pytest.mark.parametrize(
    "kind", ["bloom", "mpt", "opt", "mamba", "gpt_oss", "lfm3", "marian", "mbart", "blenderbot", "qwen3_next"]
)
def test_architectures_that_mix_documents_are_recognised(kind: str) -> None:
    found = measure(build_architecture(kind))
    assert (found.causal, found.packs) == (True, False)


def test_a_leak_of_any_size_is_found() -> None:
    """Weights so small that another document moves the logits by less than they are rounded."""
    model = build_architecture("opt")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "v_proj" in name:
                parameter.mul_(1e-4)
    assert not measure(model).packs


def test_an_encoder_is_not_causal_until_it_is_a_decoder() -> None:
    assert not measure(build_architecture("roberta")).causal
    assert measure(build_architecture("roberta", is_decoder=True)).causal


@pytest.mark.parametrize(("kind", "values"), [
    ("gemma2", {}), ("vaultgemma", {}), ("nanochat", {}), ("recurrent_gemma", {}), ("cohere", {}),
    ("gemma2", {"final_logit_softcapping": 1000.0}), ("granite", {"logits_scaling": 8.0}),
])
def test_a_cap_or_a_scale_is_seen_however_small_the_logits(kind: str, values: dict[str, Any]) -> None:
    model = build_architecture(kind, **values)
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[7, 8, 9]])).logits
    assert logits.abs().max() < 5
    assert find_plain_head(model) is None


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma", "opt", "granite", "mixtral"])
def test_a_plain_head_is_used(kind: str) -> None:
    values = {"logits_scaling": 1.0} if kind == "granite" else {}
    model = build_architecture(kind, **values)
    assert find_plain_head(model) is model.get_output_embeddings()


def test_a_head_of_another_width_is_not_plain() -> None:
    model = build_architecture("rembert", is_decoder=True)
    model.cls.predictions.decoder = torch.nn.Linear(3, 512)
    assert find_plain_head(model) is None


@pytest.mark.parametrize(("kind", "expected"), [
    ("gpt2", 40), ("opt", 40), ("roberta", 38), ("llama", None), ("bloom", None),
])
def test_learned_positions_are_counted_by_their_indices(kind: str, expected: int | None) -> None:
    """RoBERTa's positions begin behind the padding token's number, which the config does not say."""
    values = {"is_decoder": True, "pad_token_id": 1} if kind == "roberta" else {}
    model = build_architecture(kind, max_position_embeddings=40, **values)
    assert find_learned_positions(model) == expected
    if expected is None:
        return
    whole = torch.arange(5, 5 + expected)[None]
    with torch.no_grad():
        model(input_ids=whole)
        with pytest.raises((IndexError, RuntimeError)):
            model(input_ids=torch.arange(5, 6 + expected)[None])


def test_nothing_of_the_model_or_the_random_state_changes() -> None:
    model = build(Tiny(), torch.float32).model.train()
    model.model.layers[0].eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    torch.manual_seed(3)
    state = torch.get_rng_state()
    measure(model)
    find_plain_head(model)
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


def test_a_reward_model_is_asked_by_its_states() -> None:
    assert measure(add_reward_head(build(Tiny(), torch.float32).model)).causal


def test_weights_in_16_bits_behave_alike() -> None:
    assert measure(build_architecture("llama").to(torch.bfloat16)).packs
    assert not measure(build_architecture("opt").to(torch.bfloat16)).packs
    assert find_plain_head(build_architecture("llama").to(torch.bfloat16)) is not None
    assert find_plain_head(build_architecture("gemma2").to(torch.bfloat16)) is None


def test_a_model_that_computes_nothing_is_one_sentence() -> None:
    model = build_architecture("llama")
    model.model.layers[0].self_attn.q_proj = torch.nn.Linear(3, 3)
    with pytest.raises(ModelError, match="LlamaForCausalLM cannot compute the logits of 12 tokens: "):
        measure(model)


def test_the_head_of_a_model_that_caps_its_logits_is_left_to_the_model() -> None:
    shape = {
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
    }
    capped = Gemma2ForCausalLM(Gemma2Config(**shape, final_logit_softcapping=0.1))
    plain = Gemma2ForCausalLM(Gemma2Config(**shape, final_logit_softcapping=None))
    assert find_plain_head(capped) is None
    assert find_plain_head(plain) is plain.get_output_embeddings()
