"""The guide's memory is that of `fulgurite plan`, and the shapes have the parameters of their names."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fulgurite.config.facts import Facts
from fulgurite.config.frozen import thaw
from fulgurite.config.resolve import fill_run
from fulgurite.config.run import load_options
from fulgurite.config.schema import list_options
from fulgurite.explain.knob_index import build_default_run
from fulgurite.explain.model_shapes import BUNDLED, LENGTH, PROCESS, SHAPES, Demand, ModelShape, estimate_bytes
from fulgurite.method.four_bits import count_four_bit_bytes
from fulgurite.plan.context import Machine, ModelFacts, Weights
from fulgurite.plan.memory import estimate
from fulgurite.precision.config import WIDTH

NAMES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
load_options()


def _list_tensors(shape: ModelShape, method: str, rank: int, precision: Any) -> list[Weights]:
    full = method == "full"
    width = WIDTH[precision.trained if full else precision.frozen]
    ends = [("embed_tokens", "embedding")] + ([] if shape.tied else [("lm_head", "head")])
    numbers = shape.vocab * shape.hidden
    found = [Weights(name, (shape.vocab, shape.hidden), full, kind, numbers * width) for name, kind in ends]
    for layer in range(shape.layers):
        for name, (rows, columns) in zip(NAMES, shape.list_linear(), strict=True):
            size = count_four_bit_bytes(rows * columns, True) if method == "qlora" else rows * columns * width
            kind = "mlp" if "gate up down".find(name[:2]) >= 0 else "attention"
            found.append(Weights(f"layers.{layer}.{name}", (rows, columns), full, kind, size))
            if not full:
                wide = WIDTH[precision.trained]
                found += [
                    Weights(f"layers.{layer}.{name}.lora_A", (rank, columns), True, "adapter", rank * columns * wide),
                    Weights(f"layers.{layer}.{name}.lora_B", (rows, rank), True, "adapter", rows * rank * wide),
                ]
    return found


def _measure_with_plan(shape: ModelShape, run: Any, method: str, device: str) -> int:
    precision = run.precision
    tensors = _list_tensors(shape, method, int(getattr(run.method, "rank", 0) or 0), precision)
    facts = ModelFacts(
        parameters=int(shape.billions * 1e9), trained=sum(w.shape[0] * w.shape[1] for w in tensors if w.trained),
        tensors=tensors, layers=shape.layers, hidden=shape.hidden, heads=shape.heads, kv_heads=shape.kv_heads,
        intermediate=shape.intermediate, vocab=shape.vocab, tied=shape.tied, frozen_dtype=precision.frozen,
        trained_dtype=precision.trained, compute_dtype=precision.compute, billions=shape.billions,
    )
    memory = estimate(run, facts, None, Machine(device), 1)
    rollouts = memory.rollouts.total if memory.rollouts else 0
    return max(memory.training.total, rollouts)


@pytest.mark.parametrize("shape", [BUNDLED, SHAPES[2], SHAPES[4], SHAPES[7]], ids=lambda shape: shape.label)
@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
@pytest.mark.parametrize("stage", ["sft", "dpo", "grpo"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_memory_is_that_of_plan(shape: ModelShape, method: str, stage: str, checkpointing: bool) -> None:
    run, _ = fill_run(build_default_run(stage=stage, method=method, model="hf", precision="bf16"), Facts(device="cuda"))
    run = thaw(run)
    run.data.max_length, run.trainer.gradient_checkpointing = LENGTH, checkpointing
    ours = estimate_bytes(shape, Demand(run.stage, run.method, run.optim, run.precision, "cuda", checkpointing))
    assert ours - PROCESS["cuda"] == pytest.approx(_measure_with_plan(shape, run, method, "cuda"), rel=0.12)


def test_the_shapes_have_the_parameters_of_their_names() -> None:
    for shape in SHAPES:
        assert shape.billions == pytest.approx(float(shape.label.removesuffix("B")), rel=0.4)
    assert BUNDLED.billions == pytest.approx(list_options("model")["smollm2_135m"]().billions(), rel=0.01)  # type: ignore[attr-defined]


def test_checkpointing_and_four_bits_need_less() -> None:
    run, _ = fill_run(build_default_run(model="hf", precision="bf16"), Facts())
    plain = Demand(run.stage, run.method, run.optim, run.precision)
    less = [replace(plain, checkpointing=True), replace(plain, method=list_options("method")["qlora"]())]  # type: ignore[arg-type]
    assert all(estimate_bytes(SHAPES[4], other) < estimate_bytes(SHAPES[4], plain) for other in less)
