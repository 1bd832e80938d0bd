"""The rules of method.py: which weights train."""

from __future__ import annotations

import pytest
from tests.plan.rules.cases import Case, check_complete, check_found, check_not_found, describe, model

from fulgurite.plan.context import Weights

TENSORS = [
    Weights("a", (2_000_000,), True, "mlp"), Weights("b", (133_000_000,), False, "attention"),
]
FOUND = [
    Case(
        "lora.left-out", "",
        {"model": model(parameters=100, trained=0, without_adapter={"experts.up": 60, "mixer.out_proj": 5})}, "warning",
        "65% of the frozen weights have no adapter",
    ),
    Case(
        "lora.left-out", "", {"model": model(parameters=100, trained=0, without_adapter={"mixer.out_proj": 5})}, "note",
        "5%",
    ),
    Case(
        "freeze.pattern", "method=freeze", {"model": model(tensors=TENSORS)}, "note",
        "2,000,000 of 135,000,000 parameters (1.5%) train: mlp 2,000,000.",
    ),
]
NOT_FOUND = [
    Case("lora.left-out"),
    Case(
        "lora.left-out", "method.targets=[q_proj]",
        {"model": model(parameters=100, trained=0, without_adapter={"x": 60})},
    ),
    Case("freeze.pattern"),
]


def test_every_rule_has_cases() -> None:
    check_complete("method", FOUND, NOT_FOUND)


@pytest.mark.parametrize("case", FOUND, ids=describe)
def test_rule_finds_the_trouble_and_its_remedy_mends_it(case: Case) -> None:
    check_found(case)


@pytest.mark.parametrize("case", NOT_FOUND, ids=describe)
def test_rule_finds_nothing_in_a_sound_run(case: Case) -> None:
    check_not_found(case)
