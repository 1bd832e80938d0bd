"""Which linear layers get an adapter where nobody names them, on architectures with routers, state-space mixers and numbered layers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from fulgurite.config.compose import compose
from fulgurite.method.adapters import linear_targets, read_by_weight
from fulgurite.model.load import Loaded
from fulgurite.model.quiet import silence
from fulgurite.model.twin import shrunk
from fulgurite.plan.meta_model import count_without_adapter
from fulgurite.precision.policy import build as settle
from fulgurite.run.load import apply_method


def model_of(kind: str) -> Any:
    torch.manual_seed(0)
    with silence():
        return AutoModelForCausalLM.from_config(shrunk(AutoConfig.for_model(kind)), dtype=torch.float32, attn_implementation="eager")


def adapted(kind: str, *words: str) -> Any:
    run = compose(["logger=none", "method=lora", "method.rank=4", "precision=fp32", *words]).run
    return apply_method(run, Loaded(model_of(kind), None, 64), settle(run.precision, "cpu"))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["mamba", "mamba2", "falcon_h1", "llama4_text", "deepseek_v3", "qwen3_next", "nemotron_h"])
def test_lora_works_out_of_the_box_and_every_adapter_learns(kind: str) -> None:
    """Each B has a gradient: an adapter on a layer that is read by its weight would have none."""
    model = adapted(kind)
    ids = torch.arange(5, 21)[None]
    model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            assert parameter.grad is not None, name


def test_what_a_kernel_reads_by_itself_is_left_out_and_counted() -> None:
    model = model_of("mamba")
    assert {name.rpartition(".")[2] for name in read_by_weight(model)} == {"out_proj", "dt_proj"}
    assert linear_targets(model, None) == ["in_proj", "x_proj"]
    assert {"mixer.out_proj", "mixer.dt_proj"} <= count_without_adapter(adapted("mamba")).keys()
    assert read_by_weight(model_of("qwen3_next")) == []


def test_a_router_that_returns_more_than_a_product_is_no_target() -> None:
    assert "router" not in linear_targets(model_of("llama4_text"), None)
    assert "query_key_value" in linear_targets(model_of("falcon"), None)  # a class of its own too, whose output is a product


@pytest.mark.parametrize("kind", ["mixtral", "qwen3_moe", "gpt_oss", "llama4_text"])
def test_experts_of_one_tensor_are_adapted_or_counted_as_left_out(kind: str) -> None:
    experts = {"experts.gate_up_proj", "experts.down_proj"}
    assert not experts & count_without_adapter(adapted(kind)).keys()
    assert experts <= count_without_adapter(adapted(kind, "method.dropout=0.1")).keys()
    assert count_without_adapter(adapted("llama")) == {}


@pytest.mark.parametrize("word", ["all", "all-linear"])
def test_all_means_every_linear_layer(word: str) -> None:
    model = model_of("llama")
    assert linear_targets(model, [word]) == linear_targets(model, None)


def test_a_layer_whose_name_ends_in_a_number_is_named_in_full() -> None:
    model = model_of("llama")
    model.model.layers[0].extra = torch.nn.Sequential(torch.nn.Linear(4, 4))
    assert "model.layers.0.extra.0" in linear_targets(model, None)
    assert "0" not in linear_targets(model, None)
