"""Rows of short runs: every stage in every compute type, quantised weights and states, fp16's loss scaler, memory."""

from __future__ import annotations

import gc
import importlib.util
import json
import math
import resource
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback
from lightning.pytorch.plugins import MixedPrecision

import fulgurite as fg
from benchmarks.gpu.scale import Bench
from benchmarks.memory import rows_of, words
from fulgurite.config.frozen import freeze, thaw
from fulgurite.plan.rules import RULES
from fulgurite.precision.config import Fp16
from fulgurite.precision.policy import build as settle_dtypes

Numbers = dict[str, Any]
STEPS = 3
ROLLOUT = ["stage.reward=['count:e']", "stage.max_new_tokens=12"]
MORE = {
    "grpo": [*ROLLOUT, "stage.num_generations=4", "stage.kl_coefficient=0.01"],
    "ppo": [*ROLLOUT, "stage.minibatches=2"],
}
ALLOWED = f"[{','.join(rule.id for rule in RULES.values() if rule.insist)}]"
"""Rates and sizes here are made for models that know nothing."""
LARGE_SCALE, NORMAL_SCALE = 2.0**100, 2.0**16


class RowSkipped(Exception):
    """The row needs what this machine does not have."""


class RowFailed(Exception):
    """The row ran, and found what it must not find."""


def build_experiment(bench: Bench, folder: Path, *given: str, callbacks: Sequence[Callback] = ()) -> fg.Experiment:
    """Returns a run of the tiny model that writes into `folder`; the words given come last, so they win."""
    shutil.rmtree(folder, ignore_errors=True)
    usual = {
        "model": "tiny", "trainer.max_steps": STEPS, "trainer.log_every": 1, "trainer.global_batch_size": 4,
        "trainer.micro_batch_size": 2, "trainer.save_every": 1000, "trainer.eval_every": 1000,
        "data.max_samples": 40, "data.max_length": 96,
        "data.too_long": "truncate", "data.val_fraction": 0, "logger": "none", "stage.prompts": "[]",
        "trainer.accelerator": bench.device, "run_dir": folder,
        "plan.allow": ALLOWED,
    }
    if "stage=ppo" in given or "stage=grpo" in given:
        usual |= {"data.max_length": 256, "data.too_long": "drop"}  # a prompt must not be cut
    if "stage=rm" in given:
        del usual["stage.prompts"]  # a reward model generates nothing
    known = {word.partition("=")[0]: word.partition("=")[2] for word in given}
    words = [f"{name}={value}" for name, value in (usual | known).items()]
    return compose_experiment(bench, words, callbacks)


def compose_experiment(bench: Bench, words: list[str], callbacks: Sequence[Callback] = ()) -> fg.Experiment:
    """Returns the run of the words. On a CPU, which Fulgurite refuses for fp16 because it is slow there, a run in bf16
    gets the dtypes and the loss scaler of fp16."""
    simulated = bench.device == "cpu" and "precision=fp16" in words
    if not simulated:
        return fg.experiment(*words, callbacks=callbacks)
    given = ["precision=bf16" if word == "precision=fp16" else word for word in words]
    experiment = fg.experiment(*given, callbacks=callbacks)
    assert experiment.source  # the data are read, and bf16 is allowed
    run = thaw(experiment.composed.run)
    run.precision = Fp16()
    experiment.composed = replace(experiment.composed, run=freeze(run))
    experiment.dtypes = settle_dtypes(Fp16(), "cuda")
    return experiment


def fit(bench: Bench, experiment: fg.Experiment) -> None:
    """Trains, on a CPU in fp16 with its loss scaler, in place of which Lightning would take bf16."""
    if bench.device == "cpu" and experiment.dtypes.option == "fp16":
        experiment.trainer.strategy.precision_plugin = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu"))
    experiment.fit()


def refuse_missing_bf16(bench: Bench, precision: str) -> None:
    """Skips bf16 on a GPU that has none."""
    if bench.device == "cuda" and "bf16" in precision and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise RowSkipped("this GPU has no bf16")


def skip_without(package: str) -> None:
    """Skips a row whose package is not installed."""
    if importlib.util.find_spec(package) is None:
        raise RowSkipped(f"{package} is not installed")


def skip_without_bitsandbytes(*given: str) -> None:
    """Skips what bitsandbytes computes, if it is not installed."""
    if any("qlora" in word or "8bit" in word for word in given):
        skip_without("bitsandbytes")


def read_losses(folder: Path) -> list[float]:
    """Returns the training loss of each step. Raises RowFailed for one that is not a number."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    losses = [row["train/loss"] for row in rows if "train/loss" in row]
    if not losses or any(loss is None or not math.isfinite(loss) for loss in losses):
        raise RowFailed(f"losses {losses} are not all numbers")
    return losses


def run_stage(bench: Bench, stage: str, precision: str, *more: str) -> Numbers:
    """Trains a stage for three steps. Raises RowFailed if a loss is missing, or the run was on another device."""
    refuse_missing_bf16(bench, precision)
    skip_without_bitsandbytes(*more)
    folder = bench.folder / "run"
    experiment = build_experiment(
        bench, folder, f"stage={stage}", f"precision={precision}", *bench.make_data(stage), *MORE.get(stage, []), *more,
    )
    fit(bench, experiment)
    losses = read_losses(folder)
    if len(losses) != STEPS:
        raise RowFailed(f"{len(losses)} of {STEPS} steps have a loss")
    if (used := experiment.trainer.strategy.root_device.type) != bench.device:
        raise RowFailed(f"the run was on {used}")
    found: Numbers = {"loss": losses[-1]}
    if (scaler := getattr(experiment.trainer.precision_plugin, "scaler", None)) is not None:
        found["loss scale"] = scaler.get_scale()
    if precision == "fp16" and "loss scale" not in found:
        raise RowFailed("the run had no loss scaler")
    return found


def run_optimizer(bench: Bench, optim: str) -> Numbers:
    """Trains with an 8-bit optimizer. Raises RowFailed if none of its state is in 8 bits."""
    refuse_missing_bf16(bench, "bf16")
    skip_without_bitsandbytes(optim)
    look = StateDtypes()
    folder = bench.folder / "run"
    build_experiment(
        bench, folder, "method=full", f"optim={optim}", "precision=bf16", "model.hidden=128", callbacks=[look],
    ).fit()
    if torch.uint8 not in look.dtypes:
        raise RowFailed(f"the state has the types {sorted(map(str, look.dtypes))}, none of 8 bits")
    return {"loss": read_losses(folder)[-1]}


class StateDtypes(Callback):
    """The types of the optimizer's state after the last step."""

    def __init__(self) -> None:
        self.dtypes: set[torch.dtype] = set()

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        for optimizer in trainer.optimizers:
            for state in optimizer.state.values():
                self.dtypes |= {value.dtype for value in state.values() if torch.is_tensor(value)}


class Overflow(Callback):
    """Makes fp16's gradients overflow in the second step, and records scales and changes of the weights by step."""

    def __init__(self) -> None:
        self.scales: list[float] = []
        self.changes: list[float] = []
        self._before: list[torch.Tensor] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        scaler, first = trainer.precision_plugin.scaler, len(self._before) == 0
        if first:
            self._before = [p.detach().clone() for p in pl_module.parameters() if p.requires_grad]
        if first and trainer.global_step == 1:
            scaler.update(LARGE_SCALE)
        if first and trainer.global_step == 2:
            scaler.update(NORMAL_SCALE)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *rest: Any) -> None:
        if trainer.global_step <= len(self.scales):
            return  # between two micro-batches of a step
        now = [p.detach() for p in pl_module.parameters() if p.requires_grad]
        self.changes.append(max(float((a - b).abs().max()) for a, b in zip(now, self._before, strict=True)))
        self.scales.append(trainer.precision_plugin.scaler.get_scale())
        self._before = []


def run_overflow(bench: Bench, *more: str) -> Numbers:
    """Plants an overflow: the scale must halve, the weights must stay, and training must go on."""
    look, folder = Overflow(), bench.folder / "run"
    experiment = build_experiment(
        bench, folder, "precision=fp16", "method=full", "optim.lr=1e-3", "scheduler=constant", "trainer.max_steps=4",
        *more, callbacks=[look],
    )
    fit(bench, experiment)
    losses = read_losses(folder)
    if look.scales[1] != LARGE_SCALE / 2:
        raise RowFailed(f"the scale was {LARGE_SCALE:g} at the overflow and {look.scales[1]:g} after it, not half")
    if look.changes[1] != 0:
        raise RowFailed(f"weights changed by {look.changes[1]:g} in the step that overflowed")
    if min(look.changes[0], look.changes[2], look.changes[3]) == 0 or len(losses) != 4:
        raise RowFailed(f"a step without an overflow changed no weight: {look.changes}")
    return {"loss": losses[-1], "scale after the overflow": look.scales[1]}


def compare_devices(bench: Bench) -> Numbers:
    """Trains the same five fp32 steps on the device and on the CPU. Raises RowFailed if the losses differ by 1e-3."""
    found = []
    for device in (bench.device, "cpu"):
        folder = bench.folder / f"run-{device}"
        build_experiment(
            Bench(bench.scale, device, bench.folder), folder, "precision=fp32", "method=full", "optim.lr=1e-3",
            "trainer.max_steps=5",
        ).fit()
        found.append(read_losses(folder))
    apart = max(abs(a - b) for a, b in zip(*found, strict=True))
    if apart > 1e-3:
        raise RowFailed(f"losses differ by {apart:.2g}: {found}")
    return {"largest difference": apart}


def estimate_memory(bench: Bench, setting: str) -> Numbers:
    """Compares the estimate of `plan` with the measured peak: on a GPU what torch reserved, else the process."""
    method, precision, _, _, *more = setting.split()
    refuse_missing_bf16(bench, precision)
    skip_without_bitsandbytes(setting)
    if bench.device == "cpu":
        setting = " ".join([method, precision, "48", "2", *more])
    model = ["model=hf", f"model.path={bench.make_model(bench.scale.medium)}"]
    given = [
        *words(setting, rows_of(bench.folder), model), f"run_dir={bench.folder / 'run'}",
        f"trainer.accelerator={bench.device}", "logger=none", f"plan.allow={ALLOWED}",
    ]
    shutil.rmtree(bench.folder / "run", ignore_errors=True)
    experiment = compose_experiment(bench, given)
    estimate = int(experiment.plan().to_dict()["memory"]["peak"])
    free_memory(bench)
    fit(bench, experiment)
    found = measure_memory(bench)
    return {"estimate": estimate, **found, "error": estimate / found["peak"] - 1}


def free_memory(bench: Bench) -> None:
    """Frees what earlier rows left, and begins a new peak."""
    gc.collect()
    if bench.device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def measure_memory(bench: Bench) -> dict[str, float]:
    """Returns the peak in bytes: on a GPU what torch reserved, beside what its tensors took; else the process's."""
    if bench.device == "cuda":
        return {"peak": torch.cuda.max_memory_reserved(), "tensors": torch.cuda.max_memory_allocated()}
    return {"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}
