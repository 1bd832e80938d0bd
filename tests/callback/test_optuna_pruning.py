"""A trial of a search: what each evaluation reports to the study, and how the study ends a run."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tests.callback.toy_stage import fit

from fulgurite.callback.optuna_pruning import OptunaPruning
from fulgurite.errors import Pruned, TrainingFailed


def evaluate(pruning: OptunaPruning, step: int, value: float, **more: Any) -> None:
    metrics = {"val/loss": torch.tensor(value)}
    usual = {"callback_metrics": metrics, "sanity_checking": False, "is_global_zero": True, "global_step": step}
    pruning.on_validation_end(SimpleNamespace(**(usual | more)), None)


def test_each_evaluation_reports_the_metric_with_the_percent_done() -> None:
    told: list[tuple[int, float]] = []
    pruning = OptunaPruning(lambda percent, value: told.append((percent, value)), "val/loss", 80)
    for step, value in ((20, 3.0), (50, 2.5), (80, 2.25)):
        evaluate(pruning, step, value)
    assert told == [(25, 3.0), (62, 2.5), (100, 2.25)]  # 50 of 80 is 62.5, which rounds to even


def test_a_fit_reports_after_each_evaluation(tmp_path: Path) -> None:
    told: list[int] = []
    fit(
        [OptunaPruning(lambda percent, value: told.append(percent), "val/loss", 6)],
        steps=6,
        eval_every=2,
        folder=tmp_path,
    )
    assert told == [33, 67, 100]


def test_the_study_ends_the_run_with_its_reason() -> None:
    pruning = OptunaPruning(lambda percent, value: "worse than half of the others", "val/loss", 80)
    with pytest.raises(Pruned, match=r"^Ended by the search at step 20 of 80: worse than half of the others\.$"):
        evaluate(pruning, 20, 3.0)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_metric_that_is_not_finite_fails_the_run_unreported(value: float) -> None:
    told: list[int] = []
    pruning = OptunaPruning(lambda percent, value: told.append(percent), "val/loss", 80)
    with pytest.raises(TrainingFailed, match=f"val/loss is {value} at step 20"):
        evaluate(pruning, 20, value)
    assert told == []


@pytest.mark.parametrize("more", [{"callback_metrics": {}}, {"sanity_checking": True}, {"is_global_zero": False}])
def test_nothing_is_reported_without_the_metric_or_in_another_process(more: dict[str, Any]) -> None:
    told: list[int] = []
    evaluate(OptunaPruning(lambda percent, value: told.append(percent), "val/loss", 80), 20, 3.0, **more)
    assert told == []
