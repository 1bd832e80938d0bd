"""QLoRA: the quantised base is bitsandbytes', LoftQ makes up for it, and each form trains, resumes and exports."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import bitsandbytes as bnb
import pytest
import torch
from tests.end_to_end.runs import tiny, weights
from tests.method.models import BF16, FP32, build_adapted, build_base, compose_run
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from fulgurite.errors import ConfigError
from fulgurite.export.model import export_main
from fulgurite.method import qlora
from fulgurite.method.config import Qlora
from fulgurite.method.modules import find_linear_layers
from fulgurite.method.qlora import build, dequantise, quantise, quantise_layer
from fulgurite.model.probe import measure
from fulgurite.precision.config import Fp16
from fulgurite.precision.policy import build as settle_dtypes


def test_quantised_base_equals_bitsandbytes_and_loftq_approximates_its_error() -> None:
    name = "model.layers.0.self_attn.q_proj"
    original = build_base().get_submodule(name).weight.data
    layer = build_adapted("qlora").get_submodule(f"base_model.model.{name}")
    packed, state = bnb.functional.quantize_4bit(original.bfloat16(), quant_type="nf4", compress_statistics=True)
    assert torch.equal(dequantise(layer.base_layer), bnb.functional.dequantize_4bit(packed, state))
    loft = build_adapted("qlora", "method.init=loftq", "method.rank=8").get_submodule(f"base_model.model.{name}")
    plain = (dequantise(loft.base_layer).float() - original).norm()
    with torch.no_grad():
        better = (
            dequantise(loft.base_layer).float()
            + loft.scaling["default"] * loft.lora_B["default"].weight @ loft.lora_A["default"].weight
        )
    lost = torch.linalg.svdvals(original.bfloat16().float() - dequantise(loft.base_layer).float())
    # the best of rank 8
    assert float((better - original.bfloat16().float()).norm()) == pytest.approx(float(lost[8:].norm()), rel=1e-3)
    assert float((better - original).norm()) < 0.9 * float(plain)


def test_the_whole_base_is_on_the_device_that_quantises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qlora, "find_device", lambda: torch.device("meta"))
    monkeypatch.setattr(
        qlora, "quantise_layer", lambda layer, *_: nn.Linear(layer.in_features, layer.out_features, device="meta")
    )
    made = quantise(Qlora(), build_base(), BF16)
    on = {tensor.device.type for tensor in (*made.parameters(), *made.buffers())}
    assert on == {"meta"}  # else embeddings and norms would be on the CPU, and no token could pass


def test_in_fp16_the_loaded_model_computes() -> None:
    config = compose_run("model=tiny", "method=qlora", "method.rank=4").method
    found = measure(build(config, build_base(), settle_dtypes(Fp16(), "cuda")))
    assert found.causal
    assert found.packs


@pytest.mark.parametrize("words", [
    ("qlora", "method.quant_type=fp4"), ("qlora", "method.double_quant=false"),
    ("qlora", "method.init=loftq", "method.rank=4"),
    ("lora", "method.init=gaussian"), ("lora", "method.init=olora", "method.rank=4"),
], ids=" ".join)
def test_each_form_trains_resumes_and_exports(words: tuple[str, ...], tmp_path: Path) -> None:
    """Two steps, a stop after the first and a resume that ends with the same bits; and an export that is compared
    with the run."""
    chosen = (f"method={words[0]}", *words[1:], "trainer.save_every=1")
    whole, parts = tiny(tmp_path / "whole", *chosen), tmp_path / "parts"
    tiny(parts, *chosen)
    shutil.rmtree(parts / "checkpoints" / "step-2")
    tiny(parts, *chosen)
    for name, tensor in weights(whole).items():
        assert torch.equal(weights(parts)[name], tensor), name
    before, after = weights(whole, "step-1"), weights(whole, "step-2")
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert export_main([f"run={whole}", f"out={tmp_path / 'out'}", "merge=true"]) == 0


@pytest.mark.parametrize("bias", [True, False])
def test_a_plain_base_holds_the_numbers_of_the_four_bits(bias: bool) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(64, 32, bias=bias)
    packed: Any = quantise_layer(layer, Qlora(), FP32)
    plain: Any = quantise_layer(layer, Qlora(), dataclasses.replace(FP32, plain_base=True))
    assert type(plain) is nn.Linear
    assert torch.equal(plain.weight.data, dequantise(packed).float())
    assert not torch.equal(plain.weight.data, layer.weight.data)
    assert torch.equal(dequantise(plain), plain.weight.data)
    assert (plain.bias is None) == (packed.bias is None) == (not bias)
    if bias:
        assert torch.equal(plain.bias, layer.bias)


def test_a_plain_base_computes_in_bf16_what_the_four_bits_compute() -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(64, 32), torch.randn(3, 64).bfloat16()
    packed, plain = (quantise_layer(layer, Qlora(), dataclasses.replace(BF16, plain_base=p)) for p in (False, True))
    assert torch.equal(packed(x), plain(x))


def test_the_head_is_not_quantised_and_a_layer_that_is_not_torchs_is_refused() -> None:
    model = quantise(Qlora(), build_base(), FP32)
    quantised = {name for name, m in model.named_modules() if isinstance(m, bnb.nn.Linear4bit)}
    assert quantised == set(find_linear_layers(build_base()))
    gpt2 = GPT2LMHeadModel(GPT2Config(vocab_size=16, n_positions=8, n_embd=8, n_layer=1, n_head=2))
    with pytest.raises(ConfigError, match=r"cannot quantise transformer\.h\.0\.attn\.c_attn, a Conv1D; use method="):
        quantise(Qlora(), gpt2, FP32)
