"""The weights with an adapter in them are those that peft merges, and the model they are read from stays what it is."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from tests.method.models import IDS, METHODS, build_adapted

from fulgurite.config.compose import compose
from fulgurite.method.merge import merge_weights
from fulgurite.precision.policy import build as settle
from fulgurite.run.load import apply_method, load_start


def stirred(model: Any) -> Any:
    """As after some training: every trained number moved, so that no factor is nothing."""
    torch.manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p.add_(torch.randn_like(p) * 0.05)
    return model


def with_words(*words: str) -> Any:
    run = compose(["model=tiny", "method=lora", "precision=fp32", *words]).run
    dtypes = settle(run.precision, "cpu")
    return apply_method(
        run.method, run.stage.gives_rewards, load_start(run.model, run.method, run.stage.gives_rewards, dtypes), dtypes
    ).eval()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("method", sorted(set(METHODS) - {"qlora"}))
def test_merged_weights_equal_pefts_and_the_model_is_unchanged(method: str, precision: str) -> None:
    same_as_merged(stirred(build_adapted(method, precision=precision)))


@pytest.mark.parametrize("words", [
    ["model.add_tokens=[mark_one,mark_two]"], ["method.modules_to_save=[norm]"],
])
def test_merged_weights_contain_added_tokens_and_whole_modules(words: list[str]) -> None:
    same_as_merged(stirred(with_words(*words)))


def same_as_merged(model: Any) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = {name: tensor.clone() for name, tensor in merge_weights(model)}
    whole = copy.deepcopy(model)
    plain = whole.merge_and_unload() if hasattr(whole, "merge_and_unload") else whole
    for name, tensor in plain.state_dict().items():
        assert torch.equal(found.pop(name), tensor), name
    assert found == {}
    assert model.state_dict().keys() == before.keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_one_weight_may_be_kept_while_the_next_are_asked_for() -> None:
    """vLLM holds q and k until it has v as well."""
    model = stirred(build_adapted("lora"))
    kept = dict(merge_weights(model))
    plain = copy.deepcopy(model).merge_and_unload()
    plain.load_state_dict(kept)
    with torch.no_grad():
        torch.testing.assert_close(plain(input_ids=IDS).logits, model(input_ids=IDS).logits, rtol=1e-4, atol=1e-4)
