"""Adapters: the layers they are put on, and OFT, (IA)³ and VeRA by their formulas."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file
from tests.method.models import (
    BF16,
    FP32,
    adapt_architecture,
    build_adapted,
    build_architecture,
    build_base,
    compute_logits,
    scramble,
)
from transformers import GPT2Config, GPT2LMHeadModel

from fulgurite.errors import ConfigError, ModelError
from fulgurite.method.adapters import (
    attach,
    freeze_base,
    list_layers_read_by_weight,
    list_linear_targets,
    load_adapter,
    oft,
    task,
)
from fulgurite.method.config import Oft
from fulgurite.plan.meta_model import count_without_adapter


@torch.no_grad()
def test_oft_rotates_blocks_of_the_inputs_by_cayleys_transform() -> None:
    layer, x = scramble(build_adapted("oft", "method.block=16"), "self_attn.q_proj")
    upper = layer.oft_R["default"].weight
    assert upper.shape == (4, 16 * 15 // 2)
    rotations = []
    for numbers in upper:
        skew = torch.zeros(16, 16)
        skew[torch.triu_indices(16, 16, 1).unbind()] = numbers
        skew = skew - skew.T
        rotations.append(torch.linalg.inv(torch.eye(16) + skew) @ (torch.eye(16) - skew))  # the two factors commute
    whole = torch.block_diag(*rotations)
    torch.testing.assert_close(whole @ whole.T, torch.eye(64), rtol=0, atol=1e-5)  # lengths and angles stay
    torch.testing.assert_close(layer(x), x @ whole @ layer.base_layer.weight.T, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_ia3_scales_outputs_of_keys_and_values_and_inputs_of_the_feed_forward() -> None:
    model = build_adapted("ia3")
    adapted = {
        name.split("layers.0.")[1] for name, m in model.named_modules() if hasattr(m, "ia3_l") and ".layers.0." in name
    }
    assert adapted == {"self_attn.k_proj", "self_attn.v_proj", "mlp.down_proj"}
    for name in adapted:
        layer, x = scramble(model, name)
        scale = layer.ia3_l["default"].flatten()
        weight = layer.base_layer.weight
        expected = (x * scale) @ weight.T if name == "mlp.down_proj" else (x @ weight.T) * scale
        torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_vera_learns_two_vectors_between_shared_random_matrices() -> None:
    model = build_adapted("vera", "method.rank=8")
    layer, x = scramble(model, "mlp.up_proj")
    d, b = layer.vera_lambda_d["default"], layer.vera_lambda_b["default"]
    assert (d.shape, b.shape) == ((8,), (128,))
    a_matrix, b_matrix = layer.vera_A["default"][:, : layer.in_features], layer.vera_B["default"][: layer.out_features]
    expected = x @ layer.base_layer.weight.T + ((x @ a_matrix.T) * d @ b_matrix.T) * b
    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-5)
    other = model.get_submodule("base_model.model.model.layers.1.mlp.up_proj")
    assert other.vera_A["default"].data_ptr() == layer.vera_A["default"].data_ptr()


@pytest.mark.parametrize(
    "kind", ["mamba", "mamba2", "falcon_h1", "llama4_text", "deepseek_v3", "qwen3_next", "nemotron_h"]
)
def test_lora_works_out_of_the_box_and_every_adapter_learns(kind: str) -> None:
    """Each B has a gradient: an adapter on a layer that is read by its weight would have none."""
    model = adapt_architecture(kind)
    ids = torch.arange(5, 21)[None]
    model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            assert parameter.grad is not None, name


def test_layers_that_a_kernel_reads_are_left_out_and_counted() -> None:
    model = build_architecture("mamba")
    assert {name.rpartition(".")[2] for name in list_layers_read_by_weight(model)} == {"out_proj", "dt_proj"}
    assert list_linear_targets(model, None) == ["in_proj", "x_proj"]
    assert {"mixer.out_proj", "mixer.dt_proj"} <= count_without_adapter(adapt_architecture("mamba")).keys()
    assert list_layers_read_by_weight(build_architecture("qwen3_next")) == []


def test_a_router_that_returns_more_than_a_product_is_no_target() -> None:
    assert "router" not in list_linear_targets(build_architecture("llama4_text"), None)
    # a class of its own too, whose output is a product
    assert "query_key_value" in list_linear_targets(build_architecture("falcon"), None)


@pytest.mark.parametrize("word", ["all", "all-linear"])
def test_all_means_every_linear_layer(word: str) -> None:
    model = build_architecture("llama")
    assert list_linear_targets(model, [word]) == list_linear_targets(model, None)


def test_a_layer_whose_name_ends_in_a_number_is_named_in_full() -> None:
    model = build_architecture("llama")
    model.model.layers[0].extra = torch.nn.Sequential(torch.nn.Linear(4, 4))
    assert "model.layers.0.extra.0" in list_linear_targets(model, None)
    assert "0" not in list_linear_targets(model, None)


def test_linear_targets_of_other_architectures_and_names_that_are_not_there() -> None:
    from fulgurite.method.lora import list_linear_targets

    gpt2 = GPT2LMHeadModel(GPT2Config(vocab_size=64, n_positions=32, n_embd=16, n_layer=1, n_head=2))
    assert list_linear_targets(gpt2, None) == ["c_attn", "c_fc", "c_proj"]
    llama = build_base()
    named = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
    assert list_linear_targets(llama, None) == named
    with pytest.raises(ConfigError, match=r"q_porj matches no linear layer\. Did you mean q_proj"):
        list_linear_targets(llama, ["q_porj"])


def test_attach_trains_the_adapter_in_its_dtype_beside_a_frozen_base() -> None:
    base = freeze_base(build_base(), BF16)
    assert {(p.dtype, p.requires_grad) for p in base.parameters()} == {(torch.bfloat16, False)}
    wrapped = attach(base, LoraConfig(r=2, target_modules=["q_proj"], task_type=task(base)), BF16)
    for name, parameter in wrapped.named_parameters():
        trained = "lora_" in name
        assert (parameter.dtype, parameter.requires_grad) == (torch.float32 if trained else torch.bfloat16, trained)
    with pytest.raises(ConfigError, match="method=lora does not fit this model"):
        attach(build_base(), LoraConfig(r=2, target_modules=["nowhere"]), FP32)


def test_a_reward_model_has_no_task_of_peft() -> None:
    model = build_base()
    assert task(model) == "CAUSAL_LM"
    assert task(model.model) is None


def test_rotations_are_refused_for_widths_that_the_block_does_not_divide() -> None:
    with pytest.raises(
        ConfigError, match=r"method\.block=48 does not divide 64, the inputs of model\.layers\.0\.self_attn"
    ):
        oft(Oft(block=48), build_base(), FP32)


def test_an_adapter_is_loaded_whole_or_refused(tmp_path: Path) -> None:
    wrapped = attach(build_base(), LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"), FP32)
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    wrapped.save_pretrained(tmp_path)
    loaded = load_adapter(build_base(), tmp_path)
    assert torch.equal(compute_logits(loaded.eval()), compute_logits(wrapped.eval()))
    file = tmp_path / "adapter_model.safetensors"
    kept = load_file(file)
    first = sorted(kept)[0]
    save_file({name: tensor for name, tensor in kept.items() if name != first}, file)
    with pytest.raises(ModelError, match=rf"lacks {re.escape(first)} \(1 missing, 0 unknown\)"):
        load_adapter(build_base(), tmp_path)
    save_file({**kept, "base_model.model.strange.lora_A.weight": torch.ones(2, 2)}, file)
    with pytest.raises(
        ModelError, match=r"no place: base_model\.model\.strange\.lora_A\.weight \(0 missing, 1 unknown\)"
    ):
        load_adapter(build_base(), tmp_path)
