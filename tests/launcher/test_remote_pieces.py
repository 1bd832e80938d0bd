"""The checks of a run that trains elsewhere: wrong words and data are refused, reasons of this machine are not."""

from __future__ import annotations

import pytest
from tests.cli.requests import TINY

from fulgurite.config.compose import compose
from fulgurite.errors import DataError, RequestError
from fulgurite.launcher.remote_pieces import RemotePieces

MANY = [word for word in TINY if not word.startswith("trainer.max_steps")] + ["launcher=slurm"]


def test_a_gpu_is_not_asked_for() -> None:
    RemotePieces(compose([*TINY, "launcher=slurm", "trainer.accelerator=cuda", "plan.allow=[steps.too-few]"])).check()
    half = [word for word in TINY if not word.startswith("precision")]
    RemotePieces(compose([*half, "launcher=slurm", "precision=fp16"])).check()


def test_memory_is_not_judged_here(monkeypatch: pytest.MonkeyPatch) -> None:
    composed = compose([*TINY, "launcher=slurm", "plan.allow=[steps.too-few]"])
    monkeypatch.setattr("fulgurite.plan.rules.memory.MEMORY_FULL", 0.0)
    monkeypatch.setattr("fulgurite.plan.rules.memory.DISK_FULL", 0.0)
    monkeypatch.setattr("fulgurite.plan.rules.memory.DISK_TIGHT", 0.0)
    RemotePieces(composed).check()


def test_wrong_data_and_the_rules_of_plan_refuse() -> None:
    with pytest.raises(DataError, match="there is no such file"):
        RemotePieces(compose([
            "model=tiny", "precision=fp32", "launcher=slurm", "data=file", "data.path=/no/such.json"
        ])).check()
    with pytest.raises(RequestError, match=r"\[rate\.out-of-band\]"):
        RemotePieces(compose([*MANY, "optim.lr=0.5"])).check()
