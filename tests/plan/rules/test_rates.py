"""The rules of rates.py: the learning rate and the scale of an adapter."""

from __future__ import annotations

import pytest
from tests.plan.rules.cases import Case, check_complete, check_found, check_not_found, describe

OF_UNKNOWN_SIZE = "model=hf model.path=none"
"""A model whose size is not known counts as 7B."""
FOUND = [
    Case(
        "rate.low-for-lora", "optim.lr=5e-5", {}, "warning",
        "optim.lr=5e-05 is low for method=lora: 0.0001 to 0.002 is usual for stage=sft", "optim.lr=0.001",
    ),
    Case(
        "rate.low-for-lora", f"{OF_UNKNOWN_SIZE} method=qlora optim.lr=5e-5", {}, "warning",
        "0.0001 to 0.0003 is usual", "optim.lr=0.0002",
    ),
    Case("rate.low-for-lora", "method=dora optim.lr=9e-5", {}, "warning", "method=lora", "optim.lr=0.001"),
    Case(
        "rate.low-for-lora", "stage=pt optim.lr=4e-5", {}, "warning", "5e-05 to 0.001 is usual for stage=pt",
        "optim.lr=0.0002",
    ),
    Case("rate.low-for-lora", "method=oft optim.lr=2e-5", {}, "warning", "3e-05 to 0.003 is usual", "optim.lr=0.0003"),
    Case(
        "rate.high-for-preference", f"{OF_UNKNOWN_SIZE} stage=dpo method=full optim.lr=2e-6", {}, "warning",
        "optim.lr=2e-06 is high for sigmoid with method=full: 2e-07 to 1e-06 is usual", "optim.lr=5e-07",
    ),
    Case(
        "rate.high-for-preference", "stage=dpo method=full optim.lr=1e-5", {}, "error",
        "both answers become less likely", "optim.lr=1e-06",
    ),
    Case("rate.high-for-preference", "stage=dpo optim.lr=1e-3", {}, "warning", "1e-05 to 0.0005", "optim.lr=0.0003"),
    Case(
        "rate.high-for-preference", f"{OF_UNKNOWN_SIZE} stage=dpo optim.lr=1e-3", {}, "error", "1e-06 to 1e-05",
        "optim.lr=5e-06",
    ),
    Case(
        "rate.high-for-preference", f"{OF_UNKNOWN_SIZE} stage=dpo stage.loss=simpo optim.lr=5e-5", {}, "warning",
        "simpo with", "optim.lr=5e-06",
    ),
    Case(
        "rate.high-for-preference", f"{OF_UNKNOWN_SIZE} stage=kto optim.lr=1e-5", {}, "warning", "kto with method=lora",
        "optim.lr=5e-06",
    ),
    Case(
        "rate.high-for-preference", f"{OF_UNKNOWN_SIZE} stage=dpo optim.lr=1e-4 trainer.max_steps=20", {"steps": 20},
        "warning", "", "optim.lr=5e-06",
    ),
    Case(
        "rate.out-of-band", "optim.lr=5e-2", {}, "error",
        "optim.lr=0.05 is 25 times the highest usual rate (0.002) of stage=sft", "optim.lr=0.001",
    ),
    Case("rate.out-of-band", "optim.lr=3e-3", {}, "warning", "is 1.5 times", "optim.lr=0.001"),
    Case("rate.out-of-band", "optim.lr=0.02", {}, "warning", "is 10 times", "optim.lr=0.001"),
    Case("rate.out-of-band", "model=tiny optim.lr=5e-2", {}, "warning", "25 times", "optim.lr=0.001"),
    Case(
        "rate.out-of-band", "model=tiny method=full optim.lr=0.99", {}, "error", "is 990 times the highest",
        "optim.lr=0.0001",
    ),
    Case(
        "rate.out-of-band", "method=full optim.lr=0.99 trainer.max_steps=3", {"steps": 3}, "error", "990 times",
        "optim.lr=0.0001",
    ),
    Case(
        "rate.high-for-preference", "model=tiny stage=dpo method=full optim.lr=0.99", {}, "error", "", "optim.lr=1e-06",
    ),
    Case(
        "rate.out-of-band", "method=full optim.lr=1e-7", {}, "error",
        "the lowest usual rate of stage=sft with method=full at this size (1e-05) is 100 times", "optim.lr=0.0001",
    ),
    Case(
        "rate.out-of-band", "stage=dpo optim.lr=5e-6", {}, "warning", "(1e-05) is 2 times as high", "optim.lr=0.0003",
    ),
    Case(
        "rate.out-of-band", "stage=dpo stage.loss=cpo optim.lr=5e-3", {}, "warning", "is 2.5 times the highest",
        "optim.lr=0.0003",
    ),
    Case("rate.out-of-band", "stage=rm optim.lr=1e-5", {}, "warning", "is 10 times as high", "optim.lr=0.0003"),
    Case(
        "optim.muon-rate", "method=full optim=muon optim.scale=own optim.lr=1e-5", {}, "warning",
        "optim.lr=1e-05 is a rate of AdamW", "optim.scale=rms",
    ),
    Case(
        "lora.scale-pinned", "method.rank=64 method.alpha=16", {}, "warning",
        "by 0.25; the usual scale of 2 makes it 8 times as large", "method.alpha=128",
    ),
    Case(
        "lora.scale-pinned", "method.rank=8 method.alpha=64", {}, "warning",
        "by 8, which is 4 times the usual scale", "method.alpha=16",
    ),
    Case(
        "lora.scale-pinned", "method=rslora method.alpha=128", {}, "warning",
        "by 16, which is 8 times the usual scale", "method.alpha=16",
    ),
]
NOT_FOUND = [
    Case("rate.low-for-lora", "optim.lr=1e-4"),
    Case("rate.low-for-lora", "method=full optim.lr=5e-5"),
    Case("rate.low-for-lora", "stage=dpo optim.lr=1e-5"),
    Case("rate.low-for-lora", "optim=lion optim.lr=5e-5"),
    Case("rate.high-for-preference", "stage=dpo optim.lr=5e-4"),
    Case("rate.high-for-preference", "stage=dpo method=full optim.lr=2e-6"),
    Case("rate.high-for-preference", "stage=dpo stage.loss=orpo method=full optim.lr=8e-6"),
    Case("rate.high-for-preference", "optim.lr=1e-3"),
    Case("rate.out-of-band", "optim.lr=2e-3"),
    Case("rate.out-of-band", "optim.lr=5e-5"),  # rate.low-for-lora reports it
    Case("rate.out-of-band", "stage=dpo optim.lr=1e-3"),
    Case("rate.out-of-band", "stage=dpo stage.loss=cpo optim.lr=1e-4"),
    Case("optim.muon-rate", "method=full optim=muon optim.scale=own"),
    Case("optim.muon-rate", "method=full optim=muon optim.lr=1e-5"),
    Case("lora.scale-pinned", "method.rank=64"),
    Case("lora.scale-pinned", "method.rank=16 method.alpha=16"),
    Case("lora.scale-pinned", "method=rslora method.rank=64 method.alpha=16"),
    Case("lora.scale-pinned", "method=full"),
]


def test_every_rule_has_cases() -> None:
    check_complete("rates", FOUND, NOT_FOUND)


@pytest.mark.parametrize("case", FOUND, ids=describe)
def test_rule_finds_the_trouble_and_its_remedy_mends_it(case: Case) -> None:
    check_found(case)


@pytest.mark.parametrize("case", NOT_FOUND, ids=describe)
def test_rule_finds_nothing_in_a_sound_run(case: Case) -> None:
    check_not_found(case)
