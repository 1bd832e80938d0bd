"""The memory estimate: its activations are the bytes that autograd keeps, its rest what live tensors hold."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from tests.plan.tiny import compose_tiny
from torch.autograd.graph import saved_tensors_hooks

from fulgurite.plan import memory
from fulgurite.plan.context import Machine
from fulgurite.run.load import apply_method, load_start
from fulgurite.stage.config import Engine
from fulgurite.strategy.config import Strategy

ROWS, TOKENS = 2, 24


def kept_bytes(model: Any, amp: bool) -> tuple[int, int]:
    """Bytes of what the decoder keeps for the backward pass: of the states, and of weights in another dtype."""
    owned = {p.untyped_storage().data_ptr() for p in model.parameters()}
    found: dict[int, Any] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in owned:
            found[storage.data_ptr()] = (tensor.shape, storage)  # held, or its address is used again
        return tensor

    plain = model.get_base_model() if hasattr(model, "get_base_model") else model
    ids = torch.arange(ROWS * TOKENS).reshape(ROWS, TOKENS)
    with saved_tensors_hooks(pack, lambda tensor: tensor), torch.autocast("cpu", torch.bfloat16, enabled=amp):
        states = plain.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
    assert states.requires_grad
    of_tokens = sum(s.nbytes() for shape, s in found.values() if ROWS in shape or ROWS * TOKENS in shape)
    return of_tokens, sum(s.nbytes() for _, s in found.values()) - of_tokens


@pytest.mark.parametrize(
    ("method", "precision"), [
        *((method, precision) for method in ("full", "lora") for precision in ("fp32", "bf16", "pure_bf16")),
        *((method, "bf16") for method in ("dora", "vera", "lora method.dropout=0.1")),
    ],
)
def test_a_layer_keeps_what_autograd_keeps(method: str, precision: str) -> None:
    sizes = []
    for layers in (3, 4):  # what one layer more keeps: the ends of the model are left out of the formula
        composed, dtypes, facts = compose_tiny(
            *f"method={method}".split(), f"precision={precision}", f"model.layers={layers}",
        )
        model = apply_method(
            composed.run.method,
            composed.run.stage.gives_rewards,
            load_start(composed.run.model, composed.run.method, composed.run.stage.gives_rewards, dtypes),
            dtypes,
        ).train()
        sizes.append(kept_bytes(model, dtypes.mixed))
    trained = memory.find_flowing(facts)[2]
    eager = str(composed.run.model.attention) == "eager"
    block = memory.Block(eager, getattr(composed.run.method, "dropout", 0.0))
    said = memory.count_layer(block, facts, trained, TOKENS) * ROWS * TOKENS
    assert sizes[1][0] - sizes[0][0] == said
    if "dora" in method:  # it makes its weights' norms from dense copies, and lets go of them
        return
    copied = memory.count_copies(facts) / 4
    assert sizes[1][1] - sizes[0][1] == pytest.approx(copied, rel=1e-6)


def test_only_the_layers_above_the_lowest_that_trains_keep_anything() -> None:
    _, _, facts = compose_tiny("method=freeze", "method.trainable=last:1", "model.layers=4")
    assert list(memory.find_flowing(facts)) == [3]
    _, _, facts = compose_tiny("method=full", "model.layers=4")
    assert list(memory.find_flowing(facts)) == [0, 1, 2, 3]


def test_weights_gradients_and_state_are_bytes_a_number() -> None:
    composed, _, facts = compose_tiny("method=full", "precision=fp32", "optim=adamw")
    part = memory.estimate(composed.run, facts, np.array([64]), Machine()).training
    numbers = facts.parameters
    assert (part.weights, part.gradients) == (4 * numbers, 4 * numbers)
    assert part.optimizer == 8 * numbers + 4 * len(facts.tensors)
    chunk = composed.run.stage.loss_chunk
    assert chunk < 64 * composed.run.trainer.micro_batch_size
    assert part.logits == chunk * facts.vocab * 8 + 4 * facts.vocab * facts.hidden


def test_checkpointing_and_shorter_rows_need_less() -> None:
    composed, _, facts = compose_tiny("method=full", "precision=fp32", "model.layers=8")
    whole = memory.estimate(composed.run, facts, np.array([64]), Machine())
    short = memory.estimate(composed.run, facts, np.array([32, 16]), Machine())
    assert 2 * short.training.activations == whole.training.activations
    again = replace(composed.run, trainer=replace(composed.run.trainer, gradient_checkpointing=True))
    checkpointed = memory.estimate(again, facts, np.array([64]), Machine())
    assert checkpointed.training.activations < whole.training.activations / 4


def test_on_a_cpu_layers_that_are_made_again_leave_the_holes_of_those_that_are_kept() -> None:
    composed, _, facts = compose_tiny("method=lora", "model.layers=8")
    again = replace(composed.run, trainer=replace(composed.run.trainer, gradient_checkpointing=True))

    def other(run: Any, device: str) -> int:
        return memory.estimate(run, facts, np.array([64]), Machine(device=device)).training.other

    assert other(again, "cpu") == other(composed.run, "cpu") > memory.LIBRARIES["cpu"]
    assert other(again, "cuda") < other(composed.run, "cuda")


def test_a_step_counts_where_it_needs_more_than_the_logits_left() -> None:
    composed, _, facts = compose_tiny("method=full", "precision=fp32", "optim=adamw_8bit")
    part = memory.estimate(composed.run, facts, np.array([8]), Machine()).training
    plain, _, _ = compose_tiny("method=full", "precision=fp32", "optim=adamw")
    without = memory.estimate(plain.run, facts, np.array([8]), Machine()).training
    step = 20 * max(math.prod(t.shape) for t in facts.tensors)
    assert part.logits < step
    assert part.other - without.other == step - part.logits


def test_weights_that_a_method_stores_otherwise_are_made_beside_the_file() -> None:
    composed, _, facts = compose_tiny("method=freeze", "method.trainable=last:1", "precision=bf16")
    whole = memory.count_loading(composed.run.method, facts, 0)
    assert whole.weights == facts.parameters * 4 + sum(t.bytes for t in facts.tensors)
    composed, _, facts = compose_tiny("method=freeze", "method.trainable=last:1", "precision=fp32")
    assert memory.count_loading(composed.run.method, facts, 0).weights == facts.parameters * 4


def test_another_engine_holds_a_copy_and_its_keys_and_values_all_the_time() -> None:
    words = ("stage=grpo", "stage.reward=['count:e']", "stage.rollout_batch=32", "precision=bf16")
    said = []
    for engine in ("transformers", "vllm"):
        composed, _, facts = compose_tiny(*words)
        run = replace(composed.run, stage=replace(composed.run.stage, engine=Engine(engine)))
        said.append(memory.estimate(run, facts, None, Machine()))
    own, other = said
    copy = 2 * sum(math.prod(t.shape) for t in facts.tensors if t.kind != "adapter")
    assert other.rollouts.total - own.rollouts.total == copy
    assert other.training.total - own.training.total == copy + own.rollouts.activations
    assert own.rollouts.activations > 0


@dataclass(slots=True)
class Divided(Strategy):
    """A strategy whose processes each hold a part."""

    replicates: ClassVar[bool] = False
    reshard: bool = True
    offload: bool = False
    hybrid: int | None = None


def estimate_for(processes: int, strategy: Strategy | None = None, device: str = "cpu", words: str = "") -> Any:
    """The estimate of a run of so many processes."""
    composed, _, facts = compose_tiny("method=full", "precision=fp32", "optim=adamw", *words.split())
    trainer = replace(composed.run.trainer, devices=processes)
    run = replace(composed.run, trainer=trainer, strategy=strategy or composed.run.strategy)
    return memory.estimate(run, facts, np.array([64]), Machine(device=device))


def test_a_process_of_several_holds_a_copy_or_a_part() -> None:
    """ddp exchanges gradients in buckets of its own; a divided run holds a part, and gathers a layer at a time."""
    one, copy, part = estimate_for(1), estimate_for(8), estimate_for(8, Divided())
    assert copy.training == replace(one.training, gradients=2 * one.training.gradients)
    assert (8 * part.training.weights, 8 * part.training.gradients) == (one.training.weights, one.training.gradients)
    assert (part.training.activations, part.training.logits) == (one.training.activations, one.training.logits)
    assert one.training.gathered == copy.training.gathered == 0 < part.evaluation.gathered < part.training.gathered
    assert estimate_for(8, Divided(reshard=False), words="model.layers=8").training.gathered > (
        estimate_for(8, Divided(), words="model.layers=8").training.gathered
    )


def test_a_group_of_hybrid_sharding_holds_one_model() -> None:
    assert estimate_for(8, Divided(hybrid=2)) == estimate_for(2, Divided())


def test_offloading_leaves_what_is_gathered_on_a_gpu() -> None:
    there, offloaded = (estimate_for(8, Divided(offload=offload), "cuda") for offload in (False, True))
    held = there.training
    assert offloaded.offloaded == held.weights + held.gradients + held.optimizer > there.offloaded == 0
    assert offloaded.training.total == held.total - offloaded.offloaded
    assert estimate_for(8, Divided(offload=True)) == estimate_for(8, Divided())  # a CPU has one memory


def test_a_gpu_loads_a_part_and_a_cpu_the_whole_model_in_turn() -> None:
    whole, cpu, gpu = (
        estimate_for(processes, strategy, device, "model.layers=8")
        for processes, strategy, device in ((1, None, "cpu"), (64, Divided(), "cpu"), (64, Divided(), "cuda"))
    )
    assert cpu.loading == whole.loading
    assert gpu.loading.total < whole.loading.weights
