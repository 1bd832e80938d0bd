"""Rules about tensors that are not divided evenly: what each finds, and what none of them finds."""

from __future__ import annotations

import pytest
from tests.plan.rules.cases import Case, check_complete, check_found, check_not_found, describe, model

from fulgurite.plan.context import Weights


def tensors(*rows: int) -> dict[str, object]:
    """A model whose matrices have so many rows of 16 numbers."""
    made = [Weights(f"model.layers.{n}.weight", (count, 16), True, "mlp", 64 * count) for n, count in enumerate(rows)]
    return {"model": model(tensors=made, layers=len(made))}


FOUND = [
    # 4 of 10 rows in each of 3 processes: 12 for 10
    Case("memory.uneven-shards", "strategy=fsdp trainer.devices=3", tensors(10, 10), "warning", "take 20% more",
         "trainer.devices=2"),
    Case("memory.uneven-shards", "strategy=fsdp trainer.devices=7", tensors(25), "warning", "parts of 7 processes",
         "trainer.devices=5"),
    Case("memory.uneven-shards", "strategy=fsdp trainer.devices=8 strategy.hybrid=8", tensors(36), "warning",
         "parts of 8 processes", "strategy.hybrid=4"),
    Case("memory.uneven-shards", "strategy=fsdp trainer.devices=2", tensors(1), "warning", "take 100% more"),
    Case("memory.empty-shards", "strategy=fsdp trainer.devices=4", tensors(64, 3, 2), "note",
         "2 tensors have fewer rows than the 4 processes that divide them, such as model.layers.2.weight with 2"),
]
NOT_FOUND = [
    Case("memory.uneven-shards", "strategy=ddp trainer.devices=3", tensors(10)),
    Case("memory.uneven-shards", "strategy=fsdp trainer.devices=3", tensors(9, 300)),
    Case("memory.uneven-shards", "strategy=fsdp trainer.devices=3", tensors(100)),  # 2 of 100
    Case("memory.uneven-shards", "strategy=fsdp trainer.devices=2"),
    Case("memory.empty-shards", "strategy=ddp trainer.devices=4", tensors(2)),
    Case("memory.empty-shards", "strategy=fsdp trainer.devices=4", tensors(4)),
]


def test_every_rule_has_cases() -> None:
    check_complete("shards", FOUND, NOT_FOUND)


@pytest.mark.parametrize("case", FOUND, ids=describe)
def test_found(case: Case) -> None:
    check_found(case)


@pytest.mark.parametrize("case", NOT_FOUND, ids=describe)
def test_not_found(case: Case) -> None:
    check_not_found(case)
