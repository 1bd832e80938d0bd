"""The rows of the table, by value: the first ones are those that a short time must reach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.gpu.scale import Bench

STAGES = ("sft", "dpo", "grpo", "ppo", "rm", "kto", "pt")
PRECISIONS = ("bf16", "fp16", "pure_bf16")
MEMORY = (
    "lora bf16 1024 8", "full bf16 1024 8", "qlora bf16 1024 8", "full fp32 512 8", "lora fp32 512 8",
    "full bf16 1024 8 trainer.gradient_checkpointing=true", "lora bf16 1024 8 trainer.gradient_checkpointing=true",
    "full bf16 1024 8 optim=adamw_8bit", "full pure_bf16 1024 8", "lora pure_bf16 1024 8", "freeze bf16 1024 8",
    "dora bf16 1024 8",
)
"""method, precision, tokens a row, rows a micro-batch, and other overrides, as in `benchmarks.memory`."""


@dataclass(frozen=True)
class Row:
    """One row: a function of `benchmarks.gpu` as module:name, and what it is given beside the bench."""

    section: str
    name: str
    function: str
    given: tuple[str, ...] = ()

    def run(self, bench: Bench) -> dict[str, Any]:
        """Returns the row's numbers; raises what went wrong."""
        import importlib

        module, _, name = self.function.partition(":")
        function: Callable[..., dict[str, Any]] = getattr(importlib.import_module(f"benchmarks.gpu.{module}"), name)
        return function(bench, *self.given)


def list_rows() -> list[Row]:
    """Returns all rows in the order in which they are run."""
    rows = [
        Row("device", "bf16 matrix product", "device:describe_device"),
        Row("device", "losses as on the CPU", "training:compare_devices"),
        Row("fp16", "planted overflow, full", "training:run_overflow"),
        Row("fp16", "planted overflow, lora", "training:run_overflow", ("method=lora",)),
    ]
    rows += [
        Row("stages", f"{stage}, {precision}", "training:run_stage", (stage, precision))
        for precision in PRECISIONS for stage in STAGES
    ]
    quantised = (("sft", "bf16"), ("sft", "fp16"), ("dpo", "bf16"), ("grpo", "bf16"))
    rows += [
        Row("8 and 4 bits", f"qlora, {stage}, {precision}", "training:run_stage", (stage, precision, "method=qlora"))
        for stage, precision in quantised
    ]
    rows += [
        Row("8 and 4 bits", optim, "training:run_optimizer", (optim,)) for optim in ("adamw_8bit", "paged_adamw_8bit")
    ]
    rows += [
        Row("packed attention", form, "attention:compare_attention", (form,)) for form in ("varlen", "loop", "mask")
    ]
    rows += [
        Row("speed", f"{method}, {who}", "speed:measure_speed", (who, method))
        for method in ("lora", "full") for who in ("fulgurite", "plain loop", "TRL")
    ]
    return rows + [Row("memory", ", ".join(s.split()), "training:estimate_memory", (s,)) for s in MEMORY]
