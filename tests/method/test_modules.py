"""Layers, linear layers and parts of a model, what they count, and training some of them only."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.method.models import BF16, FP32, METHODS
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.pytorch_utils import Conv1D

from fulgurite.config.compose import compose
from fulgurite.config.schema import build
from fulgurite.errors import ConfigError
from fulgurite.method.config import Part, Qlora
from fulgurite.method.modules import (
    collect_names,
    count_parameters,
    find_layers,
    find_linear_layers,
    find_part,
    get_decoder_layers,
    is_linear,
    train_only,
)
from fulgurite.method.qlora import quantise_layer
from fulgurite.precision.policy import Dtypes
from fulgurite.precision.policy import build as settle

PURE = Dtypes("pure_bf16", "bf16-true", torch.bfloat16, torch.bfloat16, torch.bfloat16, "")


def test_no_parameter_stays_in_the_loaded_file_if_dtypes_differ() -> None:
    """One weight that lies in the mapped file keeps the whole file in memory."""
    run = compose(["model=tiny", "method=freeze", "precision=bf16", *METHODS["freeze"]]).run
    dtypes = settle(run.precision, "cpu")
    model = build(run.model, dtypes.trained).model
    loaded = {p.untyped_storage().data_ptr(): p.data for p in model.parameters()}  # held, or an address is used again
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    done = build(run.method, model, dtypes)
    assert any(p.requires_grad for p in done.parameters())
    for name, parameter in done.named_parameters():
        assert parameter.untyped_storage().data_ptr() not in loaded, name
        assert torch.equal(parameter.detach(), before[name].to(parameter.dtype)), name


@pytest.fixture
def llama() -> Any:
    """Two layers of width 8, an untied head."""
    shape = LlamaConfig(
        vocab_size=11, hidden_size=8, intermediate_size=12, num_hidden_layers=2, num_attention_heads=2,
        tie_word_embeddings=False,
    )
    return LlamaForCausalLM(shape)


def test_layers_and_names_are_found_and_a_model_without_them_refused(llama: Any) -> None:
    name, layers = find_layers(llama)
    assert (name, len(layers)) == ("model.layers", 2)
    assert get_decoder_layers(llama) is layers
    names = collect_names(llama)
    assert (names.prefix, names.count, names.all) == ("model.layers", 2, tuple(n for n, _ in llama.named_parameters()))
    llama.config.num_hidden_layers = 3
    with pytest.raises(ConfigError, match="LlamaForCausalLM has no list of 3 layers; use method=full or lora"):
        find_layers(llama)


def test_linear_layers_are_all_but_the_head(llama: Any) -> None:
    parts = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
             "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
    assert set(find_linear_layers(llama)) == {f"model.layers.{n}.{part}" for n in (0, 1) for part in parts}
    assert is_linear(llama.lm_head)
    assert is_linear(Conv1D(3, 4))  # GPT-2's
    assert not is_linear(llama.model.embed_tokens)


def test_a_linear_layer_of_an_architecture_counts_if_it_returns_a_product() -> None:
    class Product(nn.Linear):
        __module__ = "transformers.models.test"

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(x)

    class Router(Product):
        __module__ = "transformers.models.test"

        def forward(self, x: torch.Tensor) -> Any:
            return super().forward(x), None

    class Broken(Product):
        __module__ = "transformers.models.test"

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise ValueError("wants another shape")

    assert [is_linear(kind(4, 3)) for kind in (Product, Router, Broken)] == [True, False, False]
    Router.__module__ = "elsewhere"
    assert is_linear(Router(4, 3))  # only transformers' own kinds are tried


def test_parts_are_embeddings_head_and_norms_and_a_missing_one_is_refused(llama: Any) -> None:
    named = dict(llama.named_parameters())
    names = {id(p): name for name, p in named.items()}

    def found(part: Part) -> list[str]:
        return [names[id(p)] for p in find_part(llama, part)]

    assert found(Part.embeddings) == ["model.embed_tokens.weight"]
    assert found(Part.head) == ["lm_head.weight"]
    assert set(found(Part.norms)) == {name for name in named if "norm" in name}
    with pytest.raises(ConfigError, match=r"method\.extra_trainable: LlamaModel has no head"):
        find_part(llama.model, Part.head)


def test_counts_by_hand_also_of_packed_weights(llama: Any) -> None:
    # embedding and head 11 x 8 each; a layer 4 x 8 x 8 + 3 x 8 x 12 and two norms of 8; a norm at the end
    whole = 2 * 88 + 2 * (256 + 288 + 16) + 8
    assert count_parameters(llama) == (whole, whole)
    train_only(llama, [llama.lm_head.weight], FP32)
    assert count_parameters(llama) == (88, whole)
    packed: Any = quantise_layer(nn.Linear(64, 32, bias=False), Qlora(), FP32)
    assert packed.weight.numel() < 64 * 32
    assert count_parameters(packed) == (0, 64 * 32)


def test_buffers_follow_trained_weights_only_into_pure_bf16() -> None:
    for dtypes, expected in ((FP32, torch.float32), (BF16, torch.float32), (PURE, torch.bfloat16)):
        module = nn.Linear(2, 2)
        module.register_buffer("scale", torch.ones(2))
        train_only(module, [module.weight], dtypes)
        assert (module.weight.dtype, module.bias.dtype) == (dtypes.trained, dtypes.frozen)
        assert (module.weight.requires_grad, module.bias.requires_grad) == (True, False)
        assert module.scale.dtype == expected
