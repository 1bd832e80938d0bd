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


@pytest.mark.parametrize(("words", "sentence"), [
    (["optim=adafactor", "method=full"], "optim=adafactor is not proven to work with parts; use optim=adamw"),
    (["optim=apollo", "method=full"], "optim=apollo is not proven to work with parts; use optim=adamw"),
    (["optim=adamw_8bit"], "optim=adamw_8bit is not proven to work with parts; use optim=adamw"),
    (["optim=paged_adamw_8bit"], "optim=paged_adamw_8bit is not proven to work with parts; use optim=adamw"),
    (["optim=badam", "method=full"], "optim=badam is not proven to work with parts; use optim=adamw"),
    (["method=layerwise"], "method=layerwise is not proven to work with parts; use method=lora"),
    (["stage=ppo", "stage.reward=[length]"], "stage=ppo is not proven to work with parts; use stage=sft"),
    (["stage=grpo", "stage.reward=[length]"], "stage=grpo is not proven to work with parts; use stage=sft"),
    (["precision=pure_bf16", "precision.rounding=stochastic"], "precision.rounding=stochastic does not work with"),
    (["precision=pure_bf16", "precision.rounding=kahan"], "precision.rounding=kahan does not work with"),
    (["precision=fp16"], "precision=fp16 does not work with strategy=fsdp"),
    (["privacy=dp_sgd"], "privacy=dp_sgd is not proven to work with parts; use privacy=none"),
    (["trainer.compile=true"], "trainer.compile=true is not proven to work with parts"),
    (["lr_finder.enabled=true"], "lr_finder.enabled=true is not proven to work with parts"),
    (["strategy.hybrid=3", "trainer.devices=4"], "strategy.hybrid=3 does not divide the 4 processes of this run"),
    (["strategy.hybrid=8", "trainer.devices=4"], "use strategy.hybrid=4, or leave it out"),
], ids=" ".join)
def test_sharding_refuses_what_needs_whole_weights(words: list[str], sentence: str) -> None:
    run = compose(["strategy=fsdp", *words]).run
    assert sentence in str(run.strategy.find_refusal(run))


@pytest.mark.parametrize("words", [
    ["optim=sgd"], ["optim=lion"], ["optim=schedule_free"], ["method=qlora"], ["stage=dpo"], ["stage=kto"],
    ["stage=rm"], ["stage=pt"], ["precision=pure_bf16"], ["strategy.hybrid=2", "trainer.devices=4"],
], ids=" ".join)
def test_sharding_takes_what_is_proven(words: list[str]) -> None:
    run = compose(["strategy=fsdp", *words]).run
    assert run.strategy.find_refusal(run) is None


def test_sharding_takes_every_gpu_and_decides_on_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    run = compose(["strategy=fsdp", "precision=pure_bf16", "trainer.devices=4", "strategy.hybrid=2"]).run
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    assert run.strategy.default_devices(run).value == 8
    assert run.precision.rounding == "nearest"
    assert str(run.strategy.decision(run)).startswith("strategy=fsdp: each of 4 processes holds 1/2 of the weights")
