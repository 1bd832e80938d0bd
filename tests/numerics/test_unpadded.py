"""Training without padding is training with it: every stage, through its real data, batches and steps."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.end_to_end.runs import losses, tiny
from tests.stage.policy_runs import GRPO, PPO
from tests.stage.preference_data import words_of

from fulgurite.data import unpadded
from fulgurite.data.unpadded import Unpadded

PAIRS = ["stage.beta=0.5", "trainer.global_batch_size=8", "trainer.micro_batch_size=4"]
CASES = {
    "sft": ["stage=sft", "trainer.micro_batch_size=4"],
    "packed": ["stage=sft", "data.packing=best_fit", "data.max_length=512", "trainer.micro_batch_size=2"],
    "rm": ["stage=rm", "trainer.micro_batch_size=4"],
    "dpo": ["stage=dpo", *PAIRS],
    "kto": ["stage=kto", *PAIRS],
    "grpo": [*GRPO, "trainer.micro_batch_size=4"],
    "ppo": [*PPO, "trainer.micro_batch_size=4"],
}


@pytest.mark.parametrize("case", CASES)
def test_losses_are_those_of_padded_rows(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [*CASES[case], "trainer.max_steps=3", "precision=fp32", "optim.lr=1e-3"]
    if case in ("rm", "dpo", "kto"):
        words = [*words_of(case, tmp_path), *words]
    taken: list[int] = []
    take = Unpadded.take
    monkeypatch.setattr(Unpadded, "take", lambda self, values: (taken.append(1), take(self, values))[1])
    monkeypatch.setattr(unpadded, "LEAST", 2.0)
    padded = losses(tiny(tmp_path / "padded", *words))
    assert not taken
    monkeypatch.setattr(unpadded, "LEAST", 0.0)
    assert losses(tiny(tmp_path / "unpadded", *words)) == pytest.approx(padded, rel=2e-5, abs=2e-6)
    assert taken
