"""A Lightning Trainer of one's own for an experiment of the tiny model."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import lightning as L
from tests.numerics.golden import WORDS as STAGE_WORDS
from tests.numerics.golden import write_data

import fulgurite as fg

STEPS = 4


class Losses(L.Callback):
    """A person's own callback: the loss of every optimizer step, as Lightning has it."""

    def __init__(self) -> None:
        self.seen: list[float] = []
        self.names: set[str] = set()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *rest: Any) -> None:
        if trainer.global_step > len(self.seen):
            self.seen.append(pl_module.step_record["train/loss"])
            self.names |= set(trainer.callback_metrics)


def words_of(stage: str, folder: Path, *more: str) -> list[str]:
    dropout = (
        [] if stage in ("grpo", "ppo") else ["method.dropout=0.1"]
    )  # a policy that is compared with itself has none
    return [
        f"stage={stage}", "data=file", f"data.path={write_data(folder, stage)}", "data.max_samples=40",
        "data.max_length=128",
        f"trainer.max_steps={STEPS}", f"trainer.eval_every={STEPS}", "optim.lr=3e-3", *dropout, *STAGE_WORDS[stage],
        *more,
    ]


def stock(folder: Path, experiment: fg.Experiment, **more: Any) -> L.Trainer:
    usual: dict[str, Any] = {
        "max_steps": STEPS, "accumulate_grad_batches": experiment.data.micro_batches_per_step,
        "default_root_dir": folder,
        "enable_progress_bar": False, "enable_model_summary": False, "logger": False, "log_every_n_steps": 1,
        "accelerator": "cpu", "enable_checkpointing": False,
    }
    return L.Trainer(**usual | more)


def fit(trainer: L.Trainer, experiment: fg.Experiment, **more: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice on workers and folders
        trainer.fit(experiment.module, datamodule=experiment.data, **more)
