"""The rules of stage.py: what the loss of a stage needs."""

from __future__ import annotations

import pytest
from tests.plan.rules.cases import Case, check_complete, check_found, check_not_found, data, describe, model

FOUND = [
    Case(
        "loss.beta-band", "stage=dpo stage.loss=simpo stage.beta=0.1", {}, "error",
        "stage.beta=0.1 is unusual for stage.loss=simpo: 2 to 10 is usual", "stage.beta=2",
    ),
    Case(
        "loss.beta-band", "stage=dpo stage.beta=2", {}, "warning", "stage.loss=sigmoid: 0.01 to 0.5", "stage.beta=0.1",
    ),
    Case(
        "loss.beta-band", "stage=dpo stage.length_normalize=true stage.beta=0.3", {}, "warning", "2 to 10",
        "stage.beta=5",
    ),
    Case(
        "loss.beta-band", "stage=kto stage.beta=6", {}, "error", "stage.beta=6 is unusual for stage=kto: 0.05 to 0.5",
        "stage.beta=0.1",
    ),
    Case(
        "kto.batch", "stage=kto trainer.global_batch_size=1", {}, "error", "batch_size=1 is small for KTO",
        "trainer.global_batch_size=32",
    ),
    Case(
        "kto.batch", "stage=kto trainer.global_batch_size=8", {}, "warning", "batch_size=8 is small for KTO",
        "trainer.global_batch_size=32",
    ),
    Case(
        "kto.batch", "stage=kto trainer.global_batch_size=256", {}, "warning", "large for KTO",
        "trainer.global_batch_size=64",
    ),
    Case(
        "kto.balance", "stage=kto", {"data": data(positives=1000, negatives=4000)}, "warning",
        "1,000 good and 4,000 bad answers, weighted 0.25", "stage.desirable_weight=4 stage.undesirable_weight=0.857",
    ),
    Case(
        "kto.balance", "stage=kto", {"data": data(positives=5000, negatives=1000)}, "warning", "weighted 5 : 1",
        "stage.undesirable_weight=4 stage.desirable_weight=0.933",
    ),
    Case(
        "kto.balance", "stage=kto", {"data": data(positives=3000, negatives=1000)}, "warning", "weighted 3 : 1",
        "stage.undesirable_weight=2.57",
    ),
    Case("kto.balance", "stage=kto", {"data": data(positives=50_000, negatives=1000)}, "warning", "weighted 50 : 1"),
    Case(
        "kto.balance", "stage=kto stage.desirable_weight=2", {"data": data(positives=3000, negatives=1000)}, "warning",
        "weighted 6 : 1", "stage.undesirable_weight=4 stage.desirable_weight=1.56",
    ),
    Case("kto.balance", "stage=kto", {"data": data(positives=5000)}, "warning", "0 bad answers: KTO needs both kinds"),
    Case("rm.data", "stage=rm", {"data": data(rows=999)}, "warning", "999 pairs are few for a reward model"),
    Case(
        "rm.data", "stage=rm trainer.epochs=3", {"data": data(rows=9_999)}, "note", "9,999 pairs are a small number",
        "trainer.epochs=1",
    ),
    Case(
        "rm.data", "stage=rm", {"data": data(rows=20_000, length_bias=0.7)}, "warning",
        "The longer answer is preferred in 70% of 20,000 pairs",
    ),
    Case(
        "rm.data", "stage=rm", {"data": data(rows=20_000, length_bias=0.3)}, "warning",
        "The shorter answer is preferred in 70%",
    ),
    Case(
        "preference.pairs", "stage=dpo", {"data": data(same_pairs=3, first_same_pair="a.jsonl:7")}, "error",
        "a.jsonl:7: chosen and rejected are the same tokens (and 2 more pairs)",
    ),
    Case(
        "stage.no-sft", "stage=dpo", {"model": model(has_template=False)}, "warning",
        "my-model looks like a base model", "stage.loss=orpo",
    ),
    Case("stage.no-sft", "stage=kto", {"model": model(has_template=False)}, "warning", "stage=kto usually follows"),
    Case(
        "ppo.last-resort", "stage=ppo stage.reward=[length:50]", {}, "note", "stage=dpo does most of it offline",
        "stage=grpo",
    ),
]
NOT_FOUND = [
    Case("loss.beta-band", "stage=dpo"),
    Case("loss.beta-band", "stage=dpo stage.loss=simpo stage.beta=4"),
    Case("loss.beta-band"),
    Case("loss.beta-band", "stage=dpo stage.loss=ipo stage.beta=0.9"),
    Case("kto.batch", "stage=kto"),
    Case("kto.batch", "trainer.global_batch_size=1"),
    Case("kto.batch", "stage=kto trainer.global_batch_size=128"),
    Case("kto.balance", "stage=kto", {"data": data(positives=1300, negatives=1000)}),
    Case("kto.balance", "stage=kto stage.desirable_weight=4", {"data": data(positives=1000, negatives=4000)}),
    Case("kto.balance"),
    Case("rm.data", "stage=rm", {"data": data(length_bias=0.6)}),
    Case("rm.data", "stage=dpo", {"data": data(rows=100)}),
    Case("preference.pairs", "stage=dpo"),
    Case("stage.no-sft", "stage=dpo"),
    Case("stage.no-sft", "", {"model": model(has_template=False)}),
    Case("stage.no-sft", "stage=dpo stage.loss=orpo", {"model": model(has_template=False)}),
    Case("ppo.last-resort", "stage=grpo stage.reward=[length:50]"),
]


def test_every_rule_has_cases() -> None:
    check_complete("stage", FOUND, NOT_FOUND)


@pytest.mark.parametrize("case", FOUND, ids=describe)
def test_rule_finds_the_trouble_and_its_remedy_mends_it(case: Case) -> None:
    check_found(case)


@pytest.mark.parametrize("case", NOT_FOUND, ids=describe)
def test_rule_finds_nothing_in_a_sound_run(case: Case) -> None:
    check_not_found(case)
