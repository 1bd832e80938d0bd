"""Runs of the tiny model in this process, and what they leave behind."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from torch import Tensor

import fulgurite as fg
from fulgurite.checkpoint.read import read_weights
from fulgurite.plan.rules import RULES

RATES = {
    "adamw": "1e-2", "sgd": "1.0", "adafactor": "0.2", "lion": "3e-3", "muon": "1e-2", "schedule_free": "8e-2",
    "adamw_8bit": "1e-2", "paged_adamw_8bit": "1e-2", "galore": "1e-2", "apollo": "1e-2", "badam": "1e-2",
    "adam_mini": "1e-2",
}
"""Each optimizer's rate on the tiny model."""
FULL_ONLY = ("muon", "galore", "apollo", "badam")
"""Optimizers that refuse adapters, see tests/optim/test_refusals.py."""
SMALL = {
    "galore": ["optim.rank=8", "optim.update_proj_gap=10"], "apollo": ["optim.rank=8", "optim.update_proj_gap=10"],
    "badam": ["optim.switch_every=5"],
}
"""Parameters that fit the tiny model and a short run."""


def tiny(folder: Path, *words: str) -> Path:
    """Train `model=tiny` on the guide into `folder`; words given win."""
    tiny_experiment(folder, *words).fit()
    return folder


def tiny_experiment(folder: Path, *words: str, **more: Any) -> fg.Experiment:
    """The experiment of `tiny`, not trained yet."""
    usual = {
        "model": "tiny", "data.max_samples": "60", "trainer.max_steps": "2", "trainer.global_batch_size": "4",
        "precision": "fp32",
        "stage.prompts": "[]", "run_dir": str(folder), "data.val_fraction": "0.1",
        "trainer.eval_every": "1000", "trainer.save_every": "1000",
        # rates and sizes here are made for a model that knows nothing: whatever may be insisted on is
        "plan.allow": f"[{','.join(rule.id for rule in RULES.values() if rule.insist)}]",
    }
    if "stage=rm" in words:
        del usual["stage.prompts"]  # a reward model does not speak
    return fg.experiment(*(f"{k}={v}" for k, v in (usual | said(words)).items()), **more)


def said(words: tuple[str, ...]) -> dict[str, str]:
    """Overrides by knob; the last word on a knob counts."""
    return {w.partition("=")[0]: w.partition("=")[2] for w in words}


def copy_until(folder: Path, copy: Path, step: int) -> Path:
    """A copy of a run's folder as it is after `step`, from which the run can be resumed; returns the copy.

    Checkpoints of later steps are removed; what else is later is rewound by the resumed run.
    """
    shutil.copytree(folder, copy, symlinks=True)
    for checkpoint in (copy / "checkpoints").glob("step-*"):
        if int(checkpoint.name.removeprefix("step-")) > step:
            shutil.rmtree(checkpoint)
    return copy


def rows(folder: Path) -> list[dict[str, Any]]:
    """metrics.jsonl without what time decides."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "train/tokens_per_second"} for line in lines]


def losses(folder: Path) -> list[float]:
    """The training loss of each step."""
    return [row["train/loss"] for row in rows(folder) if "train/loss" in row]


def last(folder: Path, name: str) -> float:
    """The newest value of a number of metrics.jsonl."""
    return float([row[name] for row in rows(folder) if name in row][-1])


def weights(folder: Path, name: str = "last") -> dict[str, Tensor]:
    """The trained weights of a checkpoint."""
    return read_weights(folder / "checkpoints" / name)
