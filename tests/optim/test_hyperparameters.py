"""A resumed run computes with the hyperparameters of its config, not with those that the checkpoint brings back."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.end_to_end.runs import rows, tiny

from fulgurite.config.compose import compose
from fulgurite.config.schema import build
from fulgurite.optim.hyperparameters import copy_hyperparameters, copy_plateau_settings, restore_hyperparameters

CHANGED = ["optim.lr=5e-3", "optim.weight_decay=0.3", "trainer.max_steps=4"]
ALLOW = "resume.allow=[optim.lr,optim.weight_decay,trainer.max_steps]"


def rates(folder: Path) -> dict[int, float]:
    return {row["step"]: row["train/lr"] for row in rows(folder) if "train/lr" in row}


@pytest.mark.parametrize(("scheduler", "optim"), [
    ("constant", "adamw"), ("cosine", "adamw"), ("reduce_lr_on_plateau", "adamw"), ("constant", "schedule_free"),
])
def test_an_allowed_change_of_the_rate_takes_effect(tmp_path: Path, scheduler: str, optim: str) -> None:
    words = [f"scheduler={scheduler}", f"optim={optim}", "trainer.log_every=1"]
    tiny(tmp_path / "run", *words, "optim.lr=1e-3", "trainer.max_steps=2")
    tiny(tmp_path / "run", *words, *CHANGED, ALLOW)
    tiny(tmp_path / "whole", *words, *CHANGED)
    resumed, whole = rates(tmp_path / "run"), rates(tmp_path / "whole")
    assert [resumed[step] for step in (3, 4)] == [whole[step] for step in (3, 4)]


def made(*words: str) -> tuple[Any, Any]:
    run = compose(["scheduler=reduce_lr_on_plateau", *words]).run
    optimizer = torch.optim.AdamW(
        [torch.nn.Parameter(torch.ones(2))], lr=run.optim.lr or 1e-3, weight_decay=run.optim.weight_decay
    )
    return optimizer, build(run.scheduler, optimizer)


def test_the_cuts_of_a_plateau_stay_and_its_settings_are_those_of_now() -> None:
    before, cutting = made("optim.lr=1e-3", "scheduler.factor=0.5", "scheduler.patience=0", "optim.weight_decay=0.1")
    copy_hyperparameters(before)
    for loss in (1.0, 2.0, 3.0):
        cutting.step(loss)
    assert before.param_groups[0]["lr"] == 2.5e-4
    for factor, rate in ((0.5, 1e-3), (0.25, 4e-3)):
        after, scheduler = made(
            f"optim.lr={rate}", f"scheduler.factor={factor}", "scheduler.patience=0", "optim.weight_decay=0.2"
        )
        kept = copy_hyperparameters(after), copy_plateau_settings(scheduler)
        after.load_state_dict(copy.deepcopy(before.state_dict()))
        scheduler.load_state_dict(copy.deepcopy(cutting.state_dict()))
        restore_hyperparameters(after, scheduler, *kept)
        assert after.param_groups[0]["lr"] == rate / 4
        assert after.param_groups[0]["weight_decay"] == 0.2
        scheduler.step(4.0)
        assert after.param_groups[0]["lr"] == rate / 4 * factor
