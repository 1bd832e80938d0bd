"""The operations of a token by hand, and by torch's own counter on a real model."""

from __future__ import annotations

import pytest
import torch
from tests.plan.facts import build_facts
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForCausalLM

from fulgurite.plan.context import DataFacts, ModelFacts, PlanFacts, Weights
from fulgurite.plan.operations import EFFICIENCY, STEP_SECONDS, count_operations, guess_timing

ROWS, TOKENS = 2, 24


def outline(
    trains: str, words: tuple[str, ...] = (), labels: int = ROWS * TOKENS
) -> tuple[PlanFacts, LlamaForCausalLM]:
    """A small Llama, of which only the weights with `trains` in their names are trained."""
    config = LlamaConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=96, tie_word_embeddings=False, attn_implementation="eager",
    )
    model = LlamaForCausalLM(config)
    kinds = {"embed_tokens": "embedding", "lm_head": "head", "self_attn": "attention", "mlp": "mlp", "norm": "norm"}
    tensors = []
    for name, weight in model.named_parameters():
        weight.requires_grad_(trains in name)
        kind = next(kind for part, kind in kinds.items() if part in name)
        tensors.append(Weights(name, tuple(weight.shape), trains in name, kind))
    facts = ModelFacts(tensors=tensors, layers=3, hidden=32, heads=4, kv_heads=2, intermediate=64, vocab=96)
    data = DataFacts(rows=ROWS, tokens=ROWS * TOKENS, label_tokens=labels)
    return build_facts(*words, steps=10, data=data, model=facts), model


@pytest.mark.parametrize("trains", ["", "layers.1.", "layers.2.", "lm_head"])
def test_operations_are_those_that_torch_counts(trains: str) -> None:
    seen, model = outline(trains)
    ids = torch.zeros(ROWS, TOKENS, dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        model(ids).logits.float().sum().backward()
    found = count_operations(seen)
    assert found is not None
    # attention's scores and the gradients of a layer's first inputs are counted a little otherwise
    assert found * ROWS * TOKENS == pytest.approx(counter.get_total_flops(), rel=0.1)


def test_checkpointing_and_unlearned_tokens_change_the_count() -> None:
    whole, less = count_operations(outline("")[0]), count_operations(outline("", labels=TOKENS)[0])
    again = count_operations(outline("", ("trainer.gradient_checkpointing=true",))[0])
    assert whole is not None
    assert less is not None
    assert again is not None
    assert whole - less == pytest.approx(3 * 2 * 32 * 96 / 2)
    assert again / whole == pytest.approx(4 / 3)


def test_operations_are_unknown_if_answers_are_generated_or_experts_chosen() -> None:
    seen, _ = outline("")
    assert count_operations(build_facts("stage=grpo", "data=guide_prompts", model=seen.model, data=seen.data)) is None
    seen.model.tensors.append(Weights("experts", (4, 32, 64), True, "mlp"))
    assert count_operations(seen) is None
    assert guess_timing(seen, 1e9) is None


def test_time_is_operations_at_the_share_of_the_rate() -> None:
    seen, _ = outline("")
    operations = count_operations(seen)
    assert operations is not None
    slow, fast = guess_timing(seen, 1e6), guess_timing(seen, 1e30)
    assert slow is not None
    assert fast is not None
    assert slow.token - fast.token == pytest.approx(operations / (EFFICIENCY * 1e6))
    assert slow.optimizer == STEP_SECONDS
    assert guess_timing(seen, 0.0) is None
