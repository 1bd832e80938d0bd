"""Our LoRA product is peft's, in value, in gradient and merged."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from peft.tuners.lora import LoraLayer

from fulgurite.compose import compose
from fulgurite.precision.build import build as settle
from fulgurite.schema import build


def lora(*words: str) -> Any:
    run = compose(["model=tiny", "method=lora", "precision=fp32", "method.alpha=12", *words]).run
    dtypes = settle(run.precision, "cpu")
    torch.manual_seed(4)
    model = build(run.method, build(run.model, dtypes.frozen).model, dtypes)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)  # zero at the start, where any two versions agree
    return model


def plain(model: Any) -> Any:
    """The same model with peft's own product."""
    other = copy.deepcopy(model)
    for layer in other.modules():
        if isinstance(layer, LoraLayer):
            layer.lora_variant = {}
    return other


IDS = torch.arange(3, 63).reshape(2, 30)


@pytest.mark.parametrize("autocast", [False, True])
def test_value_and_gradients_are_pefts(autocast: bool) -> None:
    ours = lora().eval()
    theirs = plain(ours)
    found = []
    for model in (ours, theirs):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = model(input_ids=IDS, labels=IDS).loss
        loss.backward()
        found.append((loss.detach(), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}))
    (a, mine), (b, his) = found
    torch.testing.assert_close(a, b, rtol=2e-3 if autocast else 1e-6, atol=0)
    assert mine.keys() == his.keys()
    for name, gradient in mine.items():
        error = (gradient - his[name]).norm() / his[name].norm()
        assert error < (0.03 if autocast else 1e-5), name


def test_dropout_draws_the_same_and_is_off_at_inference() -> None:
    ours = lora("method.dropout=0.5")
    theirs = plain(ours)
    losses = []
    for model in (ours, theirs):
        model.train()
        torch.manual_seed(9)
        losses.append(float(model(input_ids=IDS, labels=IDS).loss.detach()))
        model.eval()
        losses.append(float(model(input_ids=IDS, labels=IDS).loss.detach()))
    assert losses[0] == pytest.approx(losses[2], rel=1e-6)
    assert losses[1] == pytest.approx(losses[3], rel=1e-6)
    assert losses[0] != losses[1]


def test_merged_is_adapter() -> None:
    model = lora().eval()
    with torch.no_grad():
        before = model(input_ids=IDS).logits
        after = model.merge_and_unload()(input_ids=IDS).logits
    torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-5)


def test_switched_off_it_is_the_base() -> None:
    model = lora().eval()
    base = build(compose(["model=tiny"]).run.model, torch.float32).model.eval()
    with torch.no_grad(), model.disable_adapter():
        assert torch.equal(model(input_ids=IDS).logits, base(input_ids=IDS).logits)
