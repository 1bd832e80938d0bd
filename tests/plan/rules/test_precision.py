"""The rules of precision.py: what the dtypes can hold."""

from __future__ import annotations

import pytest
from tests.plan.rules.cases import Case, check_complete, check_found, check_not_found, describe, free, model

from fulgurite.plan.rules.precision import compute_unmoved

FOUND = [
    Case(
        "precision.born-bf16", "precision=fp16", {"model": model(compute_dtype="float16", stored_dtype="bfloat16")},
        "error", "my-model was trained in bf16; fp16 overflows above 65504", "precision=bf16",
    ),
    Case(
        "precision.born-bf16", "",
        {"model": model(compute_dtype="float16", stored_dtype="bfloat16"), "machine": free(9, bf16=False)}, "warning",
        "", "precision=fp32",
    ),
    Case(
        "precision.pure-bf16", "method=full precision=pure_bf16 precision.rounding=nearest optim.lr=1e-5", {},
        "warning", "about 84% of the weights ignore a step of 1e-05", "precision.rounding=stochastic",
    ),
    Case(
        "precision.pure-bf16", "stage=dpo method=full precision=pure_bf16 precision.rounding=nearest", {}, "error",
        "98%", "precision.rounding=stochastic",
    ),
    Case(
        "precision.pure-bf16", "method=full optim=adamw_8bit precision=pure_bf16 optim.lr=2e-5", {}, "warning", "",
        "precision=bf16",
    ),
]
NOT_FOUND = [
    Case("precision.born-bf16", "", {"model": model(compute_dtype="float16", stored_dtype="float32")}),
    Case("precision.born-bf16", "precision=bf16", {"model": model(compute_dtype="bfloat16", stored_dtype="bfloat16")}),
    Case("precision.pure-bf16", "method=full precision=pure_bf16 optim.lr=1e-5"),  # rounds stochastically
    Case("precision.pure-bf16", "method=full precision=pure_bf16 precision.rounding=nearest optim.lr=1e-4"),
]


def test_every_rule_has_cases() -> None:
    check_complete("precision", FOUND, NOT_FOUND)


@pytest.mark.parametrize("case", FOUND, ids=describe)
def test_rule_finds_the_trouble_and_its_remedy_mends_it(case: Case) -> None:
    check_found(case)


@pytest.mark.parametrize("case", NOT_FOUND, ids=describe)
def test_rule_finds_nothing_in_a_sound_run(case: Case) -> None:
    check_not_found(case)


def test_share_of_weights_that_bf16_leaves_unchanged_is_the_measured_one() -> None:
    assert compute_unmoved(1e-5) == pytest.approx(0.84, abs=0.005)
    assert compute_unmoved(1e-9) == pytest.approx(1, abs=1e-4)
