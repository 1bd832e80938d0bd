"""The formula of operations against torch's own counter, on a tiny model, and the table of peaks."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForCausalLM

from fulgurite.model.flops import Shape, count_model_step, count_parameters, count_step, find_peak

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*is_gradient_checkpointing.*:FutureWarning"
)  # peft asks by the old name

SHAPE = Shape(hidden=32, layers=2, intermediate=80, heads=4, kv_heads=2, vocab=96)
ROWS, LENGTH = 3, 24


def build_model() -> LlamaForCausalLM:
    """The eager form of attention, because torch does not count the fused one on a CPU."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=SHAPE.vocab, hidden_size=SHAPE.hidden, intermediate_size=SHAPE.intermediate,
            num_hidden_layers=SHAPE.layers, num_attention_heads=SHAPE.heads, num_key_value_heads=SHAPE.kv_heads,
            tie_word_embeddings=True, attn_implementation="eager",
        )
    )


@pytest.mark.parametrize("rank", [None, 4])
def test_the_formula_is_what_torch_counts(rank: int | None) -> None:
    model = build_model()
    if rank is not None:
        targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
        model = get_peft_model(model, LoraConfig(r=rank, target_modules=targets, task_type="CAUSAL_LM"))
    ids = torch.randint(0, SHAPE.vocab, (ROWS, LENGTH))
    with FlopCounterMode(display=False) as counter:
        model(input_ids=ids, labels=ids).loss.backward()
    counted = counter.get_total_flops() / ids.numel()
    assert counted == count_step(SHAPE, LENGTH, rank)


def test_the_parameters_are_those_of_the_model() -> None:
    assert count_parameters(SHAPE) == sum(p.numel() for p in build_model().parameters())


@pytest.mark.parametrize(
    ("name", "peak"),
    [("NVIDIA H200", 989e12), ("NVIDIA GH200 480GB", 989e12), ("NVIDIA H100 80GB HBM3", 989e12),
     ("NVIDIA H100 PCIe", 756e12), ("NVIDIA A100-SXM4-80GB", 312e12), ("NVIDIA L40S", 362e12), ("NVIDIA L4", 121e12),
     ("NVIDIA GeForce GTX 1080", None), ("NVIDIA A10", 125e12), ("NVIDIA A10G", 70e12),
     ("NVIDIA A100 80GB PCIe", 312e12)],
)
def test_a_peak_is_found_by_the_name(name: str, peak: float | None) -> None:
    assert find_peak(name) == peak


def test_a_model_counts_its_own_matrices() -> None:
    model = build_model()
    assert count_model_step(model, LENGTH) == count_step(SHAPE, LENGTH)
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    model = get_peft_model(model, LoraConfig(r=4, target_modules=targets, task_type="CAUSAL_LM"))
    first = sum(a * b + 4 * a for a, b in SHAPE.list_inputs())
    assert count_model_step(model, LENGTH) == count_step(SHAPE, LENGTH, 4) + 2 * first


def test_a_model_with_other_matrices_is_not_counted() -> None:
    model = build_model()
    model.model.layers[0].experts = torch.nn.Parameter(torch.zeros(2, 3, 4))
    assert count_model_step(model, LENGTH) is None
    assert count_model_step(torch.nn.Linear(2, 2), LENGTH) is None
