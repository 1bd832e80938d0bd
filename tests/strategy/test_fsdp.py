"""Two processes with a part of every weight each are one process with all of them: losses, checkpoints, resuming."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.conftest import cells
from tests.end_to_end.runs import losses, rows, tiny, weights
from tests.strategy.together import train_together

FSDP = ["strategy=fsdp", "trainer.accelerator=cpu"]
# 9 examples a step: the processes get 5 and 4. In the last step of an epoch the second process has none for two of its
# micro-batches. 7 validation examples, 2 at a time: the second process has one batch less.
NINE = [
    "trainer.global_batch_size=9", "trainer.micro_batch_size=2", "trainer.max_steps=4", "data.max_samples=47",
    "trainer.eval_every=2", "data.val_fraction=0.15", "trainer.save_every=2",
]
METHODS = {
    "full": ["method=full", "optim.lr=1e-3"],
    "lora": ["method=lora", "optim.lr=1e-2", "method.loraplus_lr_ratio=4"],
}
STAGES = {"sft": ["stage=sft"]}


def check_same(found: Path, expected: Path) -> None:
    """The rows of metrics and the weights of two runs are equal but for the order of sums."""
    for mine, theirs in zip(rows(found), rows(expected), strict=True):
        assert mine == pytest.approx(theirs, rel=1e-5, abs=1e-6)
    for name, tensor in weights(expected).items():
        torch.testing.assert_close(weights(found)[name], tensor, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("stage", "method"), cells(STAGES, list(METHODS)))
def test_two_processes_are_one(stage: str, method: str, tmp_path: Path) -> None:
    words = [*STAGES[stage], *METHODS[method], *NINE]
    one = tiny(tmp_path / "one", *words)
    train_together(2, (tmp_path / "two", [*words, *FSDP]))
    assert len(losses(one)) == 4
    check_same(tmp_path / "two", one)
