"""Documents that share a row are as far apart as in rows of their own: through the real rows, batches and stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from fulgurite.config.compose import compose
from fulgurite.config.schema import build
from fulgurite.data.dataset import TokenDataset
from fulgurite.data.loader import collate
from fulgurite.data.tokenized import TokenizedData
from fulgurite.precision.policy import build as settle
from fulgurite.stage.base import StageModule

LENGTHS = (11, 7, 2, 9, 5, 13, 4)
PACKED = ([0, 1, 2], [3, 4], [5, 6], [1])
"""Documents of each row: the rows have 20, 14, 17 and 7 tokens, so that three of four are padded."""


def documents(seed: int = 3) -> list[tuple[np.ndarray, np.ndarray]]:
    """Tokens and which are learned; the first third of each is a prompt."""
    random = np.random.default_rng(seed)
    return [(random.integers(3, 500, n), np.arange(n) >= n // 3) for n in LENGTHS]


def rows_of(docs: list[tuple[np.ndarray, np.ndarray]], bins: Sequence[Sequence[int]], packed: bool) -> TokenDataset:
    offsets = np.cumsum([0, *(len(ids) for ids, _ in docs)])
    arrays = {
        "ids": np.concatenate([ids for ids, _ in docs]).astype(np.int32),
        "learn": np.concatenate([learn for _, learn in docs]).astype(np.uint8), "offsets": offsets,
    }
    encoded = TokenizedData("by hand", None, arrays)  # type: ignore[arg-type]  # no source: rows read the arrays alone
    pieces = np.array([(d, 0, len(docs[d][0])) for row in bins for d in row])
    return TokenDataset(encoded, pieces, np.cumsum([0, *map(len, bins)]), packed)


def stage_of(method: str, attention: str, training: bool) -> StageModule:
    """A stage whose adapter, where it has one, does something."""
    run = compose(["model=tiny", "precision=fp32", f"method={method}", f"model.attention={attention}"]).run
    dtypes = settle(run.precision, "cpu")
    torch.manual_seed(0)
    model = build(run.method, build(run.model, dtypes.frozen).model, dtypes)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    made: StageModule = build(run.stage, model, run, dtypes, 1)
    return made.train(training)


def loss_and_gradient(stage: StageModule, batches: list[dict[str, Any]]) -> tuple[float, torch.Tensor]:
    """The summed loss over the batches, and its gradient as one vector."""
    stage.zero_grad()
    total = torch.stack([stage.compute_total_loss(batch) for batch in batches]).sum()
    total.backward()
    return float(total.detach()), torch.cat([p.grad.flatten() for p in stage.parameters() if p.grad is not None])


def states(stage: StageModule, batch: dict[str, Any]) -> torch.Tensor:
    """The decoder's last states [B, T, D] while the stage computes its loss."""
    seen: list[torch.Tensor] = []
    causal = stage.model.get_base_model() if hasattr(stage.model, "get_base_model") else stage.model
    hook = causal.get_decoder().register_forward_hook(
        lambda module, args, out: seen.append(out.last_hidden_state.detach()),
    )
    stage.compute_total_loss(batch)
    hook.remove()
    return seen[0]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_no_document_sees_another(method: str, attention: str, training: bool) -> None:
    stage = stage_of(method, attention, training)
    docs = documents()
    before = states(stage, collate(rows_of(docs, PACKED, packed=True), range(4), 1))
    docs[0][0][4] = (docs[0][0][4] + 1) % 500  # a token of the first document of the first row
    after = states(stage, collate(rows_of(docs, PACKED, packed=True), range(4), 1))
    assert not torch.equal(after[0, 4:11], before[0, 4:11])
    assert torch.equal(after[0, :4], before[0, :4])
    assert torch.equal(after[0, 11:], before[0, 11:])
    assert torch.equal(after[1:], before[1:])


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize(
    "bins", [PACKED, PACKED[:1], [[6, 5, 4, 3, 2, 1, 0]]], ids=["padded rows", "one row", "all in one"],
)
def test_packed_is_unpacked(method: str, attention: str, training: bool, bins: Sequence[Sequence[int]]) -> None:
    stage, docs = stage_of(method, attention, training), documents()
    packed = rows_of(docs, bins, packed=True)
    alone = rows_of(docs, [[d] for row in bins for d in row], packed=False)
    assert packed.label_counts.sum() == alone.label_counts.sum()
    loss, gradient = loss_and_gradient(stage, [collate(packed, range(len(packed)), 1)])
    singly, by_hand = loss_and_gradient(stage, [collate(alone, [n], 1) for n in range(len(alone))])
    together, padded = loss_and_gradient(stage, [collate(alone, range(len(alone)), 1)])
    assert loss == pytest.approx(singly, rel=1e-6)
    assert together == pytest.approx(singly, rel=1e-6)
    assert float((gradient - by_hand).norm() / by_hand.norm()) < 1e-6
    assert float((padded - by_hand).norm() / by_hand.norm()) < 1e-6


def test_without_the_positions_it_would_be_contaminated() -> None:
    """The proof above can fail: the same batch with running positions mixes the documents."""
    stage, docs = stage_of("full", "sdpa", training=True), documents()
    batch = collate(rows_of(docs, PACKED, packed=True), range(4), 1)
    clean, _ = loss_and_gradient(stage, [batch])
    mixed, _ = loss_and_gradient(stage, [{k: v for k, v in batch.items() if k != "position_ids"}])
    assert abs(mixed - clean) / clean > 1e-4


def test_the_borders_of_documents_are_not_learned() -> None:
    batch = collate(rows_of(documents(), PACKED, packed=True), range(4), 1)
    assert batch["targets"][0, [10, 17, 19]].tolist() == [-100] * 3
    assert batch["position_ids"][0, [0, 11, 18]].tolist() == [0] * 3
    assert batch["position_ids"][1, 14:].tolist() == list(range(6))
    assert int((batch["targets"] >= 0).sum()) == int(rows_of(documents(), PACKED, packed=True).label_counts.sum())
