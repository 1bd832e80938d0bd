"""Which models attend by documents: measured, not looked up."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from tests.model.test_document_attention import build_model, check_equal
from transformers import AutoModelForCausalLM

from fulgurite.model import document_attention as attention
from fulgurite.model.document_probe import use_documents
from fulgurite.model.probe import measure
from fulgurite.model.quiet import silence

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.architectures import EQUAL, configs


@pytest.mark.parametrize(("kind", "expected"), [
    ("llama", True), ("qwen2_moe", True), ("gpt_neox", True),
    ("llama4_text", False),  # its window is cut into blocks
    ("deepseek_v32", False),  # it looks into its mask
])
def test_a_model_is_asked(kind: str, expected: bool) -> None:
    model = build_model(kind)
    assert use_documents(model) is expected
    assert model.config._attn_implementation == ("documents" if expected else "sdpa")
    assert attention.is_by_documents(model) is expected


def test_a_model_with_another_attention_keeps_it() -> None:
    model = build_model("llama")
    model.set_attn_implementation("eager")
    assert not use_documents(model)
    assert model.config._attn_implementation == "eager"


@pytest.mark.parametrize("wrong", ["sees too much", "sees too little", "is not used"])
def test_documents_that_are_not_kept_apart_or_not_whole_are_found(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = attention.attend_in_turn

    def attend(query, key, value, mask, *rest):  # type: ignore[no-untyped-def]
        if wrong == "is not used":
            mask.reads = 0
            return usual(query, key, value, mask, *rest)
        cuts = {"sees too much": (16, 8), "sees too little": (5, 1, 3, 3, 8, 4)}[wrong]
        bounds = torch.tensor([0, *torch.tensor(cuts).cumsum(0).tolist()])
        other = attention.DocumentMask(attention.Documents(cuts, bounds), None, mask.rule)
        return usual(query, key, value, other, *rest)

    model = build_model("llama")
    with torch.no_grad():  # so small that logits move by less than they are rounded
        for name, parameter in model.named_parameters():
            if "v_proj" in name:
                parameter.mul_(1e-4)
    monkeypatch.setattr(attention, "attend_in_turn", attend)
    assert not use_documents(model)
    monkeypatch.undo()
    assert use_documents(model)


def test_nothing_of_the_model_changes_but_its_attention() -> None:
    model = build_model("gemma3_text").train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    assert use_documents(model)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in model.modules())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert "documents" not in model.config.to_json_string()


def test_weights_in_16_bits_are_compared_by_their_rounding() -> None:
    assert use_documents(build_model("llama").to(torch.bfloat16))


@pytest.mark.matrix
def test_every_architecture_that_packs_computes_the_same_by_documents() -> None:
    """All that transformers builds tiny; those that keep their mask are counted too, so that none drops out unseen."""
    counts = {True: 0, False: 0}
    for name, config in configs():
        try:
            with silence():
                torch.manual_seed(0)
                model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="sdpa").eval()
            packs = measure(model).packs
        except Exception:  # no such attention, or not built tiny: docs/architectures.md has the reasons
            continue
        if packs:
            able = use_documents(model)
            counts[able] += 1
            if able:
                print(name)
                check_equal(model, EQUAL)  # as docs/architectures.md; BitNet rounds its activations to 8 bits
    assert counts[True] > 50
    assert counts[False] < 20
