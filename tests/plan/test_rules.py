"""Each rule of plan/rules: runs that make it find_troubles, with what it says and what it tells to paste; and runs that do not.

No training and no torch: a run is composed, and its facts are set by hand (tests/plan/made.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.plan.made import said, seen

from fulgurite.checkpoint.resume import Change
from fulgurite.config.compose import compose
from fulgurite.plan.context import Cheaper, DataFacts, Disk, Machine, Memory, MemoryPart, ModelFacts, Weights
from fulgurite.plan.rules import RULES, find_troubles
from fulgurite.plan.rules.precision import unmoved
from fulgurite.run.resume_plan import ResumePlan

GB = 1_000_000_000


def model(**facts: Any) -> ModelFacts:
    known = {"parameters": 135_000_000, "trained": 2_000_000, "vocab": 49_152, "max_positions": 2048, "path": "my-model"}
    return ModelFacts(**(known | facts))


def data(**facts: Any) -> DataFacts:
    known = {"records": 10_500, "rows": 10_000, "val_rows": 500, "tokens": 2_000_000, "label_tokens": 800_000, "max_length": 512,
             "sources": ["a.jsonl", "b.jsonl"]}
    return DataFacts(**(known | facts))


def memory(training: float, evaluation: float = 1, rollouts: float | None = None) -> Memory:
    drawn = None if rollouts is None else MemoryPart(weights=int(rollouts * GB))
    return Memory(MemoryPart(weights=GB, activations=int((training - 1) * GB)), MemoryPart(weights=int(evaluation * GB)), drawn)


def free(gigabytes: float, **facts: Any) -> Machine:
    return Machine(**({"device": "cuda", "name": "a GPU", "memory_free": int(gigabytes * GB)} | facts))


@dataclass(frozen=True)
class Case:
    """A run by its overrides and facts; what the rule says of it, if it speaks."""

    rule: str
    words: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    severity: str = ""
    part: str = ""
    remedy: str = ""


CHANGED = ResumePlan(Path("runs/a"), 5, refused=(Change("optim.lr", 0.001, 0.002),))
E = ResumePlan(Path("runs/a"), step=50)
SFT_LORA = "model=hf model.path=none"  # of unknown size: taken as 7B
SPEAKS = [
    Case("rate.low-for-lora", "optim.lr=5e-5", {}, "warning", "optim.lr=5e-05 is low for method=lora: most runs of stage=sft use 0.0001",
         "optim.lr=0.001"),
    Case("rate.low-for-lora", f"{SFT_LORA} method=qlora optim.lr=5e-5", {}, "warning", "and 1,000 steps of it", "optim.lr=0.0002"),
    Case("rate.low-for-lora", "method=dora optim.lr=9e-5", {}, "warning", "method=lora", "optim.lr=0.001"),
    Case("rate.low-for-lora", "stage=pt optim.lr=4e-5", {}, "warning", "stage=pt use 5e-05 to 0.001", "optim.lr=0.0002"),
    Case("rate.low-for-lora", "method=oft optim.lr=2e-5", {}, "warning", "use 3e-05 to 0.003", "optim.lr=0.0003"),
    Case("rate.high-for-preference", f"{SFT_LORA} stage=dpo method=full optim.lr=2e-6", {}, "warning",
         "sigmoid with method=full and optim.lr=2e-06: published runs use 2e-07 to 1e-06", "optim.lr=5e-07"),
    Case("rate.high-for-preference", "stage=dpo method=full optim.lr=1e-5", {}, "error", "drive both answers down", "optim.lr=1e-06"),
    Case("rate.high-for-preference", "stage=dpo optim.lr=5e-5", {}, "warning", "1e-06 to 2e-05", "optim.lr=1e-05"),
    Case("rate.high-for-preference", "stage=dpo optim.lr=1e-3", {}, "error", "1e-06 to 2e-05", "optim.lr=1e-05"),
    Case("rate.high-for-preference", "stage=dpo stage.loss=simpo optim.lr=1e-4", {}, "warning", "simpo with", "optim.lr=1e-05"),
    Case("rate.high-for-preference", "stage=kto optim.lr=1e-5", {}, "warning", "kto with method=lora", "optim.lr=5e-06"),
    Case("rate.high-for-preference", "stage=dpo optim.lr=1e-3 trainer.max_steps=20", {"steps": 20}, "warning", "", "optim.lr=1e-05"),
    Case("rate.out-of-band", "optim.lr=5e-2", {}, "error", "optim.lr=0.05 is 25 times the highest rate in use for stage=sft",
         "optim.lr=0.001"),
    Case("rate.out-of-band", "optim.lr=3e-3", {}, "warning", "is 1.5 times", "optim.lr=0.001"),
    Case("rate.out-of-band", "optim.lr=0.02", {}, "warning", "is 10 times", "optim.lr=0.001"),
    Case("rate.out-of-band", "model=tiny optim.lr=5e-2", {}, "warning", "25 times", "optim.lr=0.001"),
    Case("rate.out-of-band", "model=tiny method=full optim.lr=0.99", {}, "error", "is 990 times the highest", "optim.lr=0.0001"),
    Case("rate.out-of-band", "method=full optim.lr=0.99 trainer.max_steps=3", {"steps": 3}, "error", "990 times", "optim.lr=0.0001"),
    Case("rate.high-for-preference", "model=tiny stage=dpo method=full optim.lr=0.99", {}, "error", "", "optim.lr=1e-06"),
    Case("value.unusual", "trainer.keep_checkpoints=9", {}, "warning",
        "trainer.keep_checkpoints=9 is outside what is usual here (1 to 5).", "trainer.keep_checkpoints=5"),
    Case("value.unusual", "stage=dpo stage.loss=simpo stage.gamma=5", {}, "warning", "stage.gamma=5.0 is outside", "stage.gamma=2"),
    Case("rate.out-of-band", "method=full optim.lr=1e-7", {}, "error",
         "The lowest rate in use for stage=sft with method=full (1e-05) is 100 times",
         "optim.lr=0.0001"),
    Case("rate.out-of-band", "stage=dpo optim.lr=5e-7", {}, "warning", "(1e-06) is 2 times optim.lr=5e-07", "optim.lr=1e-05"),
    Case("rate.out-of-band", "stage=dpo stage.loss=cpo optim.lr=5e-3", {}, "warning", "is 2.5 times the highest", "optim.lr=1e-05"),
    Case("rate.out-of-band", "stage=rm optim.lr=1e-5", {}, "warning", "is 10 times optim.lr=1e-05", "optim.lr=0.0003"),
    Case("optim.muon-rate", "method=full optim=muon optim.scale=own optim.lr=1e-5", {}, "warning", "about 0.02; optim.lr=1e-05 is AdamW's",
         "optim.scale=rms"),
    Case("lora.scale-pinned", "method.rank=64 method.alpha=16", {}, "warning",
         "a scale of 0.25; at the usual 2 the update is 8 times as strong",
         "method.alpha=128"),
    Case("lora.scale-pinned", "method.rank=8 method.alpha=64", {}, "warning", "a scale of 8; at the usual 2 the update is 4 times weaker",
         "method.alpha=16"),
    Case("warmup.none", "method=full scheduler.warmup_ratio=0", {}, "warning", "No warmup: the first steps run at the full rate of 0.0001",
         "scheduler.warmup_ratio=0.03"),
    Case("warmup.none", "stage=dpo scheduler.warmup_steps=0", {"steps": 50}, "warning", "", "scheduler.warmup_steps=2"),
    Case("warmup.none", "scheduler.warmup_ratio=0", {"steps": 201}, "warning", "empty Adam moments", "scheduler.warmup_ratio=0.03"),
    Case("warmup.too-long", "scheduler.warmup_steps=1000", {}, "error",
         "Warmup takes 1,000 of 1,000 steps: the rate 0.001 is never reached",
         "scheduler.warmup_steps=30"),
    Case("warmup.too-long", "scheduler.warmup_ratio=0.31", {"steps": 100}, "warning", "31 of 100 steps: the rate 0.001 is reached at 31%",
         "scheduler.warmup_ratio=0.1"),
    Case("warmup.too-long", "scheduler.warmup_steps=9 trainer.max_steps=4", {"steps": 4}, "warning", "never", "scheduler.warmup_steps=1"),
    Case("scheduler.same-as", "scheduler=cosine_with_restarts scheduler.cycles=1", {}, "warning",
         "scheduler=cosine_with_restarts is the same curve as scheduler=cosine (exactly)", "scheduler.cycles=2"),
    Case("scheduler.same-as", "scheduler=polynomial scheduler.power=1", {}, "warning", "scheduler=linear (largest difference",
         "scheduler.power=2"),
    Case("scheduler.same-as", "scheduler=constant_with_warmup scheduler.warmup_ratio=0", {}, "warning", "scheduler=constant (exactly)",
         "scheduler.warmup_steps=100"),
    Case("scheduler.same-as", "scheduler=inverse_sqrt scheduler.warmup_ratio=0", {"steps": 150}, "warning", "scheduler=constant",
         "scheduler.warmup_steps=15"),
    Case("scheduler.same-as", "scheduler=inverse_sqrt scheduler.timescale=100000", {"steps": 150}, "warning",
         "scheduler=constant_with_warmup",
         "scheduler.warmup_steps=15 scheduler.timescale=15"),
    Case("scheduler.same-as", "scheduler=cosine_with_min_lr scheduler.min_ratio=0", {}, "warning", "scheduler=cosine",
         "scheduler.min_ratio=0.1"),
    Case("scheduler.same-as", "scheduler=warmup_stable_decay scheduler.decay_ratio=1", {}, "warning", "scheduler=cosine (exactly)",
         "scheduler.decay_ratio=0.2"),
    Case("loss.beta-band", "stage=dpo stage.loss=simpo stage.beta=0.1", {}, "error",
         "stage.beta=0.1 with stage.loss=simpo: 2 to 10 are in use",
         "stage.beta=2"),
    Case("loss.beta-band", "stage=dpo stage.beta=2", {}, "warning", "stage.loss=sigmoid: 0.01 to 0.5", "stage.beta=0.1"),
    Case("loss.beta-band", "stage=dpo stage.length_normalize=true stage.beta=0.3", {}, "warning", "2 to 10", "stage.beta=5"),
    Case("loss.beta-band", "stage=kto stage.beta=6", {}, "error", "stage.beta=6 with stage=kto: 0.05 to 0.5", "stage.beta=0.1"),
    Case("kto.batch", "stage=kto trainer.global_batch_size=1", {}, "error", "trainer.global_batch_size=1 are too few",
        "trainer.global_batch_size=32"),
    Case("kto.batch", "stage=kto trainer.global_batch_size=8", {}, "warning", "trainer.global_batch_size=8 are few",
        "trainer.global_batch_size=32"),
    Case("kto.batch", "stage=kto trainer.global_batch_size=256", {}, "warning", "large for KTO",
        "trainer.global_batch_size=64"),
    Case("kto.balance", "stage=kto", {"data": data(positives=1000, negatives=4000)}, "warning",
         "1,000 good and 4,000 bad answers, weighted 0.25 : 1", "stage.desirable_weight=4.67"),
    Case("kto.balance", "stage=kto", {"data": data(positives=5000, negatives=1000)}, "warning", "weighted 5 : 1",
         "stage.undesirable_weight=4.29"),
    Case("kto.balance", "stage=kto", {"data": data(positives=5000)}, "warning", "there is no bad one"),
    Case("rm.data", "stage=rm", {"data": data(rows=999)}, "warning", "999 pairs are few for a reward model"),
    Case("rm.data", "stage=rm trainer.epochs=3", {"data": data(rows=9_999)}, "note", "9,999 pairs are on the short side",
         "trainer.epochs=1"),
    Case("rm.data", "stage=rm", {"data": data(rows=20_000, length_bias=0.7)}, "warning",
         "The longer answer is preferred in 70% of 20,000 pairs"),
    Case("rm.data", "stage=rm", {"data": data(rows=20_000, length_bias=0.3)}, "warning", "The shorter answer is preferred in 70%"),
    Case("preference.pairs", "stage=dpo", {"data": data(same_pairs=3, first_same_pair="a.jsonl:7")}, "error",
         "a.jsonl:7: chosen and rejected are the same tokens (and 2 more)"),
    Case("stage.no-sft", "stage=dpo", {"model": model(has_template=False)}, "warning", "my-model looks like a base model",
         "stage.loss=orpo"),
    Case("stage.no-sft", "stage=kto", {"model": model(has_template=False)}, "warning", "KTO usually follows stage=sft"),
    Case("ppo.last-resort", "stage=ppo stage.reward=[length:50]", {}, "note", "DPO does most of it offline", "stage=grpo"),
    Case("precision.born-bf16", "precision=fp16", {"model": model(compute_dtype="float16", stored_dtype="bfloat16")}, "error",
         "my-model was trained in bf16; fp16 overflows above 65504", "precision=bf16"),
    Case("precision.born-bf16", "", {"model": model(compute_dtype="float16", stored_dtype="bfloat16"), "machine": free(9, bf16=False)},
         "warning", "", "precision=fp32"),
    Case("precision.pure-bf16", "method=full precision=pure_bf16 precision.rounding=nearest optim.lr=1e-5", {}, "warning",
         "about 84% of the weights ignore a step of 1e-05", "precision.rounding=stochastic"),
    Case("precision.pure-bf16", "stage=dpo method=full precision=pure_bf16 precision.rounding=nearest", {}, "error", "98%",
         "precision.rounding=stochastic"),
    Case("precision.pure-bf16", "method=full optim=adamw_8bit precision=pure_bf16 optim.lr=2e-5", {}, "warning", "", "precision=bf16"),
    Case("memory.train", "trainer.micro_batch_size=8", {"memory": memory(9.6), "machine": free(10)}, "error",
         "Training needs about 9.6 GB on a GPU (weights 1 GB, activations 8.6 GB); 10 GB are free.",
         "trainer.micro_batch_size=4"),
    Case("memory.train", "trainer.micro_batch_size=1", {"memory": memory(8.1), "machine": free(10)}, "warning",
         "8.1 GB", "trainer.gradient_checkpointing=true"),
    Case("memory.train", "trainer.micro_batch_size=1", {"memory": memory(2, 9), "machine": free(10)}, "warning",
        "Evaluation needs about 9 GB"),
    Case("memory.train", "stage=grpo stage.reward=[length:50]", {"memory": memory(2, 1, 9), "machine": free(10)}, "warning",
         "A rollout needs", "stage.rollout_batch=32"),
    Case("memory.train", "method=full", {"memory": memory(20), "machine": free(10), "cheaper": [
        Cheaper("trainer.micro_batch_size=1", 15 * GB), Cheaper("method=lora", 7 * GB),
        Cheaper("method=qlora", 4 * GB)]}, "error",
         "with trainer.micro_batch_size=1 it is 15 GB; with method=lora it is 7 GB", "method=lora"),
    Case("memory.eval", "trainer.micro_batch_size=512", {"machine": free(10)}, "note",
         "Evaluation keeps no logits; whole they would be 51.5 GB"),
    Case("memory.replicas", "trainer.devices=2 method=full", {"memory": memory(6), "machine": free(10, device="cpu")}, "warning",
         "a whole copy in each of 2 processes: 6 GB each, 12 GB together; 10 GB are free", "method=lora"),
    Case("disk.checkpoints", "method=full", {"disk": Disk(2 * GB, 4, 8 * GB), "machine": Machine(disk_free=8 * GB)}, "error",
         "4 checkpoints of 2 GB need 8 GB", "trainer.keep_checkpoints=1"),
    Case("disk.checkpoints", "method=full trainer.keep_checkpoints=1",
        {"disk": Disk(2 * GB, 3, 6 * GB), "machine": Machine(disk_free=11 * GB)},
         "warning",
         "11 GB are free", "method=lora"),
    Case("device.nothing-fits", "method=full", {"memory": memory(90), "machine": free(10), "cheaper": [
        Cheaper("method=lora", 60 * GB), Cheaper("method=qlora trainer.micro_batch_size=1", 30 * GB)]}, "error",
         "Nothing fits: the smallest plan (method=qlora trainer.micro_batch_size=1) needs 30 GB, and 10 GB are free on a GPU"),
    Case("data.too-long", "", {"data": data(too_long=105, percentile_99=700)}, "note",
         "105 of 10,500 examples (1.0%) are longer than 512 tokens: they are dropped; 99 % have at most 700", "data.max_length=704"),
    Case("data.too-long", "", {"data": data(too_long=3000)}, "warning", "28.6%"),
    Case("data.too-long", "data.too_long=truncate", {"data": data(too_long=200, cut_answers=200, percentile_99=4000)}, "warning",
         "200 are cut",
         "data.too_long=drop"),
    Case("data.too-long", "data.too_long=truncate", {"data": data(too_long=3000, cut_answers=3000, percentile_99=900)}, "error", "",
         "data.max_length=960"),
    Case("data.too-long", "data.too_long=truncate", {"data": data(too_long=50, cut_answers=50, percentile_99=300)}, "note", "50 are cut",
         "data.too_long=drop"),
    Case("data.few-labels", "", {"data": data(empty_labels=3, dropped={"bad record, x: y": 2})}, "error", "3 examples have no label left",
         "data.max_drop=5"),
    Case("data.few-labels", "data.mask=last", {"data": data(label_tokens=90_000)}, "warning", "Only 4.5% of 2,000,000 tokens are learned",
         "data.mask=answers"),
    Case("data.beyond-model", "", {"data": data(lengths=np.array([40, 600]), max_length=1024), "model": model(max_positions=512)}, "error",
         "The longest example has 600 tokens, and the model reads at most 512.", "data.max_length=512"),
    Case("packing.mixing", "stage=pt", {"model": model(architecture="OPTForCausalLM", packs=False)}, "error",
         "OPTForCausalLM cannot keep packed examples apart",
         "data.packing=none"),
    Case("packing.mixing", "data.packing=best_fit", {"model": model(architecture="GptOssForCausalLM", packs=False)}, "error", "GptOss",
         "data.packing=none"),
    Case("model.not-causal", "", {"model": model(architecture="BertLMHeadModel", causal=False)}, "error", "is_decoder=true"),
    Case("model.vocabulary", "", {"data": data(without_row=["<a>", "</a>"]), "model": model(vocab=512)}, "error",
         "The model's embedding has 512 rows, and none for '<a>', '</a>'", """model.add_tokens='["<a>","</a>"]'"""),
    Case("model.attention", "", {"model": model(attention="eager")}, "warning", "no sdpa attention"),
    Case("lora.left-out", "",
         {"model": model(parameters=100, trained=0, without_adapter={"experts.up": 60, "mixer.out_proj": 5})}, "warning",
         "65% of the frozen weights have no adapter"),
    Case("lora.left-out", "", {"model": model(parameters=100, trained=0, without_adapter={"mixer.out_proj": 5})}, "note", "5%"),
    Case("model.mended", "", {"model": model(notes=["The padding token is number 512."])}, "warning", "number 512"),
    Case("data.sampled", "data.max_samples=1000", {"data": data(not_drawn=9000)}, "note",
         "1,000 of 10,000 examples, drawn at random with seed 42",
         "data.max_samples=null"),
    Case("data.no-validation", "data.val_fraction=0", {"data": data(val_rows=0)}, "warning", "over-fitting will not show",
         "data.val_fraction=0.05"),
    Case("data.repeats", "trainer.epochs=10", {}, "warning", "10 epochs over 10,000 rows: expect the loss to step down",
         "trainer.epochs=3"),
    Case("data.repeats", "trainer.epochs=2", {"data": data(rows=200_000)}, "warning", "2 epochs over 200,000 rows", "trainer.epochs=1"),
    Case("data.repeats", "trainer.max_steps=1000 trainer.global_batch_size=10", {"data": data(rows=1000)}, "warning",
        "10 epochs over 1,000 rows",
         "trainer.max_steps=300"),
    Case("data.repeats", "", {"data": data(duplicates=200)}, "note", "200 of 10,000 examples stand in the data more than once"),
    Case("data.forgetting", "method=full", {"data": data(sources=["a.jsonl"])}, "note", "with every weight and 2 passes",
         "trainer.epochs=1"),
    Case("data.forgetting", "optim.lr=2e-3", {"data": data(sources=["a.jsonl"])}, "note", "the highest rate in use", "trainer.epochs=1"),
    Case("data.cache", "", {"data": data(fresh=True, lengths=np.full(1_000_000, 400))}, "note",
         "Tokenising 1,000,000 examples takes about 22 minutes"),
    Case("template.unsure", "", {"model": model(has_template=False)}, "warning", "my-model has no chat template: chatml is put in"),
    Case("template.unsure", "data.template=alpaca", {}, "warning", "data.template=alpaca takes the place", "data.template=null"),
    Case("data.no-end", "", {"data": data(no_end=12)}, "error", "12 answers end without an end token", "data.template=chatml"),
    Case("data.no-end", "data.template=alpaca", {"data": data(no_end=12)}, "error", "12 answers", "data.template=null"),
    Case("data.two-starts", "", {"data": data(two_starts=2, first_two_starts="a.jsonl:4")}, "error", "the first at a.jsonl:4"),
    Case("tokens.new", "method=freeze method.extra_trainable=[embeddings] model.add_tokens=['<x>']",
        {"model": model(tied=False)}, "error",
         "1 new tokens, but the head, which is not tied", "method.extra_trainable=[embeddings,head]"),
    Case("freeze.pattern", "method=freeze", {"model": model(tensors=[
        Weights("a", (2_000_000,), True, "mlp"), Weights("b", (133_000_000,), False, "attention")])}, "note",
         "Trained: 2,000,000 of 135,000,000 parameters (1.5%): mlp 2,000,000."),
    Case("resume.changed", "resume.allow=[seed]", {"earlier": CHANGED}, "error",
         "This run differs from runs/a: optim.lr 0.001 → 0.002", "resume.allow=[optim.lr,seed]"),
    Case("resume.finished", "", {"earlier": ResumePlan(Path("runs/a"), 1000)}, "error", "runs/a finished at step 1,000 of 1,000",
         "trainer.max_steps=2000 resume.allow=[trainer.max_steps]"),
    Case("resume.exactness", "", {"earlier": ResumePlan(Path("runs/a"), 5, missing=("optimizer.safetensors",))}, "error",
         "has no optimizer.safetensors"),
    Case("export.template", "", {"model": model(template_differs="renders conversations otherwise than training does.")}, "error",
         "The exported tokenizer renders conversations otherwise", "data.template=chatml"),
    Case("export.generation", "", {"model": model(invalid_generation={"temperature": 0.6, "top_p": 0.9})}, "note",
         "what transformers refuses there: temperature=0.6, top_p=0.9."),
    Case("export.padding", "stage=rm", {"model": model(free_padding=False)}, "note", "an export with merge=true adds one"),
    Case("export.apart", "method.init=pissa", {}, "note", "began with method.init=pissa"),
    Case("export.apart", "model.add_tokens=[xx]", {}, "note", "This run added tokens"),
]
SILENT = [
    Case("value.unusual", "trainer.keep_checkpoints=5"), Case("value.unusual", "optim.lr=5e-5"),
    # low-for-lora speaks of it
    Case("rate.low-for-lora", "optim.lr=1e-4"), Case("rate.low-for-lora", "method=full optim.lr=5e-5"),
    Case("rate.low-for-lora", "stage=dpo optim.lr=5e-6"), Case("rate.low-for-lora", "optim=lion optim.lr=5e-5"),
    Case("rate.high-for-preference", "stage=dpo optim.lr=2e-5"), Case("rate.high-for-preference", "stage=dpo method=full optim.lr=2e-6"),
    Case("rate.high-for-preference", "stage=dpo stage.loss=orpo method=full optim.lr=8e-6"), Case("rate.high-for-preference",
         "optim.lr=1e-3"),
    Case("rate.out-of-band", "optim.lr=2e-3"), Case("rate.out-of-band", "optim.lr=5e-5"),  # low-for-lora speaks
    Case("rate.out-of-band", "stage=dpo optim.lr=1e-3"), Case("rate.out-of-band", "stage=dpo stage.loss=cpo optim.lr=1e-4"),
    Case("optim.muon-rate", "method=full optim=muon optim.scale=own"), Case("optim.muon-rate", "method=full optim=muon optim.lr=1e-5"),
    Case("lora.scale-pinned", "method.rank=64"), Case("lora.scale-pinned", "method.rank=16 method.alpha=16"),
    Case("lora.scale-pinned", "method=rslora method.rank=64 method.alpha=16"), Case("lora.scale-pinned", "method=full"),
    Case("warmup.none", "method=full"), Case("warmup.none", "method=full scheduler=constant"),
    Case("warmup.none", "scheduler.warmup_ratio=0", {"steps": 200}), Case("warmup.none", "method=full trainer.max_steps=1", {"steps": 1}),
    Case("warmup.too-long", "scheduler.warmup_ratio=0.3"), Case("warmup.too-long", "trainer.max_steps=3", {"steps": 3}),
    Case("scheduler.same-as"), Case("scheduler.same-as", "scheduler=constant"), Case("scheduler.same-as", "scheduler=reduce_lr_on_plateau"),
    Case("scheduler.same-as", "scheduler=cosine_with_restarts scheduler.cycles=1", {"steps": 9}),
    Case("loss.beta-band", "stage=dpo"), Case("loss.beta-band", "stage=dpo stage.loss=simpo stage.beta=4"), Case("loss.beta-band"),
    Case("loss.beta-band", "stage=dpo stage.loss=ipo stage.beta=0.9"),
    Case("kto.batch", "stage=kto"), Case("kto.batch", "trainer.global_batch_size=1"),
    Case("kto.batch", "stage=kto trainer.global_batch_size=128"),
    Case("kto.balance", "stage=kto", {"data": data(positives=1300, negatives=1000)}),
    Case("kto.balance", "stage=kto stage.desirable_weight=4", {"data": data(positives=1000, negatives=4000)}), Case("kto.balance"),
    Case("rm.data", "stage=rm", {"data": data(length_bias=0.6)}), Case("rm.data", "stage=dpo", {"data": data(rows=100)}),
    Case("preference.pairs", "stage=dpo"), Case("stage.no-sft", "stage=dpo"), Case("stage.no-sft", "",
         {"model": model(has_template=False)}),
    Case("stage.no-sft", "stage=dpo stage.loss=orpo", {"model": model(has_template=False)}),
    Case("ppo.last-resort", "stage=grpo stage.reward=[length:50]"),
    Case("precision.born-bf16", "", {"model": model(compute_dtype="float16", stored_dtype="float32")}),
    Case("precision.born-bf16", "precision=bf16", {"model": model(compute_dtype="bfloat16", stored_dtype="bfloat16")}),
    Case("precision.pure-bf16", "method=full precision=pure_bf16 optim.lr=1e-5"),  # rounds by chance
    Case("precision.pure-bf16", "method=full precision=pure_bf16 precision.rounding=nearest optim.lr=1e-4"),
    Case("memory.train", "", {"memory": memory(8), "machine": free(10)}), Case("memory.train", "", {"machine": free(10)}),
    Case("memory.train", "", {"memory": memory(90), "machine": free(10), "cheaper": [Cheaper("method=qlora", 30 * GB)]}),  # nothing fits
    Case("memory.eval", "trainer.micro_batch_size=8", {"machine": free(10)}),
    Case("memory.replicas", "", {"memory": memory(6), "machine": free(10, device="cpu")}),
    Case("memory.replicas", "trainer.devices=2", {"memory": memory(3.9), "machine": free(10, device="cpu")}),
    Case("disk.checkpoints", "", {"disk": Disk(GB, 4, 4 * GB), "machine": Machine(disk_free=8 * GB)}), Case("disk.checkpoints"),
    Case("device.nothing-fits", "", {"memory": memory(20), "machine": free(10), "cheaper": [Cheaper("method=lora", 9 * GB)]}),
    Case("device.nothing-fits", "", {"memory": memory(20), "machine": free(10)}),
    Case("data.too-long"), Case("data.too-long", "stage=pt", {"data": data(too_long=500)}),
    Case("data.few-labels"), Case("data.few-labels", "data.max_drop=3", {"data": data(empty_labels=3)}),
    Case("data.few-labels", "stage=grpo stage.reward=[length:50]", {"data": data(label_tokens=0)}),
    Case("data.beyond-model", "", {"data": data(lengths=np.array([40, 600]), max_length=512), "model": model(max_positions=512)}),
    Case("data.beyond-model", "", {"data": data(lengths=np.array([40, 500]), max_length=1024), "model": model(max_positions=512)}),
    Case("packing.mixing", "", {"model": model(architecture="OPTForCausalLM", packs=False)}),
    Case("packing.mixing", "stage=pt", {"model": model(architecture="LlamaForCausalLM", packs=True)}),
    Case("packing.mixing", "stage=pt", {"model": model(architecture="UnknownForCausalLM")}),
    Case("model.not-causal", "", {"model": model(causal=True)}), Case("model.not-causal"), Case("model.mended"), Case("lora.left-out"),
    Case("lora.left-out", "method.targets=[q_proj]", {"model": model(parameters=100, trained=0, without_adapter={"x": 60})}),
    Case("model.attention"),
    Case("model.attention", "model.attention=eager", {"model": model(attention="eager")}),
    Case("model.vocabulary", "", {"data": data(), "model": model(vocab=512)}),
    Case("data.sampled"), Case("data.no-validation"), Case("data.repeats"), Case("data.repeats", "trainer.epochs=3"),
    Case("data.repeats", "trainer.max_steps=50 trainer.global_batch_size=10", {"data": data(rows=10), "steps": 50}),
    Case("data.forgetting", "method=full", {"data": data()}), Case("data.forgetting", "", {"data": data(sources=["a.jsonl"])}),
    Case("data.forgetting", "method=full trainer.epochs=1", {"data": data(sources=["a.jsonl"])}),
    Case("data.cache", "", {"data": data(fresh=False, lengths=np.full(1_000_000, 400))}),
    Case("data.cache", "", {"data": data(fresh=True, lengths=np.full(10_000, 400))}),
    Case("template.unsure"), Case("template.unsure", "stage=pt", {"model": model(has_template=False)}),
    Case("data.no-end"), Case("data.two-starts"), Case("freeze.pattern"),
    Case("tokens.new", "model.add_tokens=['<x>']", {"model": model(tied=False)}),
    Case("tokens.new", "method=freeze method.extra_trainable=[embeddings] model.add_tokens=['<x>']",
        {"model": model(tied=True)}),
    Case("resume.changed"), Case("resume.changed", "", {"earlier": E}), Case("resume.finished", "", {"earlier": E}),
    Case("resume.finished"),
    Case("resume.exactness", "", {"earlier": E}),
    Case("export.template"), Case("export.generation"),
    Case("export.generation", "stage=rm", {"model": model(invalid_generation={"top_p": 1})}),
    Case("export.padding", "stage=rm"), Case("export.padding", "", {"model": model(free_padding=False)}),
    Case("export.apart"), Case("export.apart", "method=full model.add_tokens=[xx]"),
]
OWN_FILE = {"steps.patience", "steps.too-few"}
DECIDED_BY_FACTS = {
    "memory.train", "memory.replicas", "disk.checkpoints", "data.too-long", "data.no-end", "data.sampled", "data.no-validation", "rm.data",
    "data.beyond-model", "data.few-labels", "data.repeats", "precision.born-bf16", "resume.changed", "resume.finished",
    "device.nothing-fits", "export.template", "model.vocabulary",
}
"""Rules whose remedy changes what was measured, which a fact set by hand does not follow."""


def name(case: Case) -> str:
    return f"{case.rule} {case.words} {'+'.join(case.facts)}".strip()


@pytest.mark.parametrize("case", SPEAKS, ids=name)
def test_it_speaks_and_its_remedy_can_be_pasted(case: Case) -> None:
    found = said(case.rule, seen(*case.words.split(), **case.facts))
    assert found is not None
    assert (found.severity, found.remedy) == (case.severity, case.remedy)
    assert case.part in found.sentence
    assert found.sentence.endswith(".")
    pasted = found.remedy.split()
    if not pasted:
        return
    changed = {word.partition("=")[0] for word in pasted}
    words = [word for word in case.words.split() if word.partition("=")[0] not in changed]
    if case.rule in DECIDED_BY_FACTS:
        compose(["logger=none", *words, *pasted])
    else:
        assert said(case.rule, seen(*words, *pasted, **case.facts)) is None


@pytest.mark.parametrize("case", SILENT, ids=name)
def test_it_is_silent(case: Case) -> None:
    assert said(case.rule, seen(*case.words.split(), **case.facts)) is None


def test_each_rule_is_heard_and_not_heard_above() -> None:
    assert {case.rule for case in SPEAKS} == RULES.keys() - OWN_FILE
    assert {case.rule for case in SILENT} == RULES.keys() - OWN_FILE
    assert {case.rule for case in SPEAKS if case.severity == "error"} == {r.id for r in RULES.values() if r.severity == "error"} - OWN_FILE


@pytest.mark.parametrize("stage", ["sft", "pt", "dpo", "kto", "rm", "grpo stage.reward=[length:50]"])
@pytest.mark.parametrize("method", ["lora", "qlora", "full", "freeze", "oft", "vera"])
@pytest.mark.parametrize("optim", ["adamw", "lion", "sgd"])
def test_a_derived_run_hears_no_more_than_notes(stage: str, method: str, optim: str) -> None:
    words = f"stage={stage} method={method} optim={optim}".split()
    found = find_troubles(seen(*words, data=data(positives=5500, negatives=5000)))
    assert [trouble for trouble in found if trouble.severity != "note"] == []


def test_the_share_that_bf16_rounds_away_is_the_measured_one() -> None:
    assert unmoved(1e-5) == pytest.approx(0.84, abs=0.005)
    assert unmoved(1e-9) == pytest.approx(1, abs=1e-4)


def test_what_a_rule_says_better_is_not_said_again() -> None:
    run = seen("optim.lr=5e-5", "trainer.keep_checkpoints=9")
    assert [found.parameter for found in run.unusual] == ["optim.lr", "trainer.keep_checkpoints"]
    assert [(t.rule, t.sentence.partition("=")[0]) for t in find_troubles(run)] == [
        ("rate.low-for-lora", "optim.lr"), ("value.unusual", "trainer.keep_checkpoints"),
    ]
