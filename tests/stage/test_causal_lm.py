"""The loss of sft and pt against torch's cross entropy on transformers' own logits, one example at a time."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.stage.one_step import batch_of, examples, stage_of
from torch import Tensor
from torch.nn import functional

from fulgurite.data.documents import find_documents
from fulgurite.model.document_probe import use_documents
from fulgurite.stage.causal_lm import LanguageStage
from fulgurite.stage.log_probs import LabelHead


def by_hand(stage: Any, weigh: Any = lambda nll: nll) -> list[Tensor]:
    """The losses of each example's targets; the third example has none."""
    found = []
    for ids, targets in examples(512):
        logits = stage.model(input_ids=ids[None]).logits[0]
        nll = functional.cross_entropy(logits[targets >= 0], targets[targets >= 0], reduction="none")
        found.append(weigh(nll))
    return found


def weigh_by_probability(nll: Tensor) -> Tensor:
    return (-nll).exp().detach() * nll


def gradients(loss: Tensor, stage: Any) -> dict[str, Tensor]:
    stage.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in stage.named_parameters() if p.grad is not None}


BATCH = batch_of(examples(512), 0)


@pytest.mark.parametrize("chunk", [1, 3, 256])
@pytest.mark.parametrize(("loss", "weigh"), [("nll", lambda nll: nll), ("dft", weigh_by_probability)])
def test_the_total_is_the_sum_over_all_targets_for_every_chunk(loss: str, weigh: Any, chunk: int) -> None:
    stage = stage_of("method=full", f"stage.loss={loss}", f"stage.loss_chunk={chunk}").train()
    assert isinstance(stage, LanguageStage)
    total, expected = stage.compute_total_loss(BATCH), torch.cat(by_hand(stage, weigh)).sum()
    torch.testing.assert_close(total, expected, rtol=1e-5, atol=1e-5)
    found, wanted = gradients(total, stage), gradients(expected, stage)
    assert found.keys() == wanted.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-4, atol=1e-5)


def test_the_validation_loss_is_the_plain_one_whatever_is_trained() -> None:
    stage = stage_of("method=full", "stage.loss=dft").eval()
    torch.testing.assert_close(stage.compute_total_loss(BATCH), torch.cat(by_hand(stage)).sum(), rtol=1e-5, atol=1e-5)


def test_a_formula_gets_the_log_probabilities_in_training_alone() -> None:
    stage = stage_of("method=full")
    assert isinstance(stage, LanguageStage)
    stage.formula = lambda logp_N: logp_N**2
    squares = torch.cat(by_hand(stage, lambda nll: nll**2)).sum()
    torch.testing.assert_close(stage.train().compute_total_loss(BATCH), squares, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(
        stage.eval().compute_total_loss(BATCH), torch.cat(by_hand(stage)).sum(), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize(("loss", "weigh"), [("nll", lambda nll: nll), ("dft", weigh_by_probability)])
@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_rows_loss_is_the_mean_of_its_own_targets(loss: str, weigh: Any, method: str) -> None:
    """As privacy clips it; a row without a target has 0. A trained head is called as a layer, a frozen one is not."""
    stage = stage_of(f"method={method}", f"stage.loss={loss}").train()
    expected = [each.mean() if len(each) else torch.zeros(()) for each in by_hand(stage, weigh)]
    torch.testing.assert_close(stage.compute_row_losses(BATCH), torch.stack(expected), rtol=1e-5, atol=1e-5)


def packed_batch() -> dict[str, Any]:
    """The five examples in two rows, the second one padded."""
    rows = examples(512)
    packed = [[torch.cat(parts) for parts in zip(*chosen, strict=True)] for chosen in (rows[:3], rows[3:])]
    batch: dict[str, Any] = batch_of(packed, 0)  # type: ignore[arg-type]
    positions = torch.cat([torch.arange(len(ids)) for ids, _ in rows] + [torch.zeros(0, dtype=torch.int64)])
    longest = batch["input_ids"].shape[1]
    assert sum(len(ids) for ids, _ in rows[:3]) < longest
    first, second = positions.split([len(packed[0][0]), len(packed[1][0])])
    short = torch.cat([first, torch.arange(longest - len(first))])
    batch["position_ids"] = torch.stack([short, second])
    return batch | {"documents": find_documents(batch["position_ids"])}


@pytest.mark.parametrize("by_documents", [True, False])
@pytest.mark.parametrize("method", ["full", "lora"])
def test_packed_rows_have_the_loss_and_gradients_of_their_examples(method: str, by_documents: bool) -> None:
    """By documents, and with transformers' mask."""
    stage = stage_of(f"method={method}").train()
    expected = torch.cat(by_hand(stage)).sum()
    wanted = gradients(expected, stage)
    assert not by_documents or use_documents(stage.model)
    stage._head = LabelHead(stage.model, 4)
    assert stage._head.by_documents is by_documents
    total = stage.compute_total_loss(packed_batch())
    torch.testing.assert_close(total, expected, rtol=1e-6, atol=0)
    for name, gradient in gradients(total, stage).items():
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-4, atol=1e-5)


def test_documents_move_to_the_device_with_their_batch() -> None:
    moved = stage_of("method=full").transfer_batch_to_device(packed_batch(), torch.device("meta"), 0)
    assert moved["documents"].bounds.device.type == moved["input_ids"].device.type == "meta"


def test_a_batch_without_a_target_has_a_loss_of_zero() -> None:
    stage = stage_of("method=full").train()
    total = stage.compute_total_loss(batch_of([examples(512)[2]], 1))
    assert float(total.detach()) == 0.0
    assert all(not gradient.any() for gradient in gradients(total, stage).values())
