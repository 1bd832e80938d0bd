"""Rows of speed: tokens a second and MFU of LoRA and full fine-tuning, ours beside a plain loop and TRL.

All three train rows of exactly `scale.length` tokens with a loss at every token, in the same steps and micro-batches,
with AdamW in its fused form, trained weights in fp32 under bf16 autocast, and a frozen base in bf16.
"""

from __future__ import annotations

import json
import shutil
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks import bare
from benchmarks.flops import synchronize
from benchmarks.gpu.scale import WARMUP, Bench
from benchmarks.gpu.training import (
    ALLOWED,
    Numbers,
    RowFailed,
    compose_experiment,
    fit,
    free_memory,
    measure_memory,
    refuse_missing_bf16,
    skip_without,
)
from fulgurite.model.flops import count_step

RANK = 16
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
RATES = {"lora": 2e-4, "full": 1e-5}


def measure_speed(bench: Bench, who: str, method: str) -> Numbers:
    """Trains the large model and returns tokens a second, MFU and peak memory."""
    refuse_missing_bf16(bench, "bf16")
    model = bench.make_model(bench.scale.large)
    assert model.is_dir()
    peak = bench.peak
    free_memory(bench)
    trainers: dict[str, Callable[[Bench, str], list[float]]] = {
        "fulgurite": train_ours, "plain loop": train_bare, "TRL": train_trl,
    }
    seconds = trainers[who](bench, method)
    if len(seconds) < bench.scale.steps - WARMUP:
        raise RowFailed(f"{len(seconds)} of {bench.scale.steps} steps were timed")
    speed = count_tokens(bench) / statistics.median(seconds)
    operations = count_step(bench.scale.large, bench.scale.length, RANK if method == "lora" else None)
    return {"tokens per second": speed, "MFU": speed * operations / peak, **measure_memory(bench)}


def count_tokens(bench: Bench) -> int:
    """Returns the tokens of an optimizer step."""
    return bench.scale.micro_batches * bench.scale.micro_batch * bench.scale.length


def train_ours(bench: Bench, method: str) -> list[float]:
    """Returns the seconds of the steps after the warmup of `fulgurite train`."""
    scale = bench.scale
    batch = scale.micro_batch * scale.micro_batches
    text = "A row of one length: the rate rises and falls, and the loss goes down. " * scale.length
    data = bench.folder / "speed.json"
    records = [{"instruction": f"Number {n}", "output": text} for n in range(batch * scale.steps)]
    data.write_text(json.dumps(records))
    folder = bench.folder / "run"
    shutil.rmtree(folder, ignore_errors=True)
    words = [
        "model=hf", f"model.path={bench.make_model(scale.large)}", f"method={method}", "precision=bf16", "data=file",
        f"data.path={data}", f"data.max_length={scale.length}", "data.too_long=truncate", "data.mask=all",
        "data.val_fraction=0", "stage.prompts=[]", f"optim.lr={RATES[method]}", f"run_dir={folder}", "logger=none",
        f"trainer.micro_batch_size={scale.micro_batch}", f"trainer.global_batch_size={batch}", "trainer.log_every=1",
        f"trainer.max_steps={scale.steps}", "trainer.save_every=100000", f"trainer.accelerator={bench.device}",
        f"plan.allow={ALLOWED}", *([f"method.rank={RANK}", "method.dropout=0"] if method == "lora" else []),
    ]
    fit(bench, compose_experiment(bench, words))
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    speeds = [row["train/tokens_per_second"] for row in rows if "train/tokens_per_second" in row]
    config = (folder / "config.yaml").read_text()
    if f"micro_batch_size: {scale.micro_batch}\n" not in config:
        raise RowFailed("memory ran out, and the micro-batch was halved")
    return [count_tokens(bench) / speed for speed in speeds[WARMUP:]]


def load_model(bench: Bench, method: str) -> Any:
    """Returns transformers' model with peft's adapters, on the device."""
    from transformers import AutoModelForCausalLM

    kind = torch.bfloat16 if method == "lora" else torch.float32
    model = AutoModelForCausalLM.from_pretrained(bench.make_model(bench.scale.large), dtype=kind).to(bench.device)
    if method == "lora":
        from peft import get_peft_model

        model = get_peft_model(model, build_adapter())  # its adapters are float32 under a base of bf16
    return model


def build_adapter() -> Any:
    """Returns peft's config of an adapter on every matrix."""
    from peft import LoraConfig

    return LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=TARGETS, task_type="CAUSAL_LM")


def make_rows(bench: Bench) -> list[torch.Tensor]:
    """Returns rows of random tokens for all steps."""
    scale = bench.scale
    generator = torch.Generator().manual_seed(0)
    count = scale.steps * scale.micro_batches * scale.micro_batch
    return list(torch.randint(0, scale.large.vocab, (count, scale.length), generator=generator))


def train_bare(bench: Bench, method: str) -> list[float]:
    """Returns the seconds of the steps of a plain loop over transformers' own loss."""
    scale, marks = bench.scale, []
    steps = bare.train(
        load_model(bench, method), [(ids, ids) for ids in make_rows(bench)], RATES[method],
        scale.micro_batch * scale.micro_batches, scale.micro_batch, mixed=True, fused=True,
    )
    for _ in steps:
        synchronize(bench.device)
        marks.append(time.perf_counter())
    return [b - a for a, b in zip(marks[WARMUP - 1 :], marks[WARMUP:], strict=False)]


def train_trl(bench: Bench, method: str) -> list[float]:
    """Returns the seconds of the steps of TRL's SFTTrainer."""
    for library in ("trl", "datasets"):
        skip_without(library)
    from datasets import Dataset
    from transformers import AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    scale, marks = bench.scale, []

    class Marks(TrainerCallback):  # type: ignore[misc]
        """Notes when a step ends."""

        def on_step_end(self, *given: Any, **more: Any) -> None:
            synchronize(bench.device)
            marks.append(time.perf_counter())

    config = SFTConfig(
        output_dir=str(bench.folder / "trl"), max_steps=scale.steps, per_device_train_batch_size=scale.micro_batch,
        gradient_accumulation_steps=scale.micro_batches, bf16=True, gradient_checkpointing=False, packing=False,
        max_length=scale.length, report_to="none", save_strategy="no", logging_strategy="no", disable_tqdm=True,
        learning_rate=RATES[method], max_grad_norm=1.0, optim="adamw_torch_fused", use_cpu=bench.device == "cpu",
        warmup_steps=0, dataloader_num_workers=0,
    )
    trainer = SFTTrainer(
        model=load_model(bench, method), args=config, callbacks=[Marks()],
        train_dataset=Dataset.from_dict({"input_ids": [ids.tolist() for ids in make_rows(bench)]}),
        processing_class=AutoTokenizer.from_pretrained(bench.make_model(scale.large)),
    )
    trainer.train()
    return [b - a for a, b in zip(marks[WARMUP - 1 :], marks[WARMUP:], strict=False)]
