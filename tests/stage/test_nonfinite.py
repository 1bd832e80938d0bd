"""A loss or a gradient that is not finite: no step is taken, and the first bad tensor is named."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.stage.one_step import batch_of, examples, fit, stage_of

from fulgurite.errors import TrainingFailed
from fulgurite.language.message import message
from fulgurite.stage.nonfinite import describe_nonfinite, find_nonfinite


def test_a_non_finite_loss_stops_before_the_step_and_names_the_weight() -> None:
    stage = stage_of("method=full")
    with torch.no_grad():
        stage.model.model.layers[1].mlp.up_proj.weight[0, 0] = float("nan")
    before = {n: p.detach().clone() for n, p in stage.named_parameters()}
    rows = examples(512)
    with pytest.raises(TrainingFailed, match=r"Step 1: the loss is not finite.*layers\.1\.mlp\.up_proj\.weight"):
        fit(stage, [batch_of(rows, 20)])
    for name, parameter in stage.named_parameters():
        torch.testing.assert_close(parameter, before[name], rtol=0, atol=0, equal_nan=True)


def test_the_first_bad_loss_is_named_after_the_last_micro_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a step of four, the second and the fourth are bad: the examples of the first two are named, as they were when
    each loss was looked at; the gradients, which are bad by then, are not taken for the cause."""
    stage, seen = stage_of("method=full"), []
    usual = stage.compute_total_loss

    def compute(batch: dict[str, Any]) -> torch.Tensor:
        seen.append(batch["rows"])
        return usual(batch) * (float("nan") if len(seen) in (2, 4) else 1.0)

    monkeypatch.setattr(stage, "compute_total_loss", compute)
    before = {n: p.detach().clone() for n, p in stage.named_parameters()}
    batches = [batch_of([examples(512)[n]], 20) | {"rows": [n, 10 + n]} for n in (0, 1, 3, 4)]
    with pytest.raises(TrainingFailed) as told:
        fit(stage, batches, accumulate_grad_batches=4)
    assert str(told.value).startswith(
        "Step 1: the loss is not finite. First bad tensor: the loss itself. Learning rate 1. Examples: 0, 10, 1, 11. "
    )
    assert len(seen) == 4
    assert all(torch.equal(parameter, before[name]) for name, parameter in stage.named_parameters())


def test_a_non_finite_gradient_stops_before_the_step() -> None:
    stage = stage_of("method=full")
    stage.model.model.norm.weight.register_hook(lambda g: g * float("inf"))
    before = stage.model.model.norm.weight.detach().clone()
    with pytest.raises(
        TrainingFailed, match=r"the gradient norm is not finite.*gradient of model\.model\.norm\.weight"
    ):
        fit(stage, [batch_of(examples(512), 20)])
    assert torch.equal(stage.model.model.norm.weight, before)


def test_the_first_weight_comes_before_the_first_gradient() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    assert str(find_nonfinite(model)) == "the loss itself"
    model[0].weight.grad = torch.full((2, 2), float("inf"))
    assert str(find_nonfinite(model)) == "gradient of 0.weight (torch.float32)"
    model[1].bias.data[1] = float("nan")
    assert str(find_nonfinite(model)) == "weight 1.bias (torch.float32)"


@pytest.mark.parametrize(("count", "shown"), [
    (2, "Examples: a:0, a:1. The step"), (10, "Examples: a:0, a:1, a:2, a:3, a:4, a:5, a:6, a:7, ... (+2). The step"),
])
def test_the_sentence_names_at_most_eight_examples(count: int, shown: str) -> None:
    rows = [f"a:{n}" for n in range(count)]
    found = str(describe_nonfinite(torch.nn.Linear(1, 1), message("loss"), 3, 1e-4, rows, "bf16"))
    assert found.startswith("Step 3: the loss is not finite. First bad tensor: the loss itself. Learning rate 0.0001.")
    assert shown in found
    assert "overflow of bf16 (precision=fp32)" in found
