"""What a Lightning Trainer may not change: each is refused before the first step, in one sentence."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from lightning.pytorch.strategies import DDPStrategy
from tests.end_to_end.runs import rows, tiny_experiment
from tests.train.stock_trainer import fit, stock, words_of

import fulgurite as fg
from fulgurite.config.compose import compose
from fulgurite.errors import ConfigError
from fulgurite.stage.trainer_check import read_clipping


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> fg.Experiment:
    """A run of two micro-batches a step, which no test here trains."""
    folder = tmp_path_factory.mktemp("two")
    return tiny_experiment(folder / "run", *words_of("sft", folder, "trainer.micro_batch_size=2"))


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "one micro-batch a step": (
        {"accumulate_grad_batches": 1},
        r"accumulate_grad_batches=1 is not allowed: an optimizer step of this run has 2",
    ),
    "another norm": (
        {"gradient_clip_val": 0.5},
        r"gradient_clip_val=0\.5 by norm is not allowed: this run's clipping is 1 by norm",
    ),
    "clipping by value": (
        {"gradient_clip_val": 1.0, "gradient_clip_algorithm": "value"},
        r"gradient_clip_val=1 by value is not allowed",
    ),
    "another precision": (
        {"precision": "bf16-mixed"},
        r"precision='bf16-mixed' is not allowed: this run computes with precision=fp32",
    ),
    "overfitting": ({"overfit_batches": 2}, r"overfit_batches is not allowed: .* set data\.max_samples"),
    "a cut step": (
        {"limit_train_batches": 3},
        r"limit_train_batches leaves 3 batches per epoch, which cuts an optimizer step of 2",
    ),
    "one batch": ({"fast_dev_run": 1}, r"limit_train_batches leaves 1 batches"),
    "an evaluation inside a step": (
        {"val_check_interval": 3, "check_val_every_n_epoch": None},
        r"val_check_interval=3 evaluates inside an optimizer step of 2",
    ),
    "more steps than the schedule": (
        {"max_steps": 5},
        r"makes 5 optimizer steps, more than the 4 .* L\.Trainer\(max_steps=4\)",
    ),
    "no end": ({"max_steps": -1, "max_epochs": -1}, r"makes inf optimizer steps"),
    "a schedule of accumulation": (
        {"accumulate_grad_batches": 2, "callbacks": [GradientAccumulationScheduler({0: 2})]},
        r"GradientAccumulationScheduler is not allowed",
    ),
    "a distributed sampler": (
        {"strategy": DDPStrategy(process_group_backend="gloo"), "devices": 1},
        r"use_distributed_sampler=True is not allowed",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_changes_the_mathematics_is_refused_before_the_first_step(
    tmp_path: Path, two: fg.Experiment, case: str
) -> None:
    arguments, sentence = REFUSED[case]
    with pytest.raises(ConfigError, match=sentence) as refused:
        fit(stock(tmp_path, two, **arguments), two)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    assert "\n" not in str(refused.value)
    assert two.module.step_record == {}


def test_batches_of_another_loader_are_refused(tmp_path: Path, two: fg.Experiment) -> None:
    loader = torch.utils.data.DataLoader([{"x": torch.zeros(1)}] * 8)
    trainer = stock(tmp_path, two)
    warnings.simplefilter("ignore")  # pytest puts the filters back
    with pytest.raises(ConfigError, match=r"The training batches are not those of this run"):
        trainer.fit(two.module, loader)


def test_a_folder_with_a_checkpoint_of_ours_is_continued_by_fit_alone(tmp_path: Path) -> None:
    words = words_of("sft", tmp_path, "trainer.micro_batch_size=2")
    tiny_experiment(tmp_path / "run", *words, "trainer.max_steps=2", "scheduler=constant").fit()
    more = ["resume.allow=[trainer.max_steps]", "scheduler=constant"]
    stocked = tiny_experiment(tmp_path / "run", *words, *more)
    with pytest.raises(
        ConfigError, match=r"step-2 is a checkpoint of this run, and a Trainer of your own does not continue from it"
    ):
        fit(stock(tmp_path, stocked), stocked)
    tiny_experiment(tmp_path / "run", *words, *more).fit()
    assert [row["step"] for row in rows(tmp_path / "run") if "train/loss" in row] == [1, 2, 3, 4]


def test_clipping_is_the_runs_own_and_off_under_privacy() -> None:
    """There each row's gradient is clipped for itself."""

    def stage_of(*words: str, mechanism: Any = None) -> Any:
        return SimpleNamespace(run=compose(["logger=none", *words]).run, mechanism=mechanism)

    assert read_clipping(stage_of()) == (1.0, "norm")
    assert read_clipping(stage_of("trainer.max_grad_norm=0.3", "trainer.clip_algorithm=value")) == (0.3, "value")
    assert read_clipping(stage_of("trainer.max_grad_norm=0")) == (0.0, "norm")
    assert read_clipping(stage_of(mechanism=object())) == (0.0, "norm")
