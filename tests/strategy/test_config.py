"""Strategies declare how many devices a run takes by itself, and refuse more processes than a machine can carry."""

from __future__ import annotations

import pytest
import torch

from fulgurite.config.compose import compose
from fulgurite.errors import ConfigError
from fulgurite.plan.preflight import refuse_impossible
from fulgurite.strategy import config
from fulgurite.strategy.config import AutoStrategy, Ddp


@pytest.mark.parametrize(("devices", "refused"), [(16, False), (17, True)])
def test_more_than_eight_processes_a_core_are_refused(
    devices: int, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "available", lambda: 2)
    run = compose(["strategy=ddp", f"trainer.devices={devices}", "logger=none"]).run
    if not refused:
        assert run.strategy.find_refusal(run) is None
        return
    assert str(run.strategy.find_refusal(run)) == (
        "trainer.devices=17 is more than 8 for each of this machine's 2 cores; use trainer.devices=2."
    )
    with pytest.raises(ConfigError, match="more than 8 for each"):
        refuse_impossible(run)


@pytest.mark.parametrize(("accelerator", "gpus", "expected"), [
    ("auto", 4, 4), ("cuda", 3, 3), ("auto", 0, 2), ("cpu", 4, 2),
])
def test_ddp_takes_every_gpu_or_two_processes_of_a_cpu(
    accelerator: str, gpus: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = compose([f"trainer.accelerator={accelerator}"]).run
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert Ddp().default_devices(run).value == expected
    assert AutoStrategy().default_devices(run).value == 1


def test_auto_decides_for_ddp_with_several_processes() -> None:
    one, four = compose([]).run, compose(["trainer.devices=2", "trainer.num_nodes=2"]).run
    assert not AutoStrategy().decision(one)
    assert not Ddp().decision(four)
    assert str(AutoStrategy().decision(four)).startswith("strategy=auto uses ddp: 4 processes share each step")
