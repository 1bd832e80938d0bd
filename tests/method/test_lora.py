"""LoRA: merged it is the adapter, switched off it is the base."""

from __future__ import annotations

from typing import Any

import torch

from fulgurite.compose import compose
from fulgurite.precision.build import build as settle
from fulgurite.schema import build

IDS = torch.arange(3, 63).reshape(2, 30)


def lora(*words: str) -> Any:
    run = compose(["model=tiny", "method=lora", "precision=fp32", "method.alpha=12", *words]).run
    dtypes = settle(run.precision, "cpu")
    torch.manual_seed(4)
    model = build(run.method, build(run.model, dtypes.frozen).model, dtypes)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)  # zero at the start, where any two versions agree
    return model.eval()


def test_the_scale_is_alpha_over_rank() -> None:
    one, two = lora("method.rank=4"), lora("method.rank=4", "method.alpha=24")
    layer = "base_model.model.model.layers.0.self_attn.q_proj"
    x = torch.randn(2, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        a, b = (m.get_submodule(layer) for m in (one, two))
        base = a.base_layer(x)
        torch.testing.assert_close(b(x) - base, 2 * (a(x) - base), rtol=1e-4, atol=1e-5)
        by_hand = x @ a.lora_A["default"].weight.T @ a.lora_B["default"].weight.T * (12 / 4)
        torch.testing.assert_close(a(x) - base, by_hand, rtol=1e-4, atol=1e-5)


def test_merged_is_adapter() -> None:
    model = lora()
    with torch.no_grad():
        before = model(input_ids=IDS).logits
        after = model.merge_and_unload()(input_ids=IDS).logits
    torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-5)


def test_switched_off_it_is_the_base() -> None:
    model = lora()
    base = build(compose(["model=tiny"]).run.model, torch.float32).model.eval()
    with torch.no_grad(), model.disable_adapter():
        assert torch.equal(model(input_ids=IDS).logits, base(input_ids=IDS).logits)
