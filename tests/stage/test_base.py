"""The gradient of a step is that of the mean over all its label tokens, however the step is cut."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.stage.one_step import batch_of, examples, fit, stage_of
from tests.stage.test_causal_lm import packed_batch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from fulgurite.model.document_probe import use_documents
from fulgurite.stage.base import StageModule


def step(
    windows: list[list[int]], *words: str, clip: float = 0.0, by: str = "norm"
) -> tuple[StageModule, dict[str, torch.Tensor]]:
    """One optimizer step of SGD at rate 1 over the examples in these micro-batches; the change of each weight."""
    stage = stage_of(*words, f"trainer.max_grad_norm={clip}", f"trainer.clip_algorithm={by}")
    before = {n: p.detach().clone() for n, p in stage.named_parameters() if p.requires_grad}
    rows = examples(512)
    count = sum(int((t >= 0).sum()) for window in windows for n in window for t in [rows[n][1]])
    batches = [batch_of([rows[n] for n in window], count) for window in windows]
    fit(stage, batches, accumulate_grad_batches=len(batches))
    return stage, {n: p.detach() - before[n] for n, p in stage.named_parameters() if n in before}


def by_hand(*words: str) -> tuple[float, dict[str, torch.Tensor]]:
    """The mean loss over all label tokens and minus its gradient, one example at a time from transformers' logits."""
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


class Waits(TorchDispatchMode):
    """Counts the operations whose result a program reads, or whose size depends on values: a GPU is waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        aten = torch.ops.aten
        sized = (aten.nonzero.default, aten.masked_select.default, aten._local_scalar_dense.default)
        masked = op is aten.index.Tensor and any(i is not None and i.dtype == torch.bool for i in args[1])
        self.count += op in sized or masked
        return op(*args, **(kwargs or {}))


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("method", ["full", "lora"])
def test_no_micro_batch_waits_for_the_device(packed: bool, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the first micro-batch to what is read once, at the end of the step: losses, norm, metrics."""
    stage, counts = stage_of(f"method={method}", "trainer.max_grad_norm=1.0"), []
    if packed:
        assert use_documents(stage.model)
        stage.build_parts()
    row = packed_batch() if packed else batch_of(examples(512), 0)
    labels = (row["targets"] != -100).flatten().nonzero()[:, 0]  # type: ignore[operator]
    row |= {"step_targets": 3 * len(labels), "label_positions": labels, "units": len(labels)}
    waits = Waits()

    def count(name: str) -> None:
        usual = getattr(stage, name)
        monkeypatch.setattr(stage, name, lambda *given, **more: counts.append(waits.count) or usual(*given, **more))

    count("training_step")
    count("configure_gradient_clipping")
    with waits:
        fit(stage, [row] * 3, accumulate_grad_batches=3)
    assert counts == [counts[0]] * 4
    assert waits.count > counts[0]


def test_lora_at_step_0_is_the_base() -> None:
    ids = torch.arange(3, 40)[None]
    full, lora = stage_of("method=full"), stage_of("method=lora")
    with torch.no_grad():
        torch.testing.assert_close(lora.model(input_ids=ids).logits, full.model(input_ids=ids).logits, rtol=0, atol=0)
