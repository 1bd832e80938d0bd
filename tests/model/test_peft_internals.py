"""What the package uses of peft beyond its documentation is there, and does what it is used for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig

from fulgurite.config.compose import compose
from fulgurite.config.schema import build
from fulgurite.method.adapters import attach
from fulgurite.model import peft_internals as internals
from fulgurite.precision.policy import build as settle


@pytest.fixture
def wrapped() -> Any:
    model = build(compose(["model=tiny"]).run.model, torch.float32).model
    config = LoraConfig(
        r=4,
        lora_alpha=12,
        target_modules=["q_proj"],
        modules_to_save=["norm"],
        trainable_token_indices=[3],
        task_type="CAUSAL_LM",
    )
    return attach(model, config, settle(compose(["precision=fp32"]).run.precision, "cpu"))


def test_kinds_of_modules_are_distinguished(wrapped: Any) -> None:
    kinds = (internals.is_adapter_layer, internals.is_saved_module, internals.is_token_layer)
    layer = wrapped.get_base_model().model.layers[0].self_attn.q_proj
    norm, embedding = wrapped.get_base_model().model.norm, wrapped.get_base_model().model.embed_tokens
    assert [[kind(module) for kind in kinds] for module in (layer, norm, embedding)] == [
        [True, False, False], [False, True, False], [False, False, True],
    ]
    assert all(internals.is_from_peft(module) for module in (layer, norm, embedding))
    assert not internals.is_from_peft(layer.get_base_layer())
    assert internals.get_saved_module(norm).weight.requires_grad
    assert internals.is_adapter_layer(internals.token_adapter(embedding))


def test_names_and_matrices_are_those_of_the_adapter(wrapped: Any) -> None:
    layer = wrapped.get_base_model().model.layers[0].self_attn.q_proj
    pair = internals.find_lora_pair(layer)
    assert pair is not None
    assert (len(pair.a), len(pair.b.T), pair.rank, pair.scaling) == (4, 4, 4, 3.0)
    assert internals.find_lora_pair(layer.get_base_layer()) is None
    assert internals.get_adapter_rank(layer.get_base_layer()) == 0
    added = {id(p) for p in internals.list_adapter_parameters(layer)}
    assert added == {id(p) for p in layer.parameters() if p.requires_grad}
    trained = {name for name, p in wrapped.named_parameters() if p.requires_grad}
    assert trained
    assert all(internals.PARAMETER in name for name in trained)
    zeros = {name for name, p in wrapped.named_parameters() if "q_proj" in name and p.requires_grad and not p.any()}
    assert zeros == {name for name in trained if internals.is_lora_b(name)}
    plain = {internals.get_plain_name(name) for name, _ in wrapped.named_parameters()}
    assert "model.layers.0.mlp.up_proj.weight" in plain
    assert list(wrapped.peft_config) == [internals.ADAPTER]


def test_inputs_are_cast_only_if_asked(wrapped: Any) -> None:
    layer = wrapped.get_base_model().model.layers[0].self_attn.q_proj
    assert layer.cast_input_dtype_enabled is True
    internals.set_input_cast(wrapped, False)
    half = torch.zeros(2, layer.in_features, dtype=torch.bfloat16)
    assert layer._cast_input_dtype(half, torch.float32).dtype == torch.bfloat16
    internals.set_input_cast(wrapped, True)
    assert layer._cast_input_dtype(half, torch.float32).dtype == torch.float32


def test_the_mark_of_four_bits_gives_adapters_for_such_layers() -> None:
    from peft.tuners.lora.bnb import Linear4bit

    run = compose(["model=tiny", "method=qlora", "precision=fp32", "method.rank=4", "method.alpha=8"]).run
    dtypes = settle(run.precision, "cpu")
    model = build(run.method, build(run.model, dtypes.frozen).model, dtypes)
    assert isinstance(model.get_base_model().model.layers[0].self_attn.q_proj, Linear4bit)
