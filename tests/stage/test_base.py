"""The gradient of a step is that of the mean over all its label tokens, however the step is cut."""

from __future__ import annotations

import pytest
import torch
from lightning.pytorch import Trainer
from torch.nn import functional

from fulgurite.config.compose import compose
from fulgurite.config.schema import build
from fulgurite.errors import TrainingFailed
from fulgurite.precision.policy import build as settle
from fulgurite.stage.base import StageModule
from fulgurite.trainer.build import quiet

LENGTHS = (5, 9, 3, 12, 7)
"""Tokens of the five examples of the step; the third has no label at all."""


def examples(vocabulary: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    made = []
    for n, length in enumerate(LENGTHS):
        ids = torch.randint(3, vocabulary, (length,), generator=generator)
        targets = torch.cat([ids[1:], torch.tensor([-100])])
        targets[: 1 + n % 3] = -100
        if n == 2:
            targets[:] = -100
        made.append((ids, targets))
    return made


def batch_of(rows: list[tuple[torch.Tensor, torch.Tensor]], step_targets: int) -> dict[str, object]:
    longest = max((len(ids) for ids, _ in rows), default=0)
    ids = torch.stack([functional.pad(i, (0, longest - len(i))) for i, _ in rows]) if rows else torch.zeros(0, 0, dtype=torch.long)
    targets = torch.stack([functional.pad(t, (0, longest - len(t)), value=-100) for _, t in rows]) if rows else ids
    return {"input_ids": ids, "targets": targets, "step_targets": step_targets, "rows": [], "tokens": sum(len(i) for i, _ in rows)}


def stage_of(*words: str) -> StageModule:
    run = compose(["model=tiny", "precision=fp32", "optim=sgd", "optim.momentum=0", "scheduler=constant", "optim.lr=1.0", *words]).run
    dtypes = settle(run.precision, "cpu")
    torch.manual_seed(0)
    model = build(run.method, build(run.model, dtypes.frozen).model, dtypes)
    made: StageModule = build(run.stage, model, run, dtypes, 1)
    return made


def fit(stage: StageModule, batches: list[dict[str, object]], **more: object) -> None:
    quiet()
    trainer = Trainer(
        max_steps=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, limit_val_batches=0, **more,
    )
    trainer.fit(stage, torch.utils.data.DataLoader(batches, batch_size=None))


def step(
    windows: list[list[int]], *words: str, clip: float = 0.0, by: str = "norm"
) -> tuple[StageModule, dict[str, torch.Tensor]]:
    """One optimizer step of SGD at rate 1 over the examples, cut as `windows` says; returns the change of each weight."""
    stage = stage_of(*words, f"trainer.max_grad_norm={clip}", f"trainer.clip_algorithm={by}")
    before = {n: p.detach().clone() for n, p in stage.named_parameters() if p.requires_grad}
    rows = examples(512)
    count = sum(int((t >= 0).sum()) for window in windows for n in window for t in [rows[n][1]])
    batches = [batch_of([rows[n] for n in window], count) for window in windows]
    fit(stage, batches, accumulate_grad_batches=len(batches))
    return stage, {n: p.detach() - before[n] for n, p in stage.named_parameters() if n in before}


def by_hand(*words: str) -> tuple[float, dict[str, torch.Tensor]]:
    """The mean loss over all label tokens and minus its gradient, one example at a time through transformers' own logits."""
    stage = stage_of(*words)
    stage.train()
    total, count = torch.zeros(()), 0
    for ids, targets in examples(512):
        logits = stage.model(input_ids=ids[None]).logits[0]
        total = total + functional.cross_entropy(logits, targets, ignore_index=-100, reduction="sum")
        count += int((targets >= 0).sum())
    (total / count).backward()
    return float((total / count).detach()), {n: -p.grad for n, p in stage.named_parameters() if p.grad is not None}


CUTS = {
    "whole": [[0, 1, 2, 3, 4]], "singles": [[0], [1], [2], [3], [4]], "uneven": [[3, 1], [0, 2, 4]],
    "one micro-batch has no labels": [[2], [0, 1, 3, 4]], "empty micro-batches first": [[], [], [0, 1], [2, 3, 4]],
}


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("method", ["full", "lora"])
def test_any_cut_gives_the_gradient_by_hand(cut: str, method: str) -> None:
    stage, change = step(CUTS[cut], f"method={method}")
    loss, expected = by_hand(f"method={method}")
    assert stage.step_record["train/loss"] == pytest.approx(loss, rel=1e-6)
    norm = float(torch.nn.utils.get_total_norm(list(expected.values())))
    assert stage.step_record["train/grad_norm"] == pytest.approx(norm, rel=1e-5)
    for name, gradient in change.items():
        reference = expected[name.removeprefix("model.") if name not in expected else name]
        torch.testing.assert_close(gradient, reference, rtol=1e-4, atol=2e-7)


def test_clipping_records_the_norm_before_and_scales_to_the_limit() -> None:
    free, unclipped = step(CUTS["uneven"], "method=full")
    held, change = step(CUTS["uneven"], "method=full", clip=0.01)
    norm = free.step_record["train/grad_norm"]
    assert norm > 0.01
    assert held.step_record["train/grad_norm"] == pytest.approx(norm, rel=1e-6)
    assert (held.step_record["train/clipped"], free.step_record["train/clipped"]) == (1.0, 0.0)
    for name, gradient in change.items():
        torch.testing.assert_close(gradient, unclipped[name] * (0.01 / norm), rtol=1e-3, atol=1e-7)


def test_clipping_computes_the_norm_once(monkeypatch: pytest.MonkeyPatch) -> None:
    computed, whole = [], torch.nn.utils.get_total_norm
    monkeypatch.setattr(torch.nn.utils, "get_total_norm", lambda gradients: computed.append(1) or whole(gradients))
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *given, **more: computed.append(1))
    held, _ = step(CUTS["uneven"], "method=full", clip=0.01)
    assert (held.step_record["train/clipped"], len(computed)) == (1.0, 1)


def test_clipping_by_value_cuts_each_entry_as_torchs_own() -> None:
    limit = 0.002
    free, unclipped = step(CUTS["uneven"], "method=full")
    held, change = step(CUTS["uneven"], "method=full", clip=limit, by="value")
    weights = [torch.nn.Parameter(torch.zeros_like(g)) for g in unclipped.values()]
    for weight, gradient in zip(weights, unclipped.values(), strict=True):
        weight.grad = gradient.clone()
    torch.nn.utils.clip_grad_value_(weights, limit)
    cut, whole = 0, 0
    for weight, gradient in zip(weights, change.values(), strict=True):
        assert weight.grad is not None
        torch.testing.assert_close(gradient, weight.grad, rtol=1e-4, atol=2e-7)
        cut, whole = cut + int((weight.grad.abs() == limit).sum()), whole + int((weight.grad.abs() < limit).sum())
    assert min(cut, whole) > 100
    assert held.step_record["train/grad_norm"] == pytest.approx(free.step_record["train/grad_norm"], rel=1e-6)
    assert (held.step_record["train/clipped"], free.step_record["train/clipped"]) == (1.0, 0.0)
    loose, _ = step(CUTS["uneven"], "method=full", clip=1e3, by="value")
    assert loose.step_record["train/clipped"] == 0.0


def test_lora_at_step_0_is_the_base() -> None:
    ids = torch.arange(3, 40)[None]
    full, lora = stage_of("method=full"), stage_of("method=lora")
    with torch.no_grad():
        torch.testing.assert_close(lora.model(input_ids=ids).logits, full.model(input_ids=ids).logits, rtol=0, atol=0)


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


def test_a_non_finite_gradient_stops_before_the_step() -> None:
    stage = stage_of("method=full")
    stage.model.model.norm.weight.register_hook(lambda g: g * float("inf"))
    before = stage.model.model.norm.weight.detach().clone()
    with pytest.raises(TrainingFailed, match=r"the gradient norm is not finite.*gradient of model\.model\.norm\.weight"):
        fit(stage, [batch_of(examples(512), 20)])
    assert torch.equal(stage.model.model.norm.weight, before)
