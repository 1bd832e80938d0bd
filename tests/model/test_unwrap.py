"""transformers' own model under peft's wrapper."""

from __future__ import annotations

from peft import LoraConfig
from tests.model.folders import load_model

from fulgurite.method.adapters import attach
from fulgurite.model.config import Tiny
from fulgurite.model.unwrap import unwrap_model
from fulgurite.precision.config import Fp32
from fulgurite.precision.policy import build as settle


def test_the_model_under_an_adapter_is_found_with_its_layers_in_it() -> None:
    model = load_model(Tiny()).model
    assert unwrap_model(model) is model
    wrapped = attach(model, LoraConfig(r=2, target_modules=["q_proj"]), settle(Fp32(), "cpu"))
    assert unwrap_model(wrapped) is model
    assert hasattr(unwrap_model(wrapped).model.layers[0].self_attn.q_proj, "lora_A")
